"""Each guarantee of DELIVERY alone, in one process and at once: what a mutant of `tests/mutations` must turn red."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from jietong import failpoint
from jietong.broker import Message
from jietong.delivery.draw import Draw
from jietong.delivery.heads import Heads
from jietong.delivery.relay import Relay
from jietong.errors import FencedError, InvalidEventError, RejectedError
from jietong.event import Draft, Event
from jietong.failpoint import Crash
from jietong.platform import Reading
from jietong.store import Transaction
from tests.faults.bench import APPROVAL, EXAMPLE, Bench, draft
from tests.faults.harness import told
from tests.faults.recorder import Recorder


@contextmanager
def dying_at(point: str) -> Generator[None]:
    failpoint.armed[point] = ("crash", 1)
    with pytest.raises(Crash):
        yield
    assert point not in failpoint.armed, "it was never passed"


def relay(bench: Bench, **more: Any) -> Relay:
    made = Relay(bench.outbox.source, bench.platform, bench.log, bench.contract, lambda: bench.now, **more)
    made.start()
    return made


# -- outbox and relay --------------------------------------------------------------------------------------------------
def test_the_head_is_in_the_log_before_the_rows_it_announces(bench: Bench) -> None:
    one = relay(bench)
    [event] = bench.commit(draft())
    with dying_at("relay.before_send"):
        one.step()
    head = Heads(bench.log, bench.contract).read()[bench.outbox.source].head
    assert (head.newest, head.counts) == (str(event.id), {APPROVAL: 1})
    assert bench.records() == []


def test_a_row_is_marked_only_when_the_log_has_it(bench: Bench) -> None:
    one = relay(bench)
    bench.commit(draft())
    with dying_at("relay.before_send"):
        one.step()
    with dying_at("relay.after_ack"):
        relay(bench).step()
    bench.flow()
    assert len(bench.records()) == 2, "sent before it died, and again by its successor"
    bench.judged()


class Grudging:
    """A log that acknowledges every record but one."""

    def __init__(self, bench: Bench, refused: int) -> None:
        self.bench, self.refused = bench, refused

    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        if len(messages) <= self.refused:
            return self.bench.log.append(messages)
        self.bench.log.append([message for n, message in enumerate(messages) if n != self.refused])
        return [n != self.refused for n in range(len(messages))]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bench.log, name)


def test_what_follows_an_unacknowledged_row_of_its_stream_is_sent_again_after_it(bench: Bench) -> None:
    bench.send()
    bench.commit(*(draft(1) for _ in range(4)), draft(2))
    one = Relay(bench.outbox.source, bench.platform, Grudging(bench, 1), bench.contract, lambda: bench.now)
    one.start()
    assert one.step().rows == 2, "the first of its stream, and the one of another"
    with bench.platform.snapshot() as tx:
        assert tx.execute("SELECT sequence FROM unsent JOIN outbox USING (n) ORDER BY n").all() == [(2,), (3,), (4,)]
    bench.flow()
    bench.judged()
    assert bench.reader.counts.duplicates == 2


class Watched:
    """A transaction that remembers which streams' counters it took, and in which order."""

    def __init__(self, tx: Transaction) -> None:
        self.tx, self.counters = tx, list[str]()

    def execute(self, sql: str, parameters: Mapping[str, Any]) -> Any:
        if sql.startswith("INSERT INTO counter"):
            self.counters.append(parameters["subject"])
        return self.tx.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)


def test_counters_are_taken_in_sorted_order_so_that_writers_never_deadlock(bench: Bench) -> None:
    with bench.platform.transaction() as tx:
        watched = Watched(tx)
        bench.outbox.add(watched, *(draft(n) for n in (5, 1, 4, 1, 3)))  # pyright: ignore[reportArgumentType]
    assert watched.counters == sorted(watched.counters), "unsorted locks deadlock"
    assert len(watched.counters) == 4


def test_a_command_repeated_after_an_unknown_outcome_gets_its_first_answer(bench: Bench) -> None:
    answers: list[Any] = []
    for _ in range(2):
        with bench.platform.transaction() as tx:
            answers.append(bench.outbox.once(tx, "command 1", draft()))
    assert answers[0] == answers[1]
    bench.flow()
    assert bench.judged().numbers["events"] == 1


@pytest.mark.parametrize(
    "wrong", [{"historical": "false"}, {"phase": True}, {"phase": 2**40}, {"valid_until": "2026-03-02"}]
)
def test_a_value_that_only_looks_right_is_refused_when_it_is_written(bench: Bench, wrong: dict[str, Any]) -> None:
    """F45: fastavro alone would write the first as true."""
    with pytest.raises(InvalidEventError, match=next(iter(wrong))):
        bench.commit(draft(**wrong))


# -- inbox and positions -----------------------------------------------------------------------------------------------
def test_of_two_copies_of_a_reader_the_second_is_fenced_and_has_done_nothing(bench: Bench) -> None:
    bench.commit(*(draft(n) for n in range(5)))
    bench.send()
    zombie = bench.reader
    bench.read()
    bench.reader._careful = False
    assert bench.reader.step(0) == 5
    with pytest.raises(FencedError):
        zombie.step(0)
    assert len(bench.done()) == 5
    bench.judged()


def test_streams_are_settled_in_sorted_order_so_that_readers_never_deadlock(bench: Bench) -> None:
    bench.log.append(bench.keep(*bench.commit(*(draft(n) for n in (7, 3, 5, 1, 6, 2, 4)))))
    assert bench.reader.step(0) == 7
    subjects = [key.subject for key in bench.done()]
    assert subjects == sorted(subjects), "unsorted locks deadlock"


def test_a_correction_settles_what_is_held_and_what_falls_later(bench: Bench) -> None:
    [first] = bench.commit_as(replace(bench.outbox.prepare(draft(1)), body=b"\x02"))
    bench.flow()
    assert bench.fates()[first.key] == "dead"
    [right] = bench.commit(replace(draft(1), supersedes=first.id))
    bench.flow()
    assert bench.fates() == {first.key: "superseded", right.key: "applied"}
    [second] = bench.commit_as(replace(bench.outbox.prepare(draft(2)), body=b"\x02"))
    bench.commit(replace(draft(2), supersedes=second.id))
    bench.flow()
    assert bench.fates()[second.key] == "superseded"
    bench.judged(superseded=(first, second))


def test_a_readable_copy_in_the_same_batch_stands_for_one_that_nobody_can_read(bench: Bench) -> None:
    [good] = bench.keep(*bench.commit(draft()))
    foul = replace(good, value=b"\0\xff\xff\xff\xff" + (good.value or b"")[5:])
    bench.log.append([foul, good])
    assert bench.reader.step(0) == 2
    assert len(bench.done()) == 1
    bench.judged()


def test_two_meanings_of_one_sequence_hold_the_stream_until_a_person_chooses(bench: Bench) -> None:
    [event, behind] = bench.commit(draft(1), draft(1))
    bench.keep(event)
    other = replace(
        bench.outbox.prepare(draft(1, decision="REFUSED")), key=event.key, id=event.id, recorded=event.recorded
    )
    for each in (event, other, behind):
        bench.log.append([bench.contract.message(each)])
        bench.flow()
    assert "conflict" in bench.alarms()
    assert len(bench.done()) == 1
    bench.ask("chosen", "resolve", **event.key.stream._asdict())
    assert len(bench.done()) == 2
    bench.judged()


def test_an_event_that_ends_its_process_twice_is_parked_and_tried_again_under_watch(bench: Bench) -> None:
    deadly = draft(3).subject
    bench.verdict = lambda event: die(event, deadly)
    events = bench.commit(*(draft(n) for n in range(6)))
    bench.send()
    deaths = 0
    while deaths < 6:
        try:
            bench.reader.step(0)
            break
        except Crash:
            deaths += 1
            bench.read()
    assert deaths == 3, "one in its batch, two alone"
    parked = next(event for event in events if event.key.subject == deadly)
    assert bench.fates()[parked.key] == "parked"
    assert len(bench.done()) == 5
    bench.judged(parked=(parked,))
    bench.verdict = lambda _: None
    bench.beat(61)
    assert len(bench.done()) == 6
    bench.judged()
    told(deaths=deaths)


def die(event: Event, subject: str) -> None:
    if event.subject == subject:
        raise Crash("memory is out")


def test_a_fault_undoes_its_own_effect_and_nobody_elses(bench: Bench) -> None:
    """The recorder has written before it refuses: the batch is done again knowing the verdict."""
    bench.verdict = lambda event: refuse(event, draft(1).subject)
    events = bench.commit(draft(0), draft(1), draft(2))
    bench.flow()
    assert {key.subject for key in bench.done()} == {draft(0).subject, draft(2).subject}
    bench.judged(parked=(events[1],))


def refuse(event: Event, subject: str) -> None:
    if event.subject == subject:
        raise RejectedError("not this one")


# -- reading tables that are not ours ------------------------------------------------------------------------------------
class Rows:
    """A platform's table: row → (stamp, content)."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, str]] = {}

    def read(self, after: str | None) -> Iterable[Reading]:
        return self._from(0 if after is None else int(after) - 10)

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        return [reading for reading in self._from(0) if reading.row in rows]

    def scan(self) -> Iterable[Reading]:
        return self._from(0)

    def gone(self, row: str, memo: str | None) -> Reading:
        return Reading(row, "")

    def _from(self, stamp: int) -> list[Reading]:
        found = sorted((at, row, content) for row, (at, content) in self.rows.items() if at >= stamp)
        return [Reading(row, content, [self._draft(row, content)], position=str(at)) for at, row, content in found]

    def _draft(self, row: str, content: str) -> Draft:
        data = {**EXAMPLE.data, "item_instance": row}
        return replace(draft(), data=data, about=("approval", row, content))


def test_a_row_read_again_says_nothing_new_and_a_late_one_is_found(bench: Bench) -> None:
    table = Rows()
    draw = Draw(table, bench.platform, bench.outbox)
    table.rows = {f"r{n}": (100 + n, "a") for n in range(5)}
    assert draw.step().events == 5
    assert draw.step().events == 0, "the overlap was read again"
    table.rows["late"] = (99, "a")
    assert draw.step().events == 1, "within the overlap"
    table.rows["very late"] = (1, "a")
    assert draw.step().events == 0
    assert draw.full().events == 1, "the full scan is the guarantee"
    table.rows["r1"] = (120, "b")
    assert draw.step().events == 1
    bench.flow()
    assert bench.judged().numbers["events"] == 8


def test_a_crash_between_two_readings_repeats_and_numbers_nothing_twice(bench: Bench) -> None:
    table = Rows()
    table.rows = {f"r{n}": (100 + n, "a") for n in range(5)}
    draw = Draw(table, bench.platform, bench.outbox)
    with dying_at("draw.before_commit"):
        draw.step()
    with dying_at("draw.after_commit"):
        draw.step()
    assert draw.step().events == 0
    bench.flow()
    assert bench.judged().numbers["events"] == 5
    assert isinstance(bench.reader.service, Recorder)
