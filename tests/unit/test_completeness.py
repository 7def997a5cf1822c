"""Completeness: what is missing is noticed and asked for, and an owner that falls silent or back is an alarm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jietong.broker import Place
from jietong.catalog import HEADS, RESEND
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.heads import Heads
from jietong.delivery.outbox import pending
from jietong.delivery.relay import Relay
from jietong.errors import RetriableError
from tests.unit.stage import CONTRACT, DECIDED, MINUTE, NOTED, PLATFORM, UNDECODABLE, A, B, Stage


class Slow:
    """A reader and its slow beat."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.consumer: Consumer = stage.consumer()
        self.completeness = Completeness([DECIDED], stage.reader, stage.own, Heads(stage.log, CONTRACT))

    def beat(self, minutes: float = 0) -> int:
        """After so many minutes; how many requests it made."""
        self.stage.now += round(minutes * MINUTE)
        while self.consumer.step(0):
            pass
        return self.completeness.beat(self.stage.now)

    def requests(self) -> list[tuple[str, str | None, int]]:
        with self.stage.reader.snapshot() as tx:
            found = [CONTRACT.decode(e).data for _, e in pending(tx, 100) if e.key.type == RESEND]
        return [(data["type"], data["subject"], data["after"]) for data in found]


@pytest.fixture
def slow(stage: Stage) -> Slow:
    return Slow(stage)


def without_the_last(stage: Stage, subject: str = A, lost: int = 1) -> None:
    """The log loses the newest records of a subject's partition."""
    place = next(Place(DECIDED, r.partition) for r in stage.records() if r.key == subject.encode())
    stage.log.truncate(place, lost)


def test_nothing_is_asked_for_while_nothing_is_missing(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    assert [slow.beat(minutes) for minutes in (0, 3, 30)] == [0, 0, 0]
    assert stage.column("SELECT * FROM asked") == []


def test_a_lost_last_event_is_asked_for_after_two_minutes_with_its_whole_type(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    without_the_last(stage)
    assert [slow.beat(minutes) for minutes in (0, 1, 0.9, 0.2)] == [0, 0, 0, 1]
    assert slow.requests() == [(DECIDED, None, 0)]


def test_a_reader_with_a_backlog_asks_only_for_what_is_still_short_when_it_has_read_it(
    stage: Stage, slow: Slow
) -> None:
    for _ in range(3):
        stage.emit(A)
    stage.send()
    without_the_last(stage)
    ask = slow.completeness.beat
    assert [ask(stage.now), tick(stage, 3, ask), tick(stage, 30, ask)] == [0, 0, 0], "it lies before it, unread"
    assert slow.beat() == 1, "now it is known to be lost"
    assert slow.requests() == [(DECIDED, None, 0)]


def test_a_reader_that_never_gets_to_the_end_of_its_backlog_asks_after_an_hour(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    ask = slow.completeness.beat
    assert [tick(stage, minutes, ask) for minutes in (0, 2, 59, 1)] == [0, 0, 0, 1]


def tick(stage: Stage, minutes: float, ask: Callable[[int], int]) -> int:
    stage.now += round(minutes * MINUTE)
    return ask(stage.now)


def test_a_deficit_that_closed_in_time_starts_anew(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    lost = stage.records()[0]
    without_the_last(stage)
    assert slow.beat(0) == 0
    stage.again(lost)
    assert slow.beat(1.5) == 0
    stage.emit(A)
    stage.send()
    without_the_last(stage)
    assert [slow.beat(minutes) for minutes in (0, 1.5, 1)] == [0, 0, 1]


def test_a_gap_is_asked_for_at_once_from_where_its_stream_stands(stage: Stage, slow: Slow) -> None:
    for _ in range(3):
        stage.emit(A)
    stage.send()
    first, _, third = stage.records()
    stage.log.recreate(DECIDED)
    slow.consumer.beat()
    stage.again(first)
    stage.again(third)
    assert slow.beat() == 1
    assert slow.requests() == [(DECIDED, A, 1)]


def test_the_same_is_asked_again_after_ten_minutes_doubling(stage: Stage, slow: Slow) -> None:
    for _ in range(2):
        stage.emit(A)
    stage.send()
    second = stage.records()[1]
    stage.log.recreate(DECIDED)
    slow.consumer.beat()
    stage.again(second)
    asked = [minute for minute in range(80) if slow.beat(1 if minute else 0)]
    assert asked == [0, 10, 30, 70]


def test_what_was_answered_is_forgotten(stage: Stage, slow: Slow) -> None:
    for _ in range(2):
        stage.emit(A)
    stage.send()
    first, second = stage.records()
    stage.log.recreate(DECIDED)
    slow.consumer.beat()
    stage.again(second)
    slow.beat()
    stage.again(first)
    assert (slow.beat(), stage.column("SELECT * FROM asked")) == (0, [])
    assert stage.done() == ["x", "x"]


def test_a_lost_event_comes_back_by_itself(stage: Stage, slow: Slow) -> None:
    for what in "12":
        stage.emit(A, what)
    stage.emit(B, "1")
    stage.send()
    without_the_last(stage, A, 2)
    relay = stage.relayed()
    own = Relay(stage.own.source, stage.reader, stage.log, CONTRACT, lambda: stage.now)
    own.start()
    for _ in range(6):
        slow.beat(3)
        own.step()
        relay.step()
        relay.step()
    slow.beat()
    assert (stage.done(A), stage.done(B)) == (["1", "2"], ["1"])


def test_what_is_not_read_here_is_not_missed(stage: Stage, slow: Slow) -> None:
    stage.emit(A, type=NOTED)
    stage.send()
    assert [slow.beat(minutes) for minutes in (0, 3)] == [0, 0]


def test_held_events_are_known_and_not_missing(stage: Stage, slow: Slow) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A)
    stage.send()
    assert [slow.beat(minutes) for minutes in (0, 3)] == [0, 0]


def test_a_sum_above_the_head_is_an_alarm_until_it_is_not(stage: Stage, slow: Slow) -> None:
    backup = stage.platform.copy()
    stage.emit(A)
    stage.send()
    slow.beat()
    stage.platform.restore(backup)
    for topic in (HEADS, DECIDED):  # nothing but the reader knows that anything is missing
        stage.log.recreate(topic)
    stage.emit(A, type=NOTED)
    stage.send()
    fresh = Completeness([DECIDED], stage.reader, stage.own, Heads(stage.log, CONTRACT))
    fresh.beat(stage.now)
    assert stage.alarms() == ["ahead"]
    stage.emit(A)
    stage.send()
    fresh.beat(stage.now)
    assert stage.alarms() == []


def test_a_head_that_stands_still_for_five_minutes_is_an_alarm_until_it_moves(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    relay = stage.relayed()
    relay.step()
    for minutes in (0, 2, 2.9):
        slow.beat(minutes)
    assert stage.alarms() == []
    slow.beat(0.2)
    assert stage.alarms() == ["silent"]
    relay.step()
    slow.beat()
    assert stage.alarms() == []


def test_a_source_nobody_here_reads_may_be_silent(stage: Stage, slow: Slow) -> None:
    stage.emit(A, type=NOTED)
    stage.send()
    slow.beat()
    slow.beat(60)
    assert stage.alarms() == []


def test_events_without_a_head_are_an_alarm(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    stage.log.recreate(HEADS)
    slow.beat()
    assert stage.alarms() == ["no-head"]
    stage.emit(A)
    stage.send()
    slow.beat()
    assert stage.alarms() == []


def test_while_the_log_is_away_nothing_is_concluded(stage: Stage, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.emit(A)
    stage.send()

    def away(*_: object) -> None:
        raise RetriableError("away")

    monkeypatch.setattr(stage.log, "topic", away)
    with pytest.raises(RetriableError):
        slow.completeness.beat(stage.now)
    assert (stage.alarms(), slow.requests()) == ([], [])


def test_requests_name_their_source_as_key(stage: Stage, slow: Slow) -> None:
    stage.emit(A)
    stage.send()
    without_the_last(stage)
    slow.beat()
    slow.beat(3)
    with stage.reader.snapshot() as tx:
        [envelope] = [e for _, e in pending(tx, 10)]
    assert envelope.key.subject == PLATFORM
