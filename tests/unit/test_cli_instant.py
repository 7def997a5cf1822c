"""What is looked at in which order: a backup is one instant, and a reconciliation of a moving city raises no false alarm."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from jietong.adapters.sqlite import SqliteStore, SqliteTransaction
from jietong.broker import Place, Record, Topic
from jietong.cli import backup
from jietong.delivery.reconcile import Report, reconcile
from jietong.delivery.tables import delivery
from jietong.store import Store
from jietong.testing import MemoryLog
from tests.unit.stage import CONTRACT, DECIDED, TOPICS, Stage


class Witness:
    """A reader that tries, as its snapshot begins, whether anyone could write to any database now."""

    def __init__(self, store: SqliteStore, files: Sequence[Path], wrote: list[Path]) -> None:
        self.store, self.files, self.wrote = store, files, wrote

    @contextmanager
    def snapshot(self) -> Generator[SqliteTransaction]:
        self.wrote += [file for file in self.files if can_write(file)]
        with self.store.snapshot() as tx:
            yield tx


def can_write(file: Path) -> bool:
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        db.execute("ROLLBACK")
        return True


def test_nobody_can_write_anywhere_from_the_first_snapshot_of_a_backup_to_the_last(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.db" for name in ("hookup", "log", "utility-jm-gas")]
    writers = [SqliteStore(file, delivery) for file in files]
    wrote: list[Path] = []
    readers = [Witness(SqliteStore(file, read_only=True), files, wrote) for file in files]
    with backup._instant(writers, readers):  # pyright: ignore[reportArgumentType]
        assert wrote == []
        assert all(can_write(file) for file in files), "the writers go on while the copies are made"
    for store in (*writers, *(reader.store for reader in readers)):
        store.close()


class Restless(MemoryLog):
    """A log beside which the city moves whenever it is looked at."""

    move: Callable[[], object] = staticmethod(lambda: None)

    def topic(self, name: str) -> Topic:
        found = super().topic(name)
        self.moves()
        return found

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        found = super().read(place, offset, limit)
        self.moves()
        return found

    def moves(self) -> None:
        move, self.move = self.move, lambda: None  # not while it moves
        move()
        self.move = move


def report(stage: Stage) -> Report:
    stores: dict[str, Store] = {"platform": stage.platform, "reader": stage.reader}
    return reconcile(stores, stage.log, CONTRACT)


def test_a_city_that_moves_at_every_look_adds_up() -> None:
    stage = Stage(Restless(TOPICS))
    stage.emit()
    stage.send()
    consumer = stage.consumer()

    def move() -> None:
        stage.emit()
        stage.send()
        consumer.step(0)

    assert isinstance(stage.log, Restless)
    stage.log.move = move
    seen = report(stage)
    assert seen.adds_up, seen
    assert [line.type for line in seen.written] == [DECIDED]
    assert seen.taken


def test_what_a_reader_knows_and_its_owner_never_wrote_is_counted() -> None:
    stage = Stage()
    for _ in range(3):
        stage.emit()
    stage.send()
    stage.consumer().step(0)
    assert report(stage).adds_up
    with stage.platform.transaction() as tx:
        tx.execute("DELETE FROM outbox WHERE sequence = 3")
        tx.execute("UPDATE counter SET sequence = 2")
        tx.execute("UPDATE total SET sequence = 2")
    [line] = report(stage).taken
    assert (line.ahead, line.adds_up) == (1, False)


def test_what_retention_has_taken_from_the_log_is_trimmed_not_missing() -> None:
    stage = Stage()
    for _ in range(3):
        stage.emit()
    stage.send()
    stage.consumer().step(0)
    place = next(Place(r.topic, r.partition) for r in stage.records())
    stage.log.retain(place, 1)
    [line] = report(stage).written
    assert (line.logged, line.trimmed, line.missing) == (1, 2, 0)
    assert report(stage).adds_up


def test_a_topic_made_anew_is_read_again_whatever_the_positions_say() -> None:
    stage = Stage()
    stage.emit()
    relay = stage.relayed()
    relay.step()
    stage.consumer().step(0)
    stage.log.recreate(DECIDED)
    stage.emit()
    relay.step()
    [written], [taken] = report(stage).written, report(stage).taken
    assert (written.logged, written.missing) == (1, 1), "until the relay looks around and sends everything again"
    assert (taken.settled, taken.to_read, taken.short) == (1, 1, 0)
