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


class Fact(Part):
    """One thing that a row may tell. A row tells each of the mapping's facts whose conditions it meets, in their order.

    Without a `time` it is a fact that the file does not date: its time is when the file was read. An `ending` is not
    made historical by `finished`: what ended must be known to have ended.
    """

    when: When = {}
    time: Named | None = None
    columns: dict[str, Named] = {}
    constants: Constants = {}
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


class Mapping(Part):
    """See the files in `mappings/`. Columns go by the file's names, whitespace collapsed; in JSON `a.b` reaches into a.

    `complete`: the file holds all there is, so a row no longer in it has ended (`gone`). `since`: facts dated before it
    are for the record only. `finished`: so is what is finished already. `order`: date columns to sort the rows by.
    """

    source: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=50)
    city: str
    type: str
    zone: str | None = None
    format: Literal["csv", "json"] = "csv"
    encoding: str = "utf-8-sig"
    delimiter: str = Field(",", min_length=1, max_length=1)
    rows: str | None = None
    header: str | None = None
    key: Names = Field(min_length=1)
    subject: Subject = Subject()
    order: tuple[Named, ...] = ()
    since: date | None = None
    finished: When = {}
    complete: bool = False
    gone: Fact | None = None
    columns: dict[str, Named] = {}
    constants: Constants = {}
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
    if wrong := list(_of_file(mapping)):
        yield from wrong
        return
    spec = catalog.topics.get(mapping.type)
    if spec is None:
        yield ("type",), "no such event type in the catalogue; `jietong topics` lists them"
        return
    if spec.draft or not spec.written_by(f"urn:jietong:-:feed:{mapping.source}"):
        yield ("type",), "a feed may not write this type; its topic file names who does"
    kind = mapping.subject.given[0] if mapping.subject.given else "local"
    if kind not in spec.subject:
        yield ("subject",), f"{mapping.type} is about {' or '.join(spec.subject)}"
    known = cells.fields(catalog.schemas[mapping.type][-1].definition)
    yield from _of_fields((), mapping, known, mapping)
    facts: list[tuple[Loc, Fact]] = [(("facts", n), fact) for n, fact in enumerate(mapping.facts)]
    for at, fact in (*facts, *([(("gone",), mapping.gone)] if mapping.gone else [])):
        yield from _of_fields(at, fact, known, mapping)
        given = {*mapping.columns, *mapping.constants, *fact.columns, *fact.constants, HISTORICAL}
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
    if mapping.format == "csv" and (mapping.rows or mapping.header):
        yield ("format",), "rows and header are for json"


def _of_fields(at: Loc, part: Fact | Mapping, known: Known, mapping: Mapping) -> Iterator[tuple[Loc, str]]:
    for name, how in part.columns.items():
        if fault := _of_name(name, known) or _of_column(how, known[name], mapping):
            yield (*at, "columns", name), fault
    for name, given in part.constants.items():
        if fault := _of_name(name, known) or _of_constant(given, known[name], mapping):
            yield (*at, "constants", name), fault


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
