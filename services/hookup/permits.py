"""The parallel permits for the works of a case (并联审批): which are needed, from whom, on which route. Plain functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from jietong.city import City, Filing, Road
from services.hookup.facts import Facts, dumps

EXCAVATION = "ROAD_EXCAVATION"
GRANTED = frozenset({"APPROVED", "DOCUMENTED", "EXTENDED", "RESUMED", "CONDITION_MET"})
PENDING, ALL_GRANTED, REFUSED = "PENDING", "GRANTED", "REFUSED"


class Need(NamedTuple):
    """One permit that a plan needs."""

    permit: str
    works_kind: str
    department: str
    route: str


@dataclass(slots=True)
class Permit:
    """One permit as it was last asked for, and what the department said. The fields are columns of `permit`."""

    permit: str
    case_id: str
    operator: str
    works_kind: str
    department: str
    route: str
    requested: str
    round: int
    content: str
    data: str
    asked: int
    due: int
    decision: str | None = None
    decided: int | None = None
    reason: str | None = None


def kinds(plan: Facts) -> Sequence[str]:
    """The permits a plan says its works need; a road that is named is dug up."""
    return plan.get("works_kinds") or ([EXCAVATION] if plan.get("road") else [])


def needs(case: str, plan: Facts, utility: str, regions: Sequence[str], on: date, city: City) -> Iterator[Need | str]:
    """One for each kind and department; a kind that no department of the city decides comes as its bare word.

    A new plan needs new permits: what was decided about another one is none of its business.
    """
    for kind in kinds(plan):
        departments = city.departments_for(kind, regions)
        if not departments:
            yield kind
        for department in departments:
            way = route(kind, plan, utility, on, city)
            name = "\x1f".join((case, kind, department, dumps(plan)))
            yield Need(str(uuid5(NAMESPACE_URL, name)), kind, department, way)


def route(kind: str, plan: Facts, utility: str, on: date, city: City) -> str:
    """How it is dealt with (城市道路管理条例 30-34; up to which length it is filed or committed is the city's word).

    An emergency is dug first and filed within 24 hours (34); a road under five years new, or three after an overhaul,
    needs the government (33). `on`: the day it is asked, where the plan has no first day.
    """
    if plan.get("emergency"):
        return "EMERGENCY"
    if kind == EXCAVATION and _protected(_road(plan, city), plan.get("planned_start") or on, city):
        return "GOVERNMENT"
    if any(_within(limit, plan, utility) for limit in city.works.file):
        return "FILE"
    return "COMMIT" if any(_within(limit, plan, utility) for limit in city.works.commit) else "APPROVE"


def _road(plan: Facts, city: City) -> Road | None:
    return city.roads.get(plan.get("road") or "")


def _protected(road: Road | None, on: date, city: City) -> bool:
    if road is None:
        return False
    years = ((road.opened_on, city.works.new_road_years), (road.overhauled_on, city.works.overhauled_road_years))
    return any(day is not None and on < _later(day, count) for day, count in years)


def _later(day: date, years: int) -> date:
    """The same day so many years on; of 29 February the 1 March."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


def _within(limit: Filing, plan: Facts, utility: str) -> bool:
    """Whether works are surely within a limit: what a plan does not say is not assumed."""
    length, pipe = plan.get("length_m"), plan.get("pipe_dn_mm")
    return (
        limit.utility == utility
        and length is not None
        and length <= limit.length_m
        and (limit.voltage is None or limit.voltage == plan.get("voltage"))
        and (limit.pipe_dn_mm is None or (pipe is not None and pipe <= limit.pipe_dn_mm))
    )


def state(permits: Iterable[Permit], names: Mapping[str, str]) -> tuple[str, str]:
    """Where a package stands, and what the departments that refused said: the case goes on when the last one is decided."""
    standing = [p for p in permits if p.requested == "OPEN"]
    if not standing:
        return "", ""
    refused = [p for p in standing if p.decision and p.decision not in GRANTED]
    if refused:
        return REFUSED, "; ".join(
            f"{names.get(p.department, p.department)}: {p.reason or p.decision}"
            for p in sorted(refused, key=lambda p: p.department)
        )
    return (ALL_GRANTED if all(p.decision for p in standing) else PENDING), ""


def decides(round: int, asked: int) -> int:
    """From when on a decision is about this request (ms): what was asked for anew is not decided by what came before. A
    department's platform tells a decision to the second."""
    return asked // 1000 * 1000 if round > 1 else 0


def said(plan: Facts, road: Road | None) -> dict[str, Any]:
    """What a request says of the works."""
    same = {
        name: plan.get(name)
        for name in ("road", "length_m", "area_m2", "depth_m", "pipe_dn_mm", "voltage", "trees", "planned_start", "planned_finish")
    }  # fmt: skip
    return {
        **same,
        "road_opened_on": road.opened_on if road else None,
        "road_overhauled_on": road.overhauled_on if road else None,
    }
