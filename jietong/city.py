"""What differs from city to city, as data: a folder of YAML files, each holding some of `City`'s fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import yaml
from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from jietong.catalog import Catalog
from jietong.errors import UsageError
from jietong.identifiers import DivisionCode, InvalidIdentifierError

CITIES = Path(__file__).parents[1] / "cities"
REQUESTED = "utility.connection.requested.v1"
ITEM, APPROVAL, ACCEPTANCE = (
    "engineering.item.progressed.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
)
ANY, FULL = "*", "FULL"
WORDS = ("decision", "status")
KINDS = ("decision_kind", "acceptance_kind", "registration_kind")
OPERATOR = re.compile(r"[a-z0-9][a-z0-9-]{0,48}")
CITY = re.compile(r"[a-z][a-z0-9-]*")

Day = Annotated[date, Strict()]
_CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Name:
    """What people call it."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Area:
    """Where an operator serves, from the day `since` to the day before `until`. `*` is everywhere."""

    division: str
    since: Day
    until: Day | None = None

    def covers(self, regions: Sequence[str], on: date) -> bool:
        """Whether one of these divisions lies in it on that day. A code that is no division lies nowhere."""
        if on < self.since or (self.until is not None and on >= self.until):
            return False
        return self.division == ANY or any(_contains(self.division, region) for region in regions)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Operator:
    """A utility operator (公用企业). Areas of several may overlap: the customer then chooses, or all are told."""

    id: str
    name: Name
    utility: str
    areas: Sequence[Area]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Trigger:
    """A row of the trigger table (触发表): which decided fact opens which business with which utilities.

    Its key is (type, word, decision_kind, permit_part). `word` is the event's decision or status; `decision_kind` and
    `permit_part` are given exactly for the types that have them, and a part of `*` is the full permit or any part.
    """

    type: str
    word: str
    business_kind: str
    utilities: Sequence[str]
    customer_role: str
    decision_kind: str | None = None
    permit_part: str | None = None

    def matches(self, topic: str, data: Mapping[str, Any]) -> bool:
        part = data.get("permit_part")
        return (
            self.type == topic
            and self.word == _first(data, WORDS)
            and self.decision_kind == _first(data, KINDS)
            and (self.permit_part == part or (self.permit_part == ANY and part is not None))
        )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Promise:
    """What a utility promised the city (服务承诺): hours to the first contact, working days to the plan and to the
    connection, and whether the applicant may be asked to attend a visit."""

    contact_within_hours: int
    plan_days: int
    connect_days: int
    applicant_visit: bool = False


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Item:
    """What an approval item (审批事项) decides: an approval or an acceptance; and the licence it issues, if any."""

    name: str
    stage: str
    decision_kind: str | None = None
    acceptance_kind: str | None = None
    permit_part: str = FULL
    licence_kind: str | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class City:
    """A city pack. `code` is its division code, or a plain name outside China.

    `permit_parts`: the parts a construction permit may be given in (分段办理施工许可), FULL apart.
    `promises`: by utility. `item_catalogue`: by the item's code (SPSXBM).
    `form`: fields of the one form (一张表单) by utility and business kind, `*` standing for each; a field is
    `project.<name>` or `demand.<name>` of the request.
    """

    code: str
    name: Name
    operators: Mapping[str, Operator]
    triggers: Sequence[Trigger]
    permit_parts: Mapping[str, Name]
    promises: Mapping[str, Promise]
    item_catalogue: Mapping[str, Item]
    form: Mapping[str, Mapping[str, Sequence[str]]]

    def serving(self, utility: str, regions: Sequence[str], on: date) -> list[Operator]:
        """A utility's operators whose area covers one of the regions on that day, by id. None: a task for a person."""
        offering = [o for o in self.operators.values() if o.utility == utility]
        return sorted((o for o in offering if any(a.covers(regions, on) for a in o.areas)), key=lambda o: o.id)

    def triggered(self, topic: str, data: Mapping[str, Any]) -> list[Trigger]:
        """The rows that an event of this type and data meets: what it would open, were it the first."""
        return [trigger for trigger in self.triggers if trigger.matches(topic, data)]

    def fields(self, utility: str, business_kind: str) -> list[str]:
        """What the one form asks for this business with this utility, in the form's order."""
        parts = [self.form.get(u, {}).get(k, ()) for u in (ANY, utility) for k in (ANY, business_kind)]
        return list(dict.fromkeys(field for part in parts for field in part))


_PACK = TypeAdapter(City)


class Refusal(NamedTuple):
    """One rule broken by a pack. `key` is a path in the file; a warning does not keep the pack from being loaded."""

    file: str
    line: int
    key: str
    rule: str
    sentence: str
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, f"[{self.rule}] {self.sentence}") if part)


Loc = tuple[str | int, ...]
Found = tuple[Loc, str, str]
"""A fault before its line is known: where, rule, sentence."""


class _File(NamedTuple):
    path: Path
    node: yaml.MappingNode


def find(name: str, cities: Path | None = None) -> Path:
    """The folder of a pack: a path, or a name in `cities` (default: beside the package). Raises UsageError."""
    folder = cities or CITIES
    for path in (folder / name, Path(name)):
        if path.is_dir():
            return path
    known = ", ".join(names(folder)) or "none"
    raise UsageError(f"{name}: no such city pack; give a folder, or a name in {folder} (there: {known})")


def names(cities: Path | None = None) -> list[str]:
    """The packs there are."""
    return sorted({file.parent.name for file in (cities or CITIES).glob("*/*.yaml")})


def load(name: str, catalog: Catalog, cities: Path | None = None) -> City:
    """A pack by name or path. Raises UsageError naming file, line, key and rule of everything wrong with it."""
    city, refusals = _read(find(name, cities), catalog)
    wrong = [str(refusal) for refusal in refusals if not refusal.warning]
    if city is None or wrong:
        raise UsageError("\n".join(wrong))
    return city


def check(name: str, catalog: Catalog, cities: Path | None = None) -> list[Refusal]:
    """Everything wrong with a pack, and what is only doubtful (`warning`). Raises UsageError if there is none."""
    return _read(find(name, cities), catalog)[1]


def _read(folder: Path, catalog: Catalog) -> tuple[City | None, list[Refusal]]:
    """The pack unless its files do not have a pack's form, and its refusals by file and line."""
    files: dict[str, _File] = {}
    pack: dict[str, Any] = {}
    refusals: list[Refusal] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            node, content = _yaml(path)
        except UsageError as error:
            refusals.append(Refusal(str(path), 0, "", "file", str(error)))
            continue
        own = {key: _File(path, node) for key in content}
        twice: list[Found] = [(loc, "duplicate", "this key stands here twice") for loc in _duplicates(node)]
        twice += [((key,), "duplicate", f"also in {files[key].path.name}") for key in own if key in files]
        refusals += [_placed(folder, own, found) for found in twice]
        files, pack = files | own, pack | content
    if refusals:
        return None, refusals
    try:
        city = _PACK.validate_python(_with_ids(pack))
    except ValidationError as error:
        return None, sorted(_placed(folder, files, found) for found in _faults(error))
    wrong = [_placed(folder, files, found) for found in _rules(city, catalog)]
    doubtful = [_placed(folder, files, found)._replace(warning=True) for found in _doubts(city)]
    return city, sorted(wrong + doubtful)


def _yaml(path: Path) -> tuple[yaml.MappingNode, dict[str, Any]]:
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        node = loader.get_single_node()
        content = cast("dict[str, Any]", loader.construct_document(node)) if node else {}
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a day like 2024-13-45
        raise UsageError(f"cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise UsageError("must hold keys and values")
    return node, content


def _with_ids(pack: dict[str, Any]) -> dict[str, Any]:
    """Each operator with the id it is listed under."""
    operators = pack.get("operators")
    if not isinstance(operators, dict):
        return pack
    listed = cast("dict[str, Any]", operators)
    return {**pack, "operators": {key: {**o, "id": key} if isinstance(o, dict) else o for key, o in listed.items()}}


# -- where in a file ---------------------------------------------------------------------------------------------------
def _placed(folder: Path, files: Mapping[str, _File], found: Found) -> Refusal:
    loc, rule, sentence = found
    file = files.get(str(loc[0])) if loc else None
    if file is None:
        return Refusal(str(folder), 0, _dotted(loc), rule, sentence)
    return Refusal(str(file.path), _line(file.node, loc), _dotted(loc), rule, sentence)


def _line(node: yaml.Node, loc: Loc) -> int:
    """The line of the last part of a path that stands in the file, from 1."""
    line = node.start_mark.line + 1
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _duplicates(node: yaml.Node, above: Loc = ()) -> Iterator[Loc]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*above, key.value)
            seen.add(key.value)
            yield from _duplicates(value, (*above, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            yield from _duplicates(item, (*above, n))


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))


# -- the rules ---------------------------------------------------------------------------------------------------------
_SHAPES = {
    "unexpected_keyword_argument": ("unknown-key", "no such key in a city pack"),
    "missing": ("missing", "this key is required"),
}


def _faults(error: ValidationError) -> Iterator[Found]:
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        rule, sentence = _SHAPES.get(fault["type"], ("value", fault["msg"]))
        yield fault["loc"], rule, sentence


def _rules(city: City, catalog: Catalog) -> Iterator[Found]:
    words = _Words(catalog)
    if not (_is_division(city.code) or CITY.fullmatch(city.code)):
        yield ("code",), "division", "neither a division code (GB/T 2260) nor a name in lower case"
    for operator in city.operators.values():
        yield from _of_operator(operator, city.code, words)
    for n, trigger in enumerate(city.triggers):
        yield from _of_trigger(("triggers", n), trigger, city, words)
    yield from _of_families(city)
    for utility in city.promises:
        yield from words.one_of(("promises", utility), REQUESTED, "utility", utility)
    for code, item in city.item_catalogue.items():
        yield from _of_item(("item_catalogue", code), item, city, words)
    yield from _of_form(city, words)


def _of_operator(operator: Operator, city: str, words: _Words) -> Iterator[Found]:
    at: Loc = ("operators", operator.id)
    if not OPERATOR.fullmatch(operator.id):
        yield at, "operator", "an id is lower-case letters, digits and hyphens, at most 49"
    yield from words.one_of((*at, "utility"), REQUESTED, "utility", operator.utility)
    for n, area in enumerate(operator.areas):
        if not (area.division == ANY or _is_division(area.division)):
            yield (*at, "areas", n, "division"), "division", "no division code of GB/T 2260 and not *"
        elif area.division != ANY and _is_division(city) and not _contains(city, area.division):
            yield (*at, "areas", n, "division"), "division", f"lies outside the city ({city})"
        if area.until is not None and area.since >= area.until:
            yield (*at, "areas", n, "until"), "dates", "must be after since: it is the first day no longer served"


def _of_trigger(at: Loc, trigger: Trigger, city: City, words: _Words) -> Iterator[Found]:
    if trigger.type not in words.catalog.topics:
        yield (*at, "type"), "type", "no such event type in the catalogue"
        return
    word, kind = words.field(trigger.type, WORDS), words.field(trigger.type, KINDS)
    yield from words.one_of((*at, "word"), trigger.type, word, trigger.word)
    yield from words.one_of((*at, "decision_kind"), trigger.type, kind, trigger.decision_kind)
    yield from _of_part(at, trigger, city, words)
    yield from words.one_of((*at, "business_kind"), REQUESTED, "business_kind", trigger.business_kind)
    yield from words.one_of((*at, "customer_role"), REQUESTED, "customer_role", trigger.customer_role)
    for n, utility in enumerate(trigger.utilities):
        yield from words.one_of((*at, "utilities", n), REQUESTED, "utility", utility)
    if f"hookup.{trigger.business_kind}" not in words.catalog.topics[trigger.type].authoritative_for:
        yield (*at, "type"), "authority", f"not authoritative for {trigger.business_kind}, says its topic file"


def _of_part(at: Loc, trigger: Trigger, city: City, words: _Words) -> Iterator[Found]:
    if words.field(trigger.type, ("permit_part",)) is None:
        if trigger.permit_part is not None:
            yield (*at, "permit_part"), "part", "this type has no permit parts"
    elif trigger.permit_part not in (ANY, FULL, *city.permit_parts):
        yield (*at, "permit_part"), "part", f"must be {', '.join((ANY, FULL, *city.permit_parts))}"


def _of_families(city: City) -> Iterator[Found]:
    families: dict[str, str] = {}
    rows: set[tuple[str | None, ...]] = set()
    for n, t in enumerate(city.triggers):
        row = (t.type, t.word, t.decision_kind, t.permit_part, t.business_kind)
        if row in rows:
            yield ("triggers", n), "duplicate", "an earlier row has the same key and business kind"
        rows.add(row)
        if families.setdefault(t.business_kind, t.type) != t.type:
            other = families[t.business_kind]
            yield ("triggers", n, "type"), "family", f"{t.business_kind} is authorised by {other} already"


def _of_item(at: Loc, item: Item, city: City, words: _Words) -> Iterator[Found]:
    yield from words.one_of((*at, "stage"), ITEM, "stage", item.stage)
    if (item.decision_kind is None) == (item.acceptance_kind is None):
        yield at, "item", "decides an approval or an acceptance: give decision_kind or acceptance_kind"
    if item.decision_kind is not None:
        yield from words.one_of((*at, "decision_kind"), APPROVAL, "decision_kind", item.decision_kind)
    if item.acceptance_kind is not None:
        yield from words.one_of((*at, "acceptance_kind"), ACCEPTANCE, "acceptance_kind", item.acceptance_kind)
    if item.permit_part not in (FULL, *city.permit_parts):
        yield (*at, "permit_part"), "part", f"must be {', '.join((FULL, *city.permit_parts))}"


def _of_form(city: City, words: _Words) -> Iterator[Found]:
    known = words.form_fields()
    for utility, kinds in city.form.items():
        if utility != ANY:
            yield from words.one_of(("form", utility), REQUESTED, "utility", utility)
        for kind, fields in kinds.items():
            if kind != ANY:
                yield from words.one_of(("form", utility, kind), REQUESTED, "business_kind", kind)
            for n, field in enumerate(fields):
                if field not in known:
                    yield ("form", utility, kind, n), "field", "no field of the request's project or demand"


def _doubts(city: City) -> Iterator[Found]:
    offered = {operator.utility for operator in city.operators.values()}
    for n, trigger in enumerate(city.triggers):
        for m, utility in enumerate(trigger.utilities):
            if utility not in offered:
                yield ("triggers", n, "utilities", m), "nobody", f"no operator offers {utility}: each becomes a task"
            elif utility not in city.promises:
                yield ("triggers", n, "utilities", m), "promise", f"{utility} has no promised times"


class _Words:
    """The words that the catalogue's newest schemas allow."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def field(self, topic: str, names: Sequence[str]) -> str | None:
        """Which of these names is a field of the topic's."""
        return next((name for name in names if name in self._fields(topic)), None)

    def one_of(self, at: Loc, topic: str, field: str | None, word: str | None) -> Iterator[Found]:
        symbols = self._symbols(topic, field) if field else [None]
        if word not in symbols:
            yield at, "word", f"must be one of {', '.join(map(str, symbols))}" if field else "this type has none"

    def form_fields(self) -> set[str]:
        top = self._fields(REQUESTED)
        return {f"{part}.{f['name']}" for part in ("project", "demand") for f in _record(top[part])["fields"]}

    def _symbols(self, topic: str, field: str) -> list[str]:
        return [symbol for symbol in _record(self._fields(topic)[field])["symbols"] if symbol != "UNKNOWN"]

    def _fields(self, topic: str) -> dict[str, Any]:
        return {f["name"]: f["type"] for f in self.catalog.schemas[topic][-1].definition["fields"]}


def _record(kind: Any) -> dict[str, Any]:
    """The named type of a field, nullable or not."""
    return cast("list[dict[str, Any]]", kind)[1] if isinstance(kind, list) else kind


def _first(data: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((data[name] for name in names if name in data), None)


def _is_division(text: str) -> bool:
    try:
        DivisionCode(text)
    except InvalidIdentifierError:
        return False
    return True


def _contains(division: str, region: str) -> bool:
    return _is_division(region) and DivisionCode(division).contains(DivisionCode(region))
