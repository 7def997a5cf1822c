"""The rules a pack keeps beyond its form. Each fault is (where, rule, sentence); `jietong city check` names them by line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, cast
from zoneinfo import ZoneInfo

from jietong import geometry
from jietong.catalog import Catalog
from jietong.city.pack import (
    ANSWER,
    ANY,
    FULL,
    KINDS,
    OFFICE,
    OPERATOR_ITSELF,
    PROGRESSED,
    REQUESTED,
    WORDS,
    Area,
    City,
    Department,
    Filing,
    Item,
    Operator,
    Trigger,
    is_division,
    within,
)  # fmt: skip

ITEM, APPROVAL, ACCEPTANCE, PERMIT = (
    "engineering.item.progressed.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
    "works.permit.requested.v1",
)
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,48}")
CITY = re.compile(r"[a-z][a-z0-9-]*")

Loc = tuple[str | int, ...]
Found = tuple[Loc, str, str]
"""A fault before its line is known: where, rule, sentence."""


def rules(city: City, catalog: Catalog) -> Iterator[Found]:
    """Everything that keeps a pack from being used."""
    words = _Words(catalog)
    if not (is_division(city.code) or CITY.fullmatch(city.code)):
        yield ("code",), "division", "neither a division code (GB/T 2260) nor a name in lower case"
    for operator in city.operators.values():
        yield from _of_operator(operator, city.code, words)
    yield from (found for found, sure in _concessions(city) if sure)
    for n, trigger in enumerate(city.triggers):
        yield from _of_trigger(("triggers", n), trigger, city, words)
    yield from _of_families(city)
    yield from _of_cycles(city)
    yield from _of_promises(city, words)
    for code, item in city.item_catalogue.items():
        yield from _of_item(("item_catalogue", code), item, city, words)
    yield from _of_form(city, words)
    for id, department in city.departments.items():
        yield from _of_department(id, department, city, words)
    yield from _of_works(city, words)
    yield from _of_roads(city)
    for n, utility in enumerate(city.protection.utilities):
        yield from words.one_of(("protection", "utilities", n), REQUESTED, "utility", utility)
    yield from _of_working(city)
    for queue in city.units:
        if queue not in (OFFICE, OPERATOR_ITSELF, *city.departments):
            yield ("units", queue), "unit", f"must be {OFFICE}, {OPERATOR_ITSELF} or a department of the pack"


def doubts(city: City) -> Iterator[Found]:
    """What is doubtful, and perhaps meant."""
    offered: defaultdict[str, list[str]] = defaultdict(list)
    for operator in city.operators.values():
        offered[operator.utility].append(operator.id)
    for n, trigger in enumerate(city.triggers):
        for m, utility in enumerate(trigger.utilities):
            silent = [id for id in offered[utility] if city.promise(id) is None]
            if not offered[utility]:
                yield ("triggers", n, "utilities", m), "nobody", f"no operator offers {utility}: each becomes a task"
            elif silent:
                yield ("triggers", n, "utilities", m), "promise", f"no promised times of {', '.join(silent)}"
    yield from (found for found, sure in _concessions(city) if not sure)


# -- operators and areas -----------------------------------------------------------------------------------------------
def _of_operator(operator: Operator, city: str, words: _Words) -> Iterator[Found]:
    at: Loc = ("operators", operator.id)
    if not ID.fullmatch(operator.id):
        yield at, "operator", "an id is lower-case letters, digits and hyphens, at most 49"
    yield from words.one_of((*at, "utility"), REQUESTED, "utility", operator.utility)
    for n, area in enumerate(operator.areas):
        yield from _of_area((*at, "areas", n), area, city)


def _of_area(at: Loc, area: Area, city: str) -> Iterator[Found]:
    if (area.division is None) == (area.polygon is None):
        yield at, "area", "give a division or a polygon, one of them"
    elif area.division is not None:
        yield from _of_division((*at, "division"), area.division, city)
    elif area.polygon is not None and (why := geometry.problem(area.polygon)):
        yield (*at, "polygon"), "polygon", why
    if area.until is not None and area.since >= area.until:
        yield (*at, "until"), "dates", "must be after since: it is the first day no longer served"


def _of_division(at: Loc, division: str, city: str) -> Iterator[Found]:
    if not (division == ANY or is_division(division)):
        yield at, "division", "no division code of GB/T 2260 and not *"
    elif division != ANY and is_division(city) and not within(city, [division]):
        yield at, "division", f"lies outside the city ({city})"


def _concessions(city: City) -> Iterator[tuple[Found, bool]]:
    """Areas that meet an exclusive one of another operator of that utility, in place and time; and whether that is sure."""
    areas = [(o, n, area) for o in city.operators.values() for n, area in enumerate(o.areas)]
    for (one, _, theirs), (other, n, area) in combinations(areas, 2):
        if one.utility != other.utility or one.id == other.id or not (theirs.exclusive or area.exclusive):
            continue
        if not _same_time(theirs, area) or (common := _common_ground(theirs, area, city.code)) is False:
            continue
        at = ("operators", other.id, "areas", n)
        if common:
            yield (
                (at, "exclusive", f"{one.id} serves there at that time too, and one of the two areas is exclusive"),
                True,
            )
        else:
            unknown = "one is a division, one a polygon, and one of them exclusive: whether they overlap is not known"
            yield (at, "exclusive", f"compare with {one.id}: {unknown}"), False


def _same_time(a: Area, b: Area) -> bool:
    return (b.until is None or a.since < b.until) and (a.until is None or b.since < a.until)


def _common_ground(a: Area, b: Area, city: str) -> bool | None:
    """None: not known, of a part of the city and a polygon. An area that is wrong in itself is refused elsewhere."""
    if any(list(_of_area((), area, city)) for area in (a, b)):
        return False
    if a.polygon is not None and b.polygon is not None:
        return geometry.overlap(a.polygon, b.polygon)
    if a.division is not None and b.division is not None:
        return _either(a.division, b.division)
    division = a.division or b.division or ANY
    return True if division == ANY or (is_division(city) and within(division, [city])) else None


def _either(a: str, b: str) -> bool:
    return ANY in (a, b) or within(a, [b]) or within(b, [a])


# -- the trigger table -------------------------------------------------------------------------------------------------
def _of_trigger(at: Loc, trigger: Trigger, city: City, words: _Words) -> Iterator[Found]:
    if trigger.type not in words.catalog.topics:
        yield (*at, "type"), "type", "no such event type in the catalogue"
        return
    yield from words.one_of((*at, "word"), trigger.type, words.field(trigger.type, WORDS), trigger.word)
    yield from _of_kind(at, trigger, words)
    yield from _of_part(at, trigger, city, words)
    yield from words.one_of((*at, "business_kind"), REQUESTED, "business_kind", trigger.business_kind)
    yield from words.one_of((*at, "customer_role"), REQUESTED, "customer_role", trigger.customer_role)
    for n, utility in enumerate(trigger.utilities):
        yield from words.one_of((*at, "utilities", n), REQUESTED, "utility", utility)
    if f"hookup.{trigger.business_kind}" not in words.catalog.topics[trigger.type].authoritative_for:
        yield (*at, "type"), "authority", f"not authoritative for {trigger.business_kind}, says its topic file"


def _of_kind(at: Loc, trigger: Trigger, words: _Words) -> Iterator[Found]:
    """What was decided; of a step of a utility: on which business, and what it answered."""
    if trigger.type != PROGRESSED:
        kind = words.field(trigger.type, KINDS)
        yield from words.one_of((*at, "decision_kind"), trigger.type, kind, trigger.decision_kind)
        if trigger.on_kind is not None:
            yield (*at, "on_kind"), "on-kind", f"only for rows of {PROGRESSED}"
        return
    yield from words.one_of((*at, "on_kind"), REQUESTED, "business_kind", trigger.on_kind)
    if trigger.decision_kind is not None:
        yield from words.one_of((*at, "decision_kind"), PROGRESSED, ANSWER, trigger.decision_kind)
        if trigger.on_kind != "PROTECT":
            yield (*at, "decision_kind"), "on-kind", "an answer is given to a request of PROTECT only"


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
        row = (t.type, t.word, t.decision_kind, t.permit_part, t.on_kind, t.business_kind)
        if row in rows:
            yield ("triggers", n), "duplicate", "an earlier row has the same key and business kind"
        rows.add(row)
        if families.setdefault(t.business_kind, t.type) != t.type:
            other = families[t.business_kind]
            yield ("triggers", n, "type"), "family", f"{t.business_kind} is authorised by {other} already"


def _of_cycles(city: City) -> Iterator[Found]:
    """A business that, through some rows, opens itself again would go on for ever."""
    opens: defaultdict[str, list[str]] = defaultdict(list)
    for trigger in city.triggers:
        if trigger.on_kind is not None:
            opens[trigger.on_kind].append(trigger.business_kind)
    for n, trigger in enumerate(city.triggers):
        if trigger.on_kind is not None and (back := _way(opens, trigger.business_kind, trigger.on_kind)):
            yield ("triggers", n, "on_kind"), "cycle", " → ".join((trigger.on_kind, *back))


def _way(opens: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str]:
    """The shortest way, both ends included; empty: there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        if way[-1] == goal:
            return way
        following = dict.fromkeys(kind for kind in opens.get(way[-1], ()) if kind not in seen)
        seen.update(following)
        ways += [[*way, kind] for kind in following]
    return []


# -- promises, items, the form -----------------------------------------------------------------------------------------
def _of_promises(city: City, words: _Words) -> Iterator[Found]:
    for key, promise in city.promises.items():
        if key not in city.operators:
            if ID.fullmatch(key):
                yield ("promises", key), "operator", "no such operator in the pack"
            else:
                yield from words.one_of(("promises", key), REQUESTED, "utility", key)
        if ID.fullmatch(promise.owner) and promise.owner not in (*city.operators, *city.departments):
            sentence = "no such operator or department in the pack; a department that is not in it goes by its name"
            yield ("promises", key, "owner"), "operator", sentence


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


# -- works in the street -----------------------------------------------------------------------------------------------
def _of_department(id: str, department: Department, city: City, words: _Words) -> Iterator[Found]:
    at: Loc = ("departments", id)
    if not ID.fullmatch(id):
        yield at, "department", "an id is lower-case letters, digits and hyphens, at most 49"
    elif id in (OFFICE, OPERATOR_ITSELF, *city.operators):
        yield at, "department", "an operator or a queue has this id"
    for n, kind in enumerate(department.works):
        yield from words.one_of((*at, "works", n), PERMIT, "works_kind", kind)
    for n, division in enumerate(department.regions):
        yield from _of_division((*at, "regions", n), division, city.code)


def _of_works(city: City, words: _Words) -> Iterator[Found]:
    for way, limits in (("file", city.works.file), ("commit", city.works.commit)):
        for n, limit in enumerate(limits):
            yield from words.one_of(("works", way, n, "utility"), REQUESTED, "utility", limit.utility)
    for n, limit in enumerate(city.works.file):
        committed = [other.length_m for other in city.works.commit if _includes(other, limit)]
        if committed and limit.length_m > max(committed):
            sentence = f"what is only filed is less than what is committed to ({max(committed)} m)"
            yield ("works", "file", n, "length_m"), "limit", sentence


def _includes(commit: Filing, file: Filing) -> bool:
    """Whether a limit is about every pipe or line that the other is about, the length apart."""
    if (commit.utility, commit.voltage) != (file.utility, file.voltage):
        return False
    return commit.pipe_dn_mm is None or (file.pipe_dn_mm is not None and file.pipe_dn_mm <= commit.pipe_dn_mm)


def _of_roads(city: City) -> Iterator[Found]:
    for n, moratorium in enumerate(city.moratoria):
        if moratorium.since > moratorium.until:
            yield ("moratoria", n, "until"), "dates", "must not be before since: it is the last day without digging"
    for name, road in city.roads.items():
        if road.opened_on and road.overhauled_on and road.overhauled_on < road.opened_on:
            yield ("roads", name, "overhauled_on"), "dates", "before the road was opened"


def _of_working(city: City) -> Iterator[Found]:
    try:
        ZoneInfo(city.working.zone)
    except (ValueError, OSError, KeyError):  # not a name; a folder of the time zone database; not in it
        yield ("working", "zone"), "zone", "no such time zone; a name of the IANA database, as Asia/Shanghai"
    for n, day in enumerate(city.working.work_days):
        if day in city.working.days_off:
            yield ("working", "work_days", n), "days", f"{day} is a day off too"


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
