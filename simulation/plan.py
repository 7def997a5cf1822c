"""What will happen in the city, decided by the seed alone: a list of operations, each with its moment and its key."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from jietong.city import FULL, City
from jietong.identifiers import CreditCode

FIRST_DAY = date(2026, 3, 2)
KINDS = ("智造园", "住宅小区", "学校", "医院", "产业园", "商业中心", "仓储中心", "养老院")
FORMS = ("EXAMINED", "VERIFIED", "FILED")


@dataclass(frozen=True, slots=True)
class Operation:
    """One business operation: at so many seconds, on one platform. `key` is the same in every run of a seed."""

    at: float
    key: str
    verb: str
    project: int
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Plan:
    """`blocked`: (operator, project) the operator's system refuses, so that one request is held; `repeated`: the project
    whose events are asked for again, so that duplicates arrive; both chosen by the seed."""

    operations: Sequence[Operation]
    regions: Sequence[str]
    decided: Sequence[bool]
    blocked: tuple[str, int]
    repeated: int

    def leads(self, city: City) -> Mapping[str, int]:
        """operator → the permanent leads it must have received, from the plan alone."""
        counts = dict.fromkeys(city.operators, 0)
        for project, region in enumerate(self.regions):
            for trigger in (
                city.triggered("investment.project.registered.v1", {"status": "DECIDED"})
                if self.decided[project]
                else ()
            ):
                for utility in trigger.utilities:
                    for operator in city.serving(utility, [region], FIRST_DAY):
                        counts[operator.id] += (operator.id, project) != self.blocked
        return counts


class Items(NamedTuple):
    """The approval items of a city that the plan goes through, by their codes (SPSXBM)."""

    planning: Sequence[str]
    permit: str
    parts: Sequence[str]
    drainage: str | None
    acceptance: str


def items(city: City) -> Items:
    """From the city's catalogue: its planning approvals, the full construction permit and its parts, drainage, acceptance."""
    by: dict[tuple[str | None, str], str] = {
        (item.decision_kind or item.acceptance_kind, item.permit_part): code
        for code, item in [*city.item_catalogue.items()][::-1]
    }
    planning = [by[kind, FULL] for kind in ("LAND_USE_PLANNING", "ENGINEERING_PLANNING")]
    parts = [by["CONSTRUCTION", part] for part in city.permit_parts if ("CONSTRUCTION", part) in by]
    return Items(planning, by["CONSTRUCTION", FULL], parts, by.get(("DRAINAGE", FULL)), by["JOINT", FULL])


def plan(seed: int, projects: int, seconds: float, city: City) -> Plan:
    """A city's plan. The last tenth of the time is left for what is under way."""
    dice, known = random.Random(seed), items(city)
    regions = [
        dice.choice(sorted({area.division for o in city.operators.values() for area in o.areas if area.division}))
        for _ in range(projects)
    ]
    operations: list[Operation] = []
    decided: list[bool] = []
    for n, region in enumerate(regions):
        start = n / projects * seconds * 0.7
        mine = list(_project(dice, known, n, region, start, seconds * 0.9 - start))
        decided.append(any(op.verb == "decide" for op in mine))
        operations += mine
    blocked_at = next(n for n in range(projects) if decided[n] and city.serving("CABLE_TV", [regions[n]], FIRST_DAY))
    operator = city.serving("CABLE_TV", [regions[blocked_at]], FIRST_DAY)[0].id
    return Plan(
        sorted(operations, key=lambda op: op.at), regions, decided, (operator, blocked_at), dice.randrange(projects)
    )


def _project(dice: random.Random, known: Items, n: int, region: str, start: float, span: float) -> Iterator[Operation]:
    def moment(share: float) -> float:
        return start + span * min(share, 1.0)

    yield Operation(moment(0), f"{n}/register", "register", n, _application(dice, n, region))
    if dice.random() < 0.04:
        return
    yield Operation(
        moment(0.05), f"{n}/decide", "decide", n, {"form": dice.choice(FORMS), "document": f"江发改〔2026〕{n + 1} 号"}
    )
    if dice.random() < 0.15:
        yield Operation(
            moment(0.1 + 0.5 * dice.random()),
            f"{n}/change",
            "change",
            n,
            {"floor_area": Decimal(dice.randrange(2000, 90000))},
        )
    if dice.random() < 0.06:
        yield Operation(moment(0.9), f"{n}/cancel", "cancel", n)
    if dice.random() < 0.55:
        for work in range(2 if dice.random() < 0.08 else 1):
            yield from _work(dice, known, n, work, moment)


def _work(dice: random.Random, known: Items, n: int, work: int, moment: Any) -> Iterator[Operation]:
    """Four stages with parallel items; corrections and special procedures; staged permits; endings; acceptances."""
    at = 0.12
    yield Operation(moment(at), f"{n}/{work}/work", "work", n, {"work": work})
    for item in known.planning:
        at += 0.06
        yield from _item(dice, n, work, item, moment, at, good=0.97)
    at += 0.08
    permits = known.parts[: dice.randrange(1, 4)] if dice.random() < 0.3 else (known.permit,)
    for item in permits:
        yield from _item(dice, n, work, item, moment, at, good=0.93)
        at += 0.08
    if dice.random() < 0.3 and known.drainage:
        yield from _item(dice, n, work, known.drainage, moment, at - 0.05, good=0.95)
    if dice.random() < 0.06:
        yield Operation(
            moment(at + 0.05),
            f"{n}/{work}/end",
            "progress",
            n,
            {"work": work, "item": permits[0], "status": dice.choice((14, 15))},
        )
    elif dice.random() < 0.25:
        yield from _item(dice, n, work, known.acceptance, moment, at + 0.2, good=0.9)
        yield Operation(moment(at + 0.34), f"{n}/{work}/presale", "presale", n, {"units": dice.randrange(20, 400)})
        yield Operation(
            moment(at + 0.38), f"{n}/{work}/first", "first", n, {"work": work, "units": dice.randrange(1, 4)}
        )


def _item(
    dice: random.Random, n: int, work: int, item: str, moment: Any, at: float, good: float
) -> Iterator[Operation]:
    instance = {"work": work, "item": item}
    name = f"{n}/{work}/{item}"
    yield Operation(
        moment(at), f"{name}/open", "open", n, {**instance, "basis": "COMMITMENT" if dice.random() < 0.1 else "FULL"}
    )
    statuses = [1, 3]
    if dice.random() < 0.12:
        statuses += [6, 7]
    statuses += [8, *([9, 10] if dice.random() < 0.08 else [])]
    roll = dice.random()
    statuses.append(11 if roll < good - 0.08 else 12 if roll < good else dice.choice((2, 13)))
    for step, status in enumerate(statuses):
        yield Operation(
            moment(at + 0.006 * (step + 1)), f"{name}/{step}", "progress", n, {**instance, "status": status}
        )
    if statuses[-1] in (11, 12):
        yield Operation(
            moment(at + 0.006 * (len(statuses) + 2)),
            f"{name}/paper",
            "issue",
            n,
            {**instance, "number": f"{item}-{n}-{work}"},
        )


def _application(dice: random.Random, n: int, region: str) -> dict[str, Any]:
    name = f"{dice.choice('东南西北中')}{dice.choice('江湖山河城')}{dice.choice(KINDS)}{n + 1}"
    organisation = f"MA{dice.randrange(10**6):06}"
    return {
        "name": name, "site_regions": (region,), "authority_region": region[:6],
        "applicant_uscc": str(CreditCode.make(region=region[:6], organisation=organisation)),
        "applicant_name": f"{name}建设有限公司", "address": f"{name}大道 {dice.randrange(1, 300)} 号",
        "floor_area": Decimal(dice.randrange(2000, 90000)),
        "land_area": Decimal(dice.randrange(2000, 60000)), "total_investment": Decimal(dice.randrange(500, 90000)), "kind": "K7010",
        "longitude": Decimal(dice.randrange(112_400_000, 113_200_000)) / 10**6, "latitude": Decimal(dice.randrange(21_900_000, 22_800_000)) / 10**6,
        "planned_start": FIRST_DAY + timedelta(days=dice.randrange(30, 300)), "contact_name": f"联系人{n}", "contact_phone": f"1380000{n:04}",
        "contact_consent": dice.random() < 0.5,
    }  # fmt: skip
