"""The rules of the trade, one test each, named after the rule; where it is law or a standard its source stands beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jietong.store import Transaction
from services.hookup import machine
from services.hookup.learning import REQUESTED
from tests.unit.office import (
    CITY,
    CODE,
    OTHER,
    T0,
    Office,
    acceptance,
    approval,
    decoded,
    demand,
    plan,
    project,
    survey,
    word,
)

MOVE = ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED", "CONNECTED")


@pytest.fixture
def office() -> Office:
    return Office()


# -- leads, requests and the customer's word ---------------------------------------------------------------------------
def test_a_lead_is_no_application_and_the_promise_begins_when_it_is_accepted(office: Office) -> None:
    """电力供应与使用条例 23: supply is applied for; an approval only opens a lead."""
    office.tell(*project("DECIDED", name="甲"))
    assert office.statuses("jm-power", "PERMANENT") == ["LEAD"]
    office.step("jm-power", "PERMANENT", "CONTACTED")
    office.days(30)
    assert "NO_PLAN" not in {kind for kind, *_ in office.absences()}
    office.step("jm-power", "PERMANENT", "ACCEPTED")
    office.days(30)
    assert ("NO_PLAN", "NOTICED", "jm-power") in office.absences()


def test_unknown_demand_never_drops_a_utility(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    assert {d.data["demand_basis"] for d in office.said} == {"UNKNOWN"}
    assert {"jm-water", "jm-power", "jm-gas", "jm-cable", "jm-drainage"} <= {d.operator for d in office.said}


def test_several_approvals_that_fire_at_once_merge_into_one_case(office: Office) -> None:
    """拿地即开工."""
    office.tell(*approval("APPROVED", item="a", part="EARTHWORK"))
    office.tell(*approval("APPROVED", item="b", part="MAIN"))
    assert office.statuses("jm-power", "TEMPORARY") == ["LEAD"]


def test_a_refused_or_withdrawn_application_opens_nothing(office: Office) -> None:
    """不予许可, 撤件."""
    office.tell(*approval("REFUSED"))
    office.tell(*approval("APPLICATION_WITHDRAWN", item="x"))
    assert office.said == []


def test_historical_facts_open_nothing_and_start_no_clock(office: Office) -> None:
    office.tell(*approval("APPROVED", historical=True))
    assert office.days(400) == []


def test_telecom_is_the_customers_choice(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*word("CONFIRMED", operators_chosen=["jm-telecom-b"]))
    assert office.statuses("jm-telecom-a", "PERMANENT")[-1] == "CANCELLED"
    assert office.last("jm-telecom-a", "PERMANENT")["reason"] == "CUSTOMER_ASKED"
    assert office.statuses("jm-telecom-b", "PERMANENT")[-1] == "REQUESTED"
    assert office.statuses("jm-power", "PERMANENT")[-1] == "REQUESTED"


def test_a_small_user_applies_without_a_project(office: Office) -> None:
    """小微: accepted, connected, no plan and no inspection."""
    shop = "enterprise:91440703MA4WQ7K28M"
    application = word("APPLIED", application="a1", utility="POWER", business_kind="PERMANENT", customer_role="OCCUPANT", address="新昌路8号",
                       site_regions=["440703"], authority_region="440703", demand={"power_kva_permanent": Decimal("30.00")})  # fmt: skip
    [asked] = office.tell(*application, subject=shop)
    assert (asked.operator, asked.data["status"], asked.data["reason"]) == ("jm-power", "REQUESTED", "CUSTOMER_ASKED")
    assert asked.data["project"]["address"] == "新昌路8号"
    office.walk("jm-power", "PERMANENT", "ACCEPTED", "CONNECTED", subject=shop)
    assert office.tasks() == set()


def test_an_application_that_is_withdrawn_takes_its_case_back(office: Office) -> None:
    office.tell(*project("REGISTERED", name="甲"))
    office.tell(*word("APPLIED", application="a1", utility="WATER", business_kind="INCREASE"))
    office.tell(*word("APPLICATION_WITHDRAWN", application="a1"))
    assert office.statuses("jm-water", "INCREASE") == ["REQUESTED", "CANCELLED"]


def test_a_customer_who_declined_and_applies_anew_is_asked_for_once_more(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "CONTACTED", "DECLINED")
    office.now += timedelta(days=1)
    office.tell(*project("CHANGED", name="乙"))
    assert office.statuses("jm-gas", "PERMANENT") == ["LEAD"]
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    assert office.statuses("jm-gas", "PERMANENT") == ["LEAD", "REQUESTED"]
    assert office.last("jm-gas", "PERMANENT")["reason"] == "CUSTOMER_ASKED"
    office.walk("jm-gas", "PERMANENT", "ACCEPTED", "CONNECTED")
    assert office.tasks() == set()


@pytest.mark.parametrize("kind", ["TEMP_TO_PERMANENT", "INCREASE", "CLOSE", "CONVERT_TO_DIRECT"])
def test_conversion_increase_and_closing_are_each_applied_for(office: Office, kind: str) -> None:
    """电力供应与使用条例 23."""
    office.tell(*project("REGISTERED", name="甲"))
    [asked] = office.tell(*word("APPLIED", application="a1", utility="POWER", business_kind=kind))
    assert (asked.data["business_kind"], asked.data["status"]) == (kind, "REQUESTED")


def test_acceptance_closes_the_temporary_supply(office: Office) -> None:
    """联合验收."""
    office.tell(*approval("APPROVED"))
    office.tell(*acceptance("APPROVED"))
    assert office.statuses("jm-power", "CLOSE") == ["LEAD"]


def test_the_one_form_is_asked_once(office: Office) -> None:
    """一张表单: what a platform knows is filled in, only the rest is asked."""
    office.tell(*project("DECIDED", name="甲"))
    lead = office.last("jm-power", "PERMANENT")
    assert "project.name" in lead["fields_known"]
    assert "demand.power_kva_permanent" in lead["fields_to_ask"]
    office.tell(*demand("100.00"))
    assert "demand.power_kva_permanent" in office.last("jm-power", "PERMANENT")["fields_known"]


def test_what_was_surveyed_once_is_used_by_all(office: Office) -> None:
    """多测合一."""
    office.tell(*project("DECIDED", name="甲", floor_area=Decimal("900.00")))
    office.tell(*survey("S1", floor_area=Decimal("912.34")))
    assert office.last("jm-water", "PERMANENT")["project"]["floor_area"] == Decimal("912.34")
    office.tell(*survey("S2", floor_area=Decimal("915.00"), supersedes_survey="S1", status="CORRECTED"))
    assert office.last("jm-water", "PERMANENT")["project"]["floor_area"] == Decimal("915.00")
    office.tell(*survey("S2", status="WITHDRAWN"))
    assert office.last("jm-water", "PERMANENT")["project"]["floor_area"] == Decimal("900.00")


# -- 工程 --------------------------------------------------------------------------------------------------------------
def lineage(office: Office, *rows: tuple[str, str | None]) -> None:
    office.tell(*project("DECIDED", name="甲"))
    for work, previous in rows:
        office.tell(*approval("APPROVED", work=work, item=work, kind="ENGINEERING_PLANNING", previous_work=previous))


def gas(office: Office) -> dict[str, str]:
    return {
        work: status
        for (work, operator, kind, _), (status, *_) in office.cases().items()
        if (operator, kind) == ("jm-gas", "PERMANENT")
    }


def test_the_cases_of_a_split_work_follow_its_lineage(office: Office) -> None:
    """QJDGCDM: the first part goes on in the case of the whole, the second opens its own, which names it."""
    lineage(office, ("W1", None), ("W1a", "W1"), ("W1b", "W1"))
    assert gas(office) == {"": "OPEN", "W1b": "OPEN"}
    by_work = {
        d.data["work"]: d.data for d in office.said if (d.operator, d.data["business_kind"]) == ("jm-gas", "PERMANENT")
    }
    assert by_work["W1b"]["continues"] == office.case("jm-gas", "PERMANENT")
    assert by_work["W1a"]["case"] == office.case("jm-gas", "PERMANENT")


def test_the_cases_of_merged_works_become_one(office: Office) -> None:
    lineage(office, ("W1", None), ("W2", None))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED", work="W2")
    assert gas(office) == {"": "OPEN", "W2": "OPEN"}
    office.tell(*approval("APPROVED", work="W3", item="m1", kind="ENGINEERING_PLANNING", previous_work="W1"))
    office.tell(*approval("APPROVED", work="W3", item="m2", kind="ENGINEERING_PLANNING", previous_work="W2"))
    assert gas(office) == {"": "OPEN", "W2": "SUSPENDED"}
    assert ("suspended", office.case("jm-gas", "PERMANENT", work="W2")) in office.tasks()


def test_an_acceptance_waits_until_an_approval_has_named_its_work(office: Office) -> None:
    """It came first, on another topic: asked now, the case would have to be asked again once the project's first 工程 is known."""
    office.tell(*acceptance("APPROVED", work="W1"))
    assert office.said == []
    for work in ("W2", "W1"):
        office.tell(*approval("APPROVED", work=work, item=work, kind="ENGINEERING_PLANNING"))
    assert office.statuses("jm-power", "CLOSE") == ["LEAD"]


# -- protection and relocation first -----------------------------------------------------------------------------------
def test_every_pipe_owner_is_asked_before_anyone_digs(office: Office) -> None:
    """城镇燃气管理条例 37, 城镇排水与污水处理条例 43, 城市供水条例 30-31."""
    office.tell(*approval("APPROVED"))
    asked = {d.operator for d in office.said if d.data["business_kind"] == "PROTECT"}
    assert {"jm-water", "jm-drainage", "jm-gas", "jm-power"} <= asked


def test_silence_of_a_pipe_owner_past_its_promise_is_a_fact_of_its_own(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.step("jm-gas", "PROTECT", "NOT_NEEDED", protection="NONE")
    office.days(14)
    silent = {who for kind, status, who in office.absences() if (kind, status) == ("NO_PROTECTION_ANSWER", "NOTICED")}
    assert "jm-water" in silent
    assert "jm-gas" not in silent
    office.step("jm-water", "PROTECT", "PLAN_REPLIED", protection="PROTECT")
    assert ("NO_PROTECTION_ANSWER", "ENDED", "jm-water") in office.absences()


def test_an_owner_that_must_move_its_pipe_gets_a_relocation(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.step("jm-gas", "PROTECT", "PLAN_REPLIED", protection="MOVE")
    assert office.statuses("jm-gas", "RELOCATE") == ["LEAD"]
    assert office.last("jm-gas", "RELOCATE")["reason"] == "UTILITY_ASKED"
    assert office.statuses("jm-water", "RELOCATE") == []
    office.tell(*approval("REVOKED"))
    assert office.statuses("jm-gas", "RELOCATE") == ["LEAD", "CANCELLED"]


def test_a_second_answer_that_contradicts_the_first_is_refused_and_shown(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.step("jm-gas", "PROTECT", "NOT_NEEDED", protection="NONE")
    [answer] = office.step("jm-gas", "PROTECT", "PLAN_REPLIED", protection="MOVE")
    assert (answer.data["reason"], answer.data["refused_step"] is not None) == ("WRONG_STEP", True)
    assert office.statuses("jm-gas", "RELOCATE") == []
    assert {kind for kind, _ in office.tasks()} == {"wrong-step"}


# -- the state machine -------------------------------------------------------------------------------------------------
def test_a_wrong_step_is_answered_counted_shown_and_never_applied(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    [answer] = office.step("jm-power", "PERMANENT", "CONNECTED", account="1")
    assert (answer.operator, answer.data["status"], answer.data["reason"]) == ("jm-power", "AMENDED", "WRONG_STEP")
    assert "CONNECTED cannot follow LEAD" in answer.data["refused_because"]
    assert office.cases()["", "jm-power", "PERMANENT", 1] == ("OPEN", False, None)
    assert {kind for kind, _ in office.tasks()} == {"wrong-step"}
    assert office.rows("SELECT count(*) FROM refusal") == [(1,)]


def test_an_answer_to_a_case_that_does_not_exist_is_refused_without_a_word_of_the_project(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    [answer] = office.step("jm-gas", "PERMANENT", "CONTACTED", case="8d7f5f0a-0000-5000-8000-000000000000")
    assert (answer.operator, answer.data["status"], answer.data["reason"]) == ("jm-gas", "CANCELLED", "UNKNOWN_CASE")
    assert answer.data["project"]["name"] is None if "name" in answer.data["project"] else answer.data["project"] == {}
    assert ("unknown-case", "8d7f5f0a-0000-5000-8000-000000000000") in office.tasks()


def test_an_operator_cannot_move_anothers_case(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    [answer] = office.step("jm-gas", "PERMANENT", "ACCEPTED", case=office.case("jm-power", "PERMANENT"))
    assert (answer.operator, answer.data["reason"]) == ("jm-gas", "UNKNOWN_CASE")
    assert office.cases()["", "jm-power", "PERMANENT", 1][2] is None


@pytest.mark.parametrize("kind", machine.SUPPLY)
def test_a_large_user_is_inspected_before_it_is_connected(kind: str) -> None:
    """电力供应与使用条例 24, 城市供水条例 28: with a plan, the connection follows the inspection."""
    assert machine.wrong(kind, "PLAN_REPLIED", "CONNECTED", None) is not None
    assert machine.wrong(kind, "WORKS_FINISHED", "CONNECTED", None) is not None
    assert machine.wrong(kind, "INSPECTED", "CONNECTED", None) is None
    assert machine.wrong(kind, "ACCEPTED", "CONNECTED", None) is None


def test_every_state_is_reached_and_every_end_is_one() -> None:
    for kind in machine.KINDS:
        reached, more = {"LEAD"}, True
        while more:
            more = {m.to for m in machine.MOVES if kind in m.kinds and reached & set(m.after)} - reached
            reached |= more
        assert any(machine.over(kind, state) for state in reached), kind
        assert {state for move in machine.MOVES if kind in move.kinds for state in (move.to,)} <= reached, kind
        for state in machine.ENDS:
            assert all(machine.wrong(kind, state, move.to, "MOVE") for move in machine.MOVES), (kind, state)


# -- permits in parallel -----------------------------------------------------------------------------------------------
def planned(office: Office, operator: str = "jm-water", subject: str = CODE, **more: Any) -> list[Any]:
    if not office.rows("SELECT 1 FROM case_ WHERE subject = :s", s=subject):
        office.tell(*project("DECIDED", name="甲"), subject=subject)
    office.step(operator, "PERMANENT", "ACCEPTED", subject=subject)
    return office.step(operator, "PERMANENT", "PLAN_REPLIED", subject=subject, plan=plan(**more))


def test_a_plan_with_external_works_asks_for_its_permits_in_parallel(office: Office) -> None:
    """江门方案 18: online, in parallel, within 5 working days."""
    planned(office, works_kinds=["ROAD_EXCAVATION", "TRAFFIC", "GREEN_SPACE"])
    asked = office.permits()
    assert {p.data["works_kind"] for p in asked} == {"ROAD_EXCAVATION", "TRAFFIC", "GREEN_SPACE"}
    assert len({p.data["parallel_group"] for p in asked}) == 1
    assert {p.data["due_on"] for p in asked} == {date(2026, 3, 9)}
    assert office.last("jm-water", "PERMANENT")["permits"] == "PENDING"


def test_the_case_goes_on_when_the_last_permit_is_decided(office: Office) -> None:
    planned(office, works_kinds=["ROAD_EXCAVATION", "TRAFFIC"])
    *first, last = office.permits()
    for permit in first:
        assert office.decide(permit, "APPROVED") == []
    [goes_on] = office.decide(last, "APPROVED")
    assert (goes_on.data["status"], goes_on.data["reason"], goes_on.data["permits"]) == (
        "AMENDED",
        "PERMITS_DECIDED",
        "GRANTED",
    )


def test_a_refused_permit_goes_back_with_its_reason_and_a_new_plan_asks_anew(office: Office) -> None:
    planned(office)
    [permit] = office.permits()
    [back] = office.decide(permit, "REFUSED", reason="交通疏导方案不全")
    assert back.data["permits"] == "REFUSED"
    assert "交通疏导方案不全" in back.data["permits_reason"]
    office.step("jm-water", "PERMANENT", "PLAN_REPLIED", plan=plan(length_m=Decimal("120.00")))
    assert [p.data["status"] for p in office.permits()] == ["REQUESTED", "CANCELLED", "REQUESTED"]
    assert office.last("jm-water", "PERMANENT")["permits"] == "PENDING"


def test_a_department_that_is_silent_is_noticed_after_five_working_days(office: Office) -> None:
    planned(office)
    [permit] = office.permits()
    office.wait(datetime(2026, 3, 9, 9, 0, tzinfo=UTC))
    assert not [a for a in office.absences() if a[0] == "NO_PERMIT_DECISION"]
    office.wait(datetime(2026, 3, 9, 9, 31, tzinfo=UTC))
    assert ("NO_PERMIT_DECISION", "NOTICED", permit.data["department"]) in office.absences()


def test_works_that_began_without_their_permits_are_a_breach(office: Office) -> None:
    """城市道路管理条例 33."""
    planned(office)
    office.walk("jm-water", "PERMANENT", "CONTRACTED", "WORKS_STARTED")
    assert "WORKS_WITHOUT_PERMIT" in office.breaches()


def test_a_plan_without_external_works_needs_no_permit(office: Office) -> None:
    planned(office, works_external=False)
    assert office.permits() == []
    assert office.last("jm-water", "PERMANENT")["permits"] is None


def test_when_a_case_is_suspended_its_permits_are_called_back(office: Office) -> None:
    planned(office)
    office.tell(*project("CANCELLED", name="甲"))
    assert [p.data["status"] for p in office.permits()] == ["REQUESTED", "CANCELLED"]


# -- dig once ----------------------------------------------------------------------------------------------------------
def test_works_of_several_owners_in_one_street_and_season_are_proposed_together(office: Office) -> None:
    planned(office, "jm-water")
    assert office.trenches() == []
    planned(office, "jm-gas", subject=OTHER, planned_start=date(2026, 4, 20), planned_finish=date(2026, 5, 20))
    office.wait(office.now)
    both = {d.subject: d.data for d in office.said if d.type == "works.trench.proposed.v1"}
    assert both.keys() == {CODE, OTHER}
    assert {w["operator"] for w in both[CODE]["works"]} == {"jm-water", "jm-gas"}
    assert (both[CODE]["window_start"], both[CODE]["window_finish"]) == (date(2026, 4, 20), date(2026, 5, 20))
    office.step("jm-gas", "PERMANENT", "DECLINED", subject=OTHER)
    office.wait(office.now)
    assert [t["status"] for t in office.trenches() if t["proposal"] == both[CODE]["proposal"]] == [
        "PROPOSED",
        "WITHDRAWN",
    ]


def test_works_of_another_season_or_street_are_left_alone(office: Office) -> None:
    planned(office, "jm-water")
    planned(office, "jm-gas", subject=OTHER, planned_start=date(2026, 9, 1), planned_finish=date(2026, 9, 10))
    office.wait(office.now)
    assert office.trenches() == []


# -- when the support falls --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "ending", ["WITHDRAWN", "REVOKED", "DEREGISTERED", "PENALTY_REVOKED", "LAPSED", "CONDITION_LAPSED"]
)
def test_when_the_support_falls_leads_are_cancelled(office: Office, ending: str) -> None:
    """行政许可法 8, 69, 70."""
    office.tell(*approval("APPROVED"))
    office.tell(*approval(ending))
    assert office.statuses("jm-power", "TEMPORARY") == ["LEAD", "CANCELLED"]


def test_what_is_accepted_is_suspended_with_a_task_and_made_safe(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED")
    office.tell(*approval("REVOKED"))
    assert office.statuses("jm-power", "TEMPORARY")[-1] == "SUSPENDED"
    assert ("suspended", office.case("jm-power", "TEMPORARY")) in office.tasks()
    office.days(3)
    assert ("NO_ACKNOWLEDGEMENT", "NOTICED", "jm-power") in office.absences()
    office.step("jm-power", "TEMPORARY", "SUSPENDED")
    assert ("NO_ACKNOWLEDGEMENT", "ENDED", "jm-power") in office.absences()
    office.tell(*approval("RESUMED"))
    assert office.statuses("jm-power", "TEMPORARY")[-1] == "RESUMED"
    assert office.tasks() == set()


def test_what_is_connected_is_never_cut_by_an_event(office: Office) -> None:
    """A foundation pit needs its pumps."""
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED", "CONNECTED")
    office.tell(*approval("REVOKED"))
    assert office.statuses("jm-power", "TEMPORARY") == ["LEAD"]
    assert ("connected-without-support", office.case("jm-power", "TEMPORARY")) in office.tasks()


def test_documents_change_no_case(office: Office) -> None:
    """补录批文."""
    office.tell(*approval("APPROVED"))
    assert office.tell(*approval("DOCUMENTED", document_number="证 1")) == []


# -- absence is an event -----------------------------------------------------------------------------------------------
def test_no_contact_in_one_working_day_is_noticed(office: Office) -> None:
    """主动服务."""
    office.tell(*project("DECIDED", name="甲"))
    office.wait(datetime(2026, 3, 3, 9, 29, tzinfo=UTC))
    assert office.absences() == []
    office.wait(datetime(2026, 3, 3, 9, 31, tzinfo=UTC))
    assert ("NO_CONTACT", "NOTICED", "jm-water") in office.absences()
    office.step("jm-water", "PERMANENT", "CONTACTED")
    assert ("NO_CONTACT", "ENDED", "jm-water") in office.absences()


def test_a_weekend_is_no_working_day(office: Office) -> None:
    office.now = datetime(2026, 3, 6, 2, tzinfo=UTC)  # Friday
    office.tell(*project("DECIDED", name="甲"))
    office.wait(datetime(2026, 3, 8, 12, tzinfo=UTC))
    assert office.absences() == []
    office.wait(datetime(2026, 3, 9, 9, 31, tzinfo=UTC))
    assert office.absences()


def test_a_construction_permit_lapses_if_works_do_not_start_in_three_months(office: Office) -> None:
    """建筑法 9; two extensions of three months each."""
    office.tell(*approval("APPROVED", document_number="证 1"))
    office.wait(datetime(2026, 5, 20, 1, tzinfo=UTC))
    assert not [a for a in office.absences() if a[0] == "NO_START_OF_WORKS"]
    office.wait(datetime(2026, 5, 29, 1, tzinfo=UTC))
    assert ("NO_START_OF_WORKS", "NOTICED", "hookup-office") in office.absences()
    office.tell(*approval("EXTENDED"))
    assert ("NO_START_OF_WORKS", "ENDED", "hookup-office") in office.absences()
    office.tell(*word("WORKS_BEGUN", begun_on=date(2026, 6, 20)))
    office.days(300)
    assert [a[1] for a in office.absences() if a[0] == "NO_START_OF_WORKS"] == ["NOTICED", "ENDED"]


@pytest.mark.parametrize("basis", ["TOLERANT", "COMMITMENT"])
def test_a_condition_is_noticed_before_it_is_due_and_ends_when_it_is_met(office: Office, basis: str) -> None:
    """容缺受理, 容缺通过 and 告知承诺."""
    office.tell(
        *approval("APPROVED", decision_basis=basis, missing=["施工图审查合格书"], missing_due=date(2026, 3, 31))
    )
    assert office.last("jm-power", "TEMPORARY")["missing"] == ["施工图审查合格书"]
    office.wait(datetime(2026, 3, 27, 1, tzinfo=UTC))
    assert ("CONDITION_DUE", "NOTICED", "hookup-office") in office.absences()
    office.tell(*approval("CONDITION_MET"))
    assert ("CONDITION_DUE", "ENDED", "hookup-office") in office.absences()
    assert office.last("jm-power", "TEMPORARY")["missing"] is None


def test_a_deadline_in_an_unpublished_year_is_provisional_and_counted_again_once_it_is_published(
    office: Office,
) -> None:
    office.now = datetime(2026, 12, 31, 2, tzinfo=UTC)
    office.tell(*project("DECIDED", name="甲"))
    assert office.last("jm-water", "PERMANENT")["answer_by_provisional"] is True
    office.service = type(office.service)(
        replace(CITY, working=replace(CITY.working, days_off=[date(2027, 1, 1), date(2027, 1, 4)])),
        office.service.clock,
    )
    office.wait(datetime(2027, 1, 4, 12, tzinfo=UTC))
    assert office.absences() == []
    office.wait(datetime(2027, 1, 5, 12, tzinfo=UTC))
    assert ("NO_CONTACT", "NOTICED", "jm-water") in office.absences()


# -- promises ----------------------------------------------------------------------------------------------------------
def test_a_utilitys_clock_counts_only_its_own_time(office: Office) -> None:
    """segment_owner: what waits for the customer or a department is not the utility's."""
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.step("jm-gas", "PERMANENT", "PLAN_REPLIED", plan=plan(works_external=False))
    office.days(60)
    assert not [a for a in office.absences() if a[0] == "NO_CONNECTION"]
    office.walk("jm-gas", "PERMANENT", "CONTRACTED", "INSPECTED", "CONNECTED")
    assert "LATE_CONNECTION" not in office.breaches()


def test_a_connection_later_than_promised_is_noticed_and_flagged(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.days(21)
    assert ("NO_CONNECTION", "NOTICED", "jm-gas") in office.absences()
    office.walk("jm-gas", "PERMANENT", "CONNECTED")
    assert "LATE_CONNECTION" in office.breaches()


def test_a_case_that_is_asked_for_again_is_judged_by_its_new_life(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.days(10)
    office.walk("jm-gas", "PERMANENT", "CONTACTED", "DECLINED")
    assert "LATE_CONTACT" in office.breaches()
    with office.store.transaction() as tx:
        tx.execute("DELETE FROM breach")
    office.days(1)
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    office.walk("jm-gas", "PERMANENT", "CONTACTED")
    assert office.breaches() == set()


def test_the_promise_of_the_day_the_case_was_opened_stands(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    was = CITY.promises["GAS"]
    office.service = type(office.service)(
        replace(CITY, promises={**CITY.promises, "GAS": replace(was, connect_days=500)}), office.service.clock
    )
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.days(21)
    assert ("NO_CONNECTION", "NOTICED", "jm-gas") in office.absences()


def test_a_fee_above_the_promise_is_flagged(office: Office) -> None:
    city = replace(
        CITY,
        promises={
            **CITY.promises,
            "GAS": replace(CITY.promises["GAS"], fee=Decimal(0), boundary="用地红线", capacity="100 m3/h"),
        },
    )
    office = Office(city)
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.step("jm-gas", "PERMANENT", "PLAN_REPLIED",
                plan=plan(works_external=False, fee=Decimal("1200.00"), boundary="市政管网", capacity="60 m3/h"))  # fmt: skip
    assert office.breaches() >= {"FEE_ABOVE_PROMISE", "BOUNDARY_MOVED", "CAPACITY_BELOW_PROMISE"}


def test_no_visit_is_demanded_where_none_may_be(office: Office) -> None:
    """免现场踏勘 for water and gas."""
    office.tell(*project("DECIDED", name="甲"))
    assert office.last("jm-gas", "PERMANENT")["applicant_visit_required"] is False
    office.step("jm-gas", "PERMANENT", "CONTACTED", visit_demanded=True)
    assert "VISIT_DEMANDED" in office.breaches()


# -- consent -----------------------------------------------------------------------------------------------------------
SEALED = {"key": "0" * 32 + ".1", "nonce": b"0" * 12, "ciphertext": b"1" * 20}


def test_contact_data_goes_only_to_the_operators_that_the_company_chose_and_can_be_withdrawn(office: Office) -> None:
    """个人信息保护法 13, 15."""
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED))
    assert office.last("jm-gas", "PERMANENT")["authorised"] == ["contact_name"]
    assert office.last("jm-gas", "PERMANENT")["reason"] == "CONSENT_CHANGED"
    assert office.last("jm-gas", "PERMANENT")["project"]["contact_name"] == SEALED
    assert office.statuses("jm-water", "PERMANENT") == ["LEAD"]
    office.tell(*demand("100.00"))
    assert office.last("jm-water", "PERMANENT")["authorised"] is None
    assert office.last("jm-water", "PERMANENT")["project"].get("contact_name") is None
    office.walk("jm-gas", "PERMANENT", "ACCEPTED", "CONNECTED")
    office.tell(*word("CONSENT_WITHDRAWN", operators_chosen=["jm-gas"]))
    assert office.last("jm-gas", "PERMANENT")["authorised"] is None
    assert office.last("jm-gas", "PERMANENT")["project"].get("contact_name") is None


def test_an_objection_waits_for_a_person_and_stays_closed_once_seen_to(office: Office) -> None:
    """异议: 提出, 受理, 核实."""
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*word("OBJECTED", objects_to="project.address", objection="门牌号有误"))
    [[task]] = office.rows("SELECT id FROM task WHERE kind = 'objection'")
    with office.store.transaction() as tx:
        tx.execute("UPDATE task SET done = 1 WHERE id = :id", {"id": task})
    office.tell(*project("CHANGED", name="乙"))
    assert office.tasks() == set()


def test_a_city_without_departments_makes_it_a_persons_task(office: Office) -> None:
    office = Office(replace(CITY, departments={}))
    planned(office)
    assert {kind for kind, _ in office.tasks()} == {"no-department"}


def test_a_moratorium_moves_the_window(office: Office) -> None:
    from jietong.city import Moratorium

    closed = Moratorium("新昌路", date(2026, 3, 20), date(2026, 6, 30), "赛事保障")
    office = Office(replace(CITY, moratoria=[closed]))
    planned(office)
    [told] = office.trenches()
    assert (told["window_start"], told["moratorium_until"], told["moratorium_reason"]) == (
        date(2026, 7, 1),
        date(2026, 6, 30),
        "赛事保障",
    )


def test_what_it_says_again_after_a_restart_is_nothing(office: Office) -> None:
    planned(office)
    office.days(30)
    before = len(office.said)
    with office.store.transaction() as tx:
        for subject in office.service.subjects(tx):
            assert list(office.service.due(tx, subject, None)) == []
    assert len(office.said) == before
    assert timedelta(0) < office.now - T0


# -- where the texts were not followed once ------------------------------------------------------------------------------
def forget(office: Office) -> None:
    """What it said is lost with a backup and comes back from the log; what others said is still there."""
    with office.store.transaction() as tx:
        tx.execute(
            "UPDATE case_ SET requested = 'NONE', confirmed = 0, round = 0, content = '', data = '{}', opened = 0, asked = 0, receipt = NULL"
        )
        tx.execute("UPDATE permit SET requested = 'OPEN', round = 0")
        tx.execute("DELETE FROM rest")
        remember(office, tx)


def remember(office: Office, tx: Transaction) -> None:
    for n, draft in enumerate(office.said, 1):
        office.service.remember(tx, decoded(draft, "urn:jietong:440700:hookup", n, draft.time))


def reconciled(office: Office) -> list[Any]:
    with office.store.transaction() as tx:
        return [draft for subject in office.service.subjects(tx) for draft in office.service.due(tx, subject, None)]


def test_who_is_chosen_changes_nothing_for_the_owners_of_lines(office: Office) -> None:
    """A line lies there, whoever is to supply."""
    office.tell(*approval("APPROVED"))
    office.tell(*word("CONFIRMED", operators_chosen=["jm-telecom-b"]))
    assert office.statuses("jm-telecom-a", "PROTECT") == ["LEAD", "REQUESTED"]


def test_a_permit_that_is_asked_for_anew_waits_for_a_new_decision(office: Office) -> None:
    planned(office)
    [permit] = office.permits()
    office.decide(permit, "APPROVED")
    for word_, passed in (("CANCELLED", 1), ("DECIDED", 20)):
        office.days(passed)
        office.tell(*project(word_, name="甲"))
    assert [p.data["status"] for p in office.permits()] == ["REQUESTED", "CANCELLED", "REQUESTED"]
    assert office.last("jm-water", "PERMANENT")["permits"] == "PENDING"
    forget(office)
    assert office.rows("SELECT decision, asked FROM permit") == [(None, round(office.now.timestamp() * 1000))]
    assert reconciled(office) == []
    office.days(1)
    assert "NO_PERMIT_DECISION" not in {kind for kind, *_ in office.absences()}
    office.decide(permit, "REFUSED", reason="占道时间过长")
    assert office.last("jm-water", "PERMANENT")["permits"] == "REFUSED"
    forget(office)
    assert reconciled(office) == []


def test_a_decision_on_a_permit_that_was_called_back_is_none_when_it_is_asked_for_anew(office: Office) -> None:
    planned(office)
    [permit] = office.permits()
    asked = office.now
    office.days(1)
    office.tell(*project("CANCELLED", name="甲"))
    office.decide(permit, "APPROVED")
    office.days(1)
    office.tell(*project("DECIDED", name="甲"))
    assert office.last("jm-water", "PERMANENT")["permits"] == "PENDING"
    office.tell("works.permit.decided.v1", {
        "permit": permit.data["permit"], "case": permit.data["case"], "operator": "jm-water", "decision": "REFUSED", "reason": "旧",
        "answers_request": "00000000-0000-0000-0000-000000000001", "answers_sequence": 1, "authority_region": "440703",
    }, at=asked + timedelta(hours=1))  # fmt: skip
    assert office.last("jm-water", "PERMANENT")["permits"] == "PENDING"
    assert office.tasks() == set()


def test_every_construction_permit_is_watched_for_its_own_beginning_of_works(office: Office) -> None:
    """建筑法 9: each permit lapses by itself, and an extension is of one permit."""
    office.tell(*approval("APPROVED", item="a", part="EARTHWORK"))
    office.days(30)
    office.tell(*approval("APPROVED", item="b", part="MAIN"))
    office.tell(*approval("EXTENDED", item="a", part="EARTHWORK"))
    office.wait(datetime(2026, 6, 28, 1, tzinfo=UTC))
    watched = "SELECT about FROM absence WHERE kind = 'NO_START_OF_WORKS' AND status = 'NOTICED' ORDER BY about"
    assert office.rows(watched) == [("b",)]
    office.wait(datetime(2026, 9, 1, 1, tzinfo=UTC))
    assert office.rows(watched) == [("a",), ("b",)]


def test_a_case_refused_while_it_is_suspended_is_a_task_too(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED")
    office.tell(*approval("REVOKED"))
    office.step("jm-power", "TEMPORARY", "REFUSED")
    assert office.tasks() == {("refused", office.case("jm-power", "TEMPORARY"))}


def test_the_echo_of_one_suspension_does_not_answer_the_next(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED")
    office.tell(*approval("SUSPENDED"))
    office.step("jm-power", "TEMPORARY", "SUSPENDED")
    office.days(1)
    office.tell(*approval("RESUMED"))
    office.days(1)
    office.tell(*approval("SUSPENDED"))
    forget(office)
    office.days(3)
    assert ("NO_ACKNOWLEDGEMENT", "NOTICED", "jm-power") in office.absences()


def test_a_wrong_step_while_it_is_suspended_gives_no_more_time_to_acknowledge(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED")
    office.tell(*approval("SUSPENDED"))
    office.wait(datetime(2026, 3, 3, 9, 0, tzinfo=UTC))
    office.step("jm-power", "TEMPORARY", "INSPECTED")
    forget(office)
    office.wait(datetime(2026, 3, 3, 10, 0, tzinfo=UTC))
    assert ("NO_ACKNOWLEDGEMENT", "NOTICED", "jm-power") in office.absences()


def test_a_rest_is_nobodys_time_whether_it_is_echoed_or_not(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.days(1)
    office.tell(*project("CANCELLED", name="甲"))
    office.days(60)
    office.tell(*project("DECIDED", name="甲"))
    forget(office)
    office.days(1)
    assert not [a for a in office.absences() if a[0] in ("NO_PLAN", "NO_CONNECTION")]
    office.days(30)
    assert ("NO_CONNECTION", "NOTICED", "jm-gas") in office.absences()


def test_a_connection_after_a_long_rest_is_in_time(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.tell(*project("CANCELLED", name="甲"))
    office.days(60)
    office.tell(*project("DECIDED", name="甲"))
    office.days(1)
    office.walk("jm-gas", "PERMANENT", "CONNECTED")
    assert "LATE_CONNECTION" not in office.breaches()


def test_only_the_work_in_whose_way_a_pipe_lies_gets_a_relocation(office: Office) -> None:
    lineage(office, ("W1", None), ("W2", None))
    office.tell(*approval("APPROVED", work=None))
    office.step("jm-gas", "PROTECT", "PLAN_REPLIED", protection="MOVE")
    assert [row[0] for row in office.rows("SELECT work FROM case_ WHERE business_kind = 'RELOCATE'")] == [""]
    office.step("jm-gas", "PROTECT", "PLAN_REPLIED", work="W2", protection="MOVE")
    relocated = office.rows("SELECT work FROM case_ WHERE business_kind = 'RELOCATE' ORDER BY work")
    assert [row[0] for row in relocated] == ["", "W2"]


@pytest.mark.parametrize("answer", ["PROTECT", "MOVE"])
def test_no_line_that_is_to_be_moved_or_protected_is_refused(office: Office, answer: str) -> None:
    office.tell(*approval("APPROVED"))
    [corrected] = office.step("jm-gas", "PROTECT", "NOT_NEEDED", protection=answer)
    assert corrected.data["reason"] == "WRONG_STEP"
    assert f"not {answer}" in corrected.data["refused_because"]
    assert office.cases()["", "jm-gas", "PROTECT", 1] == ("OPEN", False, None)


def anew(office: Office) -> None:
    """A customer declines, and applies once more the next day."""
    office.tell(*project("DECIDED", name="甲"))
    office.days(10)
    office.walk("jm-gas", "PERMANENT", "CONTACTED", "DECLINED")
    office.days(1)
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))


BEGUN = "SELECT requested, confirmed, round, opened, asked, progress FROM case_ WHERE operator = 'jm-gas' AND business_kind = 'PERMANENT'"


def test_a_case_that_began_once_more_is_remembered_so(office: Office) -> None:
    anew(office)
    office.days(1)
    office.walk("jm-gas", "PERMANENT", "CONTACTED")
    before = office.rows(BEGUN)
    forget(office)
    assert office.rows(BEGUN) == before
    assert reconciled(office) == []


def test_what_others_said_of_a_case_that_began_once_more_may_come_back_last(office: Office) -> None:
    """After a restore its own words come back first; then the end, the application and the steps of the new life are read."""
    office.tell(*project("DECIDED", name="甲"))
    other = Office()
    other.tell(*project("DECIDED", name="甲"))
    for there in (office, other):
        there.days(10)
    office.walk("jm-gas", "PERMANENT", "CONTACTED", "DECLINED")
    office.days(1)
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    applied = office.now
    office.days(1)
    office.walk("jm-gas", "PERMANENT", "CONTACTED", "ACCEPTED")
    with other.store.transaction() as tx:
        tx.execute("DELETE FROM absence")
        for n, draft in enumerate(office.said, 1):
            other.service.remember(tx, decoded(draft, "urn:jietong:440700:hookup", n, draft.time))
    case, learn = office.case("jm-gas", "PERMANENT"), other.learn
    step = {"case": case, "operator": "jm-gas", "business_kind": "PERMANENT", "phase": 1, "work": None, "reason": None, "account": None,
            "answers_request": "00000000-0000-0000-0000-000000000001", "answers_sequence": 1, "segment_owner": "UNKNOWN", "plan": None,
            "promised_days": None}  # fmt: skip
    declined, accepted = applied - timedelta(days=1), applied + timedelta(days=1)
    for status, at in (
        ("CONTACTED", declined),
        ("DECLINED", declined),
        ("CONTACTED", accepted),
        ("ACCEPTED", accepted),
    ):
        learn("utility.connection.progressed.v1", {**step, "status": status}, source="utility:jm-gas", at=at)
    learn(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"), at=applied)
    other.now = office.now
    assert [draft for draft in reconciled(other) if draft.type == REQUESTED] == []
    assert other.rows(BEGUN) == office.rows(BEGUN)


def test_a_suspended_case_that_had_ended_begins_once_more_with_an_application(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.tell(*project("CANCELLED", name="甲"))
    office.step("jm-gas", "PERMANENT", "DECLINED")
    office.days(1)
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    assert office.statuses("jm-gas", "PERMANENT") == ["LEAD", "SUSPENDED", "REQUESTED"]


def test_a_case_that_begins_once_more_is_late_with_nothing_yet(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED")
    office.days(60)
    office.walk("jm-gas", "PERMANENT", "LAPSED")
    office.days(1)
    office.tell(*word("APPLIED", application="a1", utility="GAS", business_kind="PERMANENT"))
    late = [status for kind, status, who in office.absences() if (kind, who) == ("NO_CONNECTION", "jm-gas")]
    assert late == ["NOTICED", "ENDED"]


def test_less_consent_is_told_though_the_case_is_over(office: Office) -> None:
    """个人信息保护法 15."""
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED, contact_phone=SEALED))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED", "CONNECTED")
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED))
    assert office.last("jm-gas", "PERMANENT")["authorised"] == ["contact_name"]
    assert office.last("jm-gas", "PERMANENT")["project"].get("contact_phone") is None
    before = len(office.said)
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED, contact_phone=SEALED))
    assert len(office.said) == before, "more is nobody's business any more"


def test_what_an_answer_to_a_wrong_step_opened_is_taken_back_too(office: Office) -> None:
    office.tell(*project("DECIDED", name="甲"))
    office.walk("jm-gas", "PERMANENT", "ACCEPTED", "CONNECTED")
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED, contact_phone=SEALED))
    office.step("jm-gas", "PERMANENT", "CONTACTED")
    assert office.last("jm-gas", "PERMANENT")["authorised"] == ["contact_name", "contact_phone"]
    office.tell(*word("CONSENTED", operators_chosen=["jm-gas"], contact_name=SEALED))
    assert office.last("jm-gas", "PERMANENT")["authorised"] == ["contact_name"]


def test_lines_that_are_finished_need_no_echo(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-gas", "PROTECT", "ACCEPTED")
    office.tell(*approval("SUSPENDED"))
    office.step("jm-gas", "PROTECT", "WORKS_FINISHED")
    office.days(3)
    assert ("NO_ACKNOWLEDGEMENT", "NOTICED", "jm-gas") not in office.absences()
    assert office.tasks() == set()


def test_a_lead_that_rests_is_nobodys_task_and_is_acknowledged(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.tell(*approval("SUSPENDED"))
    assert office.statuses("jm-power", "TEMPORARY") == ["LEAD", "SUSPENDED"]
    assert office.tasks() == set()
    office.days(3)
    assert ("NO_ACKNOWLEDGEMENT", "NOTICED", "jm-power") in office.absences()
    office.step("jm-power", "TEMPORARY", "SUSPENDED")
    assert ("NO_ACKNOWLEDGEMENT", "ENDED", "jm-power") in office.absences()


def test_connected_while_its_approval_only_rests_is_no_task(office: Office) -> None:
    office.tell(*approval("APPROVED"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED", "CONNECTED")
    office.tell(*approval("SUSPENDED"))
    assert office.tasks() == set()
    office.tell(*approval("REVOKED"))
    assert office.tasks() == {("connected-without-support", office.case("jm-power", "TEMPORARY"))}


def test_it_is_warned_on_the_day_that_is_so_many_working_days_before(office: Office) -> None:
    """Five before Tuesday, 31 March 2026: Tuesday, 24 March."""
    office.tell(
        *approval("APPROVED", decision_basis="TOLERANT", missing=["施工图审查合格书"], missing_due=date(2026, 3, 31))
    )
    office.wait(datetime(2026, 3, 23, 15, 59, tzinfo=UTC))
    assert not [a for a in office.absences() if a[0] == "CONDITION_DUE"]
    office.wait(datetime(2026, 3, 24, 1, tzinfo=UTC))
    assert ("CONDITION_DUE", "NOTICED", "hookup-office") in office.absences()
