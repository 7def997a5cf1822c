from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jietong import catalog, city
from jietong.catalog import Catalog
from jietong.city import CITIES, Area, City
from jietong.cli.city import app
from jietong.errors import UsageError

APPROVAL = "engineering.approval.decided.v1"
CONSTRUCTION = {"decision": "APPROVED", "decision_kind": "CONSTRUCTION", "permit_part": "FULL"}
TODAY = date(2026, 3, 1)


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


@pytest.fixture(scope="module")
def jiangmen(known: Catalog) -> City:
    return city.load("jiangmen", known)


Spoil = Callable[[str, str, str], Path]


@pytest.fixture
def spoil(tmp_path: Path) -> Spoil:
    def write(file: str, old: str, new: str) -> Path:
        pack = tmp_path / "pack"
        shutil.copytree(CITIES / "jiangmen", pack)
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
    assert Area("*", date(2020, 1, 1)).covers([], TODAY)


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


# -- what a bad one is told ------------------------------------------------------------------------------------------
TRIGGERS, OPERATORS, CITY, ITEMS, FORM = "triggers.yaml", "operators.yaml", "city.yaml", "items.yaml", "form.yaml"
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
