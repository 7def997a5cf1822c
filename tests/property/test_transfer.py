"""Every interleaving that keeps each topic's order ends in the same transfers; and what they are follows from the facts alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jietong.event import Draft
from tests.unit.window import CITY, LOWER, T0, UNIT, UPPER, Window, choice, registration

Plan = Mapping[tuple[str, str], str]
"""(operator, step) → what that operator answers to it."""
State = tuple[dict[tuple[str, str, str], tuple[str, str, str]], set[tuple[str, str]]]
UTILITY = {operator.id: operator.utility for operator in CITY.operators.values()}
USUAL = ("WATER", "POWER", "GAS", "TELECOM", "CABLE_TV")


class Operators:
    """Each takes its requests in their order and answers at once; the answers travel in their own time, each operator's in order."""

    def __init__(self, window: Window, plan: Plan) -> None:
        self.window, self.plan, self.heard = window, plan, 0
        self.done: set[str] = set()
        self.under_way: dict[str, deque[tuple[Draft, str]]] = {}

    def work(self) -> None:
        while self.heard < len(self.window.said):
            request = self.window.said[self.heard]
            self.heard += 1
            transfer, step, operator = request.data["transfer"], request.data["step"], request.data["operator"]
            planned = self.plan.get((operator, step), "PENDING") if step != "STOP" else "STOPPED"
            answer = "DONE" if transfer in self.done else planned
            if answer == "DONE":
                self.done.add(transfer)
            self.under_way.setdefault(operator, deque()).append((request, answer))

    def tell(self, pick: int) -> None:
        self.work()
        if waiting := sorted(operator for operator, answers in self.under_way.items() if answers):
            request, answer = self.under_way[waiting[pick % len(waiting)]].popleft()
            self.window.answer(request, answer)
            self.work()

    def tell_all(self) -> None:
        self.work()
        while any(self.under_way.values()):
            self.tell(0)


def told(facts: Sequence[dict[str, Any]], order: Sequence[int], plan: Plan) -> Window:
    """`order`: 0 is the registry's next fact, another number an operator's next answer."""
    window, rest = Window(), deque(facts)
    operators = Operators(window, plan)
    for pick in order:
        if pick == 0 and rest:
            window.tell(rest.popleft())
        else:
            operators.tell(pick)
    while rest:
        window.tell(rest.popleft())
    operators.tell_all()
    return window


def seen(window: Window) -> State:
    """What holds: transfers that are wanted or done, and what people are asked. One that was stopped undone is as if it had
    never been."""
    found: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    with window.store.snapshot() as tx:
        rows = tx.execute("SELECT id, registration, operator FROM transfer").all()
    keys = {row[0]: (row[1], row[2]) for row in rows}
    for number in {key[0] for key in keys.values()}:
        for c in window.counter.checked(number):
            said = [d.data for d in window.said if d.data["transfer"] == c.transfer]
            if c.status == "DONE" or c.step != "STOP":
                standing = ("DONE", "", "") if c.status == "DONE" else (c.step, c.choice, c.status)
                found[number, c.operator, str(said[0]["transfer"])] = standing
    return found, {(task.kind, task.about) for task in window.counter.tasks()}


# -- the naive model: the rules once more, as a person would apply them to the whole list of facts ----------------------------
def expected(
    facts: Sequence[dict[str, Any]], plan: Plan
) -> tuple[dict[tuple[str, str], tuple[str, str, str]], set[str]]:
    """(operator, account or utility) → how it stands; and the kinds of tasks."""
    done: dict[tuple[str, str], str] = {}
    live: dict[tuple[str, str], tuple[str, str]] = {}
    accounts: list[dict[str, Any]] = []
    for fact in facts:
        accounts = fact["accounts"] or accounts
        live = {}
        if fact["status"] != "WITHDRAWN":
            step = "PRECHECK" if fact["status"] == "ACCEPTED" else "EXECUTE"
            chosen = [(c["utility"], c["account"], c["choice"]) for c in accounts]
            if step == "PRECHECK":
                chosen += [(u, None, "UNKNOWN") for u in USUAL if u not in {c[0] for c in chosen}]
            for utility, account, what in chosen:
                for operator in CITY.serving(utility, ["440703"], T0.date()):
                    live[operator.id, account or utility] = (step, what)
        for key, (step, what) in live.items():
            if step == "EXECUTE" and plan.get((key[0], step)) == "DONE":
                done.setdefault(key, what)
    standing: dict[tuple[str, str], tuple[str, str, str]] = {
        key: (step, what, plan.get((key[0], step), "PENDING")) for key, (step, what) in live.items()
    }
    standing |= dict.fromkeys(done, ("DONE", "", ""))
    return standing, _tasks(standing, live, done)


def _tasks(
    standing: Mapping[tuple[str, str], tuple[str, str, str]],
    live: Mapping[tuple[str, str], tuple[str, str]],
    done: Mapping[tuple[str, str], str],
) -> set[str]:
    kinds: set[str] = set()
    if any(live.get(key) != ("EXECUTE", what) for key, what in done.items()):
        kinds.add("done-otherwise")
    if any((step, answer) == ("EXECUTE", "DECLINED") for step, _, answer in standing.values()):
        kinds.add("declined")
    for group in {key[1] for key, (_, what) in live.items() if what != "UNKNOWN"}:
        if all(value[2] == "UNMATCHED" for key, value in standing.items() if key[1] == group and key in live):
            kinds.add("unmatched")
    return kinds


CHOICES = st.lists(
    st.tuples(st.sampled_from(["WATER", "GAS", "TELECOM"]), st.sampled_from(["MOVE", "CLOSE", "LEAVE"]), st.sampled_from([None, "A1"])),
    max_size=3, unique_by=lambda c: (c[0], c[2]),
)  # fmt: skip
FACTS = st.lists(
    st.tuples(st.sampled_from(["ACCEPTED", "REGISTERED", "WITHDRAWN"]), CHOICES).map(
        lambda t: registration(t[0], *(choice(utility, what, account) for utility, what, account in t[1]), registered_on=None)
    ),
    max_size=5,
)  # fmt: skip
PLANS = st.fixed_dictionaries(
    {(operator, "PRECHECK"): st.sampled_from(["PRECHECKED", "UNMATCHED", "PENDING", "DECLINED"]) for operator in sorted(UTILITY)}
    | {(operator, "EXECUTE"): st.sampled_from(["DONE", "DONE", "UNMATCHED", "PENDING_SETTLEMENT", "DECLINED"]) for operator in sorted(UTILITY)}
)  # fmt: skip
ORDER = st.lists(st.integers(0, 4), max_size=25)


@given(FACTS, PLANS, ORDER, ORDER)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_every_interleaving_that_keeps_each_topics_order_ends_in_the_same_transfers(
    facts: Any, plan: Any, one: list[int], other: list[int]
) -> None:
    first, second = told(facts, one, plan), told(facts, other, plan)
    assert seen(first) == seen(second)
    for window in (first, second):
        assert window.counter.wrong_answers() == 0
        for transfer in {d.data["transfer"] for d in window.said}:
            mine = [d.data for d in window.said if d.data["transfer"] == transfer]
            assert [d["round"] for d in mine] == list(range(1, len(mine) + 1))


@given(FACTS, PLANS, ORDER)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_what_holds_at_the_end_is_what_a_person_would_make_of_the_facts(
    facts: Any, plan: Any, order: list[int]
) -> None:
    window = told(facts, order, plan)
    standing, kinds = expected(facts, plan)
    found, tasks = seen(window)
    assert sorted((operator, *value) for (_, operator, _), value in found.items()) == sorted(
        (key[0], *value) for key, value in standing.items()
    )
    assert {kind for kind, _ in tasks} == kinds


@given(FACTS, PLANS, ORDER)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_telling_everything_again_says_nothing_new(facts: Any, plan: Any, order: list[int]) -> None:
    window = told(facts, order, plan)
    with window.store.transaction() as tx:
        for subject in window.service.subjects(tx):
            assert list(window.service.due(tx, subject, None)) == []


@given(FACTS, PLANS, ORDER)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_what_it_remembers_of_its_own_requests_it_does_not_say_again(facts: Any, plan: Any, order: list[int]) -> None:
    """Its transfers lost with a backup, its requests come back from the log, and the answers are told again."""
    window = told(facts, order, plan)
    before = seen(window)
    with window.store.transaction() as tx:
        kept = tx.execute("SELECT id, answer, answered_round, told FROM transfer").all()
        tx.execute("DELETE FROM transfer")
        for event in window.decoded():
            window.service.remember(tx, event)
        for row in kept:
            tx.execute("UPDATE transfer SET answer = :answer, answered_round = :round, told = :told WHERE id = :id",
                       {"id": row[0], "answer": row[1], "round": row[2], "told": row[3]})  # fmt: skip
        assert list(window.service.due(tx, UNIT, None)) == []
    assert seen(window) == before


@given(
    st.sampled_from(["SPLIT", "MERGE"]),
    st.sets(st.sampled_from(["jm-water", "jm-power"])),
    st.permutations(range(3)),
    st.permutations(range(3)),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_the_units_of_a_split_or_merge_may_come_in_any_order(
    kind: str, supplied: set[str], one: list[int], other: list[int]
) -> None:
    before, after = ([UNIT], [UPPER, LOWER]) if kind == "SPLIT" else ([UNIT, UPPER], [LOWER])
    events = [(u, registration("REGISTERED", kind=kind, number="D1", correlation="D1", successors=after if u in before else [],
                               predecessors=before if u in after else [])) for u in (*before, *after)]  # fmt: skip
    ends: list[Any] = []
    for order in (one, other):
        window = Window()
        for operator in sorted(supplied):
            window.tell(registration("REGISTERED", choice(UTILITY[operator], account="A"), number=f"before {operator}"))
            window.answer(window.last(operator), "DONE", account="A")
        known = len(window.said)
        for n in order:
            window.tell(events[n][1], events[n][0])
        ends.append((sorted((d.subject, d.operator, d.data["step"]) for d in window.said[known:]), seen(window)[1]))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) == (len(supplied) if kind == "MERGE" else 0)
    assert len(ends[0][1]) == (len(supplied) if kind == "SPLIT" else 0)
