"""Outbox, relay, heads: an event is born once, leaves in order, and a restored database is noticed before it speaks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from jietong.broker import Message, Record
from jietong.catalog import HEADS, RESEND
from jietong.delivery import heads, outbox
from jietong.delivery.relay import Relay, Sent
from jietong.delivery.runner import Relaying
from jietong.errors import InvalidEventError, RetriableError, RewoundError, UsageError
from jietong.event import Draft, derived_id, follow_up_id
from jietong.store import Transaction
from jietong.testing import MemoryLog, MemoryStore
from tests.unit.stage import CONTRACT, DECIDED, EPOCH, NOTED, PLATFORM, TOPICS, A, B, C, Stage, dying, key, moment


class Log(MemoryLog):
    """One that does not acknowledge what `refuses` says, and does not have it either."""

    refuses: Callable[[Message], bool] = staticmethod(lambda m: False)

    def __init__(self) -> None:
        super().__init__(TOPICS)
        self.calls: list[list[str]] = []

    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        self.calls.append(sorted({m.topic for m in messages}))
        acknowledged = [not self.refuses(m) for m in messages]
        super().append([m for m, ok in zip(messages, acknowledged, strict=True) if ok])
        return acknowledged


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def stage(log: Log) -> Stage:
    return Stage(log)


def draft(subject: str = A, type: str = DECIDED, what: str = "x", about: tuple[str, ...] = ()) -> Draft:
    return Draft(type=type, subject=subject, time=moment(EPOCH), data={"what": what}, about=about)


def unsent(stage: Stage) -> list[int]:
    return stage.column("SELECT n FROM unsent ORDER BY n", stage.platform)


# -- outbox ----------------------------------------------------------------------------------------------------------------
def test_a_stream_counts_from_one_without_a_hole(stage: Stage) -> None:
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, draft(A), draft(B), draft(A), draft(A, NOTED))
        stage.outbox.add(tx, draft(A))
        rows = outbox.pending(tx, 10)
    assert [(e.key.subject, e.key.type, e.key.sequence) for _, e in rows] == [
        (A, DECIDED, 1), (B, DECIDED, 1), (A, DECIDED, 2), (A, NOTED, 1), (A, DECIDED, 3),
    ]  # fmt: skip


def test_what_fails_takes_no_number(stage: Stage) -> None:
    stage.emit(A)
    with pytest.raises(KeyError), stage.platform.transaction() as tx:
        stage.outbox.add(tx, draft(A))
        raise KeyError
    stage.emit(A)
    assert stage.column("SELECT sequence FROM outbox ORDER BY n", stage.platform) == [1, 2]
    with stage.platform.snapshot() as tx:
        assert outbox.head(tx).counts == {DECIDED: 2}


@pytest.mark.parametrize("bad", [draft(what="\0"), draft("nobody"), draft("2106-440100-04-01-237448")])
def test_a_bad_fact_fails_in_its_own_transaction(stage: Stage, bad: Draft) -> None:
    with pytest.raises(InvalidEventError), stage.platform.transaction() as tx:
        stage.outbox.add(tx, draft(A), bad)
    assert unsent(stage) == []


def test_a_type_outside_the_catalogue_is_a_wrong_use(stage: Stage) -> None:
    with pytest.raises(UsageError), stage.platform.transaction() as tx:
        stage.outbox.add(tx, draft(type="nobody.v1"))


def test_a_retried_command_gets_its_first_result(stage: Stage) -> None:
    with stage.platform.transaction() as tx:
        first = stage.outbox.once(tx, "request-1", draft(A), draft(B))
    with stage.platform.transaction() as tx:
        assert stage.outbox.once(tx, "request-1", draft(C)) == first
        assert stage.outbox.once(tx, "request-2", draft(A)) != first
    assert len(unsent(stage)) == 3


def test_a_commit_rings_and_a_rollback_does_not(stage: Stage) -> None:
    stage.platform.bell.wait(0)
    with pytest.raises(KeyError), stage.platform.transaction() as tx:
        stage.outbox.add(tx, draft())
        raise KeyError
    assert not stage.platform.bell.wait(0)
    stage.emit(A)
    assert stage.platform.bell.wait(0)


def test_ids_are_made_of_what_they_are_about() -> None:
    cause = UUID("0197f0a0-1111-7222-8333-444455556666")
    assert follow_up_id(cause, "case", "1") == follow_up_id(cause, "case", "1")
    assert (
        len({follow_up_id(cause, "case", "1"), follow_up_id(cause, "case", "2"), follow_up_id(cause, "cas", "e1")}) == 3
    )
    assert follow_up_id(cause, "x").bytes[:6] == cause.bytes[:6], "it sorts beside its cause"
    assert follow_up_id(cause, "x").version == 8
    assert derived_id("a", "b") == derived_id("a", "b") != derived_id("ab")


def test_a_follow_up_of_whatever_was_read_can_be_read(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    [record] = stage.records()
    room = 16 * 1024 - sum(len(name) + len(value) for name, value in record.headers) - len("traceparent")
    cause = CONTRACT.decode(CONTRACT.envelope(replace(record, headers=(*record.headers, ("traceparent", b"0" * room)))))
    follow_up = replace(stage.own.prepare(draft(), cause), key=key(1))
    message = CONTRACT.message(follow_up)
    CONTRACT.envelope(Record(message.topic, 0, 0, message.key, message.value, message.headers))


# -- relay -------------------------------------------------------------------------------------------------------------------
def test_rows_leave_in_order_after_their_head(stage: Stage, log: Log) -> None:
    relay = stage.relayed()
    for what in "123":
        stage.emit(A, what)
    log.calls.clear()
    sent = relay.step()
    assert log.calls == [[HEADS], [DECIDED]], "the head first"
    assert (sent.rows, sent.more, unsent(stage)) == (3, False, [])
    assert [CONTRACT.decode(CONTRACT.envelope(r)).data["what"] for r in stage.records()] == ["1", "2", "3"]


def test_a_head_says_what_the_outbox_holds(stage: Stage, log: Log) -> None:
    stage.emit(A)
    stage.emit(A, type=NOTED)
    newest = stage.emit(B)
    stage.relayed(batch=1).step()
    found = heads.Heads(log, CONTRACT).read()[PLATFORM].head
    assert (found.newest, found.counts) == (str(newest), {DECIDED: 2, NOTED: 1}), "sent or not"


def test_a_head_is_announced_when_it_changes_and_once_a_minute(stage: Stage, log: Log) -> None:
    relay = stage.relayed()
    relay.step()
    log.calls.clear()
    relay.step()
    stage.now += 59_999
    relay.step()
    assert log.calls == []
    stage.now += 1
    relay.step()
    assert log.calls == [[HEADS]]


def test_nothing_leaves_before_its_head_is_acknowledged(stage: Stage, log: Log) -> None:
    """Else: a crash before the mark, a restore, a new write, and one sequence has two meanings."""
    log.refuses = lambda m: m.topic == HEADS
    relay = stage.relayed()
    stage.emit(A)
    with contextlib.suppress(RetriableError):
        relay.step()
    assert stage.records() == []


@pytest.mark.parametrize(
    "point",
    ["relay.after_head", "relay.before_send", "relay.after_ack", "relay.before_mark_commit", "relay.after_mark"],
)
def test_dying_anywhere_repeats_and_never_loses(stage: Stage, point: str) -> None:
    stage.emit(A, "1")
    stage.emit(A, "2")
    with dying(point):
        stage.relayed(batch=1).step()
    stage.send()
    found = [CONTRACT.envelope(r).key.sequence for r in stage.records()]
    assert sorted(set(found)) == [1, 2]
    assert [n for i, n in enumerate(found) if n not in found[:i]] == [1, 2], "in order"


def test_of_a_stream_only_what_lies_before_the_first_unacknowledged_is_marked(stage: Stage, log: Log) -> None:
    for what in "123":
        stage.emit(A, what)
        stage.emit(B, what)
    second = {b"00000000000000000002"}
    log.refuses = lambda m: m.key == A.encode() and dict(m.headers)["ce_sequence"] in second
    relay = stage.relayed()
    assert relay.step().rows == 4
    assert stage.column(
        "SELECT aggregateid || sequence FROM unsent JOIN outbox USING (n) ORDER BY n", stage.platform
    ) == [
        f"{A}2",
        f"{A}3",
    ]
    second.clear()
    relay.step()
    assert unsent(stage) == []


def test_a_partition_without_a_leader_makes_only_its_own_keys_wait(stage: Stage, log: Log) -> None:
    for _ in range(3):
        stage.emit(A)
    stage.emit(B)
    log.refuses = lambda m: m.key == A.encode() and m.topic == DECIDED
    relay = stage.relayed(batch=3)
    for _ in range(5):
        with contextlib.suppress(RetriableError):
            relay.step()
    assert [r.key for r in stage.records()] == [B.encode()]


def test_a_step_that_moved_nothing_does_not_ask_to_be_repeated_at_once(stage: Stage, log: Log) -> None:
    stage.emit(A)
    log.refuses = lambda m: m.topic == DECIDED
    with contextlib.suppress(RetriableError):
        assert not stage.relayed().step().more


def test_a_database_restored_from_a_backup_is_refused_before_it_speaks(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    backup = stage.platform.copy()
    stage.emit(A)
    stage.send()
    before = len(stage.records()), len(stage.records(HEADS))
    stage.platform.restore(backup)
    with pytest.raises(RewoundError, match="platform"):
        stage.relayed()
    assert before == (len(stage.records()), len(stage.records(HEADS)))


def test_a_restore_that_kept_the_newest_row_but_lost_an_earlier_one_is_noticed_too(stage: Stage) -> None:
    stage.emit(A)
    stage.emit(B)
    stage.send()
    with stage.platform.transaction() as tx:
        tx.execute("DELETE FROM outbox WHERE aggregateid = :a", {"a": A})
        tx.execute("UPDATE total SET sequence = 1")
    with pytest.raises(RewoundError):
        stage.relayed()


def test_a_restore_of_what_never_left_is_none(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    backup = stage.platform.copy()
    stage.emit(A)
    stage.platform.restore(backup)
    stage.send()
    assert unsent(stage) == []


def test_a_topic_made_anew_gets_everything_once_more(stage: Stage) -> None:
    stage.emit(A)
    stage.emit(B)
    stage.emit(A, type=NOTED)
    stage.send()
    stage.log.recreate(DECIDED)
    relay = stage.relayed()
    assert stage.alarms(stage.platform) == ["topic-renewed"]
    relay.step()
    assert (len(stage.records()), len(stage.records(NOTED))) == (2, 1)
    relay.beat()
    assert not relay.step().rows, "once"


def test_a_topic_made_anew_right_after_its_first_event_is_another_one_too(stage: Stage) -> None:
    """Its relay has not looked around since there was anything to look at."""
    relay = stage.relayed()
    stage.emit(A)
    relay.step()
    stage.log.recreate(DECIDED)
    relay.beat()
    assert stage.alarms(stage.platform) == ["topic-renewed"]
    relay.step()
    assert len(stage.records()) == 1


def asks(stage: Stage, type: str, subject: str | None, after: int, of: str = PLATFORM) -> None:
    data = {"type": type, "subject": subject, "after": after, "asked_by": "urn:jietong:440700:reader"}
    with stage.reader.transaction() as tx:
        stage.own.add(tx, Draft(type=RESEND, subject=of, time=moment(stage.now), data=data))
    relay = Relay(stage.own.source, stage.reader, stage.log, CONTRACT, lambda: stage.now)
    relay.start()
    relay.step()


class Late:
    """A store that lets no other thread begin a transaction before it is told to, or at all."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.now, self.away = store, threading.Event(), False

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def transaction(self) -> contextlib.AbstractContextManager[Transaction]:
        if threading.current_thread() is not threading.main_thread():
            assert self.now.wait(10), "nobody went on"
            if self.away:
                raise RetriableError("away")
        return self.store.transaction()


def beside(stage: Stage) -> tuple[Relay, Late]:
    """A relay on servers, in batches of three."""
    late = Late(stage.platform)
    relay = Relay(PLATFORM, late, stage.log, CONTRACT, lambda: stage.now, 3, servers=True)
    relay.start()
    return relay, late


def test_the_next_batch_leaves_while_a_full_one_is_marked(stage: Stage) -> None:
    for _ in range(4):
        stage.emit(A)
    relay, late = beside(stage)
    assert relay.step() == Sent(3, 0, True)
    assert unsent(stage) == [1, 2, 3, 4]
    stage.log.append = told(stage.log.append, late.now.set)
    assert relay.step() == Sent(1, 0, False)
    assert unsent(stage) == []
    assert [CONTRACT.envelope(r).key.sequence for r in stage.records()] == [1, 2, 3, 4]


def test_marks_that_fail_beside_are_a_failed_step_and_all_goes_again(stage: Stage) -> None:
    for _ in range(4):
        stage.emit(A)
    relay, late = beside(stage)
    late.away = True
    late.now.set()
    relay.step()
    with pytest.raises(RetriableError, match="away"):
        relay.step()
    late.away = False
    relay.start()
    while relay.step().more:
        pass
    assert unsent(stage) == []
    assert sorted(CONTRACT.envelope(r).key.sequence for r in stage.records()) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_what_is_asked_for_is_not_undone_by_marks_under_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jietong.delivery.relay.BETWEEN_LOOKS", 0.0)
    for _ in range(4):
        stage.emit(A)
    relay, late = beside(stage)
    relay.step()
    asks(stage, DECIDED, A, 1)
    monkeypatch.setattr(relay, "settle", told(relay.settle, late.now.set, first=True))
    assert relay.step().resent == 2, "the fourth waits already"
    assert unsent(stage) == []
    assert [CONTRACT.envelope(r).key.sequence for r in stage.records()] == [1, 2, 3, 2, 3, 4]


def told(do: Callable[..., Any], tell: Callable[[], object], first: bool = False) -> Callable[..., Any]:
    """It, telling so after, or before."""

    def does(*given: object) -> object:
        if first:
            tell()
        done = do(*given)
        tell()
        return done

    return does


def test_a_stream_asked_for_goes_again_after_its_sequence(stage: Stage) -> None:
    for _ in range(3):
        stage.emit(A)
        stage.emit(B)
    relay = stage.relayed()
    relay.step()
    asks(stage, DECIDED, A, 1)
    assert relay.step().resent == 2
    assert [CONTRACT.envelope(r).key.sequence for r in stage.records() if r.key == A.encode()] == [1, 2, 3, 2, 3]


def test_a_type_asked_for_sends_the_last_of_every_subject(stage: Stage) -> None:
    for _ in range(3):
        stage.emit(A)
    stage.emit(B)
    relay = stage.relayed()
    relay.step()
    asks(stage, DECIDED, None, 0)
    assert relay.step().resent == 2
    assert [CONTRACT.envelope(r).key[2:] for r in sorted(stage.records(), key=lambda r: r.key)][-1] == (B, 1)
    assert sorted(CONTRACT.envelope(r).key.sequence for r in stage.records() if r.key == A.encode()) == [1, 2, 3, 3]


def test_what_is_asked_of_another_is_not_answered(stage: Stage) -> None:
    stage.emit(A)
    relay = stage.relayed()
    relay.step()
    asks(stage, DECIDED, None, 0, of="urn:jietong:440700:another")
    assert relay.step().resent == 0


def test_garbage_among_the_requests_is_stepped_over(stage: Stage) -> None:
    stage.emit(A)
    relay = stage.relayed()
    relay.step()
    stage.log.append([Message(RESEND, PLATFORM.encode(), value) for value in (None, b"", b"\xff")])
    assert relay.step().resent == 0
    asks(stage, DECIDED, None, 0)
    assert relay.step().resent == 1


def test_a_second_relay_stands_by_and_takes_over(stage: Stage) -> None:
    free = [False]
    relaying = Relaying(
        Relay(PLATFORM, stage.platform, stage.log, CONTRACT, lambda: stage.now), stage.platform, lambda: free[0]
    )
    stage.emit(A)
    relaying.start()
    relaying.step(0)
    relaying.beat()
    relaying.stop()
    assert (stage.records(), stage.records(HEADS)) == ([], [])
    free[0] = True
    relaying.step(0)
    assert len(stage.records()) == 1


def test_a_relay_told_to_stop_lets_out_what_was_committed(stage: Stage) -> None:
    relaying = Relaying(stage.relayed(batch=1), stage.platform, lambda: True)
    relaying.start()
    relaying.step(0)
    for _ in range(3):
        stage.emit(A)
    relaying.stop()
    assert unsent(stage) == []


def test_a_bell_wakes_a_relay(stage: Stage) -> None:
    relaying = Relaying(stage.relayed(), stage.platform, lambda: True)
    relaying.start()
    relaying.step(0)
    writer = threading.Thread(target=stage.emit, args=(A,))
    writer.start()
    relaying.step(10)
    writer.join()
    relaying.step(0)
    assert len(stage.records()) == 1


# -- heads -------------------------------------------------------------------------------------------------------------------
def test_heads_read_on_and_survive_a_heads_topic_made_anew(stage: Stage, log: Log) -> None:
    reader = heads.Heads(log, CONTRACT)
    assert reader.read() == {}
    stage.emit(A)
    stage.send()
    assert reader.read()[PLATFORM].head.counts == {DECIDED: 1}
    log.append([Message(HEADS, b"junk", b"junk")])
    stage.emit(A)
    stage.send()
    assert reader.read()[PLATFORM].head.counts == {DECIDED: 2}
    log.recreate(HEADS)
    assert reader.read()[PLATFORM].head.counts == {DECIDED: 2}, "what was heard is not forgotten"
    stage.emit(A)
    stage.send()
    assert reader.read()[PLATFORM].head.counts == {DECIDED: 3}
