"""Every interleaving that keeps each topic's order ends in the same cases; and what they are follows from the facts alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from jietong.catalog import load
from jietong.city import load as load_city
from jietong.contract import Contract
from jietong.event import Draft, Envelope, Event, Key
from jietong.testing import MemoryStore
from services.hookup.hookup import ACCEPTANCE, APPROVAL, DEMAND, PROGRESSED, PROJECT, REQUESTED, Hookup
from services.hookup.tables import hookup

CATALOG = load()
CITY = load_city("jiangmen", CATALOG)
CONTRACT = Contract(CATALOG)
CODE = "2106-440703-04-01-237445"
T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
WHERE: dict[str, Any] = {
    "site_regions": ["440703"],
    "authority_region": "440703",
    "functional_zone": None,
    "item_code": None,
    "historical": False,
}
OPEN_WORDS = ("LEAD", "REQUESTED", "AMENDED", "RESUMED")


def project(status: str, **facts: Any) -> tuple[str, dict[str, Any]]:
    return PROJECT, {"status": status, "decision_form": "FILED", "document_number": "江备 1", "project": facts, **WHERE}


def approval(
    decision: str, work: str = "W1", item: str = "I1", kind: str = "CONSTRUCTION", part: str = "FULL", **more: Any
) -> tuple[str, dict[str, Any]]:
    return APPROVAL, {
        "work": work, "previous_work": None, "item_instance": item, "decision_kind": kind, "permit_part": part, "phase": 1, "decision": decision,
        "acceptance_basis": "FULL", "decision_basis": "FULL", "missing": [], "missing_due": None, "document_number": None, "document_title": None,
        "decided_on": None, "valid_until": None, "department_name": None, "project": None, **WHERE, **more,
    }  # fmt: skip


def acceptance(decision: str, work: str = "W1", item: str = "J1") -> tuple[str, dict[str, Any]]:
    return ACCEPTANCE, {"work": work, "item_instance": item, "acceptance_kind": "JOINT", "decision": decision, "phase": 1, "buildings": [],
                        "document_number": None, "decided_on": None, "department_name": None, **WHERE}  # fmt: skip


def demand(kva: str) -> tuple[str, dict[str, Any]]:
    return DEMAND, {"work": None, "phase": 1, "action": "CONFIRMED", "operators_chosen": [], "demand": {"power_kva_permanent": Decimal(kva)},
                    "demand_basis": "CONFIRMED", "confirmed_by_uscc": None, "contact_name": None, "contact_phone": None}  # fmt: skip


class Office:
    """One hookup service on one project, and utilities that answer what they are asked."""

    def __init__(self, answers: Mapping[str, str] = {}) -> None:
        self.store, self.service, self.answers = MemoryStore("hookup", hookup), Hookup(CITY), answers
        self.sequences: defaultdict[str, int] = defaultdict(int)
        self.said: list[Draft] = []
        self.waiting: list[Draft] = []

    def tell(self, type: str, data: Mapping[str, Any]) -> None:
        self.sequences[type] += 1
        n = self.sequences[type]
        moment = T0 + timedelta(minutes=n)
        event = Event(type=type, subject=CODE, time=moment, data=data, id=UUID(int=hash((type, n)) % 2**120),
        source=f"urn:jietong:440700:{type.split('.', maxsplit=1)[0]}",
                      sequence=n, recorded=moment)  # fmt: skip
        CONTRACT.encode(event)
        with self.store.transaction() as tx:
            self.service.learn(tx, event)
            drafts = list(self.service.due(tx, CODE, event))
        for draft in drafts:
            CONTRACT.encode(draft)
        self.said += drafts
        self.waiting += [
            draft for draft in drafts if draft.data["status"] == "LEAD" and draft.data["business_kind"] in self.answers
        ]

    def answer(self) -> None:
        """One utility answers the oldest lead, in its own time: an answer always follows its request."""
        lead = self.waiting.pop(0).data
        self.tell(PROGRESSED, {
            "case": lead["case"], "operator": lead["operator"], "business_kind": lead["business_kind"], "phase": lead["phase"], "work": lead["work"],
            "status": self.answers[lead["business_kind"]], "reason": None, "answers_request": str(UUID(int=1)), "answers_sequence": 1,
            "segment_owner": "UTILITY", "account": None, "plan": None, "promised_days": None,
        })  # fmt: skip

    def cases(self) -> dict[tuple[str, str, str, int], tuple[str, bool, str | None]]:
        """Every case that is not as if it had never been: where it stands, whether confirmed, the utility's word."""
        with self.store.snapshot() as tx:
            rows = tx.execute(
                "SELECT work, operator, business_kind, phase, requested, confirmed, progress FROM case_"
            ).all()
        return {tuple(row[:4]): (row[4], bool(row[5]), row[6]) for row in rows if row[4] != "CANCELLED"}  # type: ignore[misc]

    def statuses(self, operator: str, kind: str) -> list[str]:
        return [d.data["status"] for d in self.said if d.operator == operator and d.data["business_kind"] == kind]

    def tasks(self) -> set[tuple[str, str]]:
        with self.store.snapshot() as tx:
            return {(row[0], row[1]) for row in tx.execute("SELECT kind, about FROM task WHERE done IS NULL").all()}


Fact = tuple[str, dict[str, Any]]
PROJECT_FACTS = st.lists(st.sampled_from(["REGISTERED", "DECIDED", "CHANGED", "CANCELLED"]).flatmap(
    lambda s: st.sampled_from(["甲", "乙"]).map(lambda name: project(s, name=name))), max_size=4)  # fmt: skip
DECISIONS = st.lists(st.tuples(
    st.sampled_from(["APPROVED", "REFUSED", "WITHDRAWN", "REVOKED", "SUSPENDED", "RESUMED", "DOCUMENTED", "EXTENDED", "LAPSED"]),
    st.sampled_from(["W1", "W2"]), st.sampled_from(["I1", "I2"]), st.booleans(),
).map(lambda t: approval(t[0], t[1], f"{t[1]}{t[2]}", historical=t[3])), max_size=6)  # fmt: skip
ACCEPTANCES = st.lists(st.sampled_from(["APPROVED", "REVOKED"]).map(acceptance), max_size=2)
DEMANDS = st.lists(st.sampled_from(["100.00", "250.00"]).map(demand), max_size=2)


def told(topics: Sequence[Sequence[Fact]], order: Sequence[int], answers: Mapping[str, str]) -> Office:
    """Tell an office each topic in its own order, interleaved as `order` says; utilities answer at the end of each round."""
    office = Office(answers)
    rest: list[Iterator[Fact]] = [iter(topic) for topic in topics]
    for pick in [*order, *(n for n in range(len(topics)) for _ in topics[n])]:
        fact = next(rest[pick % len(rest)], None)
        if fact:
            office.tell(*fact)
    while office.waiting:
        office.answer()
    return office


@given(
    st.tuples(PROJECT_FACTS, DECISIONS, ACCEPTANCES, DEMANDS),
    st.lists(st.integers(0, 3), max_size=14),
    st.lists(st.integers(0, 3), max_size=14),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_every_interleaving_that_keeps_each_topics_order_ends_in_the_same_cases(
    topics: Any, one: list[int], other: list[int]
) -> None:
    first, second = told(topics, one, {}), told(topics, other, {})
    assert first.cases() == second.cases()
    assert first.tasks() == second.tasks()
    for office in (first, second):
        for case in {d.data["case"] for d in office.said}:
            mine = [d.data for d in office.said if d.data["case"] == case]
            assert [d["round"] for d in mine] == list(range(1, len(mine) + 1))
            assert mine[0]["status"] == "LEAD"
            for before, after in pairwise(mine):
                was_open = before["status"] in OPEN_WORDS
                assert (after["status"] in ("LEAD", "RESUMED")) != was_open or after["status"] in (
                    "SUSPENDED",
                    "CANCELLED",
                    "REQUESTED",
                    "AMENDED",
                )


@given(st.tuples(PROJECT_FACTS, DECISIONS, ACCEPTANCES, DEMANDS), st.lists(st.integers(0, 3), max_size=14))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_telling_everything_again_says_nothing_new(topics: Any, order: list[int]) -> None:
    office = told(topics, order, {})
    before = len(office.said)
    with office.store.transaction() as tx:
        for subject in office.service.subjects(tx):
            assert list(office.service.due(tx, subject, None)) == []
    assert len(office.said) == before


def test_a_decided_project_opens_a_lead_at_every_permanent_utility_that_serves_it() -> None:
    office = Office()
    office.tell(*project("REGISTERED", name="甲"))
    assert office.said == []
    office.tell(*project("DECIDED", name="甲"))
    assert {d.operator for d in office.said} == {
        o.id for o in CITY.operators.values() if any(a.covers(["440703"], T0.date()) for a in o.areas)
    }
    assert {d.data["status"] for d in office.said} == {"LEAD"}
    lead = next(d.data for d in office.said if d.operator == "jm-power")
    assert "project.name" in lead["fields_known"]
    assert "demand.power_kva_permanent" in lead["fields_to_ask"]
    assert lead["reason"] == "PROJECT_DECIDED"


def test_confirmed_demand_makes_a_lead_a_request_and_a_change_amends_it() -> None:
    office = Office()
    for fact in (project("DECIDED", name="甲"), demand("100.00"), demand("250.00"), project("CHANGED", name="乙")):
        office.tell(*fact)
    assert office.statuses("jm-power", "PERMANENT") == ["LEAD", "REQUESTED", "AMENDED", "AMENDED"]
    assert office.said[-1].data["project"]["name"] == "乙"


def test_when_support_falls_leads_are_cancelled_accepted_ones_suspended_and_connected_ones_never_cut() -> None:
    for answer, then, task in ((None, ["LEAD", "CANCELLED"], None), ("ACCEPTED", ["LEAD", "SUSPENDED"], "suspended"),
                               ("CONNECTED", ["LEAD"], "connected-without-support"), ("DECLINED", ["LEAD"], None)):  # fmt: skip
        office = Office({"TEMPORARY": answer} if answer else {})
        office.tell(*approval("APPROVED"))
        while office.waiting:
            office.answer()
        office.tell(*approval("REVOKED"))
        assert office.statuses("jm-power", "TEMPORARY") == then, answer
        assert task is None or task in {kind for kind, _ in office.tasks()}


def test_support_that_comes_back_resumes_what_was_suspended_and_closes_its_task() -> None:
    office = Office({"TEMPORARY": "ACCEPTED"})
    office.tell(*approval("APPROVED"))
    while office.waiting:
        office.answer()
    office.tell(*approval("SUSPENDED"))
    office.tell(*approval("RESUMED"))
    assert office.statuses("jm-water", "TEMPORARY") == ["LEAD", "SUSPENDED", "RESUMED"]
    assert not {kind for kind, _ in office.tasks()} & {"suspended"}


def test_one_of_two_approvals_is_enough_to_keep_a_case() -> None:
    office = Office()
    office.tell(*approval("APPROVED", item="I1", part="EARTHWORK"))
    office.tell(*approval("APPROVED", item="I2", part="MAIN"))
    office.tell(*approval("REVOKED", item="I1", part="EARTHWORK"))
    assert "CANCELLED" not in office.statuses("jm-power", "TEMPORARY")
    office.tell(*approval("REVOKED", item="I2", part="MAIN"))
    assert office.statuses("jm-power", "TEMPORARY")[-1] == "CANCELLED"


def test_the_first_work_adopts_the_projects_case_and_further_ones_open_their_own() -> None:
    office = Office()
    office.tell(*project("DECIDED", name="甲"))
    office.tell(*approval("APPROVED", work="W1", item="a", kind="ENGINEERING_PLANNING"))
    office.tell(*approval("APPROVED", work="W2", item="b", kind="ENGINEERING_PLANNING"))
    assert office.statuses("jm-gas", "PERMANENT") == ["LEAD", "AMENDED", "LEAD"]
    assert sorted(
        work for work, operator, kind, _ in office.cases() if (operator, kind) == ("jm-gas", "PERMANENT")
    ) == ["", "W2"]


def test_what_opens_nothing() -> None:
    office = Office()
    for fact in (approval("REFUSED"), approval("APPLICATION_WITHDRAWN", item="x"), approval("APPROVED", item="old", historical=True),
                 approval("DOCUMENTED", item="old", document_number="证 1"), approval("RESUMED", item="unknown")):  # fmt: skip
        office.tell(*fact)
    assert office.said == []


def test_an_area_nobody_serves_becomes_a_task_and_an_unknown_answer_too() -> None:
    office = Office()
    office.tell(PROJECT, {**project("DECIDED", name="恩平")[1], "site_regions": ["440785"]})
    assert ("uncovered", "GAS/PERMANENT") in office.tasks()
    assert "jm-gas" not in {d.operator for d in office.said}
    office.tell(PROGRESSED, {"case": "nobody's", "operator": "jm-gas", "business_kind": "PERMANENT", "phase": 1, "work": None, "status": "CONTACTED",
                             "reason": None, "answers_request": str(UUID(int=1)), "answers_sequence": 1, "segment_owner": "UTILITY", "account": None,
                             "plan": None, "promised_days": None})  # fmt: skip
    assert ("unknown-case", "nobody's") in office.tasks()


@given(st.tuples(PROJECT_FACTS, DECISIONS, ACCEPTANCES, DEMANDS), st.lists(st.integers(0, 3), max_size=14))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_it_remembers_of_its_own_requests_it_does_not_say_again(topics: Any, order: list[int]) -> None:
    """Its cases lost with a backup, its requests come back from the log: every case stands where it stood."""
    office = told(topics, order, {})
    cases = office.cases()
    with office.store.transaction() as tx:
        tx.execute("DELETE FROM case_")
        for n, draft in enumerate(office.said, 1):
            body = CONTRACT.encode(draft)
            envelope = Envelope(
                key=Key("urn:jietong:440700:hookup", REQUESTED, CODE, n),
                id=UUID(int=n),
                fingerprint=body[0],
                body=body[1],
                time=0,
                recorded=0,
            )
            office.service.remember(tx, CONTRACT.decode(envelope))
        assert list(office.service.due(tx, CODE, None)) == []
    assert office.cases() == cases
