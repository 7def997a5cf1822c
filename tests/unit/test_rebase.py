"""Rebase, rule by rule: what comes back, what stops it, what moves; a service that learns in silence; the command."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import connectors.investment.__main__ as investment
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from connectors.investment.platform import Application, Platform
from jietong import city, settings, up
from jietong.adapters.embedded import EmbeddedLog
from jietong.catalog import HEADS, RESEND
from jietong.cli.app import run
from jietong.delivery import heads, inbox, outbox, quiet
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.rebase import Plan, Rebase
from jietong.delivery.reconcile import reconcile
from jietong.engine import Engine
from jietong.errors import LostError, RewoundError
from jietong.event import Draft, Event, Stream, derived_id
from jietong.store import Store, Transaction
from tests.unit.stage import (
    CONTRACT,
    DECIDED,
    EPOCH,
    PLATFORM,
    READER,
    UNDECODABLE,
    A,
    B,
    Recorder,
    Stage,
    dying,
    key,
    moment,
)

POINTS = ("rebase.before_transaction", "rebase.before_commit", "rebase.before_head", "rebase.after_head")


@pytest.fixture
def stage() -> Iterable[Stage]:
    made = Stage()
    yield made
    made.close()


def rebasing(stage: Stage) -> Rebase:
    return Rebase(PLATFORM, stage.platform, stage.log, CONTRACT, lambda: stage.now)


def rebased(stage: Stage, *asked: Store) -> Plan:
    return rebasing(stage).run(asked or None)


def read(stage: Stage) -> None:
    consumer = stage.consumer()
    while consumer.step(0):
        pass


def rows(stage: Stage, subject: str = A) -> list[tuple[int, UUID, bool]]:
    with stage.platform.snapshot() as tx:
        found = tx.execute(
            f"SELECT sequence, id, {outbox.SENT} FROM outbox WHERE aggregateid = :s ORDER BY sequence", {"s": subject}
        ).all()
    return [(row[0], UUID(row[1]), bool(row[2])) for row in found]


def dumped(store: Any) -> list[str]:
    """Everything in a database but the numbers of its rows."""
    return sorted(line for line in store._db.iterdump() if "sqlite_sequence" not in line)


# -- what comes back ---------------------------------------------------------------------------------------------------------
def test_what_the_log_has_comes_back_sent_under_its_old_sequence(stage: Stage) -> None:
    backup = stage.platform.copy()
    first, other, second = stage.emit(A), stage.emit(B), stage.emit(A)
    stage.send()
    stage.platform.restore(backup)
    with pytest.raises(RewoundError, match="jietong outbox rebase platform"):
        stage.relayed()
    rebased(stage)
    assert rows(stage) == [(1, first, True), (2, second, True)]
    assert rows(stage, B) == [(1, other, True)]
    with stage.platform.snapshot() as tx:
        assert outbox.head(tx).counts == {DECIDED: 3}
    stage.emit(A)
    stage.send()
    read(stage)
    assert stage.fates() == ["applied"] * 3


def test_a_database_that_lacks_nothing_is_left_as_it_is(stage: Stage) -> None:
    stage.emit()
    stage.send()
    stage.emit()
    before = dumped(stage.platform)
    assert not rebased(stage).needed
    assert dumped(stage.platform) == before


def test_what_nobody_can_read_comes_back_as_bytes(stage: Stage) -> None:
    backup = stage.platform.copy()
    stage.emit(body=UNDECODABLE)
    stage.send()
    stage.platform.restore(backup)
    rebased(stage)
    assert stage.column("SELECT payload FROM outbox", stage.platform) == [UNDECODABLE]


def test_a_damaged_copy_is_none(stage: Stage) -> None:
    backup = stage.platform.copy()
    stage.emit()
    stage.send()
    stage.log.damage(stage.records()[0])
    stage.platform.restore(backup)
    with pytest.raises(LostError, match=r"1 of test\.decided\.v1"):
        rebased(stage)


def test_rows_that_had_left_after_the_backup_are_not_written_anew(stage: Stage) -> None:
    first = stage.emit()
    backup = stage.platform.copy()
    stage.emit()
    stage.send()
    stage.platform.restore(backup)
    rebased(stage)
    assert len(rows(stage)) == 2
    assert rows(stage)[0][1] == first


def test_an_earlier_row_that_is_gone_is_noticed_and_brought_back_though_the_newest_is_here(stage: Stage) -> None:
    """In PostgreSQL ids become visible out of order: the newest may be in a backup and one before it not."""
    lost = stage.emit(B)
    stage.emit(A)
    stage.send()
    with stage.platform.transaction() as tx:
        tx.execute("DELETE FROM outbox WHERE aggregateid = :b", {"b": B})
        outbox.recount(tx, {Stream(PLATFORM, DECIDED, B): 0})
    with pytest.raises(RewoundError):
        stage.relayed()
    rebased(stage)
    assert rows(stage, B) == [(1, lost, True)]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_and_repeated_it_ends_the_same(stage: Stage, point: str) -> None:
    stage.emit()
    stage.send()
    backup = stage.platform.copy()
    stage.emit(A)
    stage.emit(B)
    stage.send()
    stage.platform.restore(backup)
    new = stage.emit(A, "new")
    with dying(point):
        rebased(stage)
    rebased(stage)
    assert [n for n, _, _ in rows(stage)] == [1, 2, 3]
    assert rows(stage)[2] == (3, new, False)
    before = dumped(stage.platform)
    rebased(stage)
    assert dumped(stage.platform) == before
    stage.send()
    read(stage)
    assert stage.fates() == ["applied"] * 3


# -- written again ---------------------------------------------------------------------------------------------------------
def named(subject: str, what: str, about: str) -> Draft:
    return Draft(type=DECIDED, subject=subject, time=moment(EPOCH), data={"what": what}, about=(about,))


def test_a_row_that_is_read_again_is_the_event_that_left(stage: Stage) -> None:
    """Its second writing, with another nonce, in another place, gives way to the first; and after the rebase there is none."""
    backup = stage.platform.copy()
    stage.emit(A)
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, named(A, "sealed once", "row 7"))
    stage.send()
    stage.platform.restore(backup)
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, named(A, "sealed again", "row 7"), named(A, "new", "row 8"))
    assert len(rebased(stage).dropped) == 1
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, named(A, "sealed a third time", "row 7"), named(A, "newer", "row 9"))
    ids = [derived_id(PLATFORM, DECIDED, f"row {n}") for n in (7, 8, 9)]
    assert [(n, id) for n, id, _ in rows(stage)][1:] == [(2, ids[0]), (3, ids[1]), (4, ids[2])]
    stage.send()
    read(stage)
    assert stage.done()[1:] == ["sealed once", "new", "newer"]


def test_a_database_once_found_to_be_restored_stays_so_until_it_is_rebased(stage: Stage) -> None:
    """A connector that reads its rows again makes up the count, and the newest id with it."""
    backup = stage.platform.copy()
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, named(A, "1", "row 1"), named(A, "2", "row 2"))
    stage.send()
    stage.platform.restore(backup)
    with pytest.raises(RewoundError):
        stage.relayed()
    with stage.platform.transaction() as tx:
        stage.outbox.add(tx, named(A, "2", "row 2"), named(A, "3", "row 3"))
        stage.outbox.add(tx, named(A, "4", "row 4"))
    with pytest.raises(RewoundError):
        stage.relayed()
    rebased(stage)
    stage.send()
    read(stage)
    assert stage.done() == ["1", "2", "3", "4"]


def test_another_event_that_says_the_same_is_another_event(stage: Stage) -> None:
    backup = stage.platform.copy()
    first = stage.emit(what="same")
    stage.send()
    stage.platform.restore(backup)
    second = stage.emit(what="same")
    rebased(stage)
    assert rows(stage) == [(1, first, True), (2, second, False)]
    waits = stage.column("SELECT sequence FROM unsent LEFT JOIN outbox USING (n)", stage.platform)
    assert waits == [2], "the row it was before it moved waits no longer"


# -- the stop, and what readers know ------------------------------------------------------------------------------------------
def lost(stage: Stage) -> tuple[UUID, UUID]:
    """1 is in the backup, 2 was read, and then the log lost both; 2 is restored away. Returns their ids."""
    first = stage.emit()
    stage.send()
    backup = stage.platform.copy()
    second = stage.emit()
    stage.send()
    read(stage)
    stage.log.recreate(DECIDED)
    stage.platform.restore(backup)
    return first, second


def test_less_than_was_announced_stops_and_changes_nothing(stage: Stage) -> None:
    lost(stage)
    before = dumped(stage.platform), len(stage.records(HEADS))
    with pytest.raises(LostError, match="ask each"):
        rebased(stage)
    assert (dumped(stage.platform), len(stage.records(HEADS))) == before


def test_what_a_reader_has_comes_back_as_it_was(stage: Stage) -> None:
    first, second = lost(stage)
    new = stage.emit(what="since")
    plan = rebased(stage, stage.reader)
    assert (plan.given, plan.voids, plan.missing) == ([key(2)], [], {})
    assert rows(stage) == [(1, first, True), (2, second, True), (3, new, False)]


def test_a_sequence_that_nobody_has_is_a_void_that_readers_step_over(stage: Stage) -> None:
    backup = stage.platform.copy()
    stage.emit(what="never seen")
    stage.send()
    stage.log.damage(stage.records()[0])
    stage.emit(what="seen")
    stage.send()
    read(stage)
    stage.platform.restore(backup)
    new = stage.emit(what="since")
    plan = rebased(stage, stage.reader)
    assert [e.key for e in plan.voids] == [key(1)]
    assert rows(stage)[2] == (3, new, False)
    with stage.platform.transaction() as tx:
        outbox.resend(tx, PLATFORM, DECIDED, A, 0)
    stage.send()
    read(stage)
    assert stage.fates() == ["skipped", "applied", "applied"]
    assert stage.done() == ["seen", "since"]


def test_a_void_is_final_though_a_reader_that_was_passed_over_has_the_event(stage: Stage) -> None:
    """To give it back would be a second meaning for all that have stepped over it."""
    backup = stage.platform.copy()
    stage.emit(what="only one has it")
    stage.send()
    read(stage)
    stage.log.recreate(DECIDED)
    stage.emit(what="seen by all")
    stage.send()
    stage.platform.restore(backup)
    rebasing(stage).run([])
    plan = rebased(stage, stage.reader)
    assert not plan.back
    with stage.platform.transaction() as tx:
        outbox.resend(tx, PLATFORM, DECIDED, A, 0)
    stage.send()
    read(stage)
    assert "conflict" not in stage.alarms()


def test_a_reader_that_began_behind_a_sequence_keeps_it_from_being_given_again(stage: Stage) -> None:
    read(stage)
    backup = stage.platform.copy()
    stage.emit()
    with stage.platform.snapshot() as tx:
        message = heads.message(CONTRACT, PLATFORM, outbox.head(tx), EPOCH)
    stage.log.append([message])  # announced for a reader that begins here; the row itself never left
    with stage.reader.transaction() as tx:
        inbox.stand(tx, [(Stream(PLATFORM, DECIDED, A), inbox.Standing(1, 1))])
    stage.platform.restore(backup)
    new = stage.emit(what="since")
    plan = rebased(stage, stage.reader)
    assert [e.key for e in plan.voids] == [key(1)]
    assert rows(stage)[1] == (2, new, False)
    stage.send()
    read(stage)
    assert stage.done() == ["since"]


def test_two_meanings_in_the_log_are_told_and_the_first_one_stands(stage: Stage) -> None:
    backup = stage.platform.copy()
    stage.emit(what="first")
    stage.send()
    stage.platform.restore(backup)
    stage.emit(what="second")
    with stage.platform.snapshot() as tx:
        stage.log.append([CONTRACT.message(e) for _, e in outbox.pending(tx, 1)])
    stage.platform.restore(backup)
    plan = rebased(stage)
    assert plan.contradicted == [key(1)]
    assert CONTRACT.decode(plan.back[0]).data == {"what": "first"}


def test_what_was_asked_before_is_answered_by_asking_everybody(stage: Stage) -> None:
    """A reader that is gone for ever must not keep the owner standing still."""
    lost(stage)
    asks = Completeness([DECIDED], stage.reader, stage.own, heads.Heads(stage.log, CONTRACT))
    asks.beat(0)
    draft = Draft(
        type=RESEND,
        subject=PLATFORM,
        time=moment(EPOCH),
        data={"type": DECIDED, "subject": None, "after": 9, "asked_by": READER},
    )
    envelope = replace(stage.own.prepare(draft), recorded=EPOCH)
    stage.log.append([CONTRACT.message(replace(envelope, key=envelope.key._replace(sequence=1)))])
    rebasing(stage).run([])
    stage.send()
    assert not any("knows more" in alarm for alarm in stage.alarms(stage.platform))


# -- its head is not in the log -----------------------------------------------------------------------------------------------
def test_a_lost_head_alone_stops_nobody(stage: Stage) -> None:
    stage.emit()
    stage.send()
    stage.log.recreate(HEADS)
    stage.emit()
    stage.send()
    read(stage)
    assert stage.fates() == ["applied"] * 2


def test_a_head_and_a_database_lost_together_are_seen_from_the_log(stage: Stage) -> None:
    backup = stage.platform.copy()
    stage.emit()
    stage.send()
    stage.log.recreate(HEADS)
    stage.platform.restore(backup)
    stage.emit()
    with pytest.raises(RewoundError):
        stage.relayed()
    with pytest.raises(LostError, match="its head is not in the log"):
        rebased(stage)
    rebased(stage, stage.reader)
    stage.send()
    read(stage)
    assert stage.fates() == ["applied"] * 2


def test_a_newer_backup_of_the_time_before_a_rebase_is_noticed_too(stage: Stage) -> None:
    """It has every id that was known then, but not the void."""
    older = stage.platform.copy()
    stage.emit(what="1")
    stage.send()
    stage.log.damage(stage.records()[0])
    stage.emit(what="2")
    stage.send()
    newer = stage.platform.copy()
    stage.platform.restore(older)
    rebased(stage, stage.reader)
    stage.send()
    stage.platform.restore(newer)
    with pytest.raises(RewoundError):
        stage.relayed()


# -- learning in silence -------------------------------------------------------------------------------------------------------
class Speaker(Recorder):
    """Says one thing of each event it learns; and of each subject when it reconciles."""

    def __init__(self) -> None:
        super().__init__(DECIDED)
        self.wants = lambda event: [named(event.subject, f"of {event.sequence}", f"{event.subject} {event.sequence}")]
        self.remembered: list[str] = []

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        if cause:
            return self.wants(cause)
        return [replace(named(subject, "reconciled", f"{subject} again"), type="test.noted.v1")]

    def remember(self, tx: Transaction, event: Event) -> None:
        self.remembered.append(event.data["what"])

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return [A, B]


def silent(stage: Stage) -> Consumer:
    """A service that has lost its database, after its outbox was rebased."""
    with stage.reader.transaction() as tx:
        quiet.begin(tx, "reader", stage.now)
    return stage.consumer(batch=1)


def said(stage: Stage) -> list[str]:
    return [CONTRACT.decode(outbox.envelope_of(row)).data["what"] for row in _outbox(stage)]


def _outbox(stage: Stage) -> list[Any]:
    with stage.reader.snapshot() as tx:
        return tx.execute(f"SELECT {outbox.COLUMNS} FROM outbox ORDER BY n").all()


@pytest.fixture
def speaking() -> Iterable[Stage]:
    made = Stage(service=Speaker())
    yield made
    made.close()


def test_it_speaks_again_only_when_it_has_read_to_the_end_and_then_once_of_every_subject(speaking: Stage) -> None:
    for n in range(3):
        speaking.emit(A, str(n))
    speaking.send()
    consumer = silent(speaking)
    assert speaking.alarms() == ["quiet"]
    for _ in range(3):
        assert consumer.step(0)
        assert not consumer.wake()
        assert said(speaking) == []
        if speaking.fates() != ["applied"] * 3:
            consumer.beat()
    consumer.beat()
    consumer.beat()
    assert consumer.wake() == 2
    assert said(speaking) == ["reconciled", "reconciled"]
    assert consumer.wake() == 0
    assert speaking.column("SELECT count(*) FROM mark WHERE name IN ('quiet', 'reconcile')") == [0]
    assert speaking.alarms() == []
    speaking.emit(A, "new")
    speaking.send()
    consumer.step(0)
    assert said(speaking)[2:] == ["of 4"]


def test_a_reconciliation_that_is_cut_short_goes_on_behind_the_last_subject(
    speaking: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "AT_ONCE", 1)
    consumer = silent(speaking)
    consumer.beat()
    consumer.beat()
    assert consumer.wake() == 1
    with dying("consumer.before_commit"):
        consumer.wake()
    again = speaking.consumer()
    assert [again.wake(), again.wake()] == [1, 0]
    assert said(speaking) == ["reconciled", "reconciled"]


def test_what_is_held_or_announced_and_not_here_keeps_it_silent(speaking: Stage) -> None:
    speaking.emit(A, body=UNDECODABLE)
    speaking.send()
    speaking.emit(B)
    relay = speaking.relayed()
    with dying("relay.before_send"):
        relay.step()  # its head is announced
    consumer = silent(speaking)
    consumer.step(0)
    for _ in range(3):
        consumer.beat()
    with speaking.reader.transaction() as tx:
        assert quiet.silent(tx)
        inbox.skip(tx, key(1), "test", "bad bytes", speaking.now)
    consumer.drain_stored([key(1).stream])
    consumer.beat()
    with speaking.reader.snapshot() as tx:
        assert quiet.silent(tx), "one is announced that has not come"
    speaking.send()
    consumer.step(0)
    consumer.beat()
    with speaking.reader.snapshot() as tx:
        assert not quiet.silent(tx)


def test_traffic_that_never_rests_does_not_keep_it_silent_for_ever(speaking: Stage) -> None:
    speaking.emit(A)
    speaking.send()
    consumer = silent(speaking)
    for n in range(4):
        speaking.emit(B, str(n))
        speaking.send()
        consumer.step(0)
        consumer.beat()
    with speaking.reader.snapshot() as tx:
        assert not quiet.silent(tx)


def test_a_service_remembers_what_it_had_said_but_not_what_cannot_be_read_nor_deliverys_own(speaking: Stage) -> None:
    own, backup = speaking.own, speaking.reader.copy()
    with speaking.reader.transaction() as tx:
        own.add(tx, named(A, "asked", "1"))
        own.put(tx, [replace(own.prepare(named(A, "x", "2")), body=UNDECODABLE)])
        own.add(
            tx,
            Draft(
                type=RESEND,
                subject=PLATFORM,
                time=moment(EPOCH),
                data={"type": DECIDED, "subject": None, "after": 0, "asked_by": "x"},
            ),
        )
    with speaking.reader.snapshot() as tx:
        speaking.log.append([heads.message(CONTRACT, READER, outbox.head(tx), EPOCH)])
        speaking.log.append([CONTRACT.message(e) for _, e in outbox.pending(tx, 9)])
    speaking.reader.restore(backup)
    service: Any = speaking.service
    plan = Rebase(READER, speaking.reader, speaking.log, CONTRACT, lambda: speaking.now, service).run()
    assert len(plan.back) == 3
    assert service.remembered == ["asked"]
    with speaking.reader.snapshot() as tx:
        assert quiet.silent(tx)


# -- the command -----------------------------------------------------------------------------------------------------------------
MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
REGISTERED = "investment.project.registered.v1"


def opened(folder: Path) -> tuple[Engine, city.City]:
    return up.open_engine(settings.load(data=folder, city="jiangmen"))


class City:
    """Investment, hookup and the timeline on one folder, moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.engine, pack = opened(folder)
        self.programs = [
            program for made in (investment, hookup, timeline) for program in made.programs(self.engine, pack)
        ]
        store = self.engine.stores["investment"]
        self.investment = Platform(store, self.engine.outbox(store), self.engine.keys)

    def file(self, name: str) -> None:
        project = Application(name=name, site_regions=("440703",), authority_region="440703")
        code = self.investment.register(project, now=MORNING)
        self.investment.decide(code, "FILED", "江备〔2026〕1 号", now=MORNING)

    def move(self, rounds: int = 4) -> None:
        movements = [movement for program in self.programs for movement in program.movements]
        for movement in movements:
            movement.start()
        for _ in range(rounds):
            for movement in movements:
                movement.step(0)
                movement.beat()

    def close(self) -> None:
        for movement in (movement for program in self.programs for movement in program.movements):
            movement.stop()
        self.engine.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One project before the backups, one after; nothing restored yet. The backups lie beside it."""
    data, backups = tmp_path / "data", tmp_path / "backups"
    first = City(data)
    first.file("蓬江智造园")
    first.move()
    first.close()
    shutil.copytree(data, backups)
    second = City(data)
    second.file("潭江北岸")
    second.move()
    second.close()
    return data


def restored(folder: Path, program: str) -> None:
    for file in folder.glob(f"{program}.db*"):
        file.unlink()
    shutil.copyfile(folder.parent / "backups" / f"{program}.db", folder / f"{program}.db")


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def jietong(folder: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run([*arguments, "--data", str(folder)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def requests(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "hookup.db")) as db:
        return db.execute("SELECT count(*) FROM outbox WHERE type = 'utility.connection.requested.v1'").fetchone()[0]


def test_the_command_brings_a_platform_back_and_says_what_people_must_do(folder: Path, jietong: Call) -> None:
    assert jietong("outbox", "status")[0] == 0
    restored(folder, "investment")
    code, out, _ = jietong("outbox", "status", "--json")
    states = {row["program"]: row["state"] for row in json.loads(out)}
    assert (code, states["investment"], states["hookup"]) == (1, "restored from a backup", "good")
    before = (folder / "investment.db").read_bytes()
    code, out, _ = jietong("outbox", "rebase", "investment", "--dry-run", "--json")
    plan = json.loads(out)
    assert (code, plan["done"], plan["from_log"], plan["voids"]) == (0, False, 2, 0)
    assert (folder / "investment.db").read_bytes() == before
    code, out, _ = jietong("outbox", "rebase", "investment")
    assert code == 0
    assert "done: from_log 2" in out
    assert "entered again by hand" in out
    assert "cannot be known" in out
    assert jietong("outbox", "status")[0] == 0
    assert "nothing is missing" in jietong("outbox", "rebase", "investment")[1]


def test_the_command_stops_until_every_reader_was_asked_and_it_is_confirmed(folder: Path, jietong: Call) -> None:
    engine, _ = opened(folder)
    assert isinstance(engine.log, EmbeddedLog)
    engine.log.recreate(REGISTERED)
    engine.close()
    restored(folder, "investment")
    code, out, _ = jietong("outbox", "rebase", "investment")
    assert code == 1
    assert "--ask hookup --ask timeline --confirm" in out
    code, _, err = jietong("outbox", "rebase", "investment", "--ask", "timeline", "--confirm")
    assert code == 2
    assert "hookup: reads investment" in err
    asked = ("outbox", "rebase", "investment", "--ask", "timeline", "--ask", "hookup")
    code, out, _ = jietong(*asked)
    assert code == 1
    assert "nothing was written" in out
    assert jietong("outbox", "status")[0] == 1
    code, out, _ = jietong(*asked, "--confirm")
    assert code == 0
    assert "from_readers 2" in out
    again = City(folder)
    again.move()
    report = reconcile(again.engine.stores, again.engine.log, again.engine.contract)
    again.close()
    assert [line for line in (*report.written, *report.taken) if not line.adds_up] == []


def test_a_service_that_is_brought_back_asks_nobody_twice(folder: Path, jietong: Call) -> None:
    asked = requests(folder)
    restored(folder, "hookup")
    assert requests(folder) < asked
    code, _, err = jietong("outbox", "rebase", "hookup")
    assert (code, requests(folder)) == (0, asked), err
    assert any(row["speaks"] for row in json.loads(jietong("outbox", "status", "--json")[1]))
    again = City(folder)
    again.move()
    again.close()
    assert requests(folder) == asked
    assert not any(row["speaks"] for row in json.loads(jietong("outbox", "status", "--json")[1]))


def test_the_command_is_refused_beside_a_running_city_and_for_a_program_that_is_not_there(
    folder: Path, jietong: Call
) -> None:
    assert jietong("outbox", "rebase", "nobody")[0] == 2
    engine, _ = opened(folder)
    code, _, err = jietong("outbox", "rebase", "investment")
    engine.close()
    assert code == 2
    assert "stop the city first" in err
