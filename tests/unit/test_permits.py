"""On which route a permit for works in the street is dealt with (城市道路管理条例 30-34; lengths are the city's word)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from jietong.city import Filing, Road, Works
from services.hookup.permits import EXCAVATION, kinds, route
from tests.unit.office import CITY

WORKS = Works(
    file=[Filing("WATER", Decimal(50), pipe_dn_mm=100)],
    commit=[Filing("WATER", Decimal(200), pipe_dn_mm=300), Filing("POWER", Decimal(500), voltage="10kV")],
)
ROADS = {
    "新路": Road(opened_on=date(2022, 6, 1)),
    "修路": Road(opened_on=date(1999, 1, 1), overhauled_on=date(2024, 2, 29)),
    "旧路": Road(opened_on=date(1999, 1, 1)),
}
TOWN = replace(CITY, works=WORKS, roads=ROADS)
TODAY = date(2026, 5, 1)


def way(utility: str = "WATER", kind: str = EXCAVATION, **plan: Any) -> str:
    return route(kind, {"road": "旧路", **plan}, utility, TODAY, TOWN)


@pytest.mark.parametrize(("length", "pipe", "expected"), [
    ("50.00", 100, "FILE"), ("50.01", 100, "COMMIT"), ("50.00", 150, "COMMIT"), ("200.00", 300, "COMMIT"), ("200.01", 300, "APPROVE"),
    ("10.00", 400, "APPROVE"), ("10.00", None, "APPROVE"), (None, 100, "APPROVE"),
])  # fmt: skip
def test_short_works_are_filed_or_committed_and_what_is_not_known_is_approved(
    length: str | None, pipe: int | None, expected: str
) -> None:
    assert way(length_m=length and Decimal(length), pipe_dn_mm=pipe) == expected


def test_a_limit_of_one_utility_or_voltage_is_none_of_anothers() -> None:
    assert way("GAS", length_m=Decimal(10), pipe_dn_mm=50) == "APPROVE"
    assert way("POWER", length_m=Decimal(400), voltage="10kV") == "COMMIT"
    assert way("POWER", length_m=Decimal(400), voltage="110kV") == "APPROVE"


@pytest.mark.parametrize(("start", "expected"), [(date(2027, 5, 31), "GOVERNMENT"), (date(2027, 6, 1), "FILE")])
def test_a_road_under_five_years_new_needs_the_government(start: date, expected: str) -> None:
    """城市道路管理条例 33."""
    assert way(road="新路", length_m=Decimal(10), pipe_dn_mm=50, planned_start=start) == expected


@pytest.mark.parametrize(("start", "expected"), [(date(2027, 2, 28), "GOVERNMENT"), (date(2027, 3, 1), "FILE")])
def test_a_road_under_three_years_after_an_overhaul_needs_the_government(start: date, expected: str) -> None:
    """城市道路管理条例 33; of 29 February the 1 March."""
    assert way(road="修路", length_m=Decimal(10), pipe_dn_mm=50, planned_start=start) == expected


def test_an_emergency_is_dug_first_and_filed_afterwards_on_any_road() -> None:
    """城市道路管理条例 34."""
    assert way(road="新路", emergency=True) == "EMERGENCY"


def test_only_digging_asks_the_government() -> None:
    assert way(kind="TRAFFIC", road="新路", length_m=Decimal(10), pipe_dn_mm=50) == "FILE"


def test_a_road_that_is_named_is_dug_up_and_a_plan_may_name_its_permits() -> None:
    assert kinds({"road": "旧路"}) == [EXCAVATION]
    assert kinds({}) == []
    assert kinds({"road": "旧路", "works_kinds": ["GREEN_SPACE"]}) == ["GREEN_SPACE"]
