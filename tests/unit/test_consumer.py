"""Consumer, inbox, positions: where an event has its effect, once, and what becomes of one that cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jietong.broker import Message, Place
from jietong.delivery import commands, inbox, positions
from jietong.delivery import consumer as consuming
from jietong.delivery.consumer import Consumer
from jietong.delivery.limits import Limit
from jietong.delivery.relay import Relay
from jietong.errors import (
    FencedError,
    HaltError,
    InvalidEventError,
    LimitError,
    RejectedError,
    RetriableError,
    RewoundError,
)
from jietong.event import Draft, Event, Fate, Stream, void
from jietong.failpoint import Crash
from tests.unit.stage import (
    CONTRACT,
    DECIDED,
    EPOCH,
    MINUTE,
    NOTED,
    PLATFORM,
    READER,
    UNDECODABLE,
    A,
    B,
    C,
    Recorder,
    Stage,
    dying,
    key,
    moment,
)  # fmt: skip

Make = Callable[[], Consumer]


def on(subject: str, error: BaseException, what: str | None = None) -> Callable[[Event], None]:
    def meet(event: Event) -> None:
        if event.subject == subject and what in (None, event.data["what"]):
            raise error

    return meet


def lived(stage: Stage, times: int = 1) -> Consumer | None:
    """Start and step, as a supervisor would; the last consumer that survived."""
    alive = None
    for _ in range(times):
        try:
            made = stage.consumer()
            made.step(0)
            alive = made
        except Crash:
            alive = None
    return alive


# -- faults --------------------------------------------------------------------------------------------------------------
def test_a_batch_is_one_transaction_whatever_it_holds(stage: Stage) -> None:
    for subject in (A, B, A, C):
        stage.emit(subject)
    stage.send()
    consumer = stage.consumer()
    assert consumer.step(0) == 4
    assert (consumer.counts.batches, consumer.counts.events) == (1, 4)
    assert stage.fates(A) == ["applied", "applied"]


def test_a_fault_rolls_the_batch_back_and_it_is_done_again_knowing_the_verdict(stage: Stage) -> None:
    for subject, what in ((A, "1"), (B, "bad"), (B, "behind"), (C, "1"), (A, "2")):
        stage.emit(subject, what)
    stage.send()
    stage.service.meets = on(B, InvalidEventError("refused"), "bad")
    stage.consumer().step(0)
    assert (stage.done(A), stage.done(B), stage.done(C)) == (["1", "2"], [], ["1"])
    assert stage.fates(B) == ["dead", "waiting"]
    assert stage.column("SELECT reason FROM inbox WHERE fate = 'dead'") == ["refused"]


def test_every_fault_of_a_batch_gets_its_own_verdict(stage: Stage) -> None:
    for subject in (A, B, C):
        stage.emit(subject)
    stage.send()

    def meet(event: Event) -> None:
        raise RejectedError("no") if event.subject == A else InvalidEventError("no")

    stage.service.meets = meet
    stage.consumer().step(0)
    assert (stage.fates(A), stage.fates(B), stage.fates(C)) == (["parked"], ["dead"], ["dead"])
    assert stage.done(A) == []


def test_a_body_that_cannot_be_decoded_is_dead_and_only_at_its_turn(stage: Stage) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A, body=UNDECODABLE)
    stage.send()
    stage.consumer().step(0)
    assert stage.fates() == ["dead", "waiting"]


def test_a_value_the_database_refuses_is_the_events_own_fault(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.service.learn = lambda tx, event: (
        tx.execute("INSERT INTO done (n) VALUES (:n)", {"n": 2**70}) and Fate.APPLIED
    )
    stage.consumer().step(0)
    assert stage.fates() == ["dead"]


def test_a_bug_is_no_verdict(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.service.meets = on(A, KeyError("a bug"))
    with pytest.raises(KeyError):
        stage.consumer().step(0)
    assert stage.fates() == []


def test_something_away_holds_nothing(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.service.meets = on(A, RetriableError("away"))
    consumer = stage.consumer()
    with pytest.raises(RetriableError):
        consumer.step(0)
    assert stage.fates() == []
    stage.service.meets = lambda event: None
    consumer.start()
    consumer.step(0)
    assert stage.fates() == ["applied"]


def test_filtered_is_a_fate_too(stage: Stage) -> None:
    stage.emit(A, "filtered")
    stage.send()
    stage.consumer().step(0)
    assert stage.fates() == ["filtered"]


def test_follow_ups_enter_the_outbox_in_the_batchs_own_transaction(stage: Stage) -> None:
    stage.emit(B, "cause")
    stage.emit(A, "cause")
    stage.send()
    stage.service.wants = lambda cause: [
        Draft(type=NOTED, subject=cause.subject, time=cause.time, data={"what": "due"}, about=("case", "1"))
    ]
    with dying("consumer.before_commit"):
        stage.consumer().step(0)
    assert stage.column("SELECT id FROM outbox") == []
    lived(stage)
    assert sorted(stage.column("SELECT aggregateid FROM outbox")) == [A, B]
    assert len(stage.column("SELECT id FROM outbox WHERE cause IS NOT NULL")) == 2


def test_a_follow_up_that_cannot_be_written_is_its_causes_fault(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.service.wants = lambda cause: [Draft(type=NOTED, subject=cause.subject, time=cause.time, data={"what": "\0"})]
    stage.consumer().step(0)
    assert (stage.fates(), stage.column("SELECT id FROM outbox"), stage.done()) == (["dead"], [], [])


def test_follow_ups_that_collide_are_their_causes_fault_and_no_loop_of_deaths(stage: Stage) -> None:
    for subject in (A, B):
        stage.emit(subject)
    stage.send()

    def wants(cause: Event) -> list[Draft]:
        twice = 2 if cause.subject == A else 1
        return [Draft(type=NOTED, subject=cause.subject, time=cause.time, data={"what": "due"}, about=("1",))] * twice

    stage.service.wants = wants
    with pytest.raises(InvalidEventError):
        stage.consumer().step(0)
    lived(stage)
    assert (stage.fates(A), stage.fates(B)) == (["dead"], ["applied"])
    assert stage.column("SELECT aggregateid FROM outbox") == [B]


# -- order, duplicates, gaps ---------------------------------------------------------------------------------------------
def test_a_duplicate_has_no_second_effect(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.again(stage.records()[0])
    consumer = stage.consumer()
    consumer.step(0)
    stage.again(stage.records()[0])
    consumer.step(0)
    assert (stage.done(), consumer.counts.duplicates) == (["x"], 2)


def test_what_arrives_before_its_predecessor_waits_for_it(stage: Stage) -> None:
    for what in "123":
        stage.emit(A, what)
    stage.send()
    first, second, third = stage.records()
    stage.log.recreate(DECIDED)
    for record in (third, second):
        stage.again(record)
    consumer = stage.consumer()
    consumer.step(0)
    assert (stage.fates(), stage.done()) == (["waiting", "waiting"], [])
    with stage.reader.snapshot() as tx:
        assert inbox.gaps(tx) == [(Stream(PLATFORM, DECIDED, A), 0)]
    stage.again(first)
    consumer.step(0)
    assert stage.done() == ["1", "2", "3"]


def test_a_void_is_stepped_over(stage: Stage) -> None:
    stage.emit(A, "1")
    stage.send()
    stage.log.append([CONTRACT.message(void(key(2)))])
    consumer = stage.consumer()
    consumer.step(0)
    assert stage.fates() == ["applied", "skipped"]
    stage.log.append([CONTRACT.message(void(key(1)))])
    consumer.step(0)
    assert (stage.fates(), stage.alarms()) == (["applied", "skipped"], [])


def test_what_says_nothing_about_any_stream_is_kept_as_a_stray_once(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.again(stage.records()[0], value=b"junk")
    stage.again(stage.records()[0], value=None)
    consumer = stage.consumer()
    consumer.step(0)
    assert sorted(stage.column("SELECT reason FROM stray")) == [
        "tombstone: an event has a body",
        "value: not in the registry's wire format",
    ]
    assert (stage.fates(), consumer.counts.strays) == (["applied"], 2)
    with stage.reader.transaction() as tx:
        assert not inbox.stray(tx, stage.records()[1], stage.log.topic(DECIDED).id, "again", stage.now)


def test_what_stands_for_a_batch_that_cannot_be_read_says_so_and_raises_an_alarm(stage: Stage) -> None:
    said = "batch of 3 records: checksum"
    stage.log.append([Message(DECIDED, b"", None, (("damaged", said.encode()),))])
    stage.consumer().step(0)
    assert stage.column("SELECT reason FROM stray") == [f"damaged: {said}"]
    assert stage.alarms() == ["damaged"]


def test_a_header_without_a_value_is_a_stray(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.again(stage.records()[0], value=b"junk", headers=(("note", None),))
    stage.consumer().step(0)
    assert stage.fates() == ["applied"]


def test_a_stray_beside_a_fault_is_counted_once(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.again(stage.records()[0], value=b"junk")
    stage.service.meets = on(A, RejectedError("no"))
    consumer = stage.consumer()
    consumer.step(0)
    assert consumer.counts.strays == 1


def test_an_event_of_an_unknown_schema_is_parked_and_a_readable_copy_takes_its_place(stage: Stage) -> None:
    stage.emit(A, "1")
    stage.emit(A, "2")
    stage.send()
    first, second = stage.records()
    stage.log.recreate(DECIDED)
    assert first.value
    assert second.value
    stage.again(first, value=b"\0\0\0\0\xff" + first.value[5:])
    stage.again(second)
    consumer = stage.consumer()
    consumer.step(0)
    assert stage.fates() == ["parked", "waiting"]
    with stage.reader.snapshot() as tx:
        assert inbox.gaps(tx) == [(Stream(PLATFORM, DECIDED, A), 0)]
    stage.again(first)
    consumer.step(0)
    assert (stage.fates(), stage.done()) == (["applied", "applied"], ["1", "2"])


# -- conflicts -----------------------------------------------------------------------------------------------------------
def contradicting(*said: tuple[str, str]) -> Stage:
    """Another platform under the same name: what a restore without its guards would make."""
    twin = Stage()
    for subject, what in said:
        twin.emit(subject, what)
    twin.send()
    return twin


def test_two_meanings_of_one_sequence_hold_the_stream_until_a_person_resolves_it(stage: Stage) -> None:
    stage.emit(A, "mine")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    stage.again(contradicting((A, "yours")).records()[0])
    consumer.step(0)
    stage.emit(A, "later")
    stage.emit(B, "other")
    stage.send()
    consumer.step(0)
    assert (stage.done(A), stage.done(B), stage.alarms()) == (["mine"], ["other"], ["conflict"])
    with stage.reader.transaction() as tx:
        commands.ask(tx, "1", "resolve", {"source": PLATFORM, "type": DECIDED, "subject": A}, stage.now)
    consumer.drain_stored(commands.carry_out(stage.reader, stage.now))
    assert (stage.done(A), stage.alarms()) == (["mine", "later"], [])


def test_two_meanings_in_one_batch_leave_neither_applied(stage: Stage) -> None:
    stage.emit(A, "mine")
    stage.send()
    stage.again(contradicting((A, "yours")).records()[0])
    stage.consumer().step(0)
    assert (stage.done(), stage.alarms()) == ([], ["conflict"])


def test_both_meanings_are_kept(stage: Stage) -> None:
    stage.emit(B, "mine")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    innocent, second = sorted(contradicting((A, "yours"), (B, "yours")).records(), key=lambda r: r.key)
    stage.again(innocent)
    stage.again(second)
    consumer.step(0)
    assert stage.column("SELECT key FROM stray WHERE reason = 'conflict'") == [B.encode()]


def test_the_second_meaning_is_kept_whole(stage: Stage) -> None:
    stage.emit(A, "mine")
    stage.send()
    record = stage.records()[0]
    consumer = stage.consumer()
    consumer.step(0)
    assert record.value
    body = record.value[5:] + b"x" * 5000
    twin = replace(CONTRACT.envelope(record), body=body)
    stage.log.append([CONTRACT.message(twin)])
    consumer.step(0)
    assert stage.column("SELECT value FROM stray WHERE reason = 'conflict'") == [b"\0\0\0\0\x65" + body]


def test_what_a_person_resolved_stays_resolved(stage: Stage) -> None:
    stage.emit(A, "mine")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    stage.again(yours := contradicting((A, "yours")).records()[0])
    consumer.step(0)
    with stage.reader.transaction() as tx:
        commands.ask(tx, "1", "resolve", {"source": PLATFORM, "type": DECIDED, "subject": A}, stage.now)
    consumer.drain_stored(commands.carry_out(stage.reader, stage.now))
    stage.again(yours)
    consumer.step(0)
    assert stage.alarms() == []


# -- superseded ------------------------------------------------------------------------------------------------------------
def test_a_correction_settles_what_is_held_and_those_between_run_first(stage: Stage) -> None:
    bad = stage.emit(A, body=UNDECODABLE)
    stage.emit(A, "between")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    assert stage.fates() == ["dead", "waiting"]
    stage.emit(A, "right", supersedes=bad)
    stage.send()
    consumer.step(0)
    assert (stage.fates(), stage.done()) == (["superseded", "applied", "applied"], ["between", "right"])


def test_a_correction_that_came_first_settles_it_when_the_verdict_falls(stage: Stage) -> None:
    bad = stage.emit(A, body=UNDECODABLE)
    stage.emit(A, "right", supersedes=bad)
    stage.send()
    wrong, right = stage.records()
    stage.log.recreate(DECIDED)
    stage.again(right)
    consumer = stage.consumer()
    consumer.step(0)
    stage.again(wrong)
    consumer.step(0)
    assert (stage.fates(), stage.done()) == (["superseded", "applied"], ["right"])


def test_a_correction_does_not_undo_what_was_applied(stage: Stage) -> None:
    first = stage.emit(A, "1")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    stage.emit(A, "2", supersedes=first)
    stage.send()
    consumer.step(0)
    assert stage.fates() == ["applied", "applied"]


# -- parked, and tried again -------------------------------------------------------------------------------------------------
def test_what_is_parked_is_tried_again_after_a_minute_doubling_to_an_hour(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    stage.service.meets = on(A, RejectedError("no"))
    consumer = stage.consumer()
    consumer.step(0)
    waits: list[int] = []
    for _ in range(9):
        [at] = stage.column("SELECT next_at FROM retry")
        waits.append((at - stage.now) // MINUTE)
        stage.now = at - 1
        consumer.beat()
        assert stage.column("SELECT next_at FROM retry") == [at], "not before its time"
        stage.now = at
        consumer.beat()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    stage.service.meets = lambda event: None
    [stage.now] = stage.column("SELECT next_at FROM retry")
    consumer.beat()
    assert (stage.fates(), stage.column("SELECT tries FROM retry")) == (["applied"], [])


def test_dead_is_not_tried_again_by_itself(stage: Stage) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    stage.now += 10**9
    consumer.beat()
    assert (stage.fates(), stage.column("SELECT tries FROM retry")) == (["dead"], [])


def test_what_is_parked_of_a_type_no_longer_read_harms_nobody(stage: Stage) -> None:
    stage.service = Recorder(DECIDED, NOTED)
    stage.service.meets = on(A, RejectedError("no"))
    stage.emit(A, type=NOTED)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    consumer.stop()
    stage.service = Recorder(DECIDED)
    stage.now += 10 * MINUTE
    stage.consumer().beat()


# -- unclean deaths ----------------------------------------------------------------------------------------------------------
def test_a_clean_stop_is_no_death(stage: Stage) -> None:
    stage.consumer().stop()
    stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    assert stage.column("SELECT deaths FROM attempt") == []
    assert consumer.counts.batches == 1


def test_after_two_deaths_it_is_parked_and_the_innocents_get_out(stage: Stage) -> None:
    for subject in (A, B, C, B):
        stage.emit(subject)
    stage.send()
    stage.service.meets = on(B, Crash("B kills"))
    assert lived(stage) is None, "the batch killed: nobody knows yet who"
    assert lived(stage) is None, "watched: the first death of B"
    assert (stage.fates(A), stage.fates(B)) == (["applied"], ["waiting", "waiting"])
    assert lived(stage) is None, "the second"
    assert lived(stage)
    assert (stage.fates(A), stage.fates(B), stage.fates(C)) == (["applied"], ["parked", "waiting"], ["applied"])
    assert stage.column("SELECT subject FROM attempt") == [B]


def test_after_a_minute_it_is_tried_again_under_watch_and_after_five_deaths_it_is_dead(stage: Stage) -> None:
    stage.emit(B)
    stage.emit(A)
    stage.send()
    stage.service.meets = on(B, Crash("B kills"))
    consumer = lived(stage, 4)
    assert consumer
    deaths: list[int] = []
    for _ in range(3):
        consumer.beat()
        assert stage.fates(B) == ["parked"], "not before its time"
        [stage.now] = stage.column("SELECT next_at FROM retry")
        with pytest.raises(Crash):
            consumer.beat()
        deaths += stage.column("SELECT deaths FROM attempt")
        consumer = lived(stage)
        assert consumer
    assert deaths == [3, 4, 5]
    assert (stage.fates(B), stage.fates(A)) == (["dead"], ["applied"])
    assert stage.column("SELECT reason FROM inbox WHERE fate = 'dead'") == [consuming.DIED_HERE]


def test_one_that_is_healed_when_it_is_tried_again_goes_on(stage: Stage) -> None:
    stage.emit(B)
    stage.emit(B, "behind")
    stage.send()
    stage.service.meets = on(B, Crash("B kills"), "x")
    consumer = lived(stage, 4)
    assert consumer
    stage.service.meets = lambda event: None
    stage.now += 2 * MINUTE
    consumer.beat()
    assert (stage.fates(B), stage.column("SELECT deaths FROM attempt"), stage.column("SELECT tries FROM retry")) == (
        ["applied", "applied"],
        [],
        [],
    )


def test_kills_from_outside_condemn_nobody(stage: Stage) -> None:
    """A supervisor that kills at one point, whoever's turn it is."""
    for _ in range(5):
        stage.emit(A)
    stage.send()
    for _ in range(3):
        with dying("consumer.before_commit", 1):
            stage.consumer().step(0)
    lived(stage)
    assert stage.fates() == ["applied"] * 5


def test_something_away_under_watch_is_no_death(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    with dying("consumer.before_commit"):
        stage.consumer().step(0)
    stage.service.meets = on(A, RetriableError("away"))
    consumer = stage.consumer()
    for _ in range(6):
        with pytest.raises(RetriableError):
            consumer.step(0)
        consumer.start()
    stage.service.meets = lambda event: None
    consumer.step(0)
    assert stage.fates() == ["applied"]


def test_something_away_between_two_deaths_does_not_make_them_forgotten(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    for _ in range(4):
        stage.service.meets = on(A, Crash("kills"))
        lived(stage)
        stage.service.meets = on(A, RetriableError("away"))
        with suppress(RetriableError):
            stage.consumer().step(0)
    assert (stage.fates(), stage.column("SELECT deaths FROM attempt")) == (["parked"], [2])


def test_a_skipped_event_leaves_no_note_of_its_deaths(stage: Stage) -> None:
    stage.emit(B)
    stage.send()
    stage.service.meets = on(B, Crash("B kills"))
    consumer = lived(stage, 4)
    assert consumer
    with stage.reader.transaction() as tx:
        commands.ask(tx, "1", "skip", {"subject": B, "who": "wang", "why": "kills"}, stage.now)
    consumer.drain_stored(commands.carry_out(stage.reader, stage.now))
    stage.now += 2 * MINUTE
    consumer.beat()
    assert (stage.column("SELECT deaths FROM attempt"), stage.column("SELECT tries FROM retry")) == ([], [])


@pytest.mark.parametrize("point", ["consumer.before_batch", "consumer.before_commit", "consumer.after_commit"])
def test_dying_anywhere_in_a_batch_loses_and_repeats_nothing(stage: Stage, point: str) -> None:
    for subject in (A, B, A):
        stage.emit(subject)
    stage.send()
    with dying(point):
        stage.consumer().step(0)
    lived(stage)
    assert (stage.done(A), stage.done(B)) == (["x", "x"], ["x"])


# -- positions ---------------------------------------------------------------------------------------------------------------
def test_a_zombie_is_fenced_and_has_done_nothing(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    zombie, living = stage.consumer(), stage.consumer()
    living._careful = False
    living.step(0)
    with pytest.raises(FencedError):
        zombie.step(0)
    assert stage.done() == ["x"]
    zombie.start()
    assert zombie.step(0) == 0


def test_a_missing_position_stops(stage: Stage) -> None:
    stage.emit(A)
    stage.emit(B)
    stage.send()
    stage.consumer().step(0)
    with stage.reader.transaction() as tx:
        tx.execute("DELETE FROM position WHERE topic = :topic AND partition = 0", {"topic": DECIDED})
    with pytest.raises(HaltError, match=f"no position for {DECIDED}/0"):
        stage.consumer()
    assert not stage.column("SELECT partition FROM position WHERE topic = 'test.decided.v1' AND partition = 0"), (
        "nothing jumps quietly"
    )


def test_positions_name_their_record(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    [record] = stage.records()
    with stage.reader.snapshot() as tx:
        here = positions.load(tx, [DECIDED])[Place(DECIDED, record.partition)]
    assert (here.offset, here.digest, here.topic_id) == (1, record.digest, stage.log.topic(DECIDED).id)


@pytest.mark.parametrize("what", ["made anew", "truncated and grown again", "overtaken by retention"])
def test_a_log_that_is_no_longer_the_one_we_left_is_read_from_its_beginning(stage: Stage, what: str) -> None:
    for n in range(3):
        stage.emit(A, str(n))
    stage.send()
    consumer = stage.consumer(batch=2)
    consumer.step(0)
    first = stage.records()[0]
    place = Place(DECIDED, first.partition)
    if what == "made anew":
        stage.log.recreate(DECIDED)
    elif what == "truncated and grown again":
        stage.log.truncate(place, 3)
        stage.again(first, value=b"another")
    else:
        for n in range(3, 6):
            stage.emit(A, str(n))
        stage.send()
        stage.log.retain(place, 2)
    with stage.platform.transaction() as tx:
        tx.execute("INSERT INTO unsent (n) SELECT n FROM outbox WHERE true ON CONFLICT (n) DO NOTHING")
    stage.send()
    consumer.beat()
    assert set(stage.alarms()) == {"log-changed"}
    while consumer.step(0):
        pass
    expected = [str(n) for n in range(6 if what.startswith("over") else 3)]
    assert stage.done() == expected


def test_the_alarm_of_a_changed_log_ends_once_it_was_read_to_its_end(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    stage.log.recreate(DECIDED)
    stage.send()
    consumer.beat()
    while consumer.step(0):
        pass
    for _ in range(3):
        stage.now += 10 * MINUTE
        consumer.beat()
    assert stage.alarms() == []


def test_a_fenced_swap_changes_nothing(stage: Stage) -> None:
    stage.consumer()
    with stage.reader.snapshot() as tx:
        old = positions.load(tx, [DECIDED])[Place(DECIDED, 0)]
    for wrong in (old._replace(offset=9), old._replace(topic_id="another"), old._replace(digest=b"x" * 32)):
        with pytest.raises(FencedError), stage.reader.transaction() as tx:
            positions.swap(tx, wrong, old._replace(offset=5))
    with stage.reader.snapshot() as tx:
        assert positions.load(tx, [DECIDED])[Place(DECIDED, 0)] == old


def test_a_reader_restored_from_a_backup_stops_before_it_moves(stage: Stage) -> None:
    backup = stage.reader.copy()
    stage.emit(A)
    stage.send()
    stage.service.wants = lambda cause: [
        Draft(type=NOTED, subject=cause.subject, time=moment(EPOCH), data={"what": "due"})
    ]
    stage.consumer().step(0)
    relay = Relay(READER, stage.reader, stage.log, CONTRACT, lambda: stage.now)
    relay.start()
    relay.step()
    stage.reader.restore(backup)
    with pytest.raises(RewoundError, match="reader"):
        stage.consumer()


# -- too much unsettled ------------------------------------------------------------------------------------------------------
def test_over_a_limit_of_unsettled_events_reading_stands_still_with_an_alarm(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "MOST_UNSETTLED", 2)
    stage.emit(A, body=UNDECODABLE)
    for _ in range(2):
        stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    consumer.beat()
    stage.emit(B)
    stage.send()
    assert (consumer.step(0), stage.alarms()) == (0, ["unsettled"])
    with stage.reader.transaction() as tx:
        inbox.skip(tx, key(1), "wang", "bad", stage.now)
    consumer.drain_stored([Stream(PLATFORM, DECIDED, A)])
    consumer.beat()
    assert (consumer.step(0), stage.alarms(), stage.fates(B)) == (1, [], ["applied"])


def test_standing_still_is_not_running_in_place(stage: Stage) -> None:
    consumer = stage.consumer()
    consumer.paused = True
    begun = time.monotonic()
    consumer.step(0.05)
    assert time.monotonic() - begun > 0.04


def test_a_limit_error_undoes_the_batch(stage: Stage) -> None:
    stage.emit(A, "good")
    for n in range(3):
        stage.emit(f"local:test:bad{n}", body=UNDECODABLE)
    stage.send()
    consumer = stage.consumer(Limit(in_a_row=3))
    with pytest.raises(LimitError, match=DECIDED):
        consumer.step(0)
    assert (stage.column("SELECT fate FROM inbox"), stage.done()) == ([], [])


def test_a_follow_up_that_the_outbox_refuses_is_the_fault_of_its_event_and_not_a_loop_of_deaths(stage: Stage) -> None:
    """It names no event when it comes; after the death it causes, the events are settled one by one, and then it does."""
    stage.emit(A)
    stage.emit(B)
    stage.send()
    twice = Draft(
        type=NOTED, subject=A, time=datetime.fromtimestamp(EPOCH / 1000, UTC), data={"what": "x"}, about=("same",)
    )
    stage.service.wants = lambda event: [twice, twice] if event.subject == A else []
    with pytest.raises(InvalidEventError):
        stage.consumer().step(0)
    stage.consumer().step(0)
    assert sorted(stage.column("SELECT fate FROM inbox")) == ["applied", "dead"]


def test_what_is_due_by_the_hour_alone_is_said_once_its_time_has_come(stage: Stage) -> None:
    stage.service.alarms = {A: stage.now + MINUTE}
    stage.service.says = lambda subject: [
        Draft(type=NOTED, subject=subject, time=moment(stage.now), data={"what": "late"}, about=(subject,))
    ]
    consumer = stage.consumer()
    assert consumer.wake() == 0
    stage.now += MINUTE
    assert consumer.wake() == 1
    assert consumer.wake() == 0
    assert stage.column("SELECT aggregateid FROM outbox") == [A]


def test_what_the_hour_makes_due_is_one_transaction(stage: Stage) -> None:
    """A death before its commit leaves it due; nothing was said."""
    stage.service.alarms = {A: stage.now}
    stage.service.says = lambda subject: [
        Draft(type=NOTED, subject=subject, time=moment(stage.now), data={"what": "late"}, about=(subject,))
    ]
    consumer = stage.consumer()
    with dying("consumer.before_commit"):
        consumer.wake()
    assert stage.column("SELECT aggregateid FROM outbox") == []
    stage.service.alarms = {A: stage.now}
    assert consumer.wake() == 1
    assert stage.column("SELECT aggregateid FROM outbox") == [A]
