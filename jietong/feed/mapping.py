"""A mapping: what a person writes once about a file of others, as YAML, so that its rows become events.

Scalars of the YAML stay the texts they are: a code keeps its zeros, `NO` is no boolean, 9999-01-01 is no date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jietong.catalog import Catalog
from jietong.errors import UsageError
from jietong.feed import cells
from jietong.feed.cells import Cell, CellError, Named

MAPPINGS = Path(__file__).parents[2] / "mappings"
FILL_IN = "___"
"""What `jietong mapping init` writes where a person must decide."""
HISTORICAL = "historical"

Loc = tuple[str | int, ...]
Known = dict[str, cells.Field]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Condition(Part):
    """On one cell's text: among these, or not among those; the empty text is the empty cell."""

    among: frozenset[str] | None = Field(None, alias="in")
    unless: frozenset[str] | None = Field(None, alias="not")

    def holds(self, cell: Cell) -> bool:
        text = str(cell).lower() if isinstance(cell, bool) else cell
        return (self.among is None or text in self.among) and (self.unless is None or text not in self.unless)


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _condition(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _listed(texts) for name, texts in cast("dict[str, Any]", given).items()}
    return {"in": _listed(given)}


When = dict[str, Annotated[Condition, BeforeValidator(_condition)]]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Constants = dict[str, str | tuple[str, ...]]
Derived = dict[str, tuple[str, ...]]
"""Fields that hold the text of a UUIDv5 of others, in this order: a case's of (subject, work, operator, business kind,
phase). `subject` is the event's; a field that says nothing counts as empty."""
SUBJECT = "subject"


class Fact(Part):
    """One thing that a row may tell. A row tells each of the mapping's facts whose conditions it meets, in their order.

    `type` is the mapping's unless it says another. Without a `time` it is a fact that the file does not date: its time
    is when the file was read. An `ending` is not made historical by `finished`: what ended must be known to have ended.
    """

    type: str | None = None
    when: When = {}
    time: Named | None = None
    columns: dict[str, Named] = {}
    constants: Constants = {}
    derived: Derived = {}
    ending: bool = False


class Subject(Part):
    """What a row is about: exactly one of these columns. `local`: the number that the file itself gives it."""

    local: str | None = None
    project: str | None = None
    unit: str | None = None
    enterprise: str | None = None

    @property
    def given(self) -> tuple[str, str] | None:
        """(kind, column), or None unless exactly one is given."""
        found = [(kind, column) for kind, column in self if column is not None]
        return found[0] if len(found) == 1 else None


class Workbook(Part):
    """Where the rows are in an XLSX: in these sheets (none named: the first), under the header in this row, from 1."""

    sheets: Names = ()
    header: int = Field(1, ge=1)


class Mapping(Part):
    """See the files in `mappings/`. Columns go by the file's names, whitespace collapsed; in JSON `a.b` reaches into a.

    `names`: what else a column is called, in another file or sheet; of several that are there the first not empty is
    read. `optional`: columns that a file or sheet may lack. `complete`: the file holds all there is, so a row no longer
    in it has ended (`gone`). `since`: facts dated before it are for the record only. `finished`: so is what is finished
    already. `order`: date columns to sort the rows by.

    A mapping with a `workbook` reads an XLSX as well as a CSV. A file of `documents` is one row: a case as it stood one
    day, with its history. What several documents of a case tell is told once, in the order of its time, and what comes
    late but happened before the last thing told of its type and subject is not told: the last word stands.
    """

    source: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=50)
    city: str
    type: str
    zone: str | None = None
    format: Literal["csv", "json", "documents"] = "csv"
    encoding: str = "utf-8-sig"
    delimiter: str = Field(",", min_length=1, max_length=1)
    rows: str | None = None
    header: str | None = None
    workbook: Workbook | None = None
    names: dict[str, Names] = {}
    optional: Names = ()
    key: Names = Field(min_length=1)
    subject: Subject = Subject()
    order: tuple[Named, ...] = ()
    since: date | None = None
    finished: When = {}
    complete: bool = False
    gone: Fact | None = None
    columns: dict[str, Named] = {}
    constants: Constants = {}
    derived: Derived = {}
    facts: tuple[Fact, ...] = Field(min_length=1)

    @cached_property
    def zoneinfo(self) -> tzinfo | None:
        return ZoneInfo(self.zone) if self.zone else None

    @cached_property
    def begins(self) -> datetime | None:
        """The first moment that is not history."""
        return datetime.combine(self.since, time.min, self.zoneinfo or UTC) if self.since else None

    @cached_property
    def mapped(self) -> tuple[str, ...]:
        """Every column of the file that the mapping looks at."""
        facts = (*self.facts, *((self.gone,) if self.gone else ()))
        used = [*self.columns.values(), *self.order]
        used += [column for fact in facts for column in (*fact.columns.values(), *((fact.time,) if fact.time else ()))]
        conditions = [*self.finished, *(name for fact in facts for name in fact.when)]
        subject = (self.subject.given[1],) if self.subject.given else ()
        return tuple(dict.fromkeys((*self.key, *subject, *(how.column for how in used), *conditions)))

    def called(self, column: str) -> tuple[str, ...]:
        """All names of a column."""
        return (column, *self.names.get(column, ()))

    def kind(self, fact: Fact) -> str:
        """The type of the event that a fact becomes."""
        return fact.type or self.type


def find(name: str) -> Path:
    """The file of a mapping: a path, or a name in `mappings/`. Raises UsageError."""
    for path in (Path(name), MAPPINGS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in MAPPINGS.glob("*.yaml"))) or "none"
    raise UsageError(f"{name}: no such mapping; give a file, or a name in {MAPPINGS} (there: {known})")


def load(path: Path, catalog: Catalog) -> Mapping:
    """Raises UsageError naming file, line and key of everything wrong with it."""
    try:
        text = path.read_text("utf-8-sig")
        node, content = yaml.compose(text, yaml.BaseLoader), yaml.load(text, yaml.BaseLoader)  # noqa: S506 — texts only
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path}: must hold keys and values; `jietong mapping init` drafts a mapping from a file")
    wrong = list(_unfinished(node, ()))
    mapping: Mapping | None = None
    try:
        if not wrong:
            mapping = Mapping.model_validate(content)
            wrong = list(_rules(mapping, catalog))
    except ValidationError as error:
        wrong = list(_misshapen(error))
    if wrong or mapping is None:
        lines = [f"{path}:{_line(node, loc)}: {'.'.join(map(str, loc))}: {sentence}" for loc, sentence in wrong]
        raise UsageError("\n".join(lines))
    return mapping


def _misshapen(error: ValidationError) -> Iterator[tuple[Loc, str]]:
    for fault in error.errors(include_input=False, include_url=False):
        yield fault["loc"], "no such key in a mapping" if fault["type"] == "extra_forbidden" else fault["msg"]


def _unfinished(node: yaml.Node, above: Loc) -> Iterator[tuple[Loc, str]]:
    """Keys that stand twice, and places that a person has not filled in yet."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*above, key.value), "this key stands here twice"
            seen.add(str(key.value))
            yield from _unfinished(value, (*above, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            yield from _unfinished(item, (*above, n))
    elif node.value == FILL_IN:
        yield above, "not filled in yet"


def _line(node: yaml.Node, loc: Loc) -> int:
    """The line of the last part of a path that stands in the file, from 1."""
    line = node.start_mark.line + 1
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in reversed(node.value) if key.value == step), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


# -- the rules ---------------------------------------------------------------------------------------------------------
def _rules(mapping: Mapping, catalog: Catalog) -> Iterator[tuple[Loc, str]]:
    facts: list[tuple[Loc, Fact]] = [(("facts", n), fact) for n, fact in enumerate(mapping.facts)]
    facts += [(("gone",), mapping.gone)] if mapping.gone else []
    types: dict[str, Loc] = {mapping.type: ("type",)}
    for at, fact in facts:
        types.setdefault(mapping.kind(fact), (*at, "type"))
    wrong = [
        *_of_file(mapping),
        *(found for type, at in types.items() for found in _of_type(at, type, mapping, catalog)),
    ]
    yield from wrong
    if wrong:
        return
    known = {type: cells.fields(catalog.schemas[type][-1].definition) for type in types}
    yield from _of_fields((), mapping, list(known.values()), mapping)
    for at, fact in facts:
        fields = known[mapping.kind(fact)]
        yield from _of_fields(at, fact, [fields], mapping)
        yield from _of_required(at, fact, fields, mapping)


def _of_type(at: Loc, type: str, mapping: Mapping, catalog: Catalog) -> Iterator[tuple[Loc, str]]:
    spec = catalog.topics.get(type)
    if spec is None:
        yield at, "no such event type in the catalogue; `jietong topics` lists them"
        return
    if spec.draft or not spec.written_by(f"urn:jietong:-:feed:{mapping.source}"):
        yield at, "a feed may not write this type; its topic file names who does"
        return
    kind = mapping.subject.given[0] if mapping.subject.given else "local"
    if kind not in spec.subject:
        yield ("subject",), f"{type} is about {' or '.join(spec.subject)}"


def _of_required(at: Loc, fact: Fact, known: Known, mapping: Mapping) -> Iterator[tuple[Loc, str]]:
    given = {name for part in (mapping, fact) for name in (*part.columns, *part.constants, *part.derived)} | {
        HISTORICAL
    }
    records = {name.partition(".")[0] for name in given if "." in name} | {""}
    for name in [name for name, field in known.items() if field.required and name not in given]:
        if name.rpartition(".")[0] in records:
            yield at, f"nothing gives the required field {name}; add it to columns or constants"


def _of_file(mapping: Mapping) -> Iterator[tuple[Loc, str]]:
    try:
        mapping.zoneinfo  # noqa: B018 — whether it exists
    except (KeyError, ValueError, OSError):
        yield ("zone",), "no such time zone; Asia/Shanghai is one"
    try:
        "".encode(mapping.encoding)
    except LookupError:
        yield ("encoding",), "no such encoding; utf-8-sig and gb18030 are some"
    if mapping.subject.given is None and mapping.subject.model_fields_set:
        yield ("subject",), "give exactly one of local, project, unit, enterprise"
    if mapping.complete != (mapping.gone is not None):
        yield ("complete",), "`complete: true` and `gone:` (what a vanished row means) go together"
    if mapping.format != "json" and (mapping.rows or mapping.header):
        yield ("format",), "rows and header are for json"
    if mapping.format != "csv" and mapping.workbook:
        yield ("workbook",), "goes with csv: one mapping reads the table as either"
    if mapping.format == "documents" and (mapping.complete or mapping.order):
        yield ("format",), "complete and order are not for documents, which are told by their time"
    undated = [n for n, fact in enumerate(mapping.facts) if fact.time is None or fact.time.none]
    if mapping.format == "documents":
        yield from ((("facts", n), "needs a `time`, without `none`: documents are told by it") for n in undated)
    for place, names in (("names", mapping.names), ("optional", mapping.optional)):
        yield from (
            ((place, name), "no column that this mapping reads") for name in names if name not in mapping.mapped
        )


def _of_fields(at: Loc, part: Fact | Mapping, kinds: Sequence[Known], mapping: Mapping) -> Iterator[tuple[Loc, str]]:
    """What a mapping says of all its facts holds for each whose type has such a field."""
    for name, how in part.columns.items():
        for known in _having(name, kinds):
            if fault := _of_name(name, known) or _of_column(how, known[name], mapping):
                yield (*at, "columns", name), fault
    for name, given in part.constants.items():
        for known in _having(name, kinds):
            if fault := _of_name(name, known) or _of_constant(given, known[name], mapping):
                yield (*at, "constants", name), fault
    for name, parts in part.derived.items():
        for known in _having(name, kinds):
            if fault := _of_name(name, known) or _of_derived(parts, known[name], known):
                yield (*at, "derived", name), fault


def _having(name: str, kinds: Sequence[Known]) -> Sequence[Known]:
    """The types with such a field; without any the first, which is then at fault."""
    return [known for known in kinds if name in known] or kinds[:1]


def _of_name(name: str, known: Known) -> str | None:
    if name not in known:
        return f"no such field of the event; there are {', '.join(known)}"
    if name == HISTORICAL:
        return "is set by since and finished"
    if known[name].kind == "sealed":
        return "is personal: it is not taken from files"
    return None if known[name].kind in (*cells.PARSERS, "array") else "is of a kind that a cell cannot fill"


def _of_column(how: cells.Column, field: cells.Field, mapping: Mapping) -> str | None:
    if field.kind == "boolean" and not how.values and mapping.format == "csv":
        return "a yes or no needs a value table, as values: {Y: true, N: false}"
    words = field.symbols if field.kind == "enum" else ("true", "false") if field.kind == "boolean" else ()
    wrong = [word for word in how.values.values() if words and word and word not in words]
    return f"the value table leads to {wrong[0]}, which is none of {', '.join(words)}" if wrong else None


def _of_constant(given: str | Sequence[str], field: cells.Field, mapping: Mapping) -> str | None:
    try:
        cells.Target(field, cells.Column(column=""), mapping.zoneinfo).constant(given)
    except CellError as error:
        return error.reason
    return None


def _of_derived(parts: Sequence[str], field: cells.Field, known: Known) -> str | None:
    if field.kind != "string":
        return "is no text, and an identity is one"
    if wrong := [part for part in parts if part != SUBJECT and part not in known]:
        return f"there is no {wrong[0]} to make it of; there are {SUBJECT}, {', '.join(known)}"
    return None if parts else "must be made of something"
