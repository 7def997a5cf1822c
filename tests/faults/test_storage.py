"""FAULTS.md, C and D: disks that are full or fail, databases and topics that are not what they were, zones."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import connectors.investment.__main__ as investment
from connectors.investment.platform import Application
from jietong import catalog
from jietong.broker import Place
from jietong.engine import Engine, Program, Running, embedded
from jietong.errors import RetriableError, RewoundError
from tests.faults.bench import APPROVAL, Bench, draft
from tests.faults.city import REGISTERED, History
from tests.faults.harness import City, Process, judged, rows, told, until
from tests.faults.recorder import Recorder, done

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
STRACE = (
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-o",
    os.devnull,
    "-e",
    "trace=fdatasync",
    "-e",
    "inject=fdatasync:error=EIO:when=",
)


# -- F24 ---------------------------------------------------------------------------------------------------------------
def test_f24_an_approval_on_a_full_platform_fails_and_makes_no_event(tmp_path: Path) -> None:
    engine = embedded(tmp_path, "440700", catalog.load())
    platform, program = investment.build(engine)
    history = History(tmp_path / "history.ndjson")

    def register(count: int, stage: str) -> None:
        for n in range(count):
            op = f"{stage}-{n}"
            app = Application(name="项目" * 200, site_regions=("440703",), authority_region="440703")
            row = {"file": "investment.db", "table": "handling", "where": {"command": op}, "subject": "code"}
            events = [[engine.urn("investment"), REGISTERED]]
            history.run(
                op, {"row": row, "events": events}, lambda app=app, op=op: platform.register(app, now=NOW, command=op)
            )

    register(10, "before")
    limit(engine, 2)
    register(30, "full")
    limit(engine, None)
    register(10, "after")
    store = engine.store("reader", done)
    outbox = engine.outbox(store)
    reader = Program(
        "reader", [engine.consume(Recorder("reader", REGISTERED), store, outbox), engine.relay(store, outbox)]
    )
    running = Running(engine, [program, reader]).start()
    verdict = judged(tmp_path)
    running.stop()
    engine.close()
    told(operations=verdict.numbers["operations"])
    assert verdict.numbers["operations"]["failed"] >= 5, "the disk was never full"
    assert verdict.numbers["events"] == verdict.numbers["operations"]["ok"] >= 20


def limit(engine: Engine, more: int | None) -> None:
    """Let the platform's database grow by so many pages and no further; None: as it likes."""
    store = engine.stores["investment"]
    with store.snapshot() as tx:
        pages = tx.execute("PRAGMA page_count").all()[0][0]
    store.close()
    store.limit_pages = None if more is None else pages + more


# -- F26 ---------------------------------------------------------------------------------------------------------------
def test_f26_after_an_io_error_in_a_commit_the_process_ends_and_what_it_did_is_unknown(
    start: Callable[..., City], tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        assert "CI" not in os.environ, "CI must have strace: apt-get install -y strace"
        pytest.skip("no strace on this machine: apt-get install -y strace")
    broken = start(
        "--seed", "broken", "--operations", "300", "--pace", "0.01", wrapper=(*STRACE[:-1], f"{STRACE[-1]}200+")
    )
    unknown(broken, start, tmp_path)


def test_f26_after_a_write_that_fails_in_a_commit_the_process_ends(start: Callable[..., City], tmp_path: Path) -> None:
    """The same without a tool: a file that may not grow refuses the write, and its commit fails."""
    broken = start("--seed", "broken", "--operations", "600", "--pace", "0.005", wrapper=("prlimit", "--fsize=1200000"))
    unknown(broken, start, tmp_path)


def unknown(broken: City, start: Callable[..., City], tmp_path: Path) -> None:
    """It ends saying so, without a traceback; what it was at may be there or not, and nothing is lost or done twice."""
    assert broken.ended() == os.EX_IOERR, broken.errors
    assert any("the disk failed during a commit" in line for line in broken.errors), broken.errors
    assert not any("Traceback" in line for line in broken.errors)
    whole = start("--seed", "whole", "--operations", "20")
    whole.line("worked")
    verdict = judged(tmp_path / "city")
    whole.stop()
    told(operations=verdict.numbers["operations"], committed=verdict.numbers["unknown but committed"])
    assert verdict.numbers["operations"]["ok"] > 20, "it failed before it had done anything"


# -- F30 ---------------------------------------------------------------------------------------------------------------
def test_f30_a_process_in_shanghai_and_one_in_utc_write_the_same_bytes(tmp_path: Path) -> None:
    said = {zone: day_in(zone, tmp_path) for zone in ("Asia/Shanghai", "UTC", "America/St_Johns")}
    one = said["UTC"]
    assert len(one) >= 6
    assert {row["type"] for row in one} == {APPROVAL, REGISTERED, "engineering.item.progressed.v1"}
    assert said["Asia/Shanghai"] == one
    assert said["America/St_Johns"] == one
    told(events=len(one), zones=len(said))


def day_in(zone: str, tmp_path: Path) -> list[dict[str, str]]:
    """A day of both platforms, in a process of that zone: what its log has."""
    folder = tmp_path / zone.replace("/", "-")
    process = Process(sys.executable, "-m", "tests.faults.day", str(folder), env={"TZ": zone})
    try:
        assert process.ended() == 0, process.errors
    finally:
        process.kill()
    return json.loads((folder / "said.json").read_text("utf-8"))


# -- databases and topics that are not what they were ------------------------------------------------------------------
def test_a_platform_restored_from_a_backup_is_not_let_speak_until_a_newer_one_is_there(bench: Bench) -> None:
    path, backup, newer = bench.platform.path, bench.folder / "backup", bench.folder / "newer"
    bench.commit(draft(1), draft(2))
    bench.flow()
    bench.platform.backup(backup)
    bench.commit(draft(1), draft(3))
    bench.flow()
    bench.platform.backup(newer)
    put_back(bench, path, backup)
    before = len(bench.records())
    bench.items = 100
    bench.commit(draft(3), draft(3))  # work goes on: sequences that others have with another meaning
    running = Running(bench.engine, [Program("platform", [bench.relay])], beat=0.05).start()
    until(lambda: rows(path, "SELECT 1 FROM alarm WHERE name = 'halted'"))
    [health] = running.health.values()
    running.stop()
    assert health.halted is not None
    assert "restored from a backup" in health.halted
    assert "Nothing was sent" in health.halted
    assert len(bench.records()) == before, "it spoke"
    put_back(bench, path, newer)
    bench.commit(draft(3))
    bench.flow()
    verdict = bench.judged()
    assert verdict.numbers["events"] == 5


def put_back(bench: Bench, path: Path, backup: Path) -> None:
    bench.close()
    for old in path.parent.glob(f"{path.name}-*"):
        old.unlink()
    shutil.copyfile(backup, path)
    bench.open()


def test_a_service_restored_from_a_backup_stops_before_it_moves_a_position(bench: Bench) -> None:
    path, backup = bench.store.path, bench.folder / "backup"
    bench.commit(*(draft(n) for n in range(3)))
    bench.flow()
    bench.store.backup(backup)
    lose(bench, bench.commit(draft(7))[0].key.subject)
    for _ in range(3):
        bench.beat(130)  # it asks for what is missing: an event of its own outbox, announced
    assert bench.rows("SELECT count(*) FROM outbox") > [(0,)]
    with pytest.raises(RewoundError):
        put_back(bench, path, backup)
    assert rows(path, 'SELECT sum("offset") FROM position') == [(3,)]


def test_a_topic_deleted_and_made_anew_is_filled_again_from_the_outbox(bench: Bench) -> None:
    bench.commit(*(draft(n) for n in range(30)))
    bench.flow()
    bench.log.recreate(APPROVAL)
    assert not bench.records()
    bench.commit(*(draft(n) for n in range(5)))
    bench.send()
    bench.reader.relocate()
    bench.relay.beat()
    assert bench.alarms() == {"log-changed"}
    with bench.platform.snapshot() as tx:
        assert tx.execute("SELECT about FROM alarm WHERE name = 'topic-renewed'").all() == [(APPROVAL,)]
    for _ in range(3):
        bench.beat(10)
    assert bench.alarms() == set()
    verdict = bench.judged()
    assert verdict.numbers["events"] == 35
    assert len(bench.records()) >= 35
    told(records_again=len(bench.records()), duplicates_seen=bench.reader.counts.duplicates)
    assert bench.reader.counts.duplicates >= 30


def test_the_last_event_of_a_project_lost_from_the_log_is_missed_and_asked_for(bench: Bench) -> None:
    bench.commit(*(draft(n) for n in range(4)))
    bench.flow()
    [lost] = bench.commit(draft(2))
    lose(bench, lost.key.subject)
    bench.flow()
    assert lost.key not in bench.fates()
    assert bench.completeness.beat(bench.now) == 0, "two minutes are given to what may be on its way"
    for _ in range(4):
        bench.beat(130)
    assert bench.fates().get(lost.key) == "applied", "nobody asked for it"
    verdict = bench.judged()
    assert verdict.numbers["events"] == 5
    told(asked=bench.rows("SELECT count(*) FROM outbox")[0][0])


def lose(bench: Bench, subject: str) -> None:
    """Send it, and let the log forget its last record."""
    bench.send()
    last = 'SELECT rowid FROM record WHERE topic = ? AND key = ? ORDER BY "offset" DESC LIMIT 1'
    with closing(sqlite3.connect(bench.folder / "log.db")) as db:
        gone = db.execute(f"DELETE FROM record WHERE rowid = ({last})", (APPROVAL, subject.encode())).rowcount
        db.commit()
    assert gone == 1


def test_a_log_that_lost_its_newest_records_is_noticed_though_it_grew_again(bench: Bench) -> None:
    """Offsets given twice: the record before a position is another one than the one that was read."""
    bench.commit(*(draft(1) for _ in range(5)))
    bench.flow()
    place = next(Place(APPROVAL, r.partition) for r in bench.records())
    with closing(sqlite3.connect(bench.folder / "log.db")) as db:
        where = {"topic": APPROVAL, "part": place.partition}
        db.execute('DELETE FROM record WHERE topic = :topic AND partition = :part AND "offset" >= 2', where)
        db.execute("UPDATE part SET next = 2 WHERE topic = :topic AND partition = :part", where)
        db.commit()
    bench.log.refresh()
    bench.commit(*(draft(1) for _ in range(5)))
    bench.send()
    bench.reader.relocate()
    assert "log-changed" in bench.alarms()
    for _ in range(5):
        bench.beat(130)
    assert bench.judged().numbers["events"] == 10


def test_a_full_disk_of_a_reader_holds_nothing_and_loses_nothing(bench: Bench) -> None:
    """F25, on the reader's own database: it waits, nothing is dead or parked."""
    bench.commit(*(draft(n) for n in range(300)))
    bench.send()
    with bench.store.snapshot() as tx:
        pages = tx.execute("PRAGMA page_count").all()[0][0]
    bench.store.close()
    bench.store.limit_pages = pages + 2
    with pytest.raises(RetriableError):
        bench.flow()
    bench.store.close()
    bench.store.limit_pages = None
    assert bench.fates() == {}
    bench.reader.start()
    bench.flow()
    assert bench.judged().numbers["fates"] == {"applied": 300}
