"""Pour: log → platform, once for each event, in order; while a whole target is away its group waits, and only its."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jietong.broker import Message
from jietong.delivery import commands, inbox
from jietong.delivery.pour import Deliveries, Pour
from jietong.errors import InvalidEventError, RejectedError, RetriableError
from jietong.event import Envelope, Event, void
from jietong.failpoint import Crash
from tests.unit.stage import CONTRACT, DECIDED, MINUTE, UNDECODABLE, A, B, C, Stage, dying, key


class Target:
    """A platform that notes each call and keeps each event once; `meets` is what a test has happen first."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.kept: dict[str, str] = {}
        self.meets: Callable[[Event], object] = lambda event: None

    def deliver(self, event: Event) -> None:
        self.meets(event)
        what = f"{event.subject[-1]}{event.sequence}"
        self.calls.append(what)
        self.kept[str(event.id)] = what

    def delivered(self, event: Event) -> bool:
        self.asked.append(f"{event.subject[-1]}{event.sequence}")
        return str(event.id) in self.kept


@pytest.fixture
def target() -> Target:
    return Target()


def pour(stage: Stage, target: Target, wanted: Callable[[Envelope], bool] = lambda e: True) -> Pour:
    made = Pour(Deliveries("reader", [DECIDED], wanted), target, stage.reader, stage.log, stage.own)
    made.start()
    return made


def refusing(subject: str, error: BaseException) -> Callable[[Event], None]:
    def meet(event: Event) -> None:
        if event.subject == subject:
            raise error

    return meet


def sent(stage: Stage, *subjects: str) -> None:
    for subject in subjects:
        stage.emit(subject)
    stage.send()


def under_way(stage: Stage) -> list[str]:
    return stage.column("SELECT id FROM effect")


def test_each_event_is_delivered_once_and_in_order(stage: Stage, target: Target) -> None:
    sent(stage, A, B, A, A)
    pouring = pour(stage, target)
    pouring.step(0)
    sent(stage, B)
    stage.again(stage.records()[0])
    pouring.step(0)
    assert sorted(target.calls, key=lambda call: call[0]) == ["1" + n for n in "123"] + ["2" + n for n in "12"]
    assert (stage.fates(A), under_way(stage)) == (["applied"] * 3, [])


def test_what_is_not_for_this_target_is_filtered_without_being_decoded(stage: Stage, target: Target) -> None:
    stage.emit(A, body=UNDECODABLE)
    sent(stage, A, B)
    pour(stage, target, lambda e: e.key.subject == B).step(0)
    assert (stage.fates(A), stage.fates(B), target.calls) == (["filtered", "filtered"], ["applied"], ["21"])


def test_a_refusal_parks_that_stream_alone(stage: Stage, target: Target) -> None:
    sent(stage, A, B, A, C)
    target.meets = refusing(A, RejectedError("no such project"))
    pouring = pour(stage, target)
    pouring.step(0)
    assert (stage.fates(A), stage.fates(B), stage.fates(C)) == (["parked", "waiting"], ["applied"], ["applied"])
    assert stage.column("SELECT reason FROM inbox WHERE fate = 'parked'") == ["no such project"]
    target.meets = lambda event: None
    stage.now += MINUTE
    pouring.beat()
    assert (stage.fates(A), target.calls[-2:], under_way(stage)) == (["applied", "applied"], ["11", "12"], [])


def test_nothing_of_a_stream_is_delivered_past_one_that_was_refused(stage: Stage, target: Target) -> None:
    sent(stage, A, A, A)

    def meet(event: Event) -> None:
        if event.sequence == 2:
            raise RejectedError("not yet")

    target.meets = meet
    pouring = pour(stage, target)
    pouring.step(0)
    assert (stage.fates(A), target.calls) == (["applied", "parked", "waiting"], ["11"])
    assert under_way(stage) == [], "what never left is not under way"
    target.meets = lambda event: None
    stage.now += MINUTE
    pouring.beat()
    assert target.calls == ["11", "12", "13"]


@pytest.mark.parametrize("how", ["undecodable", "refused for good"])
def test_what_no_one_can_use_is_dead_and_the_others_pass(stage: Stage, target: Target, how: str) -> None:
    stage.emit(A, body=UNDECODABLE if how == "undecodable" else None)
    sent(stage, B)
    target.meets = refusing(A, InvalidEventError("never"))
    pour(stage, target).step(0)
    assert (stage.fates(A), stage.fates(B)) == (["dead"], ["applied"])


def test_a_person_steps_over_a_dead_one_and_what_waits_behind_goes(stage: Stage, target: Target) -> None:
    stage.emit(A, body=UNDECODABLE)
    sent(stage, A)
    pouring = pour(stage, target)
    pouring.step(0)
    with stage.reader.transaction() as tx:
        commands.ask(tx, "1", "skip", {"subject": A, "who": "wang", "why": "on paper"}, stage.now)
    pouring.drain_stored(commands.carry_out(stage.reader, stage.now))
    assert (stage.fates(A), target.calls) == (["skipped", "applied"], ["12"])


def test_a_correction_settles_a_held_one_and_is_delivered_itself(stage: Stage, target: Target) -> None:
    bad = stage.emit(A, body=UNDECODABLE)
    sent(stage, A)
    pouring = pour(stage, target)
    pouring.step(0)
    stage.emit(A, supersedes=bad)
    stage.send()
    pouring.step(0)
    assert (stage.fates(A), target.calls) == (["superseded", "applied", "applied"], ["12", "13"])


def test_a_void_is_stepped_over(stage: Stage, target: Target) -> None:
    sent(stage, A)
    stage.log.append([CONTRACT.message(void(key(2)))])
    pour(stage, target).step(0)
    assert (stage.fates(A), target.calls) == (["applied", "skipped"], ["11"])


def test_while_a_target_is_away_all_of_it_stays_owed_and_goes_when_it_is_back(stage: Stage, target: Target) -> None:
    sent(stage, A, B, A, C)
    target.meets = refusing(B, RetriableError("away"))
    pouring = pour(stage, target)
    with pytest.raises(RetriableError):
        pouring.step(0)
    assert (target.calls, stage.fates(A), stage.fates(B)) == (["11", "12"], ["applied"] * 2, ["waiting"])
    with pytest.raises(RetriableError):
        pouring.step(0)
    assert stage.column("SELECT DISTINCT fate FROM inbox ORDER BY 1") == ["applied", "waiting"], "nothing is held"
    target.meets = lambda event: None
    pouring.step(0)
    assert target.calls == ["11", "12", "21", "31"]


def test_a_restart_while_a_target_is_away_forgets_nothing(stage: Stage, target: Target) -> None:
    sent(stage, A, B)
    target.meets = refusing(A, RetriableError("away"))
    with pytest.raises(RetriableError):
        pour(stage, target).step(0)
    target.meets = lambda event: None
    pour(stage, target).step(0)
    assert sorted(target.calls) == ["11", "21"]


@pytest.mark.parametrize(
    ("point", "calls", "asked"),
    [("pour.before_deliver", ["11", "12"], ["11"]), ("pour.after_deliver", ["11", "12"], ["11"])],
)
def test_what_was_under_way_when_it_died_is_asked_for_and_not_sent_blindly(
    stage: Stage, target: Target, point: str, calls: list[str], asked: list[str]
) -> None:
    sent(stage, A, A)
    with dying(point):
        pour(stage, target).step(0)
    assert len(under_way(stage)) == 1, "one may have left, the other did not"
    assert stage.fates(A) == ["waiting", "waiting"]
    pour(stage, target).step(0)
    assert target.calls == calls
    assert target.asked[: len(asked)] == asked
    assert (stage.fates(A), under_way(stage)) == (["applied"] * 2, [])


def test_a_death_between_the_delivery_and_its_note_delivers_nothing_twice(stage: Stage, target: Target) -> None:
    sent(stage, A, B)
    with dying("consumer.before_commit", 2):  # the first commit takes the batch in, the second notes the outcome
        pour(stage, target).step(0)
    assert (target.calls, stage.fates(A)) == (["11", "21"], ["waiting"])
    pour(stage, target).step(0)
    assert (target.calls, stage.fates(A), stage.fates(B)) == (["11", "21"], ["applied"], ["applied"])


def test_one_that_ends_the_process_is_parked_after_two_deaths_and_the_innocents_get_out(
    stage: Stage, target: Target
) -> None:
    sent(stage, A, B)
    target.meets = refusing(A, Crash("A kills"))
    for _ in range(3):
        with pytest.raises(Crash):
            pour(stage, target).step(0)
    pouring = pour(stage, target)
    pouring.step(0)
    assert (stage.fates(A), stage.fates(B)) == (["parked"], ["applied"])
    target.meets = lambda event: None
    stage.now += MINUTE
    pouring.beat()
    assert (stage.fates(A), stage.column("SELECT deaths FROM attempt")) == (["applied"], [])


def test_a_target_away_under_watch_is_no_death(stage: Stage, target: Target) -> None:
    sent(stage, A)
    with dying("pour.before_deliver"):
        pour(stage, target).step(0)
    target.meets = refusing(A, RetriableError("away"))
    for _ in range(6):
        with pytest.raises(RetriableError):
            pour(stage, target).step(0)
    target.meets = lambda event: None
    pour(stage, target).step(0)
    assert stage.fates(A) == ["applied"]


def test_what_comes_before_its_predecessor_is_not_delivered_before_it(stage: Stage, target: Target) -> None:
    sent(stage, A, A, B)
    first, second = [r for r in stage.records() if r.key == A.encode()]
    stage.log.recreate(DECIDED)
    stage.log.append([Message(r.topic, r.key, r.value, r.headers) for r in (second,)])
    pouring = pour(stage, target)
    pouring.step(0)
    assert target.calls == []
    stage.again(first)
    pouring.step(0)
    assert target.calls == ["11", "12"]
    with stage.reader.snapshot() as tx:
        assert inbox.unsettled(tx) == 0


def test_a_long_run_that_one_event_sets_free_leaves_batch_by_batch(stage: Stage, target: Target) -> None:
    sent(stage, *[A] * 7)
    first, *rest = stage.records()
    stage.log.recreate(DECIDED)
    stage.log.append([Message(r.topic, r.key, r.value, r.headers) for r in rest])
    pouring, sending = pour(stage, target), list[int]()
    pouring.step(0)
    pouring.batch = 2
    target.meets = lambda _: sending.append(len(under_way(stage)))
    stage.again(first)
    pouring.step(0)
    assert target.calls == [f"1{n}" for n in range(1, 8)]
    assert max(sending) == 2
    assert stage.fates(A) == ["applied"] * 7


def test_a_long_backlog_is_delivered_whole(stage: Stage, target: Target) -> None:
    for n in range(1201):
        stage.emit(f"local:many:{n % 7}")
    stage.send()
    pouring = pour(stage, target)
    while pouring.step(0):
        pass
    assert (len(target.calls), len(set(target.calls))) == (1201, 1201)
    assert stage.column("SELECT DISTINCT fate FROM inbox") == ["applied"]
