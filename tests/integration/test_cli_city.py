"""The command line on real servers: a demo's folder moves to them, its programs start there, and every command says the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from connectors.realestate.platform import Platform, Unit
from connectors.realestate.tables import realestate
from jietong import settings, up
from jietong.adapters.embedded import Lock
from jietong.cli import ask
from jietong.cli.app import run
from jietong.cli.folder import program_of
from jietong.identifiers import ProjectCode
from jietong.up import PROGRAMS
from simulation import rest, servers
from simulation.city import set_up
from simulation.supervise import Programs, programs
from simulation.supervise import settings as environment
from tests.unit.test_mapping import GOOD, HEADER, MAPPING

pytestmark = [pytest.mark.city, pytest.mark.xdist_group("cli on servers"), pytest.mark.timeout(600)]

PROJECTS = 20
LATER = "services.transfer"
"""The program that is not started with the others: it is a new reader."""
IDLE = 2
"""Programs without a session there: it, and the relays of feeds while there are none."""
MOVING = {"position", "relayed", "mark", "alarm", "asked", "effect", "retry", "command", "unsent"}
"""Tables of delivery that say how something is under way."""
REQUESTED = "utility.connection.requested.v1"
Said = tuple[int, str, str]
Run = Callable[..., Said]


@dataclass
class Moved:
    """A demo's folder, the servers it moved to, and what each try to move it said."""

    data: Path
    env: dict[str, str]
    url: str
    city: servers.City
    tries: dict[str, Said] = field(default_factory=dict[str, Said])

    def migrate(self, what: str, *options: str, **env: str) -> None:
        command = [str(Path(sys.executable).with_name("jietong")), "migrate", "--from", str(self.data), *options]
        done = subprocess.run(
            command, env={**os.environ, **self.env, **env}, capture_output=True, text=True, check=False, timeout=120
        )
        self.tries[what] = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Generator[Moved]:
    if lacks := servers.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacks)
    folder = tmp_path_factory.mktemp("moved")
    demo(folder / "data")
    with servers.servers(folder / "servers") as city:
        env = environment(city, folder / "data")
        set_up(env)
        here = Moved(folder / "data", env, city.postgres.url, city)
        refused(here, folder / "elsewhere")
        here.migrate("dry run", "--dry-run", "--json")
        here.tries["after the dry run"] = len(moved_stores(here)), "", ""
        here.migrate("killed before a commit", JIETONG_FAILPOINT="migrate.before_commit:kill:3")
        here.tries["after the first kill"] = len(moved_stores(here)), "", ""
        here.migrate("killed after a commit", JIETONG_FAILPOINT="migrate.after_commit:kill:2")
        here.migrate("moved", "--json")
        here.migrate("again", "--json")
        yield here


def demo(data: Path) -> None:
    """A small city that was clean and stopped."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "simulation",
        "--projects",
        str(PROJECTS),
        "--seconds",
        "4",
        "--data",
        str(data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def refused(here: Moved, elsewhere: Path) -> None:
    """Everything that must be in order first."""
    here.migrate("embedded", JIETONG_ENGINE="embedded")
    lock = Lock(here.data / "log.lock")
    assert lock.take()
    here.migrate("running")
    lock.release()
    elsewhere.mkdir()
    here.migrate("without its keys", JIETONG_DATA=str(elsewhere))
    with psycopg.connect(here.url, autocommit=True) as session:
        session.execute("INSERT INTO timeline.mark (name, value) VALUES ('x', '1')")
        here.migrate("with rows there")
        session.execute("DELETE FROM timeline.mark")
        with session.transaction():
            [key] = session.execute(
                "SELECT ('x' || encode(substr(sha256('lock hookup relay'), 1, 8), 'hex'))::bit(64)::bigint"
            ).fetchall()
            session.execute("SELECT pg_advisory_lock(%s)", key)
            here.migrate("with a program there")
            session.execute("SELECT pg_advisory_unlock(%s)", key)


@pytest.fixture(scope="module")
def running(moved: Moved, tmp_path_factory: pytest.TempPathFactory) -> Generator[Programs]:
    names = [name for name in PROGRAMS if name != LATER]
    running = programs(tmp_path_factory.mktemp("programs"), moved.city, moved.data, names=names)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def jietong(moved: Moved, running: Programs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of a command on the servers where the programs run."""
    del running
    for name, value in moved.env.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object) -> Said:
        code = run([*map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def told(jietong: Run, *arguments: object) -> Any:
    code, out, err = jietong(*arguments, "--json")
    assert code in (0, 1), err
    return json.loads(out)


def until(what: Callable[[], object], seconds: float = 120) -> None:
    """Until there is nothing left of it."""
    ends = time.monotonic() + seconds
    while left := what():
        assert time.monotonic() < ends, left
        time.sleep(0.5)


# -- what is there ------------------------------------------------------------------------------------------------------------
def moved_stores(here: Moved) -> list[str]:
    """Programs that say they have moved."""
    with psycopg.connect(here.url) as session:
        found = session.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'mark' ORDER BY 1").fetchall()
        is_marked = sql.SQL("SELECT 1 FROM {}.mark WHERE name = 'migrated'")
        return [name for (name,) in found if session.execute(is_marked.format(sql.Identifier(name))).fetchone()]


def in_folder(data: Path) -> dict[tuple[str, str], int]:
    """(store, table) → rows."""
    counts: dict[tuple[str, str], int] = {}
    for file in sorted(data.glob("*.db")):
        if file.stem != "log":
            with closing(sqlite3.connect(file)) as db:
                for (table,) in db.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                ).fetchall():
                    counts[program_of(file), table.lower()] = db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[
                        0
                    ]
    return counts


def on_servers(url: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    with psycopg.connect(url) as session:
        counted = sql.SQL("SELECT count(*) FROM {}")
        return {
            key: rows[0] for key in keys if (rows := session.execute(counted.format(sql.Identifier(*key))).fetchone())
        }


EVENTS = "SELECT source, type, aggregateid, sequence, id, payload, time, recorded FROM {}outbox ORDER BY 1, 2, 3, 4"
HELD = "fate IN ('waiting', 'parked')"
FATES = f"""SELECT source, type, subject, sequence, id, body, CASE WHEN {HELD} THEN 'held' ELSE fate END,
CASE WHEN {HELD} THEN 0 ELSE settled END FROM {{}}inbox ORDER BY 1, 2, 3, 4"""
"""What is parked is tried again after a minute: on a slow machine here, and not in the folder that stands still."""


# -- moving -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("embedded", "set JIETONG_ENGINE=city"),
        ("running", "process {here} is running on this data"),
        ("without its keys", "has not the city's keys"),
        ("with rows there", "timeline: holds rows already (table mark)"),
        ("with a program there", "hookup: runs on the servers already"),
    ],
)
def test_what_stands_in_the_way_of_a_move_is_a_line(moved: Moved, what: str, sentence: str) -> None:
    code, out, err = moved.tries[what]
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert sentence.format(here=os.getpid()) in err


def test_a_dry_run_counts_and_moves_nothing(moved: Moved) -> None:
    code, out, err = moved.tries["dry run"]
    assert code == 0, err
    told = json.loads(out)
    assert {row["did"] for row in told["stores"]} == {"would move"}
    assert told["rows"] == sum(row["rows"] for row in told["stores"]) > 0
    assert moved.tries["after the dry run"][0] == 0


def test_a_move_that_is_killed_goes_on_program_by_program(moved: Moved) -> None:
    assert moved.tries["killed before a commit"][0] == moved.tries["killed after a commit"][0] == -signal.SIGKILL
    assert moved.tries["after the first kill"][0] == 2, "the third was on its way"
    did = {row["store"]: row["did"] for row in json.loads(moved.tries["moved"][1])["stores"]}
    assert sorted(did.values()).count("had moved before") == 2 + 2 + 1, (
        "two and two programs, and one stand-in with them"
    )
    assert {row["did"] for row in json.loads(moved.tries["again"][1])["stores"]} == {"had moved before"}


def test_the_moved_city_is_the_same_when_all_is_relayed_and_its_verdict_is_clean(moved: Moved, jietong: Run) -> None:
    until(lambda: [row for row in told(jietong, "status")["programs"] if row["unsent"]])
    until(lambda: [row for row in told(jietong, "verify")["taken"] if row["to_read"]])
    before = {key: count for key, count in in_folder(moved.data).items() if key[1] not in MOVING}
    assert on_servers(moved.url, list(before)) == before
    for file in moved.data.glob("*.db"):
        name = program_of(file)
        if name != "log" and not name.startswith("platform-"):
            for query in (EVENTS, FATES):
                with closing(sqlite3.connect(file)) as db, psycopg.connect(moved.url) as session:
                    there = session.execute(query.format(f'"{name}".').encode()).fetchall()
                    assert [tuple(row) for row in there] == sorted(
                        db.execute(query.format("")).fetchall(), key=lambda row: row[:4]
                    )
    verdict = rest.judged(settings.load())
    assert verdict["clean"], verdict["faults"]
    assert told(jietong, "verify")["adds_up"] is True


# -- commands -----------------------------------------------------------------------------------------------------------------
def test_status_and_doctor_know_the_servers(jietong: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIETONG_PORT", "0")
    status = told(jietong, "status")
    assert status["processes"] == len(PROGRAMS) - IDLE
    assert {"hookup", "timeline", "utility:jm-water"} <= {row["program"] for row in status["programs"]}
    checks = {check["check"]: (check["state"], check["detail"]) for check in told(jietong, "doctor")}
    assert checks["tables"] == ("ok", "as this release needs them")
    assert checks["topics"][0] == checks["registry"][0] == "ok"
    code, out, _ = jietong("status")
    assert code == 0
    assert f"running, {len(PROGRAMS) - IDLE} processes" in out


def test_the_log_is_read_and_decoded(jietong: Run) -> None:
    topics = {row["type"]: row["records"] for row in told(jietong, "topics")}
    assert topics[REQUESTED] > 0
    code, out, _ = jietong("tail", "investment.project.registered.v1", "-n", 3)
    assert code == 0
    assert [json.loads(line)["data"]["project"]["name"] for line in out.splitlines()]


def test_a_project_is_explained_from_all_databases_and_the_log(jietong: Run, moved: Moved) -> None:
    code = project(moved)
    explained = told(jietong, "explain", code)
    assert explained["cases"]
    assert all(event["logged"] for event in explained["events"])
    assert jietong("explain", code, "--operator", "jm-water")[0] == 0
    assert told(jietong, "company", "show", code)["cases"]
    assert told(jietong, "company", "form", code)
    assert told(jietong, "company", "begun", code, "2026-10-01", "--dry-run")["count"] == 1
    said = told(jietong, "company", "begun", code, "2026-10-01", "--key", "one")
    assert said["result"] == told(jietong, "company", "begun", code, "2026-10-01", "--key", "one")["result"]
    assert jietong("company", "link", code)[1].startswith("http://")


def project(moved: Moved) -> str:
    with psycopg.connect(moved.url) as session:
        [[code]] = session.execute("SELECT subject FROM hookup.case_ ORDER BY opened, subject LIMIT 1").fetchall()
        return code


def test_figures_and_the_reach_of_an_approval_are_counted(jietong: Run, moved: Moved) -> None:
    today = datetime.now(UTC)
    window = ("--from", f"{today - timedelta(days=9):%Y-%m-%d}", "--to", f"{today + timedelta(days=1):%Y-%m-%d}")
    assert told(jietong, "figures", *window)["figures"]
    with psycopg.connect(moved.url) as session:
        [[document]] = session.execute(
            "SELECT document FROM hookup.support WHERE document IS NOT NULL LIMIT 1"
        ).fetchall()
    assert told(jietong, "impact", document)["document"] == document


def test_what_a_person_asks_is_carried_out_by_the_running_program(
    jietong: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "PATIENCE", 60.0)
    [parked] = [row for row in told(jietong, "held") if row["what"] == "parked"]
    consumer = parked["consumer"]
    assert told(jietong, "redrive", consumer, "--dry-run")["state"] == "would ask"
    asked = told(jietong, "redrive", consumer, "--key", "once")
    assert (asked["state"], asked["result"]) == ("done", "1 redriven")
    assert told(jietong, "resume", "hookup", "engineering.approval.decided.v1", "--allow", 3)["state"] == "done"
    [task, *_] = [row for row in told(jietong, "tasks") if row["program"] == "hookup"]
    assert told(jietong, "tasks", "done", task["id"])["result"] == "1 done"
    assert jietong("skip", consumer, "--type", REQUESTED, "--subject", "nobody", "--why", "x")[0] == 2
    assert told(jietong, "confirm", "engineering", "--dry-run")["state"] == "would ask"


def test_leads_go_out_and_answers_come_in_and_a_dry_run_leaves_nothing(jietong: Run, tmp_path: Path) -> None:
    out = tmp_path / "leads.csv"
    assert jietong("leads", "export", "--operator", "jm-water", "--out", out)[0] == 0
    with out.open(encoding="utf-8-sig", newline="") as stream:
        leads = list(csv.DictReader(stream))
    open_ = next(row for row in leads if row["status"] in ("LEAD", "CONTACTED", "ACCEPTED"))
    step = {"LEAD": "CONTACTED", "CONTACTED": "ACCEPTED", "ACCEPTED": "LAPSED"}[open_["status"]]
    answers = tmp_path / "answers.csv"
    answers.write_text(f"case,status,reason\n{open_['case']},{step},过期\nnobody,CONTACTED,\n", "utf-8")
    dry = told(
        jietong, "answers", "import", answers, "--operator", "jm-water", "--dry-run", "--rejects", tmp_path / "r.csv"
    )
    again = told(
        jietong, "answers", "import", answers, "--operator", "jm-water", "--dry-run", "--rejects", tmp_path / "r.csv"
    )
    assert dry == again == {"read": 2, "taken": 1, "unchanged": 0, "rejected": 1, "dry_run": True}
    assert (
        told(jietong, "answers", "import", answers, "--operator", "jm-water", "--rejects", tmp_path / "r.csv")["taken"]
        == 1
    )
    assert (
        told(jietong, "answers", "import", answers, "--operator", "jm-water", "--rejects", tmp_path / "r.csv")["taken"]
        == 0
    )
    assert jietong("leads", "export", "--operator", "nobody")[0] == 2


def test_a_file_is_brought_in_to_a_schema_of_its_feed(jietong: Run, moved: Moved, tmp_path: Path) -> None:
    (tmp_path / "permits.yaml").write_text(MAPPING, "utf-8")
    with (tmp_path / "permits.csv").open("w", encoding="utf-8", newline="") as stream:
        out: csv.DictWriter[str] = csv.DictWriter(stream, HEADER, restval="")
        out.writeheader()
        out.writerows([GOOD, {**GOOD, "number": "A2", "area": "wide"}])
    brings = (
        "import",
        tmp_path / "permits.csv",
        "--mapping",
        tmp_path / "permits.yaml",
        "--rejects",
        tmp_path / "r.csv",
    )
    assert told(jietong, *brings, "--dry-run")["events"] == 1
    with psycopg.connect(moved.url) as session:
        assert session.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'feed:permits'").fetchone() is None
    assert (told(jietong, *brings)["events"], told(jietong, *brings)["events"]) == (1, 0)
    assert told(jietong, *brings, "--dry-run")["unchanged"] == 1
    until(lambda: [row for row in told(jietong, "status")["programs"] if row["unsent"]])
    with psycopg.connect(moved.url) as session:
        rows = session.execute(
            'SELECT (SELECT count(*) FROM "feed:permits".outbox), (SELECT count(*) FROM "feed:permits".unsent)'
        ).fetchall()
    assert rows == [(1, 0)], "its relay found it by itself"


@pytest.mark.parametrize("command", [("backup", "b"), ("restore", "b")], ids=["backup", "restore"])
def test_a_command_of_a_folder_names_what_does_it_on_servers(jietong: Run, command: Sequence[str]) -> None:
    code, out, err = jietong(*command)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "pg_dump" in err or "pg_restore" in err


def test_what_is_not_there_is_a_line(jietong: Run) -> None:
    for command in (
        ("held", "--consumer", "nobody"),
        ("explain", "nobody"),
        ("tasks", "done", "nobody"),
        ("redrive", "nobody"),
        ("tail", "nobody.v1"),
    ):
        code, _, err = jietong(*command)
        assert (code, len(err.splitlines())) == (2, 1), (command, err)


def test_a_program_of_another_city_does_not_start_on_this_ones_log(jietong: Run, moved: Moved) -> None:
    del jietong  # the city runs
    command = [str(Path(sys.executable).with_name("jietong")), "run", "services.timeline"]
    other = {**os.environ, **moved.env, "JIETONG_CITY": "dongguan", "JIETONG_PORT": "0"}
    done = subprocess.run(command, env=other, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert "the log is city 440700's, and this is 441900" in done.stderr


# -- a new reader -------------------------------------------------------------------------------------------------------------
def test_a_new_reader_begins_at_an_exact_cut_while_the_city_runs(jietong: Run, moved: Moved, tmp_path: Path) -> None:
    name = LATER.partition(".")[2]
    foreseen = told(jietong, "group", "add", name, "--dry-run")
    assert foreseen["begun"] == ["realestate.registration.progressed.v1", "utility.account.transfer.answered.v1"]
    added = told(jietong, "group", "add", name)
    assert added["streams"] == foreseen["streams"] > 0
    assert told(jietong, "group", "add", name, "--whole") == {
        **added,
        "whole": True,
        "begun": [],
        "had": added["begun"],
        "streams": 0,
    }
    late = programs(tmp_path / "late", moved.city, moved.data, names=[LATER])
    try:
        late.start()
        new = registered()
        until(lambda: not taken(moved, name))
        assert taken(moved, name) == [(new, 1)], "nothing from before the cut, and what came after it"
        lines = [line for line in told(jietong, "verify")["taken"] if line["reader"] == name]
        assert lines
        assert not any(line["gaps"] or line["short"] or line["ahead"] for line in lines)
        with psycopg.connect(moved.url) as session:
            assert session.execute("SELECT count(*) FROM transfer.outbox").fetchone() == (0,), "it asked for something"
    finally:
        late.stop()


def registered() -> str:
    """A unit that is entered in the register now; its code."""
    engine, _ = up.open_engine(settings.load())
    try:
        store = engine.store("realestate", realestate)
        [unit] = Platform(store, engine.outbox(store)).register_first(
            ProjectCode("2611-440703-04-01-000010"), "440703", 9, [Unit(1, "住宅", Decimal(90))], now=datetime.now(UTC)
        )
        return str(unit)
    finally:
        engine.close()


def taken(moved: Moved, name: str) -> list[tuple[Any, ...]]:
    """(subject, sequence) of what a reader has settled."""
    with psycopg.connect(moved.url) as session:
        rows = sql.SQL("SELECT subject, sequence FROM {}.inbox WHERE fate IN ('applied', 'filtered')")
        return session.execute(rows.format(sql.Identifier(name))).fetchall()
