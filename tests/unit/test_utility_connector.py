from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.utility import connector, tables
from connectors.utility.connector import OperatorSink, OperatorSource
from connectors.utility.platform import Case, Plan, Platform, follows
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.draw import Draw
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.errors import InvalidEventError, RejectedError, RetriableError, UsageError
from jietong.event import Draft, Event
from jietong.identifiers import ProjectCode
from jietong.keys import MemoryKeys
from services.hookup import machine

CONTRACT = Contract(catalog.load())
NOW = datetime(2026, 4, 21, 8, 40, 7, tzinfo=UTC)
TRIGGERED = NOW - timedelta(seconds=2)
PROJECT = ProjectCode.make(month=NOW.date(), region="440703", serial=1)
KEYS = MemoryKeys()
PLAN = Plan(True, "新昌路DN400供水干管", "DN200", Decimal("86.50"), Decimal("0.00"), 4)
FACTS: dict[str, Any] = {
    "name": "滨江产业园", "address": "新昌路88号", "floor_area": Decimal("98640.00"),
    "contact_name": KEYS.seal("x", "hookup", "张三"), "contact_phone": KEYS.seal("x", "hookup", "13800000000"),
}  # fmt: skip
ENTRY: dict[str, Any] = {
    "operator": "jm-water", "utility": "WATER", "business_kind": "PERMANENT", "phase": 1, "work": None,
    "status": "LEAD", "round": 1, "reason": "PROJECT_DECIDED", "trigger_type": None, "trigger_document": None,
    "trigger_kind": None, "trigger_part": None, "triggered_at": TRIGGERED, "project": FACTS, "demand": None,
    "demand_basis": "UNKNOWN", "fields_known": [], "fields_to_ask": [], "applicant_visit_required": False,
    "contact_within_hours": 24, "customer_role": "DEVELOPER", "site_regions": ["440703"],
    "authority_region": "440703", "functional_zone": None,
    "historical": False,
}  # fmt: skip


def case_id(n: int = 0) -> str:
    return str(uuid5(NAMESPACE_URL, f"case {n}"))


class Hookup:
    """Asks: a real outbox, and the events as a reader of its topic has them."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "hookup.db", delivery)
        self.outbox = Outbox("urn:jietong:440700:hookup", CONTRACT, lambda: 0, self.store.bell)

    def ask(self, status: str = "LEAD", case: int = 0, subject: str = PROJECT, **more: Any) -> Event:
        data = ENTRY | {"case": case_id(case), "status": status} | more
        with self.store.transaction() as tx:
            draft = Draft(type=connector.REQUESTED, subject=subject, time=NOW, data=data, operator="jm-water")
            self.outbox.add(tx, draft)
            return CONTRACT.decode(pending(tx, 100_000)[-1][1])


class Operator:
    """An operator's system with its database, and the connector on both sides of it."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "platform-jm-water.db", tables.utility)
        self.slept: list[float] = []
        self.platform = Platform(self.store, self.slept.append)
        self.sink = OperatorSink("jm-water", self.platform, lambda: NOW)
        self.source = OperatorSource("jm-water", self.store)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.snapshot() as tx:
            return tx.execute(sql).all()

    def case(self, n: int = 0) -> Case:
        (found,) = [case for case in self.platform.cases() if case.case_id == case_id(n)]
        return found

    def everything(self) -> list[list[tuple[Any, ...]]]:
        return [self.rows(f"SELECT * FROM {table} ORDER BY 1") for table in ("case_", "receipt", "progress")]

    def steps(self) -> list[dict[str, Any]]:
        return [dict(draft.data) for reading in self.source.read(None) for draft in reading.drafts]


@pytest.fixture
def hookup(tmp_path: Path) -> Iterator[Hookup]:
    hookup = Hookup(tmp_path)
    yield hookup
    hookup.store.close()


@pytest.fixture
def water(tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(tmp_path)
    yield operator
    operator.store.close()


# -- delivery --------------------------------------------------------------------------------------------------------
def test_a_lead_becomes_a_row_in_the_operators_table_with_the_time_it_took(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    case = water.case()
    assert (case.status, case.subject, case.utility, case.business_kind) == ("LEAD", PROJECT, "WATER", "PERMANENT")
    assert case.received_at - case.triggered_at == 2000
    assert (case.name, case.site_regions, case.contact_within_hours) == ("滨江产业园", "440703", 24)
    known = json.loads(case.facts)["project"]
    assert known == {"name": "滨江产业园", "address": "新昌路88号", "floor_area": "98640.00"}


def test_a_case_keeps_the_times_of_its_first_message(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    first = water.case()
    later = NOW + timedelta(days=1)
    water.platform.deliver(hookup.ask("AMENDED", round=2, triggered_at=later), later)
    assert (water.case().received_at, water.case().triggered_at) == (first.received_at, first.triggered_at)


def test_nothing_personal_reaches_the_operators_tables_not_even_sealed(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    kept = repr(water.everything())
    assert FACTS["contact_phone"]["key"] not in kept
    assert "contact" not in json.loads(water.case().facts)["project"]


def test_a_message_delivered_again_does_nothing(hookup: Hookup, water: Operator) -> None:
    lead = hookup.ask()
    assert not water.sink.delivered(lead)
    water.sink.deliver(lead)
    water.platform.contact(case_id(), now=NOW)
    before = water.everything()
    water.platform.deliver(lead, NOW + timedelta(hours=1))
    assert water.everything() == before
    assert water.sink.delivered(lead)


MESSAGES: list[dict[str, Any]] = [
    {"status": "LEAD"},
    {"status": "REQUESTED", "demand_basis": "CONFIRMED", "demand": {"water_m3_per_day": Decimal(420)}},
    {"status": "AMENDED", "demand_basis": "CONFIRMED", "work": "G-1", "customer_role": "OCCUPANT"},
    {"status": "SUSPENDED", "demand_basis": "CONFIRMED"},
    {"status": "RESUMED", "demand_basis": "CONFIRMED"},
    {"status": "CANCELLED", "demand_basis": "CONFIRMED"},
]
NUMBERS = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hookup, Operator]]:
    """One pair of databases for all examples: each has cases of its own."""
    folder = tmp_path_factory.mktemp("shared")
    hookup, operator = Hookup(folder), Operator(folder)
    yield hookup, operator
    hookup.store.close()
    operator.store.close()


@given(data=st.data(), length=st.integers(1, len(MESSAGES)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_messages_delivered_twice_and_in_any_order_have_the_same_effect(
    shared: tuple[Hookup, Operator], data: st.DataObject, length: int
) -> None:
    hookup, water = shared
    pair = straight, shuffled = next(NUMBERS), next(NUMBERS)
    asked = [{n: hookup.ask(case=n, round=r, **m) for n in pair} for r, m in enumerate(MESSAGES[:length], 1)]
    for message in asked:
        water.sink.deliver(message[straight])
    order = data.draw(st.permutations(range(length)))
    again = data.draw(st.lists(st.sampled_from(order), max_size=4))
    for n in [*order, *again]:
        water.sink.deliver(asked[n][shuffled])
    one, other = (water.case(n)._replace(case_id="", request_id="", request_sequence=0) for n in pair)
    assert one == other
    assert one.asked == MESSAGES[length - 1]["status"]
    assert water.rows(f"SELECT count(*) FROM receipt WHERE case_id = '{case_id(shuffled)}'") == [(length,)]


def test_a_message_older_than_the_last_changes_nothing_and_is_on_record_as_stale(
    hookup: Hookup, water: Operator
) -> None:
    lead, cancelled = hookup.ask(), hookup.ask("CANCELLED", round=2)
    water.sink.deliver(cancelled)
    before = water.case()
    water.sink.deliver(lead)
    assert water.case() == before
    assert water.rows("SELECT sequence, effect FROM receipt ORDER BY sequence") == [(1, "stale"), (2, "opened")]


def test_a_blocked_subject_is_refused_while_others_pass_and_taken_once_unblocked(
    hookup: Hookup, water: Operator
) -> None:
    other = ProjectCode.make(month=NOW.date(), region="440703", serial=2)
    mine, theirs = hookup.ask(), hookup.ask(case=1, subject=other)
    water.platform.block(PROJECT)
    with pytest.raises(RejectedError) as refused:
        water.sink.deliver(mine)
    assert PROJECT not in str(refused.value)
    water.sink.deliver(theirs)
    assert [case.subject for case in water.platform.cases()] == [other]
    assert not water.sink.delivered(mine)
    water.platform.unblock(PROJECT)
    water.sink.deliver(mine)
    assert water.case().status == "LEAD"


def test_while_it_is_away_it_takes_and_answers_nothing(hookup: Hookup, water: Operator) -> None:
    lead = hookup.ask()
    water.platform.turn(away=True)
    for call in (water.sink.deliver, Platform(water.store).delivered):
        with pytest.raises(RetriableError, match="does not answer"):
            call(lead)
    assert water.everything() == [[], [], []]
    water.platform.turn()
    water.sink.deliver(lead)
    assert water.sink.delivered(lead)


def test_a_slow_operator_takes_its_time_for_each_message(hookup: Hookup, water: Operator) -> None:
    water.platform.turn(slow_ms=1500)
    water.sink.deliver(hookup.ask())
    assert water.slept == [1.5]
    assert water.case().status == "LEAD"


def test_another_operators_request_is_not_taken(hookup: Hookup, water: Operator) -> None:
    with pytest.raises(InvalidEventError, match="addressed to another"):
        water.sink.deliver(hookup.ask(operator="jm-gas"))
    assert water.everything() == [[], [], []]


# -- the work --------------------------------------------------------------------------------------------------------
def test_a_large_customers_case_goes_from_contact_to_connection_and_each_step_is_an_event(
    hookup: Hookup, water: Operator
) -> None:
    lead = hookup.ask()
    water.sink.deliver(lead)
    case, platform = case_id(), water.platform
    platform.contact(case, now=NOW)
    request = hookup.ask("REQUESTED", demand_basis="CONFIRMED", round=2, phase=1)
    water.sink.deliver(request)
    assert water.case().status == "DEMAND_CONFIRMED"
    platform.accept(case, now=NOW, promised_days=4)
    platform.reply(case, PLAN, now=NOW)
    platform.contract(case, now=NOW)
    platform.start_works(case, now=NOW)
    platform.finish_works(case, now=NOW)
    platform.inspect(case, now=NOW)
    platform.connect(case, "0750123456", now=NOW)
    steps = water.steps()
    assert [step["status"] for step in steps] == [
        "CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED",
        "CONNECTED",
    ]  # fmt: skip
    assert [step["segment_owner"] for step in steps[:3]] == ["CUSTOMER", "UTILITY", "CUSTOMER"]
    assert [step["answers_request"] for step in steps[:2]] == [str(lead.id), str(request.id)]
    assert [step["answers_sequence"] for step in steps[:2]] == [1, 2]
    assert steps[1]["promised_days"] == 4
    assert {name: value for name, value in steps[2]["plan"].items() if value is not None} == {
        "works_external": True, "access_point": "新昌路DN400供水干管", "capacity": "DN200",
        "length_m": Decimal("86.50"), "fee": Decimal("0.00"), "days": 4, "emergency": False,
    }  # fmt: skip
    assert (steps[-1]["account"], water.case().status) == ("0750123456", "CONNECTED")
    assert {(step["case"], step["operator"]) for step in steps} == {(case, "jm-water")}


def test_a_small_customer_is_accepted_and_connected(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    water.platform.connect(case_id(), "1", now=NOW)
    assert water.case().status == "CONNECTED"


@pytest.mark.parametrize("stop", ["SUSPENDED", "CANCELLED"])
def test_a_stopped_case_is_not_worked_on_and_the_answer_says_why(hookup: Hookup, water: Operator, stop: str) -> None:
    water.sink.deliver(hookup.ask())
    water.sink.deliver(hookup.ask(stop, round=2))
    with pytest.raises(UsageError, match=f"its request was {stop.lower()}"):
        water.platform.contact(case_id(), now=NOW)
    assert water.rows("SELECT * FROM progress") == []
    water.sink.deliver(hookup.ask("RESUMED", round=3))
    water.platform.contact(case_id(), now=NOW)
    assert water.case().status == "CONTACTED"


def test_what_is_connected_is_never_cut_by_a_message(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    water.platform.connect(case_id(), "1", now=NOW)
    for stop in ("SUSPENDED", "CANCELLED", "REQUESTED"):
        water.sink.deliver(hookup.ask(stop, round=2))
        assert (water.case().status, water.case().asked) == ("CONNECTED", stop)


def test_a_customer_who_declined_and_asks_again_is_a_lead_again(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.decline(case_id(), "暂不需要", now=NOW)
    water.sink.deliver(hookup.ask("AMENDED", round=2))
    assert water.case().status == "DECLINED"
    water.sink.deliver(hookup.ask("REQUESTED", round=3, demand_basis="CONFIRMED"))
    assert water.case().status == "DEMAND_CONFIRMED"
    assert [step["reason"] for step in water.steps()] == ["暂不需要"]


def test_a_step_out_of_turn_or_on_an_unknown_case_is_refused_in_words(hookup: Hookup, water: Operator) -> None:
    with pytest.raises(UsageError, match="not known to this operator"):
        water.platform.contact(case_id(), now=NOW)
    water.sink.deliver(hookup.ask())
    with pytest.raises(UsageError, match="is LEAD; it cannot become CONNECTED"):
        water.platform.connect(case_id(), "1", now=NOW)
    water.platform.refuse(case_id(), "管网未覆盖", now=NOW)
    for end in (water.platform.not_needed, water.platform.contact):
        with pytest.raises(UsageError, match="is REFUSED; it cannot become"):
            end(case_id(), now=NOW)
    assert [case.status for case in water.platform.cases("REFUSED")] == ["REFUSED"]
    assert water.platform.cases("LEAD", "CONTACTED") == []


# -- before anyone digs, permits, what the city refuses ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "status"), [("NONE", "NOT_NEEDED"), ("PROTECT", "PLAN_REPLIED"), ("MOVE", "PLAN_REPLIED")]
)
def test_a_protection_request_is_answered_none_protect_or_move(
    hookup: Hookup, water: Operator, answer: str, status: str
) -> None:
    water.sink.deliver(hookup.ask(business_kind="PROTECT"))
    water.platform.protect(case_id(), answer, now=NOW)
    [step] = water.steps()
    assert (step["status"], step["protection"]) == (status, answer)


def test_a_protection_request_is_never_connected_and_ends_with_its_works(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask(business_kind="PROTECT"))
    with pytest.raises(UsageError, match="answered NONE, PROTECT or MOVE"):
        water.platform.not_needed(case_id(), now=NOW)
    water.platform.protect(case_id(), "PROTECT", now=NOW)
    with pytest.raises(UsageError, match="cannot become CONNECTED"):
        water.platform.connect(case_id(), "1", now=NOW)
    water.platform.finish_works(case_id(), now=NOW)
    water.sink.deliver(hookup.ask("CANCELLED", round=2, business_kind="PROTECT"))
    assert water.case().status == "WORKS_FINISHED"


def test_nobody_digs_while_a_permit_is_not_granted(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    water.sink.deliver(hookup.ask("AMENDED", round=2, permits="REFUSED", permits_reason="交警: 方案不全"))
    with pytest.raises(UsageError, match="permits for its works are refused"):
        water.platform.start_works(case_id(), now=NOW)
    assert water.case().permits_reason == "交警: 方案不全"
    water.sink.deliver(hookup.ask("AMENDED", round=3, permits="GRANTED"))
    water.platform.start_works(case_id(), now=NOW)


def test_a_step_that_the_city_did_not_apply_is_taken_back_and_shown(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.contact(case_id(), now=NOW)
    water.platform.say(case_id(), "CONNECTED", now=NOW, subject=PROJECT, account="1")
    water.sink.deliver(
        hookup.ask(
            "AMENDED",
            round=2,
            reason="WRONG_STEP",
            refused_step="e",
            refused_because="CONNECTED cannot follow CONTACTED",
        )
    )
    assert (water.case().done, water.case().refused) == ("CONTACTED", "CONNECTED cannot follow CONTACTED")
    water.platform.accept(case_id(), now=NOW)
    assert water.case().refused is None


def test_a_suspension_is_acknowledged_and_the_work_goes_on_where_it_was(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    with pytest.raises(UsageError, match="nothing was asked"):
        water.platform.acknowledge(case_id(), now=NOW)
    water.sink.deliver(hookup.ask("SUSPENDED", round=2))
    water.platform.acknowledge(case_id(), now=NOW)
    water.sink.deliver(hookup.ask("RESUMED", round=3))
    assert [step["status"] for step in water.steps()] == ["ACCEPTED", "SUSPENDED"]
    assert water.case().status == "ACCEPTED"


def test_a_request_is_acknowledged_once(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.sink.deliver(hookup.ask("SUSPENDED", round=2))
    water.platform.acknowledge(case_id(), now=NOW)
    with pytest.raises(UsageError, match="nothing was asked that is to be acknowledged"):
        water.platform.acknowledge(case_id(), now=NOW)
    assert [(step["status"], step["segment_owner"]) for step in water.steps()] == [("SUSPENDED", "UNKNOWN")]


def test_a_system_that_acknowledges_by_itself_does_so_for_each_stop_and_resumption(
    hookup: Hookup, water: Operator
) -> None:
    water.platform.acknowledge_by_itself()
    messages = [hookup.ask(), *(hookup.ask(s, round=n) for n, s in enumerate(("SUSPENDED", "RESUMED", "CANCELLED"), 2))]
    for message in (*messages, *messages):
        water.sink.deliver(message)
    assert [(step["status"], step["answers_request"]) for step in water.steps()] == [
        (m.data["status"], str(m.id)) for m in messages[1:]
    ]
    water.platform.acknowledge_by_itself(on=False)
    water.sink.deliver(hookup.ask("SUSPENDED", case=1))
    assert len(water.steps()) == 3


def test_a_request_brings_its_promises_and_what_the_approval_lacks(hookup: Hookup, water: Operator) -> None:
    by = NOW + timedelta(days=1)
    water.sink.deliver(hookup.ask(
        answer_by=by, promised_plan_days=3, promised_connect_days=8, promised_fee=Decimal("0.00"), promised_boundary="红线", missing=["合同", "图纸"],
        missing_due=date(2026, 5, 21), continues=case_id(9),
    ))  # fmt: skip
    case = water.case()
    assert (case.answer_by, case.plan_days, case.connect_days, case.fee) == (by.timestamp() * 1000, 3, 8, "0.00")
    assert (case.boundary, json.loads(case.missing or ""), case.missing_due) == ("红线", ["合同", "图纸"], "2026-05-21")
    assert case.continues == case_id(9)


def test_who_digs_without_a_permit_does_so_against_the_system(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    water.sink.deliver(hookup.ask("AMENDED", round=2, permits="PENDING"))
    with pytest.raises(UsageError, match="permits for its works are pending"):
        water.platform.start_works(case_id(), now=NOW)
    water.platform.start_works(case_id(), now=NOW, force=True)
    assert water.case().status == "WORKS_STARTED"


def test_a_case_that_began_again_is_taken_back_to_where_it_came_since(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.decline(case_id(), "暂不需要", now=NOW)
    water.sink.deliver(hookup.ask("REQUESTED", round=2))
    water.platform.contact(case_id(), now=NOW)
    water.platform.say(case_id(), "INSPECTED", now=NOW, subject=PROJECT)
    water.sink.deliver(
        hookup.ask("AMENDED", round=3, reason="WRONG_STEP", refused_step="e", refused_because="INSPECTED cannot follow")
    )
    assert (water.case().done, water.case().refused) == ("CONTACTED", "INSPECTED cannot follow")


UNKNOWN: dict[str, Any] = {
    "reason": "UNKNOWN_CASE", "refused_step": "e", "refused_because": "no such case was ever asked of this operator", "project": {},
}  # fmt: skip


@pytest.mark.parametrize("step", ["CONTACTED", "DECLINED", "CONNECTED"])
def test_a_case_that_the_city_never_asked_for_is_closed_and_nothing_was_done_on_it(
    hookup: Hookup, water: Operator, step: str
) -> None:
    water.platform.acknowledge_by_itself()
    water.platform.say(case_id(), step, now=NOW, subject=PROJECT)
    water.sink.deliver(hookup.ask("CANCELLED", **UNKNOWN))
    assert (water.case().status, water.case().done, water.case().refused) == (
        "CANCELLED",
        "LEAD",
        UNKNOWN["refused_because"],
    )
    assert [s["status"] for s in water.steps()] == [step], "an answer to an answer would never end"
    with pytest.raises(UsageError, match="nothing was asked"):
        water.platform.acknowledge(case_id(), now=NOW)


def test_a_case_that_the_city_has_lost_is_closed_and_what_is_connected_stays(hookup: Hookup, water: Operator) -> None:
    for n in (0, 1):
        water.sink.deliver(hookup.ask(case=n))
        water.platform.accept(case_id(n), now=NOW)
    water.platform.connect(case_id(1), "1", now=NOW)
    for n in (0, 1):
        water.sink.deliver(hookup.ask("CANCELLED", case=n, round=2, **UNKNOWN))
    assert [(water.case(n).status, water.case(n).done) for n in (0, 1)] == [
        ("CANCELLED", "ACCEPTED"),
        ("CONNECTED", "CONNECTED"),
    ]


def test_a_second_answer_that_contradicts_the_first_is_taken_back(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask(business_kind="PROTECT"))
    water.platform.protect(case_id(), "MOVE", now=NOW)
    with pytest.raises(UsageError, match="is PLAN_REPLIED; it cannot become NOT_NEEDED"):
        water.platform.protect(case_id(), "NONE", now=NOW)
    water.platform.say(case_id(), "NOT_NEEDED", now=NOW, subject=PROJECT, protection="NONE")
    assert [step["protection"] for step in water.steps()] == ["MOVE", "NONE"]
    water.sink.deliver(
        hookup.ask(
            "AMENDED",
            business_kind="PROTECT",
            round=2,
            reason="WRONG_STEP",
            refused_step="e",
            refused_because="was MOVE",
        )
    )
    assert (water.case().status, water.case().refused) == ("PLAN_REPLIED", "was MOVE")


def test_a_visit_that_was_demanded_and_an_application_that_ran_out_are_told(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.contact(case_id(), now=NOW, visit_demanded=True)
    water.platform.accept(case_id(), now=NOW)
    water.platform.lapse(case_id(), "逾期未签合同", now=NOW)
    assert [(s["status"], s["visit_demanded"], s["reason"]) for s in water.steps()] == [
        ("CONTACTED", True, None), ("ACCEPTED", None, None), ("LAPSED", None, "逾期未签合同"),
    ]  # fmt: skip


def test_the_plan_says_where_and_when_it_digs(hookup: Hookup, water: Operator) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.accept(case_id(), now=NOW)
    plan = Plan(True, road="新昌路", works_kinds=("ROAD_EXCAVATION", "TRAFFIC"), area_m2=Decimal("12.50"), depth_m=Decimal("1.60"), pipe_dn_mm=200,
                voltage="10kV", trees=2, emergency=True,
                planned_start=date(2026, 5, 1), planned_finish=date(2026, 5, 9), boundary="红线")  # fmt: skip
    water.platform.reply(case_id(), plan, now=NOW)
    said = water.steps()[1]["plan"]
    assert said["works_kinds"] == ["ROAD_EXCAVATION", "TRAFFIC"]
    assert all(said[name] == getattr(plan, name) for name in ("road", "area_m2", "depth_m", "pipe_dn_mm", "voltage", "trees", "emergency",
                                                              "planned_start", "planned_finish", "boundary"))  # fmt: skip


def test_contact_data_is_opened_only_on_consent_and_cleared_when_it_is_withdrawn(
    hookup: Hookup, water: Operator
) -> None:
    water.platform.opens = lambda subject, sealed: KEYS.open(sealed) if subject == PROJECT else None
    water.sink.deliver(hookup.ask())
    assert water.case().contact_name is None
    water.sink.deliver(hookup.ask("AMENDED", round=2, authorised=["contact_name"]))
    assert (water.case().contact_name, water.case().contact_phone) == ("张三", None)
    water.sink.deliver(hookup.ask("AMENDED", round=3))
    assert water.case().contact_name is None


def test_it_moves_a_case_exactly_as_the_citys_table_allows() -> None:
    for kind in machine.KINDS:
        for move in machine.MOVES:
            for done in (*machine.OPEN, *machine.ENDS):
                ours = done in follows(kind, move.to)
                assert ours == (machine.wrong(kind, None if done == "LEAD" else done, move.to, "MOVE") is None), (
                    kind,
                    done,
                    move.to,
                )


# -- read back -------------------------------------------------------------------------------------------------------
class Drawn:
    """The steps drawn into a real outbox."""

    def __init__(self, folder: Path, source: OperatorSource) -> None:
        self.store = SqliteStore(folder / "utility-jm-water.db", delivery)
        outbox = Outbox("urn:jietong:440700:utility:jm-water", CONTRACT, lambda: 0, self.store.bell)
        self.draw = Draw(source, self.store, outbox)

    def events(self) -> list[Event]:
        with self.store.snapshot() as tx:
            return [CONTRACT.decode(envelope) for _, envelope in pending(tx, 1000)]


@pytest.fixture
def drawn(tmp_path: Path, water: Operator) -> Iterator[Drawn]:
    drawn = Drawn(tmp_path, water.source)
    yield drawn
    drawn.store.close()


def test_each_step_is_drawn_once_though_it_is_read_again(hookup: Hookup, water: Operator, drawn: Drawn) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.contact(case_id(), now=NOW)
    assert drawn.draw.step().events == 1
    water.platform.accept(case_id(), now=NOW + timedelta(minutes=1))
    assert [drawn.draw.step().events, drawn.draw.step().events, drawn.draw.full().events] == [1, 0, 0]
    assert [(e.subject, e.sequence, e.data["status"], e.time) for e in drawn.events()] == [
        (PROJECT, 1, "CONTACTED", NOW), (PROJECT, 2, "ACCEPTED", NOW + timedelta(minutes=1)),
    ]  # fmt: skip


def test_a_step_that_committed_late_is_seen_within_the_overlap_and_by_the_scan_beyond_it(
    hookup: Hookup, water: Operator, drawn: Drawn
) -> None:
    for n in range(3):
        water.sink.deliver(hookup.ask(case=n))
    water.platform.contact(case_id(0), now=NOW)
    drawn.draw.step()
    water.platform.contact(case_id(1), now=NOW - timedelta(milliseconds=connector.OVERLAP))
    water.platform.contact(case_id(2), now=NOW - timedelta(milliseconds=connector.OVERLAP + 1))
    assert (drawn.draw.step().events, drawn.draw.full().events) == (1, 1)
    assert [e.data["case"] for e in drawn.events()] == [case_id(n) for n in range(3)]


def test_a_case_that_changes_does_not_repeat_its_steps(hookup: Hookup, water: Operator, drawn: Drawn) -> None:
    water.sink.deliver(hookup.ask())
    water.platform.contact(case_id(), now=NOW)
    drawn.draw.step()
    water.sink.deliver(hookup.ask("AMENDED", work="G-1", round=2))
    assert (drawn.draw.step().events, drawn.draw.full().events) == (0, 0)
    assert drawn.events()[0].data["work"] is None


def test_pages_hold_every_step_once(hookup: Hookup, water: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(7):
        water.sink.deliver(hookup.ask(case=n))
        water.platform.contact(case_id(n), now=NOW + timedelta(seconds=n // 3))
    monkeypatch.setattr(connector, "PAGE", 2)
    rows = [reading.row for reading in water.source.scan()]
    assert rows == [f"progress/{n}" for n in range(1, 8)]
    assert [reading.row for reading in water.source.again(["progress/3", "progress/1"])] == ["progress/1", "progress/3"]
    assert list(water.source.again([])) == []


def test_a_step_that_vanished_ends_nothing(water: Operator) -> None:
    assert list(water.source.gone("progress/1", None).drafts) == []
