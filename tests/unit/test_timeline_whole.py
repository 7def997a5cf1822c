from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import catalog
from jietong.city import load
from jietong.event import Event, Stream
from jietong.testing import MemoryStore
from services.timeline import cases, reads
from services.timeline.__main__ import names
from services.timeline.folds import Fact
from services.timeline.redline import sketch
from services.timeline.tables import timeline
from services.timeline.timeline import Timeline
from services.timeline.words import ABSENCES, BECAME, OF_TYPE, PROMISES, PROTECTION, ROUTES, TRANSFERS, WORKS_KINDS
from tests.unit.test_timeline import (
    ANSWERED,
    APPROVAL,
    ASKED,
    CATALOG,
    CODE,
    DEMAND,
    INVESTMENT,
    ITEM,
    LICENCE,
    MORNING,
    REGISTRATION,
    Streams,
    facts,
    learn,
    ms,
    row,
)
from tests.unit.test_timeline_page import HTML, Watched, client, code_of, codes, reading, store

__all__ = ["store"]  # a fixture

SURVEY = "survey.result.published.v1"
PERMIT, DECIDED = "works.permit.requested.v1", "works.permit.decided.v1"
TRENCH, ABSENCE = "works.trench.proposed.v1", "service.absence.noticed.v1"
TRANSFER, TRANSFERRED = "utility.account.transfer.requested.v1", "utility.account.transfer.answered.v1"
UNIT, SECOND, FIRM = "440703001001GB00123F00010001", "440703001001GB00123F00010002", "91440703MA4WQ7K28M"
RED_LINE = (
    "POLYGON ((113.071 22.59, 113.0748 22.5893, 113.0757 22.592, 113.0745 22.5938, 113.0722 22.5942, 113.071 22.59), "
    "(113.0732 22.5915, 113.074 22.5915, 113.074 22.5922, 113.0732 22.5922, 113.0732 22.5915))"
)
DAY = 24 * 60
PLAIN: dict[str, Any] = {
    "work": None, "answer_by": None, "answer_by_provisional": None, "promised_plan_days": None, "promised_connect_days": None,
    "promised_fee": None, "promised_boundary": None, "missing": None, "missing_due": None, "continues": None,
    "permits": None, "permits_reason": None, "refused_step": None, "refused_because": None,
    "applicant_visit_required": False,
}  # fmt: skip
PROMISED: dict[str, Any] = {
    "promised_plan_days": 2, "promised_connect_days": 4, "promised_fee": Decimal("0.00"), "promised_boundary": "用地红线",
}  # fmt: skip
QUIET: dict[str, Any] = {"plan": None, "protection": None, "visit_demanded": None, "promised_days": None, "work": None}


def at(minutes: float) -> datetime:
    return MORNING + timedelta(minutes=minutes)


class Teller:
    """Events of one project and its flats, each complete; what is not said is quiet."""

    def __init__(self) -> None:
        self.streams = Streams()

    def ask(
        self, minutes: float, case: str, operator: str, utility: str, status: str, round_: int, **more: Any
    ) -> Event:
        said = {"case": case, "operator": operator, "utility": utility, "status": status, "round": round_, "phase": 1}
        since = at(minutes - 0.02)
        return self.streams.event(
            ASKED, "hookup", minutes, **{"project": facts(None), "triggered_at": since, **PLAIN, **said, **more}
        )

    def answer(self, minutes: float, to: Event, status: str, **more: Any) -> Event:
        said = {name: to.data[name] for name in ("case", "operator", "business_kind", "phase")}
        source = f"utility:{said['operator']}"
        return self.streams.event(
            ANSWERED,
            source,
            minutes,
            to.subject,
            status=status,
            answers_request=str(to.id),
            **{**QUIET, **said, **more},
        )

    def permit(self, minutes: float, permit: str, kind: str, department: str, **more: Any) -> Event:
        said = {"permit": permit, "case": "p", "operator": "jm-power", "works_kind": kind, "department": department}
        return self.streams.event(PERMIT, "hookup", minutes, **{"round": 1, "status": "REQUESTED", **said, **more})

    def decide(self, minutes: float, to: Event, decision: str, **more: Any) -> Event:
        said = {name: to.data[name] for name in ("permit", "case", "operator", "works_kind", "route")}
        return self.streams.event(
            DECIDED, "engineering", minutes, decision=decision, answers_request=str(to.id), **said, **more
        )

    def absence(self, minutes: float, name: str, kind: str, status: str = "NOTICED", **more: Any) -> Event:
        quiet = {"case": None, "operator": None, "provisional": False, "round": 1, "about": name}
        times = {"since": at(minutes - 2 * DAY), "due_at": at(minutes)}
        return self.streams.event(
            ABSENCE, "hookup", minutes, **{"absence": name, "kind": kind, "status": status, **quiet, **times, **more}
        )

    def company(self, minutes: float, action: str, **more: Any) -> Event:
        quiet = {
            "operators_chosen": [], "application": None, "utility": None, "business_kind": None, "begun_on": None,
            "objects_to": None, "site_regions": None, "authority_region": None, "work": None, "phase": 1,
        }  # fmt: skip
        return self.streams.event(DEMAND, "hookup", minutes, action=action, **{**quiet, **more})

    def move(self, minutes: float, transfer: str, operator: str, utility: str, step: str, round_: int) -> Event:
        said = {"transfer": transfer, "operator": operator, "utility": utility, "step": step, "round": round_}
        quiet = {
            "choice": "MOVE",
            "registration": "R1",
            "predecessors": [],
            "correlation": None,
            "settlement_seen": False,
        }
        return self.streams.event(TRANSFER, "transfer", minutes, UNIT, **said, **quiet)

    def moved(self, minutes: float, to: Event, status: str, **more: Any) -> Event:
        said = {name: to.data[name] for name in ("transfer", "operator", "registration")}
        quiet = dict.fromkeys(
            ("read_on", "auto_debit_stopped", "contract_signed", "safety_checked", "effective_on", "meter_reading")
        )
        return self.streams.event(
            TRANSFERRED, f"utility:{said['operator']}", minutes, UNIT, status=status, answers_request=str(to.id),
            answers_round=to.data["round"], **{**quiet, **said, **more},
        )  # fmt: skip


def approvals(t: Teller) -> Iterator[Event]:
    s = t.streams
    known = facts("滨江新区智能制造产业园一期", red_line=RED_LINE, red_line_source="建设用地规划许可证附图")
    for n, status in enumerate(("REGISTERED", "DECIDED", "CHANGED")):
        yield s.event(INVESTMENT, "investment", n * 60, status=status, project=known)
    for n, (name, stage) in enumerate(
        (
            ("建设用地规划许可证核发", "LAND_USE"),
            ("建设工程规划许可证核发", "ENGINEERING_PLANNING"),
            ("建筑工程施工许可证核发", "CONSTRUCTION"),
        )
    ):
        about = {"item_instance": f"SX{n}", "department_name": "江门市自然资源局"}
        for m, status in enumerate(("ACCEPTED", "PASSED")):
            yield s.event(ITEM, "engineering", DAY * n + m * 300, status=status, item_name=name, stage=stage, **about)
        decided = {
            "decision_kind": ("LAND_USE_PLANNING", "ENGINEERING_PLANNING", "CONSTRUCTION")[n],
            "permit_part": "FULL",
        }
        basis = {"decision_basis": ("FULL", "TOLERANT", "COMMITMENT")[n], "missing": [[], ["方案批复"], ["施工图审查合格书", "资金证明"]][n],
                 "missing_due": None if n == 0 else date(2026, 6, n * 10)}  # fmt: skip
        yield s.event(APPROVAL, "engineering", DAY * n + 300, decision="APPROVED", work=f"{CODE}-001",
                      previous_work=None, **decided, **basis, **about)  # fmt: skip
    yield s.event(APPROVAL, "engineering", DAY * 2, decision="CONDITION_MET", item_instance="SX1", decision_kind="ENGINEERING_PLANNING",
                  missing=[], missing_due=None, decision_basis="UNKNOWN", work=f"{CODE}-001", previous_work=None)  # fmt: skip
    for n in (2, 3):
        yield s.event(APPROVAL, "engineering", DAY * 3 + n, decision="APPROVED", item_instance=f"SX{n + 5}",
                      decision_kind="DRAINAGE", work=f"{CODE}-00{n}", previous_work=f"{CODE}-001", decision_basis="FULL",
                      missing=[], missing_due=None, permit_part="FULL")  # fmt: skip
    yield s.event(
        LICENCE,
        "engineering",
        DAY * 3,
        licence="440703202604230101",
        licence_kind="建筑工程施工许可证",
        status="ISSUED",
    )
    surveyed = {"work": None, "site_regions": ["440703"]}
    yield s.event(
        SURVEY, "engineering", DAY * 9, survey="DCHY-88", status="PUBLISHED", supersedes_survey=None, **surveyed
    )
    yield s.event(
        SURVEY, "engineering", DAY * 11, survey="DCHY-91", status="CORRECTED", supersedes_survey="DCHY-88", **surveyed
    )


def hookups(t: Teller) -> Iterator[Event]:
    """Water late with its contact; power with plan, permits and a step that was not applied; gas goes on from another."""
    water = t.ask(60.02, "w", "jm-water", "WATER", "LEAD", 1, business_kind="PERMANENT", answer_by=at(DAY), **PROMISED)
    power = t.ask(3000, "p", "jm-power", "POWER", "LEAD", 1, business_kind="TEMPORARY", answer_by=at(4500), **PROMISED)
    gas = t.ask(61, "g", "jm-gas", "GAS", "LEAD", 1, business_kind="PERMANENT", answer_by=at(60_000),
                answer_by_provisional=True, continues="w", missing=["施工图审查合格书"], missing_due=date(2026, 6, 20), **PROMISED)  # fmt: skip
    yield from (water, power, gas)
    yield t.answer(DAY * 2, water, "CONTACTED", segment_owner="CUSTOMER")
    wrong = t.answer(3010, power, "CONNECTED")
    yield wrong
    yield t.answer(3100, power, "CONTACTED", visit_demanded=True)
    yield t.answer(3200, power, "ACCEPTED", promised_days=5, segment_owner="UTILITY")
    plan = {"works_external": True, "access_point": "接入点", "capacity": "630 kVA", "length_m": Decimal("86.50"),
            "fee": Decimal("12000.00"), "days": 4, "boundary": "产权分界点", "works_kinds": None, "road": "新昌路", "area_m2": None,
            "depth_m": None, "pipe_dn_mm": None, "voltage": "10kV", "trees": None, "emergency": False,
            "planned_start": date(2026, 5, 15), "planned_finish": date(2026, 5, 20)}  # fmt: skip
    yield t.answer(4000, power, "PLAN_REPLIED", plan=plan, segment_owner="DEPARTMENT")
    told = {"refused_step": str(wrong.id), "refused_because": "CONNECTED cannot follow LEAD", "permits": "PENDING"}
    yield t.ask(4100, "p", "jm-power", "POWER", "AMENDED", 2, business_kind="TEMPORARY", **told, **PROMISED)
    for n, (operator, utility) in enumerate((("jm-water", "WATER"), ("jm-gas", "GAS"), ("jm-drainage", "DRAINAGE"))):
        asked = t.ask(3001 + n, f"protect-{operator}", operator, utility, "LEAD", 1, business_kind="PROTECT",
                      answer_by=at(3 * DAY), answer_by_provisional=n == 2)  # fmt: skip
        yield asked
        if n == 0:
            yield t.answer(3500, asked, "NOT_NEEDED", protection="NONE")
        if n == 1:
            yield t.answer(5000, asked, "PLAN_REPLIED", protection="MOVE")


def works(t: Teller) -> Iterator[Event]:
    due = {"due_on": date(2026, 5, 6)}
    road = t.permit(4001, "dig", "ROAD_EXCAVATION", "jm-urban", route="APPROVE", **due)
    police = t.permit(4001, "traffic", "TRAFFIC", "jm-police", route="COMMIT", **due)
    green = t.permit(4001, "green", "GREEN_SPACE", "jm-green", route="FILE", **due)
    old = t.permit(4001, "trees", "TREES", "jm-green", route="GOVERNMENT", **due)
    yield from (road, police, green, old)
    yield t.permit(4200, "trees", "TREES", "jm-green", route="GOVERNMENT", **{"round": 2, "status": "CANCELLED", **due})
    yield t.decide(8000, road, "APPROVED", working_days_used=3)
    yield t.decide(9000, road, "DOCUMENTED", document_number="江城管掘〔2026〕56号")
    yield t.decide(9000, police, "REFUSED", working_days_used=4)
    planned = [
        {"subject": subject, "case": case, "operator": operator, "planned_start": date(2026, 5, d), "planned_finish": date(2026, 5, d + 9)}
        for subject, case, operator, d in ((CODE, "p", "jm-power", 15), (code_of(7), "x", "jm-gas", 18))
    ]  # fmt: skip
    trench = {"proposal": "t", "road": "新昌路"}
    yield t.streams.event(TRENCH, "hookup", 4300, round=1, status="PROPOSED", works=planned[:1], **trench)
    yield t.streams.event(TRENCH, "hookup", 4400, round=2, status="AMENDED", works=planned, **trench)
    yield t.absence(DAY, "a-water", "NO_CONTACT", responsible="jm-water", case="w", about="w", operator="jm-water")
    yield t.absence(DAY * 2, "a-water", "NO_CONTACT", "ENDED", round=2, responsible="jm-water", case="w", about="w",
                    operator="jm-water", due_at=at(DAY))  # fmt: skip
    yield t.absence(8500, "a-power", "NO_CONNECTION", responsible="jm-power", case="p", about="p", operator="jm-power")
    yield t.absence(3 * DAY, "a-drain", "NO_PROTECTION_ANSWER", responsible="jm-drainage", case="protect-jm-drainage",
                    about="protect-jm-drainage", operator="jm-drainage", provisional=True)  # fmt: skip
    yield t.absence(
        9100, "a-green", "NO_PERMIT_DECISION", responsible="jm-green", case="p", about="green", operator="jm-power"
    )
    yield t.absence(50_000, "a-start", "NO_START_OF_WORKS", responsible="hookup-office", about="施字〔2026〕101号",
                    due_at=at(60_000))  # fmt: skip
    yield t.company(2000, "CONFIRMED", operators_chosen=["jm-telecom-a"], demand_basis="CONFIRMED")
    yield t.company(2100, "CONSENTED", operators_chosen=["jm-water", "jm-power"])
    yield t.company(2200, "CONSENT_WITHDRAWN", operators_chosen=["jm-water"])
    yield t.company(2300, "OBJECTED", objects_to="project.address")
    yield t.company(2400, "APPLIED", application="ap1", utility="POWER", business_kind="INCREASE")
    yield t.company(2500, "APPLICATION_WITHDRAWN", application="ap1")
    yield t.company(9200, "WORKS_BEGUN", begun_on=date(2026, 4, 27))


def flats(t: Teller) -> Iterator[Event]:
    s = t.streams
    registered = {
        "registration": "R1",
        "registration_kind": "TRANSFER",
        "project_code": CODE,
        "predecessors": [SECOND],
        "successors": [],
    }
    for n, status in enumerate(("ACCEPTED", "REGISTERED")):
        yield s.event(REGISTRATION, "realestate", 10_000 + n * DAY, UNIT, status=status, **registered)
    accounts = [("jm-water", "WATER"), ("jm-power", "POWER"), ("jm-gas", "GAS"), ("jm-telecom-a", "TELECOM")]
    for n, (operator, utility) in enumerate(accounts):
        check = t.move(10_001 + n, f"move-{utility}", operator, utility, "PRECHECK", 1)
        yield check
        yield t.moved(10_002 + n, check, "UNMATCHED" if utility == "TELECOM" else "PRECHECKED")
        if utility == "TELECOM":
            continue
        execute = t.move(11_500 + n, f"move-{utility}", operator, utility, "EXECUTE", 2)
        yield execute
        if utility == "WATER":
            yield t.moved(11_600, execute, "PENDING_SETTLEMENT")
            yield t.moved(13_000, execute, "DONE", read_on=date(2026, 4, 28), auto_debit_stopped=True, contract_signed=True,
                          effective_on=date(2026, 4, 29))  # fmt: skip
        if utility == "POWER":
            yield t.moved(11_700, execute, "PENDING_SETTLEMENT")
    yield s.event(LICENCE, "engineering", 500, FIRM, licence="Z1", licence_kind="排水许可证", status="ISSUED")


def whole_story() -> list[Event]:
    t = Teller()
    return [*approvals(t), *hookups(t), *works(t), *flats(t)]


STORY = whole_story()
STREAMS = sorted({event.key.stream for event in STORY})
NOON = datetime(2026, 5, 28, tzinfo=UTC)
LATER = round(NOON.timestamp() * 1000)


def pages(order: Iterable[Event]) -> list[Any]:
    """The page JSON of project, flat and firm, and a queue; without the change numbers, which say when we were told."""
    held = MemoryStore("timeline", timeline)
    learn(held, *order)
    with held.snapshot() as tx:
        shown: list[Any] = [reads.project(tx, code, LATER) for code in (CODE, UNIT, FIRM)]
        shown += [reads.queue(tx, who, None, 50) for who in ("jm-green", "hookup-office")]
        shown.append(reads.overview(tx))
    held.close()
    return [{**page, "change": 0} if isinstance(page, dict) else page for page in shown]


STRAIGHT = cache(lambda: pages(STORY))


def of(kind: str, reference: str, key: str = "reference") -> dict[str, Any]:
    return next(r for r in STRAIGHT()[0][kind] if r[key] == reference)


def became(reference: str) -> dict[str, tuple[Any, str]]:
    return {p["kind"]: (p["promised"], p["became"]) for p in of("cases", reference)["promises"]}


# -- any order ---------------------------------------------------------------------------------------------------------
def test_the_story_has_every_type_that_the_map_reads_but_acceptance() -> None:
    assert {e.type for e in STORY} | {"engineering.acceptance.decided.v1"} == {
        topic for topic, spec in CATALOG.topics.items() if "timeline" in spec.readers
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(order=st.permutations([event.key.stream for event in STORY]))
def test_every_interleaving_of_the_topics_shows_the_same_pages(order: Iterable[Stream]) -> None:
    waiting = {stream: iter([event for event in STORY if event.key.stream == stream]) for stream in STREAMS}
    assert pages(next(waiting[stream]) for stream in order) == STRAIGHT()


# -- cases and their promises ------------------------------------------------------------------------------------------
def test_a_promise_is_kept_late_or_broken_by_what_came() -> None:
    assert became("w")["CONTACT"] == (ms(DAY), "LATE")
    power = became("p")
    assert power["CONTACT"] == (ms(4500), "KEPT")
    assert power["PLAN"] == (2, "KEPT")
    assert power["CONNECTION"] == (5, "OVERDUE")  # what the operator promised at acceptance; its absence was noticed
    assert power["FEE"] == ("0.00", "BROKEN")
    assert power["BOUNDARY"] == ("用地红线", "BROKEN")
    assert power["VISIT"] == (None, "BROKEN")
    assert became("g")["CONTACT"] == (ms(60_000), "RUNNING")
    assert became("g")["PLAN"] == (2, "PROMISED")
    assert became("protect-jm-drainage") == {"PROTECTION": (ms(3 * DAY), "OVERDUE")}
    assert became("protect-jm-gas") == {"PROTECTION": (ms(3 * DAY), "LATE")}


def test_a_step_that_was_not_applied_moves_no_case_and_is_told_with_its_reason() -> None:
    case = of("cases", "p")
    assert case["state"] == "PLAN_REPLIED"
    assert "CONNECTED" not in {step["step"] for step in case["steps"]}
    assert [(r["step"], r["because"]) for r in case["refused"]] == [("CONNECTED", "CONNECTED cannot follow LEAD")]


@pytest.mark.parametrize(("kind", "state"), [("RELOCATE", "COMPLETED"), ("PERMANENT", "WORKS_FINISHED")])
def test_works_on_lines_that_are_there_already_end_when_they_are_finished(
    store: Watched, kind: str, state: str
) -> None:
    t = Teller()
    asked = t.ask(0, "c", "jm-gas", "GAS", "LEAD", 1, business_kind=kind)
    learn(
        store,
        asked,
        *(t.answer(n, asked, word) for n, word in enumerate(("ACCEPTED", "WORKS_STARTED", "WORKS_FINISHED"), 1)),
    )
    assert row(store, "connection")["state"] == state


def test_what_the_newest_request_no_longer_says_is_missing_no_longer_holds(store: Watched) -> None:
    t = Teller()
    lack = {"missing": ["审查合格书"], "missing_due": date(2026, 6, 1), "permits": "PENDING"}
    learn(store, t.ask(0, "c", "jm-gas", "GAS", "LEAD", 1, **lack), t.ask(1, "c", "jm-gas", "GAS", "AMENDED", 2))
    with store.snapshot() as tx:
        page = reads.project(tx, CODE, LATER)
    assert page
    assert not {"missing", "missing_due", "permits"} & page["cases"][0].keys()


# -- permits, trenches, absences, surveys, transfers -------------------------------------------------------------------
def test_a_permit_has_its_route_its_clock_and_its_decision_whichever_is_told_first() -> None:
    road, police, green, trees = (of("permits", name, "permit") for name in ("dig", "traffic", "green", "trees"))
    assert [p["state"] for p in (road, police, green, trees)] == ["APPROVED", "REFUSED", "REQUESTED", "CANCELLED"]
    assert (road["route"], road["department"], road["due_on"], road["working_days_used"]) == (
        "APPROVE",
        "jm-urban",
        "2026-05-06",
        3,
    )
    assert (road["decided_at"], road["document_number"]) == (ms(8000), "江城管掘〔2026〕56号")


def test_an_absence_is_open_until_it_is_ended_and_open_again_when_noticed_again(store: Watched) -> None:
    t = Teller()
    told = [
        t.absence(minute, "a", "NO_CONTACT", status, round=n, responsible="jm-gas", due_at=at(10))
        for n, (minute, status) in enumerate(((10, "NOTICED"), (11, "NOTICED"), (20, "ENDED"), (30, "NOTICED")), 1)
    ]
    seen = list[tuple[str, int, int | None]]()
    for event in told:
        learn(store, event)
        found = row(store, "absence")
        seen.append((found["state"], found["noticed_at"], found["ended_at"]))
    assert seen == [("NOTICED", ms(10), None)] * 2 + [("ENDED", ms(10), ms(20)), ("NOTICED", ms(30), None)]


def test_a_proposal_to_dig_once_stands_as_its_newest_round_says() -> None:
    trench = of("trenches", "t", "proposal")
    assert (trench["state"], len(trench["works"]), trench["window_start"]) == ("AMENDED", 2, "2026-05-18")


def test_a_survey_that_another_replaces_says_by_which() -> None:
    assert of("surveys", "DCHY-88", "survey")["superseded_by"] == "DCHY-91"
    assert of("surveys", "DCHY-91", "survey")["superseded_by"] is None


def transferred(words: str, choice: str = "MOVE") -> str:
    """State after a story: PRECHECK, EXECUTE, STOP are asked, each in the next round; `2>DONE` answers the second."""
    t, held, asked = Teller(), MemoryStore("timeline", timeline), list[Event]()
    for n, word in enumerate(words.split()):
        to, _, answer = word.rpartition(">")
        if to:
            learn(held, t.moved(n, asked[int(to) - 1], answer))
        else:
            step = t.streams.event(
                TRANSFER, "transfer", n, UNIT, transfer="t", operator="jm-gas", utility="GAS", step=word,
                round=len(asked) + 1, choice=choice, registration="R1",
            )  # fmt: skip
            asked.append(step)
            learn(held, step)
    with held.snapshot() as tx:
        found = tx.execute("SELECT state FROM transfer").one()
    held.close()
    assert found
    return found[0]


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("PRECHECK", "PRECHECK"),
        ("PRECHECK 1>PENDING", "PENDING"),
        ("PRECHECK 1>PENDING 1>PRECHECKED", "PRECHECKED"),
        ("PRECHECK 1>PRECHECKED EXECUTE", "EXECUTE"),
        ("PRECHECK EXECUTE 1>PRECHECKED", "EXECUTE"),
        ("PRECHECK EXECUTE 2>PENDING_SETTLEMENT", "PENDING_SETTLEMENT"),
        ("PRECHECK EXECUTE 2>PENDING_SETTLEMENT 2>DONE", "DONE"),
        ("PRECHECK EXECUTE 2>UNMATCHED EXECUTE 3>DONE", "DONE"),
        ("PRECHECK STOP 2>STOPPED", "STOPPED"),
        ("EXECUTE 1>DONE STOP 2>DECLINED", "DONE"),
        ("EXECUTE 1>UNMATCHED", "UNMATCHED"),
    ],
)
def test_a_transfer_stands_as_the_answer_to_its_newest_round_says(words: str, state: str) -> None:
    assert transferred(words) == state
    assert state in TRANSFERS


def test_an_account_that_is_not_found_while_nothing_is_chosen_waits_for_nobody() -> None:
    assert transferred("PRECHECK 1>UNMATCHED", choice="UNKNOWN") == "NOT_FOUND"


def test_consent_is_given_to_all_or_to_one_and_taken_back_from_one_or_from_all(store: Watched) -> None:
    t = Teller()
    seen = list[dict[str, bool]]()
    for n, (action, whom) in enumerate(
        (("CONSENTED", []), ("CONSENT_WITHDRAWN", ["jm-gas"]), ("CONSENTED", ["jm-gas"]), ("CONSENT_WITHDRAWN", []))
    ):
        learn(store, t.company(n, action, operators_chosen=whom))
        with store.snapshot() as tx:
            page = reads.project(tx, CODE, LATER)
        assert page
        seen.append(page["company"]["consents"])
    assert seen == [{"*": True}, {"*": True, "jm-gas": False}, {"*": True, "jm-gas": True}, {"*": False}]


# -- whose page --------------------------------------------------------------------------------------------------------
NEW = [SURVEY, PERMIT, DECIDED, TRENCH, ABSENCE]


@pytest.mark.parametrize("type_", [*NEW, DEMAND, ASKED, ANSWERED])
def test_a_word_about_a_project_that_nobody_told_of_makes_its_page(store: Watched, type_: str) -> None:
    learn(store, Streams().event(type_, "any", 1))
    page = client(store).get(f"/api/projects/{CODE}").json()
    assert [event["type"] for event in page["events"]] == [type_]
    assert codes(client(store)) == [CODE]


@pytest.mark.parametrize("type_", [REGISTRATION, TRANSFER, TRANSFERRED, ABSENCE, ASKED])
@pytest.mark.parametrize("subject", [UNIT, "local:feed:manchester:7"])
def test_a_word_about_a_unit_that_nobody_told_of_makes_its_page(store: Watched, type_: str, subject: str) -> None:
    learn(store, Streams().event(type_, "any", 1, subject))
    page = client(store).get(f"/api/projects/{subject}").json()
    assert len(page["events"]) == 1
    if type_ not in (ABSENCE, ASKED) or subject == UNIT:
        assert page["kind"] == "unit"
        assert (codes(client(store)), codes(client(store), kind="unit")) == ([], [subject])


def test_a_unit_known_by_a_feeds_own_code_is_a_unit_whoever_spoke_of_it_first() -> None:
    code, kinds = "local:feed:7", set[str]()
    for types in ((ABSENCE, REGISTRATION), (REGISTRATION, ABSENCE)):
        held, streams = MemoryStore("timeline", timeline), Streams()
        learn(held, *(streams.event(type_, "any", 1, code) for type_ in types))
        with held.snapshot() as tx:
            kinds |= {r[0] for r in tx.execute("SELECT kind FROM project").all()}
        held.close()
    assert kinds == {"unit"}


def test_a_survey_stands_on_its_subject_whatever_project_its_surveyor_wrote(store: Watched) -> None:
    learn(store, Streams().event(SURVEY, "engineering", 1, project_code="see letter"))
    learn(store, Streams().event(REGISTRATION, "realestate", 1, UNIT, project_code="see letter"))
    assert row(store, "survey")["project"] == CODE
    assert row(store, "registration")["project"] == UNIT


def test_a_units_page_tells_its_registration_from_its_projects_map_and_its_accounts() -> None:
    project, unit, firm = STRAIGHT()[:3]
    assert (
        [r["registration"] for r in unit["registrations"]]
        == [r["registration"] for r in project["registrations"]]
        == ["R1"]
    )
    states = {t["utility"]: t["state"] for t in unit["transfers"]}
    assert states == {"WATER": "DONE", "POWER": "PENDING_SETTLEMENT", "GAS": "EXECUTE", "TELECOM": "UNMATCHED"}
    assert {e["type"] for e in unit["events"]} == {REGISTRATION, TRANSFER, TRANSFERRED}
    assert not project["transfers"]
    assert [paper["licence"] for paper in firm["licences"]] == ["Z1"]


def test_where_a_flat_lies_is_kept_to_its_division(store: Watched) -> None:
    known = facts("张三的房", address="新昌路88号1栋101")
    learn(store, Streams().event(ASKED, "hookup", 1, UNIT, project=known, site_regions=["440703001"]))
    with store.snapshot() as tx:
        kept = repr([tx.execute(f"SELECT * FROM {name}").all() for name in timeline.tables])
    assert "440703001" in kept
    assert "张三" not in kept
    assert "101" not in kept


# -- pages -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def told(store: Watched) -> Watched:
    learn(store, *STORY)
    return store


def text(store: Watched, url: str) -> str:
    return "\n".join(reading(client(store), url).texts)


def test_a_projects_page_shows_what_is_promised_absent_protected_permitted_and_dug(told: Watched) -> None:
    shown = text(told, f"/p/{CODE}")
    for word in (
        "未答复管线保护", "江门排水", "暂定", "应于", "接入服务办公室", "施字〔2026〕101号",
        "已开工，仍有管线单位未答复", "需迁改", "无管线", "待答复", "≤ 0 元", "，收 12,000 元", "用地红线 → 产权分界点",
        "逾期办成", "未兑现", "计时中", "CONNECTED cannot follow LEAD", "承接", "施工图审查合格书、资金证明",
        "限 2026-06-20 前补齐", "挖掘道路", "告知承诺", "准予", "不准予", "许可办理中", "3 项并联，办结 2 项", "可合并 2026-05-18",
        "端午赛事保障", "工程沿革", "分拆", "DCHY-91", "已被替代", "用地红线", "已同意：江门供电局", "撤件", "project.address",
    ):  # fmt: skip
        assert word in shown, word
    assert "hookup-office" not in shown


def test_every_provisional_moment_is_marked(store: Watched) -> None:
    t = Teller()
    moments = {"answer_by": at(1), "answer_by_provisional": True}
    for n, kind in enumerate(("PERMANENT", "PROTECT")):
        learn(store, t.ask(n, f"c{n}", "jm-gas", "GAS", "LEAD", 1, business_kind=kind, **moments))
    assert text(store, f"/p/{CODE}").count("暂定") == 2
    learn(store, t.absence(9, "a", "NO_CONTACT", responsible="jm-gas", provisional=True))
    assert text(store, f"/p/{CODE}").count("暂定") == 3
    assert text(store, "/queue/jm-gas").count("暂定") == 1


def test_a_units_page_counts_what_waits_for_payment_and_what_for_a_person(told: Watched) -> None:
    shown = text(told, f"/p/{UNIT}")
    for word in (
        "不动产单元",
        "待结清 1",
        "未匹配，待人工 1",
        "原自动扣款已停",
        "抄表 2026-04-28",
        SECOND,
        CODE,
        "已过户",
    ):
        assert word in shown
    assert "审批全过程" not in visible(told, f"/p/{UNIT}")


def visible(store: Watched, url: str) -> set[str]:
    """Titles of the sections that are seen."""
    html = client(store).get(url, headers=HTML).text
    found = re.findall(r"<section ([^>]*)><h2[^>]*>([^<]*)<", html)
    return {title for attributes, title in found if not attributes.endswith(" hidden")}


def test_sections_with_nothing_in_them_keep_their_place_and_are_not_seen(store: Watched) -> None:
    learn(store, Streams().event(INVESTMENT, "investment", 0, project=facts("x")))
    assert visible(store, f"/p/{CODE}") == {"审批全过程", "公用接入", "证照、登记与测绘", "大事记"}
    ids = [a["id"] for tag, a in reading(client(store), f"/p/{CODE}").elements if tag == "section"]
    assert ids == [
        "head",
        "absences",
        "transfers",
        "company",
        "stages",
        "protection",
        "utilities",
        "permits",
        "trenches",
        "papers",
        "events",
    ]


# -- queues and filters ------------------------------------------------------------------------------------------------
def test_a_queue_holds_what_is_open_with_one_unit_longest_overdue_first_and_is_paged_whole(store: Watched) -> None:
    t = Teller()
    for n in range(7):
        about = {"responsible": "jm-gas" if n % 3 else "jm-water", "due_at": at(100 - n)}
        learn(store, t.absence(200 + n, f"a{n}", "NO_CONTACT", **about))
    learn(store, t.absence(300, "a5", "NO_CONTACT", "ENDED", round=2, responsible="jm-gas"))
    seen, after = list[str](), ""
    while True:
        got = client(store).get("/api/queue/jm-gas", params={"limit": 2, **({"after": after} if after else {})}).json()
        seen += [absent["absence"] for absent in got["absences"]]
        assert got["total"] == 3
        after = got["next"]
        if not after:
            break
    assert seen == ["a4", "a2", "a1"]
    assert client(store).get("/api/queue/nobody").json()["absences"] == []
    assert client(store).get(f"/api/queue/{'x' * 101}").status_code == 404


def test_a_queue_says_which_project_case_and_permit_it_is_about(told: Watched) -> None:
    (absent,) = client(told).get("/api/queue/jm-green").json()["absences"]
    assert (absent["name"], absent["business_kind"], absent["works_kind"]) == (
        "滨江新区智能制造产业园一期",
        "TEMPORARY",
        "GREEN_SPACE",
    )
    shown = text(told, "/queue/jm-green")
    for word in ("许可未按时办结", "滨江新区智能制造产业园一期", "江门供电局 · 临时接入 · 占用绿地"):
        assert word in shown


def test_the_list_counts_open_absences_and_narrows_to_them(told: Watched) -> None:
    learn(told, Streams().event(INVESTMENT, "investment", 1, code_of(5), project=facts("没有缺位")))
    browser = client(told)
    got = browser.get("/api/projects").json()
    assert got["counts"]["absences"] == {"hookup-office": 1, "jm-drainage": 1, "jm-green": 1, "jm-power": 1}
    assert {p["code"]: p["absences"] for p in got["projects"]} == {CODE: 4, code_of(5): 0}
    assert codes(browser, absence="open") == codes(browser, absence="NO_PERMIT_DECISION") == [CODE]
    assert codes(browser, absence="NO_CONTACT") == []  # it is over
    assert got["counts"]["kinds"] == {"project": 2, "unit": 1, "enterprise": 1}
    assert got["counts"]["transfers"] == {"DONE": 1, "EXECUTE": 1, "PENDING_SETTLEMENT": 1, "UNMATCHED": 1}
    links = {a["href"] for tag, a in reading(browser, "/").elements if tag == "a"}
    assert {"/?absence=open", "/queue/jm-green", "/?kind=unit"} <= links
    assert codes(browser, kind="enterprise") == [FIRM]


@pytest.mark.parametrize("query", ["absence=LATE", "kind=person"])
def test_an_unknown_absence_or_kind_is_named_as_a_parameter(store: Watched, query: str) -> None:
    got = client(store).get(f"/api/projects?{query}")
    assert got.status_code == 400
    assert [error["parameter"] for error in got.json()["errors"]] == [query.partition("=")[0]]


def test_a_queue_is_read_by_its_index_however_long_it_is(store: Watched) -> None:
    store.asked.clear()
    client(store).get("/queue/jm-gas?after=5.x")
    sql, parameters = next(pair for pair in store.asked if "LIMIT" in pair[0])
    with store.snapshot() as tx:
        plan = repr(tx.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).all())
    assert "absence_queue" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


def test_learning_asks_as_much_of_a_long_project_as_of_a_short_one(store: Watched) -> None:
    """Every question of a fact is answered by an index that begins with its thread or its subject."""
    t, told = Teller(), list[tuple[str, Any]]()
    for n in range(50):
        learn(store, t.absence(n, f"a{n}", "NO_PLAN", responsible="jm-gas"))
    with store.transaction() as tx:
        execute = tx.execute

        class Noting:
            after_commit = tx.after_commit

            def execute(self, sql: str, parameters: Any = None) -> Any:
                told.append((sql, parameters or {}))
                return execute(sql, parameters or {})

        Timeline(CATALOG).learn(Noting(), t.absence(60, "new", "NO_PLAN", responsible="jm-gas"))  # type: ignore[arg-type]
        plans = [repr(execute(f"EXPLAIN QUERY PLAN {sql}", given).all()) for sql, given in told if "SELECT" in sql]
        (facts_read,) = (execute(sql, given).all() for sql, given in told if "FROM fact" in sql)
    assert len(told) == 7
    assert len(facts_read) == 1
    assert not [plan for plan in plans if "SCAN" in plan]


# -- words and the red line --------------------------------------------------------------------------------------------
def symbols(topic: str, field: str) -> set[str]:
    newest = max((catalog.SCHEMAS / "avro").glob(f"{topic}.*.avsc"))
    found = next(f["type"] for f in json.loads(newest.read_text("utf-8"))["fields"] if f["name"] == field)
    (enum,) = (kind for kind in (found if isinstance(found, list) else [found]) if isinstance(kind, dict))
    return set(enum["symbols"]) - {"UNKNOWN"}


@pytest.mark.parametrize(
    ("topic", "field", "names"),
    [
        (ABSENCE, "kind", ABSENCES),
        (ABSENCE, "status", OF_TYPE[ABSENCE]),
        (PERMIT, "works_kind", WORKS_KINDS),
        (PERMIT, "route", ROUTES),
        (ANSWERED, "protection", PROTECTION),
        (TRANSFER, "step", TRANSFERS),
        (TRANSFERRED, "status", TRANSFERS),
        (TRENCH, "status", OF_TYPE[TRENCH]),
    ],
)
def test_every_word_of_the_schemas_has_a_name(topic: str, field: str, names: dict[str, Any]) -> None:
    assert symbols(topic, field) <= set(names)


def test_every_promise_has_a_name() -> None:
    promises = [p for case in STRAIGHT()[0]["cases"] for p in case["promises"]]
    assert {p["kind"] for p in promises} == set(PROMISES)
    assert {p["became"] for p in promises} == set(BECAME)


def test_the_red_line_is_drawn_to_scale_with_its_holes() -> None:
    drawn = sketch(RED_LINE)
    assert drawn
    assert drawn.count("M") == drawn.count("Z") == 2
    square = sketch("POLYGON ((113 0, 113.01 0, 113.01 0.01, 113 0.01, 113 0))")
    assert square
    assert 'viewBox="0 0 216 216"' in square
    north = sketch("POLYGON ((113 60, 113.01 60, 113.01 60.01, 113 60.01, 113 60))")  # cos 60° is a half
    assert north
    assert 'viewBox="0 0 116 216"' in north


@pytest.mark.parametrize(
    "wkt",
    [
        None,
        "",
        "POINT (1 2)",
        "POLYGON EMPTY",
        "POLYGON ((1 2, 3 4))",
        "POLYGON ((a b, c d))",
        "POLYGON ((1, 2, 3, 4))",
        "<svg onload=x>",
    ],
)
def test_what_is_no_polygon_is_not_drawn(wkt: str | None) -> None:
    assert sketch(wkt) is None


def test_operators_departments_and_the_office_are_called_as_their_city_calls_them() -> None:
    called = names(load("jiangmen", CATALOG))
    assert called["hookup-office"] == "江门市接入协调办公室"
    assert called["jm-water"]
    assert called.keys() >= load("jiangmen", CATALOG).departments.keys()


def test_what_was_asked_counts_by_its_round_in_whatever_order_its_sources_are_read() -> None:
    def asked(round_: int, word: str, **more: Any) -> Fact:
        said = {"case": "c", "proposal": "t", "absence": "c", "permit": "c", "round": round_}
        return Fact(ASKED, f"feed:{9 - round_}", CODE, f"id{round_}", word, round_, round_, {**said, **more})

    case = [asked(1, "LEAD", permits="PENDING"), asked(2, "REQUESTED"), asked(3, "CANCELLED", permits="GRANTED")]
    absent = [asked(1, "NOTICED"), asked(2, "ENDED")]
    assert cases.connection(case[::-1]) == cases.connection(case)
    assert cases.absence(absent[::-1]) == cases.absence(absent)
    assert cases.trench(absent[::-1])["state"] == "ENDED"
