"""Every interleaving that keeps each topic's order ends in the same cases; and what they are follows from the facts alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.hookup.learning import PROJECT, REQUESTED
from services.hookup.machine import over
from tests.unit.office import CITY, T0, Fact, Office, acceptance, approval, decoded, demand, plan, project, survey, word

OPEN_WORDS = ("LEAD", "REQUESTED", "AMENDED", "RESUMED")
Step = tuple[str, str, str, dict[str, Any]]
"""An operator's: (operator, business kind, status, what else it says)."""

PROJECT_FACTS = st.lists(st.sampled_from(["REGISTERED", "DECIDED", "CHANGED", "CANCELLED"]).flatmap(
    lambda s: st.sampled_from(["甲", "乙"]).map(lambda name: project(s, name=name))), max_size=4)  # fmt: skip
DECISIONS = st.lists(st.tuples(
    st.sampled_from(["APPROVED", "APPROVED", "REFUSED", "WITHDRAWN", "REVOKED", "SUSPENDED", "RESUMED", "DOCUMENTED", "EXTENDED", "CONDITION_MET"]),
    st.sampled_from(["W1", "W2", "W3"]), st.sampled_from(["I1", "I2"]), st.booleans(), st.sampled_from([None, None, "W1", "W2"]),
).map(lambda t: approval(t[0], t[1], f"{t[1]}{t[2]}", historical=t[3], previous_work=t[4])), max_size=6)  # fmt: skip
ACCEPTANCES = st.lists(st.sampled_from(["APPROVED", "REVOKED"]).map(acceptance), max_size=2)
WORDS = st.lists(st.sampled_from([
    demand("100.00"), demand("250.00"), demand("100.00", operators_chosen=["jm-telecom-a"]),
    word("APPLIED", application="a1", utility="WATER", business_kind="INCREASE"), word("APPLICATION_WITHDRAWN", application="a1"),
    word("CONSENTED", operators_chosen=["jm-gas"], contact_name={"key": "k", "nonce": b"0", "ciphertext": b"1"}),
    word("CONSENT_WITHDRAWN", operators_chosen=["jm-gas"]), word("OBJECTED", objection="门牌号有误"),
]), max_size=4)  # fmt: skip
SURVEYS = st.lists(st.sampled_from(["S1", "S2"]).flatmap(
    lambda n: st.sampled_from(["PUBLISHED", "WITHDRAWN"]).map(lambda s: survey(n, status=s, height=None))), max_size=2)  # fmt: skip
STEPS = st.lists(st.tuples(
    st.sampled_from(["jm-gas", "jm-water"]), st.sampled_from(["PERMANENT", "PROTECT"]),
    st.sampled_from(["CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONNECTED", "DECLINED", "NOT_NEEDED", "SUSPENDED"]),
    st.sampled_from([{}, {"protection": "MOVE"}, {"protection": "PROTECT"}, {"plan": plan()}]),
), max_size=6)  # fmt: skip
TOPICS = st.tuples(PROJECT_FACTS, DECISIONS, ACCEPTANCES, WORDS, SURVEYS)
ORDER = st.lists(st.integers(0, 6), max_size=20)


def told(topics: Sequence[Sequence[Fact]], steps: Sequence[Step], order: Sequence[int]) -> Office:
    """Tell an office each topic in its own order, interleaved as `order` says. Each operator takes its steps in order, each
    once it has the case: an answer follows its request. Some case may never come; then nobody answers it."""
    office = Office()
    rest = [list(topic) for topic in topics]
    waiting = {operator: [step for step in steps if step[0] == operator] for operator in ("jm-gas", "jm-water")}
    for pick in [*order, *(n for n in range(5) for _ in topics[n])]:
        if pick < 5 and rest[pick]:
            office.tell(*rest[pick].pop(0))
        elif pick >= 5:
            answer(office, waiting[("jm-gas", "jm-water")[pick - 5]])
    for queue in waiting.values():
        while answer(office, queue):
            pass
    return office


def answer(office: Office, queue: list[Step]) -> bool:
    """The next step whose case is there. What comes before it and has no case yet is waited for."""
    if not queue:
        return False
    operator, kind, status, more = queue[0]
    found = office.rows(
        "SELECT id FROM case_ WHERE operator = :o AND business_kind = :k AND work = ''", o=operator, k=kind
    )
    if not found:
        return False
    queue.pop(0)
    office.step(operator, kind, status, **more)
    return True


def answered(office: Office) -> Any:
    return office.rows("SELECT case_id, n, status FROM step ORDER BY case_id, n"), office.rows(
        "SELECT case_id, because FROM refusal ORDER BY event"
    )


def ended(office: Office) -> Any:
    """Where everything stands. Of a case that is over, nothing but that: what was last said before the end is history."""
    going = {identity: case for identity, case in office.cases().items() if not over(identity[2], case[2])}
    tasks = {task for task in office.tasks() if task[0] not in ("refused", "connected-without-support")}
    permits = office.rows("SELECT permit, works_kind, decision FROM permit WHERE requested = 'OPEN' ORDER BY permit")
    return going, tasks, permits, office.rows("SELECT case_id, road FROM works ORDER BY case_id")


@given(TOPICS, STEPS, ORDER, ORDER)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_every_interleaving_that_keeps_each_topics_order_ends_in_the_same_cases(
    topics: Any, steps: list[Step], one: list[int], other: list[int]
) -> None:
    first, second = told(topics, steps, one), told(topics, steps, other)
    if answered(first) == answered(second):  # a lead that was never opened has nobody to answer it
        assert ended(first) == ended(second)
    for office in (first, second):
        requests = office.of(REQUESTED)
        for case in {d.data["case"] for d in requests}:
            mine = [d.data for d in requests if d.data["case"] == case]
            assert [d["round"] for d in mine] == list(range(1, len(mine) + 1))
            assert mine[0]["status"] in ("LEAD", "REQUESTED")
            for before, after in pairwise(mine):
                opens = after["status"] in ("LEAD", "RESUMED")
                assert not (opens and before["status"] in OPEN_WORDS)
                assert after["status"] != "AMENDED" or before["status"] in OPEN_WORDS


@given(TOPICS, ORDER, ORDER)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_without_answers_every_interleaving_ends_the_same_without_exception(
    topics: Any, one: list[int], other: list[int]
) -> None:
    assert ended(told(topics, [], one)) == ended(told(topics, [], other))


@given(TOPICS, STEPS, ORDER)
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_telling_everything_again_says_nothing_new(topics: Any, steps: list[Step], order: list[int]) -> None:
    office = told(topics, steps, order)
    office.wait(office.now)
    with office.store.transaction() as tx:
        for subject in office.service.subjects(tx):
            assert list(office.service.due(tx, subject, None)) == []


@given(TOPICS, STEPS, ORDER)
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_what_it_remembers_of_its_own_requests_it_does_not_say_again(
    topics: Any, steps: list[Step], order: list[int]
) -> None:
    """What it said was lost with a backup and comes back from the log: everything stands where it stood."""
    office = told(topics, steps, order)
    office.days(40)
    cases, permits = office.cases(), office.rows("SELECT permit, requested, round FROM permit ORDER BY permit")
    lost = (
        "requested = 'NONE', confirmed = 0, round = 0, content = '', data = '{}', opened = 0, asked = 0, receipt = NULL"
    )
    with office.store.transaction() as tx:
        tx.execute(f"UPDATE case_ SET {lost}")  # its steps are facts of others: they come back with the inbox
        tx.execute("UPDATE permit SET requested = 'OPEN', round = 0")
        for table in ("absence", "trench"):
            tx.execute(f"DELETE FROM {table}")
        tx.execute("UPDATE refusal SET answered = 0 WHERE operator <> ''")
        for n, draft in enumerate(office.said, 1):
            office.service.remember(tx, decoded(draft, "urn:jietong:440700:hookup", n, draft.time))
        said = list(office.service.due(tx, office.said[0].subject, None)) if office.said else []
    assert [d for d in said if d.type != "works.trench.proposed.v1"] == []
    assert office.cases() == cases
    assert office.rows("SELECT permit, requested, round FROM permit ORDER BY permit") == permits


def test_a_decided_project_opens_a_lead_at_every_permanent_utility_that_serves_it() -> None:
    office = Office()
    office.tell(*project("REGISTERED", name="甲"))
    assert office.said == []
    office.tell(*project("DECIDED", name="甲"))
    assert {d.operator for d in office.said} == {
        o.id for u in {o.utility for o in CITY.operators.values()} for o in CITY.serving(u, ["440703"], T0.date())
    }
    assert {d.data["status"] for d in office.said} == {"LEAD"}
    assert office.last("jm-power", "PERMANENT")["reason"] == "PROJECT_DECIDED"


def test_confirmed_demand_makes_a_lead_a_request_and_a_change_amends_it() -> None:
    office = Office()
    for fact in (project("DECIDED", name="甲"), demand("100.00"), demand("250.00"), project("CHANGED", name="乙")):
        office.tell(*fact)
    assert office.statuses("jm-power", "PERMANENT") == ["LEAD", "REQUESTED", "AMENDED", "AMENDED"]
    assert office.said[-1].data["project"]["name"] == "乙"


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
    works = [work for work, operator, kind, _ in office.cases() if (operator, kind) == ("jm-gas", "PERMANENT")]
    assert sorted(works) == ["", "W2"]


def test_an_area_nobody_serves_becomes_a_task() -> None:
    office = Office()
    office.tell(PROJECT, {**project("DECIDED", name="恩平")[1], "site_regions": ["440785"]})
    assert ("uncovered", "GAS/PERMANENT") in office.tasks()
    assert "jm-gas" not in {d.operator for d in office.said}
