"""What one schema must be: documented, readable by what comes later, and harmless to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jietong.compatibility.folder import Refusal, Topic, join
from jietong.contract import LOGICAL, PRIMITIVES

UNION, RECURSIVE = "union", "recursive"
CARRIED = {*PRIMITIVES, *LOGICAL, "string", "decimal", "record", "enum", "array", "map", UNION, RECURSIVE}
"""What the codec can carry."""
SEALED = "Sealed"

Definition = Mapping[str, Any]
Broken = Iterator[tuple[str, str, str]]
"""(field, rule, sentence)"""


@dataclass(frozen=True, slots=True)
class Node:
    """One type in a schema. `path` is the field it stands in; `kind` its logical type, or else its type."""

    path: str
    kind: str
    definition: Definition

    @property
    def name(self) -> str:
        return _simple(str(self.definition.get("name", "")))

    @property
    def fields(self) -> Sequence[Definition]:
        return self.definition["fields"] if self.kind == "record" else ()

    @property
    def items(self) -> Any:
        """What a collection holds; None if it is none."""
        return self.definition.get("items", self.definition.get("values"))


def walk(
    schema: Any, named: dict[str, Definition], path: str = "", within: frozenset[str] = frozenset()
) -> Iterator[Node]:
    """Every type in a schema, names resolved; `named` takes up the named ones. What stands within itself ends there."""
    if isinstance(schema, str) and _simple(schema) in within:
        yield Node(path, RECURSIVE, {})
        return
    node = resolve(schema, named, path)
    yield node
    if node.name:
        named[node.name], within = node.definition, within | {node.name}
    for field in node.fields:
        yield from walk(field["type"], named, join(path, field["name"]), within)
    for each in (*_branches(schema), *([] if node.items is None else [node.items])):
        yield from walk(each, named, path, within)


def resolve(schema: Any, named: Mapping[str, Definition], path: str = "") -> Node:
    """What a schema, or the name of one, stands for."""
    if isinstance(schema, list):
        return Node(path, UNION, {})
    if isinstance(schema, str):
        schema = named.get(_simple(schema), {"type": schema})
    definition = cast("Definition", schema)
    kind = definition.get("logicalType", definition["type"])
    return Node(path, kind, definition) if isinstance(kind, str) else resolve(kind, named, path)


def _branches(schema: Any) -> list[Any]:
    return cast("list[Any]", schema) if isinstance(schema, list) else []


def _simple(name: str) -> str:
    return name.rpartition(".")[2]


def check(topic: Topic) -> Iterator[Refusal]:
    """The newest version's own rules; that of a frozen one were kept when it was frozen."""
    named: dict[str, Definition] = {}
    nodes = list(walk(topic.newest.definition, named))
    rules = (_names(topic), _documented(nodes), _defaults(nodes), _enums(nodes), _carried(nodes), _decisive(nodes))
    for rule in (*rules, _collections(nodes, named)):
        for field, name, sentence in dict.fromkeys(rule):
            yield topic.refusal(field, name, sentence)
    sealed = {node.path for node in nodes if node.name == SEALED}
    for field in sorted(sealed ^ set(topic.spec.personal)):
        yield Refusal(topic.file, field, "personal", "`personal` lists the Sealed fields, all of them and no others")


def _names(topic: Topic) -> Broken:
    camel = "".join(part.capitalize() for part in topic.name.split("."))
    if (topic.newest.definition.get("name"), topic.newest.definition.get("namespace")) != (camel, "jietong"):
        yield "name", "name", f"the record is {camel} in the namespace jietong"


def _documented(nodes: Sequence[Node]) -> Broken:
    for node in nodes:
        named = [(node.path, node.definition)] if node.kind in ("record", "enum") else []
        for path, each in (*named, *((join(node.path, field["name"]), field) for field in node.fields)):
            if not each.get("doc"):
                yield path, "doc", f"{each['name']} needs `doc`: its meaning and unit"
            if not each.get("zh"):
                yield path, "zh", f"{each['name']} needs `zh`: its Chinese name"


def _defaults(nodes: Sequence[Node]) -> Broken:
    for node in nodes:
        for field in node.fields:
            branches = _branches(field["type"])
            if "null" in branches and (branches[0] != "null" or field.get("default", "") is not None):
                sentence = 'a nullable field is `["null", …]` with `"default": null`'
                yield join(node.path, field["name"]), "default", sentence


def _enums(nodes: Sequence[Node]) -> Broken:
    for node in nodes:
        if node.kind != "enum":
            continue
        symbols, chinese = node.definition["symbols"], node.definition.get("zh")
        if symbols[0] != "UNKNOWN" or node.definition.get("default") != "UNKNOWN":
            yield node.path, "enum", "UNKNOWN is its first symbol and its `default`, so that later ones can be read"
        if chinese and (not isinstance(chinese, dict) or chinese.keys() != set(symbols)):
            yield node.path, "zh", "an enum's `zh` names each of its symbols, and no other"


def _carried(nodes: Sequence[Node]) -> Broken:
    for node in nodes:
        if node.kind not in CARRIED:
            yield node.path, "type", f"the codec does not carry {node.kind}"


def _decisive(nodes: Sequence[Node]) -> Broken:
    enums = {node.path for node in nodes if node.kind == "enum"}
    for node in nodes:
        for field in node.fields:
            path = join(node.path, field["name"])
            if field.get("decisive") and (node.path or path not in enums):
                yield path, "decisive", "only an enum of the event itself decides"


def _collections(nodes: Sequence[Node], named: Mapping[str, Definition]) -> Broken:
    """A few bytes must never become many values, nor a stack overflow (seen in fastavro: 7 bytes, 1 MB)."""
    endless = [node.path for node in nodes if node.kind == RECURSIVE]
    for path in endless:
        yield path, "recursive", "a type must not contain itself: one event could crash its reader"
    for node in nodes:
        if not endless and node.items is not None and _weightless(node.items, named):
            yield node.path, "empty", "a collection of things without a byte: one event could fill its reader's memory"


def _weightless(schema: Any, named: Mapping[str, Definition]) -> bool:
    """Whether its values take no byte. (A union takes one to name its branch.)"""
    node = resolve(schema, named)
    match node.definition.get("type"):
        case "null":
            return True
        case "fixed":
            return node.definition["size"] == 0
        case "record":
            return all(_weightless(field["type"], named) for field in node.fields)
        case _:
            return False
