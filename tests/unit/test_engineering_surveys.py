"""The joint survey (多测合一): a result is measured once, corrected, withdrawn, and each is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.engineering.records import SURVEYED
from connectors.engineering.surveys import Survey
from connectors.engineering.tables import PROJECT, SURVEY
from jietong.errors import UsageError
from tests.unit.exchange import CODE, GC, NOW, WORK, City, decoded, drafts, minutes, only

UNIT = "440703001001GB00001F00010001"
RESULT = Survey(
    number="CH-2026-7", work=GC, stage="ACCEPTANCE", items=("规划核实测量", "房产测绘"), phase=2, units=(UNIT,),
    surveyor=WORK.developer, surveyor_name="江门测绘院有限公司", surveyed_on=date(2026, 4, 2),
    land_area=Decimal("32000.5"), floor_area=Decimal("98600.25"), height=Decimal(54),
)  # fmt: skip


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    made.platform.register(WORK, NOW)
    yield made
    made.close()


def told(city: City) -> list[tuple[str, str]]:
    """(number, status) of what one look brings."""
    before = len(city.events())
    city.draw.step()
    with city.kept.snapshot() as tx:
        rows = tx.execute("SELECT type, fingerprint, payload FROM outbox WHERE n > :n ORDER BY n", {"n": before}).all()
    return [(data["survey"], data["status"]) for data in (decoded(*row) for row in rows)]


def test_a_published_result_is_told_with_what_was_measured(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    assert only(city.source.read(None), SURVEYED) == {
        "survey": "CH-2026-7", "work": GC, "phase": 2, "stage": "ACCEPTANCE", "status": "PUBLISHED", "supersedes_survey": None,
        "survey_items": ["规划核实测量", "房产测绘"], "units": [UNIT], "surveyor_uscc": WORK.developer, "surveyor_name": "江门测绘院有限公司",
        "surveyed_on": date(2026, 4, 2), "published_on": date(2026, 4, 21), "coordinate_system": "CGCS2000", "land_area": Decimal("32000.50"),
        "floor_area": Decimal("98600.25"), "height": Decimal("54.00"), "site_regions": ["440703", "440704001"], "authority_region": "440700",
        "historical": False,
    }  # fmt: skip
    assert {draft.subject for draft in drafts(city.source.read(None))} == {CODE}
    assert city.told() == [(SURVEYED, "PUBLISHED")]
    assert (city.told(), city.scanned()) == ([], [])


def test_a_correction_under_a_number_of_its_own_names_what_it_replaces(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    city.told()
    city.platform.correct_survey(
        "CH-2026-7", replace(RESULT, number="CH-2026-8", floor_area=Decimal(98000)), minutes(1)
    )
    [_, data] = [draft.data for draft in drafts(city.source.read(None))]
    assert (data["survey"], data["status"], data["supersedes_survey"]) == ("CH-2026-8", "CORRECTED", "CH-2026-7")
    assert data["floor_area"] == Decimal(98000)
    assert city.told() == [(SURVEYED, "CORRECTED")]


def test_a_correction_under_the_same_number_replaces_itself_and_a_withdrawal_ends_it(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    city.platform.correct_survey("CH-2026-7", replace(RESULT, height=Decimal(55)), minutes(1))
    city.platform.withdraw_survey("CH-2026-7", minutes(2))
    data = [draft.data for draft in drafts(city.source.read(None))]
    assert [(d["status"], d["supersedes_survey"], d["stage"]) for d in data] == [
        ("PUBLISHED", None, "ACCEPTANCE"), ("CORRECTED", None, "ACCEPTANCE"), ("WITHDRAWN", None, "ACCEPTANCE"),
    ]  # fmt: skip
    assert city.told() == [(SURVEYED, "PUBLISHED"), (SURVEYED, "CORRECTED"), (SURVEYED, "WITHDRAWN")]


def test_a_result_is_published_once_and_only_what_stands_is_corrected_or_withdrawn(city: City) -> None:
    with pytest.raises(UsageError, match="survey CH-2026-7: was never published"):
        city.platform.withdraw_survey("CH-2026-7", NOW)
    city.platform.publish_survey(RESULT, NOW)
    with pytest.raises(UsageError, match="is there already; correct it instead"):
        city.platform.publish_survey(RESULT, NOW)
    city.platform.withdraw_survey("CH-2026-7", minutes(1))
    with pytest.raises(UsageError, match="is withdrawn"):
        city.platform.correct_survey("CH-2026-7", RESULT, minutes(2))


def test_a_result_has_one_heir_and_stands_again_when_that_is_struck(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    key = city.platform.correct_survey("CH-2026-7", replace(RESULT, number="CH-2026-8"), minutes(1))
    with pytest.raises(UsageError, match="survey CH-2026-7: was replaced by CH-2026-8"):
        city.platform.correct_survey("CH-2026-7", replace(RESULT, number="CH-2026-9"), minutes(2))
    with pytest.raises(UsageError, match="was replaced by CH-2026-8"):
        city.platform.withdraw_survey("CH-2026-7", minutes(2))
    city.platform.strike(SURVEY, key, minutes(2), "误录")
    city.platform.withdraw_survey("CH-2026-7", minutes(3))


@pytest.mark.parametrize("stage", ["UNKNOWN", "ROOF"])
def test_a_result_of_no_stage_is_refused_in_words(city: City, stage: str) -> None:
    with pytest.raises(UsageError, match=f"survey CH-2026-7: no stage {stage}; there are LAND_USE"):
        city.platform.publish_survey(replace(RESULT, stage=stage), NOW)


def test_a_struck_result_is_withdrawn_and_a_struck_correction_brings_back_what_it_replaced(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    key = city.platform.correct_survey("CH-2026-7", replace(RESULT, number="CH-2026-8"), minutes(1))
    assert told(city) == [("CH-2026-7", "PUBLISHED"), ("CH-2026-8", "CORRECTED")]
    city.platform.strike(SURVEY, key, minutes(2), "误录")
    assert told(city) == [("CH-2026-7", "PUBLISHED")]
    city.platform.strike(SURVEY, 1, minutes(3), "误录")
    assert city.told() == [(SURVEYED, "WITHDRAWN")]
    assert city.scanned() == []


def test_a_struck_withdrawal_brings_the_result_back(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    key = city.platform.withdraw_survey("CH-2026-7", minutes(1))
    city.told()
    city.platform.strike(SURVEY, key, minutes(2), "误录")
    assert city.told() == [(SURVEYED, "PUBLISHED")]


def test_a_result_written_after_its_withdrawal_does_not_have_the_last_word(city: City) -> None:
    city.platform.publish_survey(RESULT, NOW)
    city.platform.withdraw_survey("CH-2026-7", minutes(5))
    city.told()
    city.platform.correct(SURVEY, 1, minutes(6), "面积有误", JZMJ="1000")
    assert city.told() == [(SURVEYED, "PUBLISHED"), (SURVEYED, "WITHDRAWN")]


def test_a_result_waits_for_its_work(tmp_path: Path) -> None:
    city = City(tmp_path)
    city.platform.publish_survey(RESULT, NOW)
    assert (city.told(), city.held()) == ([], [f"{SURVEY}.GCDM: no valid row of this 工程 in {PROJECT} yet"])
    city.platform.register(WORK, minutes(1))
    assert (city.told(), city.held()) == ([(SURVEYED, "PUBLISHED")], [])
    city.close()


def test_a_surveyor_without_a_credit_code_may_be_a_person_and_stays_unnamed(city: City) -> None:
    city.platform.publish_survey(replace(RESULT, surveyor="440702197001011234", surveyor_name="张三丰"), NOW)
    data = only(city.source.read(None), SURVEYED)
    assert (data["surveyor_uscc"], data["surveyor_name"]) == (None, None)
    assert "张三丰" not in repr(list(city.source.read(None)))


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("CGZT", "作废", "none of 发布"),
        ("FBSJ", "昨天", "not a date or time"),
        ("JZMJ", "约", "not a number"),
        ("BDCDY", "宗" * 29, "longer than 28"),
    ],
)
def test_a_bad_cell_is_held_by_its_name(city: City, column: str, value: Any, rule: str) -> None:
    city.platform.publish_survey(RESULT, NOW)
    city.sql(f"UPDATE {SURVEY} SET {column} = :value", value=value)
    assert city.told() == []
    [reason] = city.held()
    assert reason.startswith(f"{SURVEY}.{column}: ")
    assert rule in reason
    assert value not in reason
