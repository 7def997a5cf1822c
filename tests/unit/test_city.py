from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from datetime import date, time
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jietong import catalog, city
from jietong.catalog import Catalog
from jietong.city import (
    CITIES,
    PROGRESSED,
    Area,
    City,
    Clocks,
    Department,
    Item,
    Moratorium,
    Promise,
    Protection,
    Road,
    Trigger,
    Working,
    Works,
)  # fmt: skip
from jietong.city.rules import rules
from jietong.cli.city import app
from jietong.errors import UsageError

APPROVAL = "engineering.approval.decided.v1"
CONSTRUCTION = {"decision": "APPROVED", "decision_kind": "CONSTRUCTION", "permit_part": "FULL"}
TODAY, LATER = date(2026, 3, 1), date(2027, 3, 1)


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


@pytest.fixture(scope="module")
def jiangmen(known: Catalog) -> City:
    return city.load("jiangmen", known)


@pytest.fixture(scope="module")
def dongguan(known: Catalog) -> City:
    return city.load("dongguan", known)


Spoil = Callable[..., Path]


@pytest.fixture
def spoil(tmp_path: Path) -> Spoil:
    def write(file: str, old: str, new: str, city: str = "jiangmen") -> Path:
        pack = tmp_path / "pack"
        shutil.copytree(CITIES / city, pack)
        text = (pack / file).read_text("utf-8")
        assert old in text
        (pack / file).write_text(text.replace(old, new, 1), "utf-8")
        return pack

    return write


# -- what a good pack tells ------------------------------------------------------------------------------------------
def test_the_jiangmen_pack_keeps_every_rule(known: Catalog) -> None:
    assert city.check("jiangmen", known) == []


def test_several_telecom_operators_serve_one_area_and_come_sorted_by_id(jiangmen: City) -> None:
    serving = jiangmen.serving("TELECOM", ["440703001"], TODAY)
    assert [o.id for o in serving] == ["jm-telecom-a", "jm-telecom-b", "jm-telecom-c"]


def test_an_area_that_ended_serves_to_the_day_before(jiangmen: City) -> None:
    assert [o.id for o in jiangmen.serving("GAS", ["440785"], date(2023, 12, 31))] == ["jm-gas"]
    assert jiangmen.serving("GAS", ["440785"], date(2024, 1, 1)) == []


def test_a_linear_project_is_served_by_who_covers_any_of_its_regions(jiangmen: City) -> None:
    assert [o.id for o in jiangmen.serving("GAS", ["440785", "440783001"], TODAY)] == ["jm-gas"]


@pytest.mark.parametrize("regions", [[], ["440700"], ["44070"], ["elsewhere"], ["440103"]])
def test_a_region_no_area_contains_is_served_by_nobody(jiangmen: City, regions: list[str]) -> None:
    assert jiangmen.serving("WATER", regions, TODAY) == []


def test_an_operator_of_everywhere_needs_no_region() -> None:
    assert Area(division="*", since=date(2020, 1, 1)).covers([], TODAY)


@pytest.mark.parametrize("part", ["FULL", "EARTHWORK", "PILE", "MAIN"])
def test_each_part_of_a_construction_permit_opens_temporary_supply_and_protection(jiangmen: City, part: str) -> None:
    opened = jiangmen.triggered(APPROVAL, CONSTRUCTION | {"permit_part": part})
    assert {t.business_kind: t.customer_role for t in opened} == {"TEMPORARY": "CONTRACTOR", "PROTECT": "DEVELOPER"}


@pytest.mark.parametrize(
    "other", [{"decision": "REFUSED"}, {"decision": "DOCUMENTED"}, {"decision_kind": "FIRE_DESIGN"}], ids=str
)
def test_another_decision_opens_nothing(jiangmen: City, other: dict[str, str]) -> None:
    assert jiangmen.triggered(APPROVAL, CONSTRUCTION | other) == []


def test_the_decided_project_opens_permanent_supply_and_the_joint_acceptance_closes_the_temporary(
    jiangmen: City,
) -> None:
    decided = jiangmen.triggered("investment.project.registered.v1", {"status": "DECIDED", "decision_form": "FILED"})
    assert [t.business_kind for t in decided] == ["PERMANENT"]
    assert len(decided[0].utilities) == 6
    assert jiangmen.triggered("investment.project.registered.v1", {"status": "REGISTERED"}) == []
    accepted = {"decision": "APPROVED", "acceptance_kind": "JOINT"}
    assert [t.business_kind for t in jiangmen.triggered("engineering.acceptance.decided.v1", accepted)] == ["CLOSE"]
    assert jiangmen.triggered("engineering.acceptance.decided.v1", accepted | {"acceptance_kind": "STAGED"}) == []


def test_the_one_form_asks_each_business_only_what_it_needs(jiangmen: City) -> None:
    temporary, permanent = jiangmen.fields("POWER", "TEMPORARY"), jiangmen.fields("POWER", "PERMANENT")
    assert "demand.power_kva_temporary" in temporary
    assert "demand.power_kva_permanent" not in temporary
    assert set(jiangmen.fields("POWER", "PROTECT")) < set(temporary)
    assert permanent[0] == "project.name"
    assert len(permanent) == len(set(permanent))


def test_a_pipe_that_must_be_moved_opens_a_relocation_with_its_owner_only(jiangmen: City) -> None:
    moved = {"status": "PLAN_REPLIED", "business_kind": "PROTECT", "protection": "MOVE", "operator": "jm-gas"}
    assert [t.business_kind for t in jiangmen.triggered(PROGRESSED, moved)] == ["RELOCATE"]
    others = [{"protection": "PROTECT"}, {"protection": None}, {"business_kind": "PERMANENT"}, {"status": "ACCEPTED"},
              {"operator": "jm-cable"}, {"operator": "elsewhere"}]  # fmt: skip
    assert [jiangmen.triggered(PROGRESSED, moved | other) for other in others] == [[]] * len(others)


def test_a_row_without_an_answer_is_met_by_each(jiangmen: City) -> None:
    step = {"status": "PLAN_REPLIED", "business_kind": "PROTECT", "operator": "jm-gas"}
    row = replace(jiangmen.triggers[-1], decision_kind=None)
    met = replace(jiangmen, triggers=[row])
    assert [met.triggered(PROGRESSED, step | {"protection": a}) for a in (None, "PROTECT", "MOVE")] == [[row]] * 3


# -- polygons ----------------------------------------------------------------------------------------------------------
INSIDE = "POLYGON((113.12 22.52, 113.13 22.52, 113.13 22.53, 113.12 22.53, 113.12 22.52))"
OUTSIDE = "POLYGON((112.12 22.52, 112.13 22.52, 112.13 22.53, 112.12 22.53, 112.12 22.52))"
SQUARE = "POLYGON((0 0, 1 0, 1 1, 0 1, 0 0))"


def zone(city: City, regions: list[str], red_line: str | None) -> bool:
    """Whether the operator of the development zone is told."""
    return "jm-telecom-d" in [o.id for o in city.serving("TELECOM", regions, LATER, red_line)]


def test_an_area_given_as_a_polygon_is_met_by_the_red_line(jiangmen: City) -> None:
    assert zone(jiangmen, ["440704"], INSIDE)
    assert not zone(jiangmen, ["440704"], OUTSIDE)
    assert zone(jiangmen, [], INSIDE)
    assert [o.id for o in jiangmen.serving("TELECOM", ["440704"], LATER, OUTSIDE)] == [f"jm-telecom-{x}" for x in "abc"]


def test_a_red_line_that_touches_the_border_meets_the_area() -> None:
    area = Area(polygon=SQUARE, since=date(2020, 1, 1))
    assert area.covers([], LATER, "POLYGON((1 1, 2 1, 2 2, 1 2, 1 1))")
    assert not area.covers([], LATER, "POLYGON((1.1 1, 2 1, 2 2, 1.1 2, 1.1 1))")


@pytest.mark.parametrize("unknown", [None, "", "about here", "POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))"])
def test_a_red_line_that_is_not_known_drops_nobody_in_the_city(jiangmen: City, unknown: str | None) -> None:
    assert zone(jiangmen, ["440785001"], unknown)
    assert zone(jiangmen, ["440103", "440785"], unknown)
    assert not zone(jiangmen, ["440103"], unknown)
    assert not zone(jiangmen, [], unknown)
    assert zone(replace(jiangmen, code="elsewhere"), [], unknown)


def test_an_area_given_as_a_polygon_has_its_time_too(jiangmen: City) -> None:
    assert "jm-telecom-d" not in [o.id for o in jiangmen.serving("TELECOM", ["440704"], date(2026, 12, 31), INSIDE)]


def test_the_owners_of_pipes_and_cables_are_asked_where_their_area_meets(jiangmen: City) -> None:
    """城镇燃气管理条例 37, 城镇排水与污水处理条例 43, 城市供水条例 30-31."""
    owners = {o.id for o in jiangmen.owners(["440785"], LATER, OUTSIDE)}
    assert owners == {"jm-water", "jm-drainage", "jm-power", "jm-telecom-a", "jm-telecom-b"}
    assert {o.id for o in jiangmen.owners(["440704"], LATER, INSIDE)} == owners | {
        "jm-gas",
        "jm-telecom-c",
        "jm-telecom-d",
    }
    by_law = replace(jiangmen, protection=Protection())
    assert [o.id for o in by_law.owners(["440704"], LATER)] == ["jm-drainage", "jm-gas", "jm-water"]


def test_only_a_pack_with_a_polygon_loads_the_geometry_library() -> None:
    said = "import sys; from jietong import catalog, city; known = catalog.load(); {}; print('shapely' in sys.modules)"
    small, large = "city.load('calgary', known)", "city.load('jiangmen', known)"
    loaded = [subprocess.run([sys.executable, "-c", said.format(load)], capture_output=True, text=True, check=True).stdout
              for load in (small, large)]  # fmt: skip
    assert loaded == ["False\n", "True\n"]


# -- promises, permits, defaults ---------------------------------------------------------------------------------------
def test_an_operators_own_promise_comes_before_its_utilitys(jiangmen: City) -> None:
    own = replace(jiangmen.promises["WATER"], plan_days=1)
    city = replace(jiangmen, promises={**jiangmen.promises, "jm-telecom-b": own})
    assert city.promise("jm-telecom-b") == own
    assert city.promise("jm-telecom-a") == jiangmen.promises["TELECOM"]
    assert city.promise("elsewhere") is None


def test_a_promise_has_its_owner_and_may_have_a_fee_a_boundary_and_days_for_protection(jiangmen: City) -> None:
    water, gas = jiangmen.promises["WATER"], jiangmen.promises["GAS"]
    assert (water.owner, water.fee, water.boundary, water.protect_days) == ("jm-water", Decimal(0), "用地红线", 3)
    assert (gas.fee, gas.protect_days) == (None, 2)


def test_a_kind_of_works_is_decided_by_the_departments_that_say_so(jiangmen: City) -> None:
    assert jiangmen.departments_for("ROAD_EXCAVATION", ["440703"]) == ["road"]
    assert jiangmen.departments_for("TREES", []) == ["greenery"]
    assert jiangmen.departments_for("RIVER", ["440703"]) == []


def test_a_small_pack_has_the_rules_of_law_for_defaults(known: Catalog) -> None:
    """城市道路管理条例 33 and 34, 建筑法 9."""
    small = city.load("calgary", known)
    works, clocks = small.works, small.clocks
    assert (works.days, works.new_road_years, works.overhauled_road_years, works.emergency_hours) == (5, 5, 3, 24)
    assert (clocks.contact_days, clocks.lapse_months, clocks.lapse_extensions) == (1, 3, 2)
    assert (small.working.zone, small.working.cut_off) == ("Asia/Shanghai", time(17, 30))
    assert (small.departments, small.roads, list(small.moratoria), list(small.units)) == ({}, {}, [], ["hookup-office"])


# -- a second city: no code of its own ---------------------------------------------------------------------------------
def test_the_dongguan_pack_keeps_every_rule(known: Catalog) -> None:
    assert city.check("dongguan", known) == []


def test_a_city_without_counties_is_served_by_its_towns(dongguan: City) -> None:
    def water(*regions: str) -> list[str]:
        return [o.id for o in dongguan.serving("WATER", regions, TODAY)]

    assert water("441900003") == water("441900003001") == ["dg-water"]
    assert water("441900121") == ["dg-water-south"]
    assert water("441900113") == ["dg-water", "dg-water-south"]
    assert water("441900129") == water("441900") == []
    assert [o.id for o in dongguan.serving("POWER", ["441900129"], TODAY)] == ["dg-power"]


def test_two_concessions_with_a_common_border_share_a_site_on_it_and_no_other(dongguan: City) -> None:
    def gas(red_line: str | None) -> list[str]:
        return [o.id for o in dongguan.serving("GAS", ["441900111"], TODAY, red_line)]

    assert gas("POLYGON((113.7 22.9, 113.71 22.9, 113.71 22.91, 113.7 22.9))") == ["dg-gas-west"]
    assert gas("POLYGON((114 22.9, 114.01 22.9, 114.01 22.91, 114 22.9))") == ["dg-gas-east"]
    assert gas("POLYGON((113.87 22.9, 113.89 22.9, 113.89 22.91, 113.87 22.9))") == ["dg-gas-east", "dg-gas-west"]
    assert gas(None) == ["dg-gas-east", "dg-gas-west"]


def test_pipe_owners_are_asked_from_the_land_use_planning_on(dongguan: City) -> None:
    planned = CONSTRUCTION | {"decision_kind": "LAND_USE_PLANNING"}
    assert [t.business_kind for t in dongguan.triggered(APPROVAL, planned)] == ["PROTECT"]
    assert dongguan.triggered(APPROVAL, CONSTRUCTION) == []
    pit = dongguan.triggered(APPROVAL, CONSTRUCTION | {"permit_part": "PIT"})
    assert [(t.business_kind, t.customer_role) for t in pit] == [("TEMPORARY", "CONTRACTOR")]


def test_every_operator_there_promised_for_itself(dongguan: City) -> None:
    assert dongguan.promises.keys() == dongguan.operators.keys()
    assert {o: dongguan.promise(o) for o in dongguan.operators} == dict(dongguan.promises)


def test_a_district_with_a_committee_of_its_own_asks_it_too(dongguan: City) -> None:
    assert dongguan.departments_for("ROAD_EXCAVATION", ["441900003"]) == ["police", "roads"]
    assert dongguan.departments_for("ROAD_EXCAVATION", ["441900401001"]) == ["lake-district", "police", "roads"]
    assert dongguan.departments_for("ROAD_EXCAVATION", []) == ["police", "roads"]


def test_its_days_are_its_own(dongguan: City) -> None:
    working = dongguan.working
    assert (working.cut_off, working.days_off, working.work_days) == (
        time(17),
        [date(2026, 6, 22)],
        [date(2026, 6, 27)],
    )


# -- what a bad one is told ------------------------------------------------------------------------------------------
TRIGGERS, OPERATORS, CITY, ITEMS, FORM, WORKS = (
    f"{file}.yaml" for file in ("triggers", "operators", "city", "items", "form", "works")
)
POLYGON = "operators.jm-telecom-d.areas.0.polygon"
BAD = [
    (CITY, 'code: "440700"', "code: 440700", "code", "value"),
    (CITY, 'code: "440700"', 'code: "990700"', "code", "division"),
    (CITY, "name: {zh: 江门市, en: Jiangmen}", "name: {zh: 江门市}", "name.en", "missing"),
    (CITY, "permit_parts:", "permit_prats:", "permit_prats", "unknown-key"),
    (CITY, "  WATER: {contact", "  WATTER: {contact", "promises.WATTER", "word"),
    (CITY, "contact_within_hours: 24", "contact_within_hours: soon", "promises.WATER.contact_within_hours", "value"),
    (OPERATORS, "utility: WATER", "utility: WATTER", "operators.jm-water.utility", "word"),
    (OPERATORS, "utility: WATER", "utilty: WATER", "operators.jm-water.utilty", "unknown-key"),
    (OPERATORS, "  jm-drainage:", "  jm-water:", "operators.jm-water", "duplicate"),
    (OPERATORS, "since: 2000-01-01}", "since: 2000-01-01, since: 1}", "operators.jm-water.areas.0.since", "duplicate"),
    (OPERATORS, "  jm-drainage:", "  JM_Drainage:", "operators.JM_Drainage", "operator"),
    (OPERATORS, '"440703"', '"449903"', "operators.jm-water.areas.0.division", "division"),
    (OPERATORS, '"440703"', '"440307"', "operators.jm-water.areas.0.division", "division"),
    (OPERATORS, "until: 2024-01-01", "until: 2014-01-01", "operators.jm-gas.areas.6.until", "dates"),
    (OPERATORS, "until: 2024-01-01", "until: 20240101", "operators.jm-gas.areas.6.until", "value"),
    (OPERATORS, "until: 2024-01-01", "until: 2024-13-01", "", "file"),
    (TRIGGERS, "word: DECIDED", "word: APPROVED", "triggers.0.word", "word"),
    (TRIGGERS, "word: DECIDED", "word: DECIDED\n    decision_kind: FIRE", "triggers.0.decision_kind", "word"),
    (TRIGGERS, "decision_kind: CONSTRUCTION\n", "\n", "triggers.1.decision_kind", "word"),
    (TRIGGERS, 'permit_part: "*"', "permit_part: ROOF", "triggers.1.permit_part", "part"),
    (TRIGGERS, 'permit_part: "*"\n', "\n", "triggers.1.permit_part", "part"),
    (TRIGGERS, "word: DECIDED", "word: DECIDED\n    permit_part: FULL", "triggers.0.permit_part", "part"),
    (TRIGGERS, "business_kind: PERMANENT", "business_kind: FOREVER", "triggers.0.business_kind", "word"),
    (TRIGGERS, "business_kind: PERMANENT", "business_kind: INCREASE", "triggers.0.type", "authority"),
    (TRIGGERS, "business_kind: PROTECT", "business_kind: TEMPORARY", "triggers.2", "duplicate"),
    (TRIGGERS, "business_kind: CLOSE", "business_kind: PERMANENT", "triggers.3.type", "family"),
    (TRIGGERS, "customer_role: DEVELOPER", "customer_role: BUILDER", "triggers.0.customer_role", "word"),
    (TRIGGERS, "[WATER, DRAINAGE, POWER", "[WATER, TOLL, POWER", "triggers.0.utilities.1", "word"),
    (TRIGGERS, "type: investment.project.registered.v1", "type: investment.v1", "triggers.0.type", "type"),
    (ITEMS, "stage: LAND_USE,", "stage: LAND,", "item_catalogue.JM-0101.stage", "word"),
    (ITEMS, "decision_kind: OTHER", "acceptance_kind: NONE", "item_catalogue.JM-0101.acceptance_kind", "word"),
    (ITEMS, "acceptance_kind: JOINT", "decision_kind: JOINT", "item_catalogue.JM-0401.decision_kind", "word"),
    (ITEMS, ", acceptance_kind: JOINT", "", "item_catalogue.JM-0401", "item"),
    (ITEMS, "permit_part: PILE", "permit_part: ROOF", "item_catalogue.JM-0303.permit_part", "part"),
    (FORM, "- project.address", "- project.adress", "form.*.*.1", "field"),
    (FORM, "  GAS:", "  GASS:", "form.GASS", "word"),
    (FORM, "form:", "triggers:", "triggers", "duplicate"),
    (CITY, "owner: jm-water, ", "", "promises.WATER.owner", "missing"),
    (CITY, "owner: jm-water", 'owner: " "', "promises.WATER.owner", "value"),
    (CITY, "owner: jm-water", "owner: jm-watter", "promises.WATER.owner", "operator"),
    (CITY, "  WATER: {contact", "  jm-watter: {contact", "promises.jm-watter", "operator"),
    (CITY, "fee: 0", "fee: -1", "promises.WATER.fee", "value"),
    (CITY, "plan_days: 2", "plan_days: -2", "promises.WATER.plan_days", "value"),
    (CITY, "  operator: {zh", "  jm-water: {zh", "units.jm-water", "unit"),
    (CITY, "units:", "working: {zone: Asia/Jiangmen}\nunits:", "working.zone", "zone"),
    (CITY, "units:", "working: {zone: ../etc}\nunits:", "working.zone", "zone"),
    (CITY, "units:", "working: {cut_off: 17:30}\nunits:", "working.cut_off", "value"),
    (CITY, "units:", 'working: {cut_off: "half past five"}\nunits:', "working.cut_off", "value"),
    (
        CITY,
        "units:",
        "working: {days_off: [2026-01-05], work_days: [2026-01-05]}\nunits:",
        "working.work_days.0",
        "days",
    ),
    (CITY, "units:", "clocks: {lapse_month: 3}\nunits:", "clocks.lapse_month", "unknown-key"),
    (OPERATORS, 'division: "440703", ', "", "operators.jm-water.areas.0", "area"),
    (OPERATORS, "- polygon:", '- division: "440704"\n        polygon:', "operators.jm-telecom-d.areas.0", "area"),
    (OPERATORS, "113.165 22.505, 113.180 22.545", "113.180 22.545, 113.112 22.560", POLYGON, "polygon"),
    (OPERATORS, "POLYGON((113.110", "POLYGON((22.510 113.110", POLYGON, "polygon"),
    (OPERATORS, "113.110 22.510))", "113.110 22.511))", POLYGON, "polygon"),
    (OPERATORS, "POLYGON((113.110 22.510, ", "LINESTRING((113.110 22.510, ", POLYGON, "polygon"),
    (TRIGGERS, "on_kind: PROTECT\n", "\n", "triggers.4.on_kind", "word"),
    (TRIGGERS, "on_kind: PROTECT", "on_kind: PROTECTION", "triggers.4.on_kind", "word"),
    (TRIGGERS, "decision_kind: MOVE", "decision_kind: AWAY", "triggers.4.decision_kind", "word"),
    (TRIGGERS, "on_kind: PROTECT", "on_kind: PERMANENT", "triggers.4.decision_kind", "on-kind"),
    (TRIGGERS, "word: DECIDED", "word: DECIDED\n    on_kind: PROTECT", "triggers.0.on_kind", "on-kind"),
    (TRIGGERS, "on_kind: PROTECT\n", "on_kind: RELOCATE\n", "triggers.4.on_kind", "cycle"),
    (WORKS, "[TRAFFIC]", "[TRAFIC]", "departments.police.works.0", "word"),
    (
        WORKS,
        "works: [TRAFFIC]",
        'works: [TRAFFIC]\n    regions: ["440103"]',
        "departments.police.regions.0",
        "division",
    ),
    (WORKS, "  police:", "  Police:", "departments.Police", "department"),
    (WORKS, "  police:", "  jm-water:", "departments.jm-water", "department"),
    (WORKS, "{utility: WATER, length_m: 50,", "{utility: WATTER, length_m: 50,", "works.file.0.utility", "word"),
    (WORKS, "{utility: WATER, length_m: 50,", "{utility: WATER, length_m: 250,", "works.file.0.length_m", "limit"),
    (WORKS, "{utility: POWER, length_m: 100,", "{utility: POWER, length_m: 501,", "works.file.2.length_m", "limit"),
    (WORKS, "since: 2026-09-01", "since: 2026-10-16", "moratoria.0.until", "dates"),
    (WORKS, "overhauled_on: 2025", "overhauled_on: 1925", "roads.示范二路.overhauled_on", "dates"),
    (WORKS, "utilities: [WATER", "utilities: [WATTER", "protection.utilities.0", "word"),
    (FORM, "form:", "form: [", "", "file"),
]


@pytest.mark.parametrize(("file", "old", "new", "key", "rule"), BAD, ids=[f"{key}-{rule}" for *_, key, rule in BAD])
def test_a_broken_rule_is_refused_with_file_key_and_rule(
    known: Catalog, spoil: Spoil, file: str, old: str, new: str, key: str, rule: str
) -> None:
    pack = spoil(file, old, new)
    refusals = city.check(str(pack), known)
    assert (key, rule) in [(r.key, r.rule) for r in refusals if not r.warning]
    with pytest.raises(UsageError, match=rf"\[{rule}\]"):
        city.load(str(pack), known)


EXCLUSIVE = [
    ("jiangmen", "  jm-cable:", 'jm-gas-b: {{name: {{zh: 乙, en: B}}, utility: GAS, areas: [{{{area}}}]}}', [
        ('division: "440703001", since: 2020-01-01', True), ('division: "440700", since: 2020-01-01', True),
        ('division: "*", since: 2020-01-01, exclusive: true', True), ('division: "440703001", since: 1990-01-01, until: 2006-01-01', False),
        ('division: "440785", since: 2024-01-01', False), ('division: "440785", since: 2023-12-31', True),
    ]),
    ("dongguan", "  dg-telecom-a:", 'dg-gas-c: {{name: {{zh: 丙, en: C}}, utility: GAS, areas: [{{{area}}}]}}', [
        ('polygon: "POLYGON((113.87 22.65, 113.88 22.65, 113.88 22.66, 113.87 22.65))", since: 2020-01-01', True),
        ('polygon: "POLYGON((113.51 22.65, 113.52 22.65, 113.52 22.66, 113.51 22.65))", since: 2020-01-01', False),
        ('polygon: "POLYGON((113.87 22.65, 113.88 22.65, 113.88 22.66, 113.87 22.65))", since: 1990-01-01, until: 2004-01-01', False),
        ('division: "441900", since: 2020-01-01', True),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("pack", "before", "operator", "area", "wrong"), [
    (pack, before, operator, *case) for pack, before, operator, cases in EXCLUSIVE for case in cases
])  # fmt: skip
def test_nobody_serves_where_and_when_another_has_a_concession(
    known: Catalog, spoil: Spoil, pack: str, before: str, operator: str, area: str, wrong: bool
) -> None:
    """特许经营: overlaps of place are legal one after the other, of time side by side."""
    added = f"  {operator.format(area=area)}\n{before}"
    found = city.check(str(spoil(OPERATORS, before, added, pack)), known)
    rules = {(r.rule, r.key.split(".")[1]) for r in found if not r.warning}
    assert bool(rules) == wrong
    assert {rule for rule, _ in rules} <= {"exclusive"}
    promised = [r for r in found if r.warning]
    assert {r.rule for r in promised} <= {"promise"}


def test_a_concession_that_cannot_be_compared_is_a_warning(known: Catalog, spoil: Spoil) -> None:
    area = '{division: "441900003", since: 2020-01-01}'
    added = f"  dg-gas-c: {{name: {{zh: 丙, en: C}}, utility: GAS, areas: [{area}]}}\n  dg-telecom-a:"
    found = city.check(str(spoil(OPERATORS, "  dg-telecom-a:", added, "dongguan")), known)
    assert [(r.key, r.warning) for r in found if r.rule == "exclusive"] == [("operators.dg-gas-c.areas.0", True)] * 2


def test_an_operator_may_hold_several_concessions_side_by_side(known: Catalog, spoil: Spoil) -> None:
    more = '{division: "440703", since: 2006-01-01, exclusive: true}'
    assert city.check(str(spoil(OPERATORS, f"- {more}", f"- {more}\n      - {more}")), known) == []


def test_rows_that_open_each_other_in_a_circle_are_refused_and_told_the_way(known: Catalog, jiangmen: City) -> None:
    moved = jiangmen.triggers[-1]
    circle = [replace(moved, on_kind=on, business_kind=opens) for on, opens in
              [("PROTECT", "RELOCATE"), ("RELOCATE", "CLOSE"), ("CLOSE", "PROTECT"), ("PERMANENT", "PROTECT")]]  # fmt: skip
    told = [
        (key[1], sentence)
        for key, rule, sentence in rules(replace(jiangmen, triggers=circle), known)
        if rule == "cycle"
    ]
    assert told == [
        (0, "PROTECT → RELOCATE → CLOSE → PROTECT"), (1, "RELOCATE → CLOSE → PROTECT → RELOCATE"), (2, "CLOSE → PROTECT → RELOCATE → CLOSE"),
    ]  # fmt: skip


def test_a_limit_of_any_pipe_is_held_against_limits_of_any_pipe_only(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(WORKS, "{utility: GAS, length_m: 50, pipe_dn_mm: 100}", "{utility: GAS, length_m: 999}")
    assert city.check(str(pack), known) == []


def test_a_bare_clock_time_is_told_to_be_quoted(known: Catalog, spoil: Spoil) -> None:
    [refusal] = city.check(str(spoil(CITY, "units:", "working: {cut_off: 17:30}\nunits:")), known)
    assert 'in quotes, as "17:30"' in refusal.sentence


def test_an_operator_without_a_promise_is_a_warning(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(CITY, "dg-gas-east, protect_days: 4}", "dg-gas-east, protect_days: 4}", "dongguan")
    text = (pack / CITY).read_text("utf-8")
    (pack / CITY).write_text("".join(x for x in text.splitlines(True) if not x.startswith("  dg-gas-east:")), "utf-8")
    found = city.check(str(pack), known)
    assert {(r.rule, r.warning) for r in found} == {("promise", True)}
    assert all("dg-gas-east" in r.sentence for r in found)


def test_a_refusal_names_the_line(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(OPERATORS, "until: 2024-01-01", "until: 2014-01-01")
    (refusal,) = city.check(str(pack), known)
    assert "until: 2014-01-01" in (pack / OPERATORS).read_text("utf-8").splitlines()[refusal.line - 1]
    assert str(refusal).startswith(f"{pack / OPERATORS}:{refusal.line}: operators.jm-gas.areas.6.until: [dates]")


def test_a_key_that_is_missing_altogether_is_named_with_the_folder(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(FORM, "", "")
    (pack / FORM).unlink()
    assert [(r.file, r.key, r.rule) for r in city.check(str(pack), known)] == [(str(pack), "form", "missing")]


def test_a_utility_nobody_offers_is_a_warning_and_the_pack_still_loads(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(TRIGGERS, "GAS, TELECOM, CABLE_TV]", "GAS, TELECOM, HEAT]")
    (refusal,) = city.check(str(pack), known)
    assert (refusal.warning, refusal.rule) == (True, "nobody")
    assert "HEAT" in city.load(str(pack), known).triggers[0].utilities


def test_a_pack_that_is_not_there_is_wrong_use(known: Catalog) -> None:
    with pytest.raises(UsageError, match=r"atlantis: no such city pack.*jiangmen"):
        city.load("atlantis", known)


def test_a_pack_is_found_in_another_folder(known: Catalog, spoil: Spoil) -> None:
    pack = spoil(CITY, "en: Jiangmen", "en: Elsewhere")
    assert city.names(pack.parent) == ["pack"]
    assert city.load("pack", known, pack.parent).name.en == "Elsewhere"


# -- the command -----------------------------------------------------------------------------------------------------
def test_the_command_ends_with_0_for_a_good_pack_and_1_for_a_bad_one(spoil: Spoil) -> None:
    good = CliRunner().invoke(app, ["check", "jiangmen", "--cities", str(CITIES)])
    assert (good.exit_code, good.stdout) == (0, "jiangmen: keeps every rule\n")
    bad = CliRunner().invoke(app, ["check", str(spoil(CITY, '"440700"', '"990700"')), "--json"])
    assert bad.exit_code == 1
    assert [r["rule"] for r in json.loads(bad.stdout)["refusals"]] == ["division"]


def test_the_command_leaves_wrong_use_to_the_program(spoil: Spoil) -> None:
    assert isinstance(CliRunner().invoke(app, ["check", "atlantis"]).exception, UsageError)


# -- the document ----------------------------------------------------------------------------------------------------
TABLES = {
    "A pack": City, "operators": Area, "triggers": Trigger, "promises": Promise, "item_catalogue": Item, "departments": Department,
    "works": Works, "moratoria": Moratorium, "roads": Road, "protection": Protection, "working": Working, "clocks": Clocks,
}  # fmt: skip


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_of_a_pack_is_in_the_document_with_its_default(heading: str) -> None:
    text = (CITIES.parent / "docs/city-packs.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.partition(f"\n## {heading}\n")[2].split("\n## ")[0].splitlines()
            if line.startswith("| `")]  # fmt: skip
    keys = {field.name: field for field in fields(TABLES[heading])}
    assert [name.strip("`") for name, _ in rows] == list(keys)
    for name, default in rows:
        field = keys[name.strip("`")]
        assert (default == "") == (field.default is MISSING and field.default_factory is MISSING), name
        if default.startswith("`"):
            assert default.strip('`"').lower() == str(field.default).removesuffix(":00").lower(), name
