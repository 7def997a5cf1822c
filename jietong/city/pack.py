"""The words of a city pack, and what a city answers with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, Strict, StringConstraints
from pydantic.dataclasses import dataclass

from jietong import geometry
from jietong.identifiers import DivisionCode, InvalidIdentifierError

REQUESTED, PROGRESSED = "utility.connection.requested.v1", "utility.connection.progressed.v1"
ANY, FULL = "*", "FULL"
WORDS = ("decision", "status")
KINDS = ("decision_kind", "acceptance_kind", "registration_kind")
ANSWER = "protection"
"""What stands for a kind in a step of a utility: its answer to a protection request."""
OFFICE, OPERATOR_ITSELF = "hookup-office", "operator"
"""The queues that are nobody's department: everything's, unless it is said whose; and each operator's own."""


def _quoted(value: object) -> object:
    if not isinstance(value, str | time):
        raise ValueError('write it in quotes, as "17:30": YAML reads a bare one as a number')  # noqa: TRY004 - pydantic's
    return value


Day = Annotated[date, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
Amount = Annotated[Decimal, Field(ge=0)]
Hour = Annotated[time, BeforeValidator(_quoted)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Name:
    """What people call it."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Area:
    """Where an operator serves, from the day `since` to the day before `until`: a division (`*` is everywhere) or a
    polygon, WKT of longitude and latitude in degrees (CGCS2000).

    `exclusive`: a concession (特许经营). Nobody else of that utility serves there at that time.
    """

    division: str | None = None
    polygon: str | None = None
    since: Day
    until: Day | None = None
    exclusive: bool = False

    def covers(self, regions: Sequence[str], on: date, red_line: str | None = None, city: str = ANY) -> bool:
        """Whether a site meets it on that day: by its divisions, or, of a polygon, by its boundary (红线).

        A boundary that is not known, or is no polygon, drops nobody: the polygon counts as met by a site in the city.
        A code that is no division lies nowhere.
        """
        if on < self.since or (self.until is not None and on >= self.until):
            return False
        if self.polygon is None:
            return within(self.division or ANY, regions)
        if red_line is None or geometry.problem(red_line) is not None:
            return within(city if is_division(city) else ANY, regions)
        return geometry.meets(self.polygon, red_line)


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

    Its key is (type, word, decision_kind, permit_part, on_kind). `word` is the event's decision or status; `decision_kind`
    and `permit_part` are given exactly for the types that have them, and a part of `*` is the full permit or any part.
    `on_kind` is given for steps of a utility: the business kind of the case that progressed. Such a row opens its business
    with the same operator; its `decision_kind` is the answer to a protection request (NONE, PROTECT, MOVE), none: any.
    """

    type: str
    word: str
    business_kind: str
    utilities: Sequence[str]
    customer_role: str
    decision_kind: str | None = None
    permit_part: str | None = None
    on_kind: str | None = None

    def matches(self, topic: str, data: Mapping[str, Any]) -> bool:
        part = data.get("permit_part")
        return (
            self.type == topic
            and self.word == _first(data, WORDS)
            and self._of_kind(data)
            and (self.permit_part == part or (self.permit_part == ANY and part is not None))
        )

    def _of_kind(self, data: Mapping[str, Any]) -> bool:
        if self.on_kind is None:
            return self.decision_kind == _first(data, KINDS)
        return self.on_kind == data["business_kind"] and self.decision_kind in (None, data.get(ANSWER))


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Promise:
    """What was promised the city (服务承诺): hours to the first contact; working days to the plan, to the connection, and
    to the answer of a pipe owner who is asked for protection; whether the applicant may be asked to attend a visit.

    `owner`: who made it, an operator or a department. `fee`: CNY, the most a customer pays for a standard connection (0 is
    free). `boundary`: up to where the operator pays (投资界面). `capacity`: up to what it holds, with its unit.
    """

    contact_within_hours: Count
    plan_days: Count
    connect_days: Count
    owner: Text
    applicant_visit: bool = False
    protect_days: Count = 3
    fee: Amount | None = None
    boundary: str | None = None
    capacity: str | None = None


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
class Department:
    """Who decides permits for connection works. `works`: which kinds; `regions`: in which divisions (none: all)."""

    name: Name
    works: Sequence[str]
    regions: Sequence[str] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Filing:
    """Works of a utility up to this length, m (and of this voltage, up to this nominal diameter, mm)."""

    utility: str
    length_m: Amount
    voltage: str | None = None
    pipe_dn_mm: Count | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Works:
    """Permits for connection works (占掘路 and others): working days for all of them in parallel, and what is only filed
    (备案) or committed to (告知承诺); the rest is approved.

    Years within which a road is new or freshly overhauled, so that digging it needs the government (城市道路管理条例 33);
    hours within which an emergency repair is filed (34).
    """

    days: Count = 5
    file: Sequence[Filing] = ()
    commit: Sequence[Filing] = ()
    new_road_years: Count = 5
    overhauled_road_years: Count = 3
    emergency_hours: Count = 24


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Moratorium:
    """A road that is not dug from the day `since` to the day `until`, an emergency apart."""

    road: str
    since: Day
    until: Day
    reason: str


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Road:
    """What the city knows of a road: the days on which it was opened and last overhauled."""

    opened_on: Day | None = None
    overhauled_on: Day | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Protection:
    """Whose lines are established and protected before anyone digs: by law those of gas (城镇燃气管理条例 37), drainage
    (城镇排水与污水处理条例 43) and water (城市供水条例 30-31); a city may ask others too."""

    utilities: Sequence[str] = ("GAS", "DRAINAGE", "WATER")
    required: bool = True


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Working:
    """Office hours: what comes after `cut_off`, local time, counts as the next working day. Days off and working days of
    the city's own come on top of the official calendar."""

    zone: str = "Asia/Shanghai"
    cut_off: Hour = time(17, 30)
    days_off: Sequence[Day] = ()
    work_days: Sequence[Day] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Clocks:
    """Working days to the first contact; months in which works must begin, and how often that is extended (建筑法 9);
    working days before a due date on which it is warned of."""

    contact_days: Count = 1
    lapse_months: Count = 3
    lapse_extensions: Count = 2
    warn_days: Count = 5


@dataclass(frozen=True, slots=True, config=_CONFIG)
class City:
    """A city pack. `code` is its division code, or a plain name outside China.

    `permit_parts`: the parts a construction permit may be given in (分段办理施工许可), FULL apart.
    `promises`: by utility, or by operator. `item_catalogue`: by the item's code (SPSXBM).
    `form`: fields of the one form (一张表单) by utility and business kind, `*` standing for each; a field is
    `project.<name>` or `demand.<name>` of the request.
    `roads`: by name. `units`: what a queue of tasks and absences is called: `hookup-office`, a department, or `operator`.
    """

    code: str
    name: Name
    operators: Mapping[str, Operator]
    triggers: Sequence[Trigger]
    permit_parts: Mapping[str, Name]
    promises: Mapping[str, Promise]
    item_catalogue: Mapping[str, Item]
    form: Mapping[str, Mapping[str, Sequence[str]]]
    departments: Mapping[str, Department] = field(default_factory=dict[str, Department])
    works: Works = field(default_factory=Works)
    moratoria: Sequence[Moratorium] = ()
    roads: Mapping[str, Road] = field(default_factory=dict[str, Road])
    protection: Protection = field(default_factory=Protection)
    working: Working = field(default_factory=Working)
    clocks: Clocks = field(default_factory=Clocks)
    units: Mapping[str, Name] = field(default_factory=lambda: {OFFICE: Name(zh="接入协调办公室", en="Hookup office")})

    def serving(self, utility: str, regions: Sequence[str], on: date, red_line: str | None = None) -> list[Operator]:
        """A utility's operators whose area meets the site on that day, by id. None: a task for a person.

        `red_line`: the site's boundary as WKT, where it is known.
        """
        return self._meeting((o for o in self.operators.values() if o.utility == utility), regions, on, red_line)

    def owners(self, regions: Sequence[str], on: date, red_line: str | None = None) -> list[Operator]:
        """Owners of pipes and cables who are asked for protection before anyone digs there, by id."""
        asked = (o for o in self.operators.values() if o.utility in self.protection.utilities)
        return self._meeting(asked, regions, on, red_line)

    def promise(self, operator: str) -> Promise | None:
        """What an operator promised: its own word before that of its utility."""
        known = self.operators.get(operator)
        return self.promises.get(operator) or (self.promises.get(known.utility) if known else None)

    def departments_for(self, works_kind: str, regions: Sequence[str]) -> list[str]:
        """Departments that decide this kind of works there, by id. None: a task for a person."""
        deciding = ((id, d) for id, d in self.departments.items() if works_kind in d.works)
        return sorted(id for id, d in deciding if not d.regions or any(within(own, regions) for own in d.regions))

    def triggered(self, topic: str, data: Mapping[str, Any]) -> list[Trigger]:
        """The rows that an event of this type and data meets: what it would open, were it the first.

        A row about a step of a utility is met by the utilities it names.
        """
        return [t for t in self.triggers if t.matches(topic, data) and (t.on_kind is None or self._names(t, data))]

    def fields(self, utility: str, business_kind: str) -> list[str]:
        """What the one form asks for this business with this utility, in the form's order."""
        parts = [self.form.get(u, {}).get(k, ()) for u in (ANY, utility) for k in (ANY, business_kind)]
        return list(dict.fromkeys(field for part in parts for field in part))

    def _meeting(
        self, operators: Iterable[Operator], regions: Sequence[str], on: date, red_line: str | None
    ) -> list[Operator]:
        meeting = (o for o in operators if any(a.covers(regions, on, red_line, self.code) for a in o.areas))
        return sorted(meeting, key=lambda o: o.id)

    def _names(self, trigger: Trigger, data: Mapping[str, Any]) -> bool:
        operator = self.operators.get(data["operator"])
        return operator is not None and operator.utility in trigger.utilities


def is_division(text: str) -> bool:
    """Whether a text is a division code of GB/T 2260."""
    try:
        DivisionCode(text)
    except InvalidIdentifierError:
        return False
    return True


def within(division: str, regions: Iterable[str]) -> bool:
    """Whether one of these regions is this division or lies in it; every region, known or not, lies in `*`."""
    return division == ANY or any(is_division(region) and _contains(division, region) for region in regions)


def _contains(division: str, region: str) -> bool:
    return DivisionCode(division).contains(DivisionCode(region))


def _first(data: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((data[name] for name in names if name in data), None)
