"""The contract suites are themselves tested: fakes, each broken in one way, and the test that must notice it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from jietong.adapters.sqlite import SqliteTransaction
from jietong.broker import Bounds, Message, Place, Record, Topic, partition_of
from jietong.store import Parameters
from jietong.testing import BrokerContract, MemoryLog, MemoryReader, MemoryStore, StoreContract, notes

Wrapped = Callable[[SqliteTransaction], Any]


# -- stores --------------------------------------------------------------------------------------------------------------
class Store(MemoryStore):
    """A sound one, whose transactions a subclass may wrap."""

    wrap: Wrapped = staticmethod(lambda tx: tx)

    def __init__(self) -> None:
        super().__init__("notes", notes)

    @contextmanager
    def transaction(self) -> Generator[Any]:
        with super().transaction() as tx:
            yield self.wrap(tx)


class Through:
    """A transaction that hands everything on."""

    def __init__(self, tx: SqliteTransaction) -> None:
        self.tx = tx

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)


class DoesNotRollBack(Store):
    @contextmanager
    def transaction(self) -> Generator[Any]:
        failed: list[BaseException] = []
        with super().transaction() as tx:
            try:
                yield tx
            except BaseException as error:  # noqa: BLE001
                failed.append(error)
        for error in failed:
            raise error


class DoesNotCommit(Store):
    @contextmanager
    def transaction(self) -> Generator[Any]:
        with suppress(ZeroDivisionError), super().transaction() as tx:
            yield tx
            raise ZeroDivisionError


class RingsBeforeTheCommit(Store):
    class wrap(Through):  # noqa: N801
        def after_commit(self, ring: Any) -> None:
            ring.ring()


class RingsAfterARollback(Store):
    @contextmanager
    def transaction(self) -> Generator[Any]:
        wanted: list[Any] = []
        try:
            with super().transaction() as tx:
                tx.bells = wanted
                yield tx
        except BaseException:
            for bell in wanted:
                bell.ring()
            raise


class NeverRings(Store):
    class wrap(Through):  # noqa: N801
        def after_commit(self, ring: Any) -> None: ...


class LetsAValueBeCoerced(Store):
    class wrap(Through):  # noqa: N801
        def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
            fits = [{k: min(v, 2**63 - 1) if isinstance(v, int) else v for k, v in row.items()} for row in parameters]
            return self.tx.execute_many(sql, fits)


class IgnoresWhatIsAlreadyThere(Store):
    class wrap(Through):  # noqa: N801
        def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
            return self.tx.execute_many(sql.replace("INSERT INTO", "INSERT OR IGNORE INTO"), parameters)


class RaisesItsDriversOwnErrors(Store):
    class wrap(Through):  # noqa: N801
        def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
            return self.tx._db.executemany(sql, parameters).rowcount


class CountsNothing(Store):
    class wrap(Through):  # noqa: N801
        def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
            self.tx.execute_many(sql, parameters)
            return -1


class ForgetsTheWriterLock(Store):
    """Reads before it writes, with nothing held in between."""

    @contextmanager
    def transaction(self) -> Generator[Any]:
        yield Unlocked(self._db, self._lock)


class Unlocked:
    def __init__(self, db: sqlite3.Connection, lock: Any) -> None:
        self.db, self.lock = db, lock
        self.turn = threading.Event()

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}) -> Any:
        with self.lock:
            rows = SqliteTransaction(self.db).execute(sql, parameters)
        if sql.startswith("SELECT"):
            self.turn.wait(0.001)  # somebody else's turn: nothing is held
        return rows

    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        with self.lock:
            return SqliteTransaction(self.db).execute_many(sql, parameters)


STORES = {
    DoesNotRollBack: "test_an_exception_leaves_nothing",
    DoesNotCommit: "test_what_was_committed_is_there",
    RingsBeforeTheCommit: "test_a_bell_rings_after_the_commit_and_not_after_a_rollback",
    RingsAfterARollback: "test_a_bell_rings_after_the_commit_and_not_after_a_rollback",
    NeverRings: "test_a_bell_rings_after_the_commit_and_not_after_a_rollback",
    LetsAValueBeCoerced: "test_a_refused_value_is_the_events_own_fault",
    IgnoresWhatIsAlreadyThere: "test_a_refused_value_is_the_events_own_fault",
    RaisesItsDriversOwnErrors: "test_a_refused_value_is_the_events_own_fault",
    CountsNothing: "test_statements_say_how_many_rows_they_changed_and_return_what_they_wrote",
    ForgetsTheWriterLock: "test_writers_who_hold_the_same_name_wait_for_each_other",
}


# -- logs ----------------------------------------------------------------------------------------------------------------
class Log(MemoryLog):
    """A sound one, with the topics of the suite."""

    def __init__(self) -> None:
        super().__init__({"numbers": 3, "newest": 1})
        self.compacted = {"newest"}


class LosesTheOrderOfAKey(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        return super().append(list(reversed(messages)))


class AcknowledgesNothing(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        super().append(messages)
        return [False] * len(messages)


class DropsWhatItAcknowledged(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        super().append(messages[:-1] if len(messages) > 10 else messages)
        return [True] * len(messages)


class DuplicatesWhatItIsGiven(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        super().append(messages)
        return super().append(messages)


class ReusesOffsets(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        done = super().append(messages)
        for place, records in self._records.items():
            self._records[place] = [replace(r, offset=r.offset - r.offset % 2) for r in records]
        return done


class ForgetsHeaders(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        return super().append([replace(m, headers=()) for m in messages])


class KeepsOneHeaderOfEachName(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        return super().append([replace(m, headers=tuple(dict(m.headers).items())) for m in messages])


class TakesHeadersForText(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        return super().append(
            [
                replace(m, headers=tuple((k, v.decode("utf-8", "replace").encode()) for k, v in m.headers))
                for m in messages
            ]
        )


class TakesATombstoneForAnEmptyValue(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        return super().append([replace(m, value=m.value or b"") for m in messages])


class NeverCompacts(Log):
    def __init__(self) -> None:
        super().__init__()
        self.compacted = set()

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        return sorted(super().read(place, offset, limit), key=lambda r: r.value or b"", reverse=place.topic == "newest")


class ForgetsTheNewestOfAKey(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        if messages[0].topic == "newest" and self.everything("newest"):
            return [True] * len(messages)
        return super().append(messages)


class ChoosesAnotherPartition(Log):
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        super().append(messages)
        for p in range(3):
            for r in [r for r in self._records[Place("numbers", p)] if partition_of(r.key, 3) == p]:
                self._records[Place("numbers", p)].remove(r)
                self._records[Place("numbers", (p + 1) % 3)].append(replace(r, partition=(p + 1) % 3))
        return [True] * len(messages)


class NamesEveryTopicAlike(Log):
    def topic(self, name: str) -> Topic:
        return replace(super().topic(name), id="1")


class NamesATopicAnewEachTime(Log):
    asked = 0

    def topic(self, name: str) -> Topic:
        self.asked += 1
        return replace(super().topic(name), id=f"{name} {self.asked}")


class SaysItHoldsOneMore(Log):
    def topic(self, name: str) -> Topic:
        found = super().topic(name)
        return replace(found, bounds={p: Bounds(b.start, b.end + 1) for p, b in found.bounds.items()})


class ReadsFromTheBeginning(Log):
    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        return super().read(place, 0, limit)


class KnowsEveryTopic(Log):
    def topic(self, name: str) -> Topic:
        return super().topic(name) if name in self._ids else Topic(name, "new", {0: Bounds(0, 0)})


class Reading(Log):
    """Its readers are broken, itself is sound."""

    kind: type[MemoryReader]

    def reader(self, group: str, topics: Sequence[str]) -> MemoryReader:
        reader = self.kind(self, topics)
        self._readers.append(reader)
        return reader


class IgnoresSeek(Reading):
    class kind(MemoryReader):  # noqa: N801
        def seek(self, place: Place, offset: int) -> None:
            self._next.setdefault(place, offset)


class ReturnsMoreThanItWasAskedFor(Reading):
    class kind(MemoryReader):  # noqa: N801
        def poll(self, seconds: float, limit: int) -> Sequence[Record]:
            return super().poll(seconds, limit + 1)


class SkipsWhatDidNotFitTheLimit(Reading):
    class kind(MemoryReader):  # noqa: N801
        def poll(self, seconds: float, limit: int) -> Sequence[Record]:
            return super().poll(seconds, 10_000)[:limit]


class ReadsTheSameAgain(Reading):
    class kind(MemoryReader):  # noqa: N801
        def poll(self, seconds: float, limit: int) -> Sequence[Record]:
            here = dict(self._next)
            records = super().poll(seconds, limit)
            self._next = here
            return records


class HoldsOnePartitionOnly(Reading):
    class kind(MemoryReader):  # noqa: N801
        def assigned(self) -> frozenset[Place]:
            return frozenset([Place("numbers", 0)])

        def poll(self, seconds: float, limit: int) -> Sequence[Record]:
            return super().poll(0, limit)  # nothing will come: do not wait for it


class LooksOnceAndNeverAgain(Reading):
    class kind(MemoryReader):  # noqa: N801
        def poll(self, seconds: float, limit: int) -> Sequence[Record]:
            return () if seconds else super().poll(0, limit)


LOGS = {
    LosesTheOrderOfAKey: "test_a_key_keeps_its_order_and_its_partition",
    AcknowledgesNothing: "test_a_key_keeps_its_order_and_its_partition",
    DropsWhatItAcknowledged: "test_a_key_keeps_its_order_and_its_partition",
    DuplicatesWhatItIsGiven: "test_a_key_keeps_its_order_and_its_partition",
    ReusesOffsets: "test_a_record_comes_back_byte_for_byte",
    ForgetsHeaders: "test_a_record_comes_back_byte_for_byte",
    KeepsOneHeaderOfEachName: "test_a_record_comes_back_byte_for_byte",
    TakesHeadersForText: "test_a_record_comes_back_byte_for_byte",
    TakesATombstoneForAnEmptyValue: "test_a_record_comes_back_byte_for_byte",
    NeverCompacts: "test_a_compacted_topic_keeps_the_newest_of_each_key",
    ForgetsTheNewestOfAKey: "test_a_compacted_topic_keeps_the_newest_of_each_key",
    ChoosesAnotherPartition: "test_a_key_keeps_its_order_and_its_partition",
    NamesEveryTopicAlike: "test_bounds_say_what_is_there",
    NamesATopicAnewEachTime: "test_bounds_say_what_is_there",
    SaysItHoldsOneMore: "test_bounds_say_what_is_there",
    ReadsFromTheBeginning: "test_bounds_say_what_is_there",
    KnowsEveryTopic: "test_a_topic_that_is_not_there_is_said_so",
    IgnoresSeek: "test_a_reader_reads_on_from_where_it_was_told",
    ReturnsMoreThanItWasAskedFor: "test_a_reader_reads_on_from_where_it_was_told",
    SkipsWhatDidNotFitTheLimit: "test_a_reader_reads_on_from_where_it_was_told",
    ReadsTheSameAgain: "test_a_reader_reads_on_from_where_it_was_told",
    HoldsOnePartitionOnly: "test_a_reader_reads_on_from_where_it_was_told",
    LooksOnceAndNeverAgain: "test_an_append_wakes_a_reader_that_waits",
}


def failing(suite: type, opens: Callable[[], object]) -> set[str]:
    """The tests of a suite that this fake does not pass, by name."""
    red: set[str] = set()
    for name in (name for name in dir(suite) if name.startswith("test_")):
        try:
            getattr(suite(), name)(opens)
        except Exception:  # noqa: BLE001 — a failed assertion, or whatever the fake led the test to
            red.add(name)
    return red


def test_a_sound_twin_passes_every_test_of_its_suite() -> None:
    assert failing(StoreContract, Store) == set()
    assert failing(BrokerContract, Log) == set()


@pytest.mark.parametrize(("fake", "test"), STORES.items(), ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_broken_store_is_noticed(fake: type[Store], test: str) -> None:
    assert test in failing(StoreContract, fake)


@pytest.mark.parametrize(("fake", "test"), LOGS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_log_is_noticed(fake: type[Log], test: str) -> None:
    assert test in failing(BrokerContract, fake)


def test_every_test_of_the_suites_is_the_one_that_notices_something() -> None:
    """A test that no fake can fail is a check that can never fail."""
    for suite, fakes in ((StoreContract, STORES), (BrokerContract, LOGS)):
        assert {name for name in dir(suite) if name.startswith("test_")} == set(fakes.values()), suite.__name__
