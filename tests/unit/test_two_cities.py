"""Two city packs and no code between them: the same service, told the same facts, does what each city's data says."""

from __future__ import annotations

from typing import Any

import pytest

from jietong.city import load
from tests.unit.office import CATALOG, Office, approval, plan, project

JIANGMEN, DONGGUAN = {"site_regions": ["440703"]}, {"site_regions": ["441900003"], "authority_region": "441900"}
WEST = "POLYGON((113.7 22.9, 113.71 22.9, 113.71 22.91, 113.7 22.91, 113.7 22.9))"


def opened(city: str, where: dict[str, Any]) -> Office:
    office = Office(load(city, CATALOG))
    office.tell(*project("DECIDED", name="甲", **where))
    return office


def asked(office: Office, kind: str) -> set[str | None]:
    return {operator for (_, operator, business, _) in office.cases() if business == kind}


@pytest.mark.parametrize(("city", "where", "operators"), [
    ("jiangmen", JIANGMEN, 8), ("dongguan", DONGGUAN, 8),
])  # fmt: skip
def test_a_decided_project_is_a_lead_of_whoever_serves_the_site(
    city: str, where: dict[str, Any], operators: int
) -> None:
    office = opened(city, where)
    assert len(asked(office, "PERMANENT")) == operators
    assert office.tasks() == set()


def test_a_red_line_that_becomes_known_takes_the_other_concession_away() -> None:
    office = opened("dongguan", DONGGUAN)
    assert {"dg-gas-east", "dg-gas-west"} <= asked(office, "PERMANENT")
    office.tell(*project("CHANGED", name="甲", red_line=WEST, red_line_crs="EPSG:4490", **DONGGUAN))
    assert office.statuses("dg-gas-east", "PERMANENT")[-1] == "CANCELLED"
    assert "dg-gas-west" in asked(office, "PERMANENT")


@pytest.mark.parametrize(("city", "where", "kind", "owner"), [
    ("jiangmen", JIANGMEN, "CONSTRUCTION", "jm-water"), ("dongguan", DONGGUAN, "LAND_USE_PLANNING", "dg-water"),
])  # fmt: skip
def test_each_city_asks_pipe_owners_at_its_own_approval_and_a_move_opens_a_relocation(
    city: str, where: dict[str, Any], kind: str, owner: str
) -> None:
    office = opened(city, where)
    office.tell(*approval("APPROVED", kind=kind, **where))
    assert owner in asked(office, "PROTECT")
    office.step(owner, "PROTECT", "PLAN_REPLIED", protection="MOVE")
    assert asked(office, "RELOCATE") == {owner}


@pytest.mark.parametrize(("city", "where", "operator", "departments", "route"), [
    ("jiangmen", JIANGMEN, "jm-water", {"road"}, "APPROVE"), ("dongguan", DONGGUAN, "dg-water", {"police", "roads"}, "COMMIT"),
])  # fmt: skip
def test_the_same_plan_needs_what_the_city_says(
    city: str, where: dict[str, Any], operator: str, departments: set[str], route: str
) -> None:
    office = opened(city, where)
    office.step(operator, "PERMANENT", "ACCEPTED")
    office.step(operator, "PERMANENT", "PLAN_REPLIED", plan=plan())
    assert {p.data["department"] for p in office.permits()} == departments
    assert {p.data["route"] for p in office.permits()} == {route}


def test_a_road_that_is_new_needs_the_government() -> None:
    """城市道路管理条例 33."""
    office = opened("dongguan", DONGGUAN)
    office.step("dg-water", "PERMANENT", "ACCEPTED")
    office.step("dg-water", "PERMANENT", "PLAN_REPLIED", plan=plan(road="样板东路"))
    assert {p.data["route"] for p in office.permits()} == {"GOVERNMENT"}


def test_every_receipt_is_the_citys_own_promise() -> None:
    jiangmen, dongguan = opened("jiangmen", JIANGMEN), opened("dongguan", DONGGUAN)
    assert jiangmen.last("jm-gas", "PERMANENT")["promised_connect_days"] == 5
    assert dongguan.last("dg-gas-east", "PERMANENT")["promised_connect_days"] == 9
    assert dongguan.last("dg-gas-west", "PERMANENT")["promised_connect_days"] == 6
