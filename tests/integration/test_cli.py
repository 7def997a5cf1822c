"""The command line on folders that real movements made, beside a running city and with none."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import connectors.investment.__main__ as investment
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.adapters.embedded import EmbeddedLog
from jietong.broker import Message
from jietong.cli import ask
from jietong.cli.app import run
from jietong.engine import Program, Running, embedded

MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
OPERATORS = ("jm-water", "jm-gas")
REGISTERED, REQUESTED = "investment.project.registered.v1", "utility.connection.requested.v1"
PHONE = "13800138000"
Run = Callable[..., tuple[int, str, str]]


class SmallCity:
    """Investment, hookup, the timeline and two operators, on one folder."""

    def __init__(self, folder: Path) -> None:
        pack = city.load("jiangmen", catalog.load())
        self.folder, self.engine = folder, embedded(folder, pack.code, catalog.load())
        self.investment, investing = investment.build(self.engine)
        operators = {name: utility.build(self.engine, name) for name in OPERATORS}
        self.operators = {name: platform for name, (platform, _) in operators.items()}
        _, mapping = timeline.build(self.engine, pack, "127.0.0.1", None)
        self.programs: list[Program] = [
            investing, hookup.build(self.engine, pack), mapping, *(program for _, program in operators.values()),
        ]  # fmt: skip
        self.running = Running(self.engine, [], beat=0.2)

    def file(self, region: str, name: str) -> str:
        """Register and decide a project; its code."""
        project = Application(
            name=name, site_regions=(region,), authority_region=region, contact_name="张三", contact_phone=PHONE, contact_consent=True
        )  # fmt: skip
        code = self.investment.register(project, now=MORNING)
        self.investment.decide(code, "FILED", "江备〔2026〕1 号", now=MORNING)
        return code

    def start(self) -> None:
        for program in self.programs:
            self.running.add(program)

    def until(self, what: Callable[[], object]) -> None:
        """Each commit anywhere wakes someone; this only looks."""
        for _ in range(1000):
            assert not self.running.failed.is_set(), self.running.bug()
            if what():
                return
            self.engine.stopping.wait(0.02)
        raise AssertionError(self.running.health)

    def settled(self, program: str) -> int:
        with self.engine.stores[program].snapshot() as tx:
            return tx.execute("SELECT count(*) FROM inbox WHERE fate IN ('applied', 'filtered', 'skipped')").all()[0][0]

    def close(self) -> None:
        self.running.stop()
        self.engine.close()


class Made(NamedTuple):
    """A city that has come to rest: `near` is in 蓬江, and the gas operator refuses it for now; `far` is in 恩平, where no
    gas is piped."""

    folder: Path
    near: str
    far: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("city") / "data"
    small = SmallCity(folder)
    near, far = small.file("440703", "=蓬江智造园"), small.file("440785", "恩平温泉")
    small.operators["jm-gas"].block(near)
    small.start()
    water = small.operators["jm-water"]
    small.until(lambda: len(water.cases()) == 2)
    [case] = [case for case in water.cases() if case.subject == near]
    water.contact(case.case_id, now=datetime.now(UTC))
    small.until(lambda: small.settled("timeline") == 4 + 14 + 1)
    small.until(lambda: small.settled("hookup") == 4 + 1 and small.settled("utility:jm-water") == 14)
    small.until(lambda: small.settled("utility:jm-gas") == 14 - 6)
    small.close()
    return Made(folder, near, far)


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "data"))


@pytest.fixture
def jietong(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of a command on the folder."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([*map(str, arguments), "--data", str(folder)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def running(folder: Path) -> Iterator[SmallCity]:
    small = SmallCity(folder)
    small.start()
    yield small
    small.close()


def told(jietong: Run, *arguments: object) -> Any:
    code, out, err = jietong(*arguments, "--json")
    assert code in (0, 1), err
    return json.loads(out)


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        for statement in statements:
            db.execute(statement)


# -- status, topics, tail, held -----------------------------------------------------------------------------------------------
def test_status_says_of_each_program_what_waits_and_what_became_of_what_it_read(jietong: Run) -> None:
    status = told(jietong, "status")
    assert status["pid"] is None
    of = {program["program"]: program for program in status["programs"]}
    assert of.keys() == {"hookup", "investment", "timeline", "utility:jm-gas", "utility:jm-water"}
    gas = of["utility:jm-gas"]
    assert (gas["settled"], gas["parked"], gas["waiting"], gas["unsent"]) == (8, 1, 5, 0)


def test_status_names_the_process_that_runs_the_city_and_its_alarms(running: SmallCity, jietong: Run) -> None:
    running.until(lambda: told(jietong, "status")["pid"] == os.getpid())
    change(running.folder / "hookup.db", "INSERT INTO alarm VALUES ('silent', 'x', 'no sign of life', 1)")
    code, out, _ = jietong("status")
    assert code == 0
    assert "running, process" in out
    assert "alarm: hookup: silent x: no sign of life" in out


def test_an_unsent_row_shows_with_its_age(jietong: Run, folder: Path) -> None:
    change(
        folder / "investment.db",
        "UPDATE outbox SET recorded = recorded - 60000 WHERE n = 1",
        "INSERT INTO unsent (n) VALUES (1)",
    )
    [row] = [program for program in told(jietong, "status")["programs"] if program["program"] == "investment"]
    assert row["unsent"] == 1
    assert row["oldest_seconds"] > 59


def test_topics_are_told_with_and_without_a_city(
    jietong: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [requested] = [topic for topic in told(jietong, "topics") if topic["type"] == REQUESTED]
    assert requested["records"] == sum(requested["to"]) - sum(requested["from"]) == 14
    assert (requested["zh"], requested["owner"]) == ("公用设施接入请求", "services/hookup")
    assert {topic["state"].partition(" ")[0] for topic in told(jietong, "topics")} <= {"open", "frozen", "draft"}
    assert run(["topics", "--json", "--data", str(tmp_path / "none")]) == 0
    assert len(json.loads(capfd.readouterr().out)) == len(catalog.load().topics)


def test_tail_decodes_the_last_records_and_sealed_fields_stay_sealed(jietong: Run, made: Made) -> None:
    code, out, _ = jietong("tail", REGISTERED, "-n", 2)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {record["data"]["status"] for record in records} <= {"REGISTERED", "DECIDED"}
    assert len(records) == 2
    [one] = [json.loads(line) for line in jietong("tail", REGISTERED, "--from-beginning")[1].splitlines()
             if f'"{made.near}"' in line and '"REGISTERED"' in line]  # fmt: skip
    assert one["headers"]["ce_subject"] == one["key"] == made.near
    assert one["data"]["project"]["contact_phone"].keys() == {"key", "nonce", "ciphertext"}
    assert PHONE not in out


def test_tail_says_of_a_record_that_cannot_be_decoded_why(jietong: Run, folder: Path, made: Made) -> None:
    log = EmbeddedLog(folder, catalog.load().topics)
    log.append([Message(REGISTERED, made.near.encode(), b"\xff\xfe", (("ce_id", b"\xff"),))])
    log.close()
    last = json.loads(jietong("tail", REGISTERED, "-n", 1)[1])
    assert last["error"] == "headers: not text"
    assert "data" not in last


def test_tail_follows_what_comes_until_it_is_interrupted(folder: Path, made: Made) -> None:
    command = [sys.executable, "-c", "import sys; from jietong.cli.app import run; sys.exit(run())"]
    following = [*command, "tail", REGISTERED, "--follow", "-n", "1", "--data", str(folder)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(following, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes) as tail:
        assert tail.stdout
        assert tail.stderr
        assert json.loads(tail.stdout.readline())["topic"] == REGISTERED
        small = SmallCity(folder)
        small.start()
        code = small.file("440703", "新的")
        assert json.loads(tail.stdout.readline())["key"] == code
        small.close()
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 130
        assert tail.stderr.read() == ""


def test_whoever_reads_only_the_first_line_of_tail_sees_no_error(folder: Path) -> None:
    command = f"{sys.executable} -c 'import sys; from jietong.cli.app import run; sys.exit(run())'"
    shell = f"{command} tail {REQUESTED} --from-beginning --data {folder} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_held_tells_what_is_parked_why_and_what_waits_behind_it(jietong: Run, made: Made) -> None:
    held = told(jietong, "held")
    [parked] = [row for row in held if row["what"] == "parked"]
    assert (parked["consumer"], parked["subject"], parked["sequence"]) == ("utility:jm-gas", made.near, 3)
    assert parked["reason"] == "the operator refuses this subject for now"
    assert parked["next_try"] > parked["since"]
    behind = [row for row in held if row["what"] == "waiting"]
    assert {row["reason"] for row in behind} == {"behind 3, which is parked"}
    assert len(behind) == 5
    assert told(jietong, "held", "--consumer", "hookup") == []


def test_held_tells_gaps_conflicts_rows_without_an_event_and_strays(jietong: Run, folder: Path, made: Made) -> None:
    change(folder / "timeline.db", f"DELETE FROM inbox WHERE type = '{REQUESTED}' AND subject = '{made.near}' AND sequence = 7",
           f"UPDATE inbox SET fate = 'waiting' WHERE type = '{REQUESTED}' AND subject = '{made.near}' AND sequence = 8",
           f"UPDATE stream SET last = 6 WHERE type = '{REQUESTED}' AND subject = '{made.near}'",
           "INSERT INTO stray (topic, partition, \"offset\", topic_id, reason, seen) VALUES ('t', 1, 2, 'x', 'digest: not one', 5)")  # fmt: skip
    change(
        folder / "investment.db",
        "INSERT INTO source_held VALUES ('SPGL_XMSPSXBLXXXXB/7', 'd', 'GCDM: no such work', 9)",
    )
    reasons = {
        row["what"]: row["reason"] for row in told(jietong, "held") if row["consumer"] in ("timeline", "investment")
    }
    assert reasons == {
        "waiting": "7 has not come; it is asked for again",
        "stray": "digest: not one",
        "source row": "GCDM: no such work",
    }
    change(
        folder / "timeline.db", f"UPDATE stream SET conflict = 1 WHERE type = '{REQUESTED}' AND subject = '{made.near}'"
    )
    [waiting] = [row for row in told(jietong, "held", "--consumer", "timeline") if row["what"] == "waiting"]
    assert "two meanings" in waiting["reason"]


# -- what a person asks -------------------------------------------------------------------------------------------------------
def test_a_redrive_beside_a_running_city_is_carried_out_and_answered(
    running: SmallCity, jietong: Run, made: Made
) -> None:
    running.operators["jm-gas"].unblock(made.near)
    answer = told(jietong, "redrive", "utility:jm-gas", "--subject", made.near)
    assert (answer["state"], answer["result"]) == ("done", "1 redriven")
    running.until(lambda: running.settled("utility:jm-gas") == 14)
    assert [case.subject for case in running.operators["jm-gas"].cases()] == [made.near]


def test_a_skip_without_a_city_takes_effect_at_the_next_start(jietong: Run, folder: Path, made: Made) -> None:
    skip = (
        "skip",
        "utility:jm-gas",
        "--type",
        REQUESTED,
        "--subject",
        made.near,
        "--why",
        "用户已撤回",
        "--who",
        "李四",
    )
    code, out, _ = jietong(*skip)
    assert code == 0
    assert "takes effect at the next `jietong up`" in out
    small = SmallCity(folder)
    small.start()
    small.until(lambda: small.settled("utility:jm-gas") == 14)
    with small.engine.stores["utility:jm-gas"].snapshot() as tx:
        assert tx.execute("SELECT reason FROM inbox WHERE fate = 'skipped'").all() == [("李四: 用户已撤回",)]
    small.close()


def test_a_dry_run_tells_what_is_meant_and_leaves_no_wish(jietong: Run, folder: Path, made: Made) -> None:
    code, out, _ = jietong("redrive", "utility:jm-gas", "--dry-run")
    assert code == 0
    assert f"parked: {REQUESTED} {made.near} 3" in out
    assert "nothing was written" in out
    assert wishes(folder) == []


def test_the_same_idempotency_key_twice_is_one_wish(jietong: Run, folder: Path) -> None:
    for _ in range(2):
        assert jietong("redrive", "utility:jm-gas", "--key", "k-1")[0] == 0
    assert wishes(folder) == [("k-1", "redrive")]


@pytest.mark.parametrize(
    "wrong",
    [
        ("redrive", "utility:jm-gas", "--subject", "nobody"),
        ("redrive", "nobody"),
        ("skip", "utility:jm-gas", "--type", REQUESTED, "--subject", "x", "--why", " "),
        ("skip", "hookup", "--type", REQUESTED, "--subject", "x", "--why", "y"),
        ("resolve", "hookup", "--source", "s", "--type", REQUESTED, "--subject", "x"),
        ("resume", "hookup", "no.such.type", "--allow", "1"),
        ("confirm", "hookup"),
        ("confirm", "feed:x"),
        ("tasks", "done", "nobody"),
    ],
)
def test_a_wish_about_nothing_is_refused_in_one_line(jietong: Run, folder: Path, wrong: tuple[str, ...]) -> None:
    code, _, err = jietong(*wrong)
    assert code == 2
    assert err.startswith("jietong: ")
    assert len(err.splitlines()) == 1
    assert wishes(folder) == []


def test_a_conflict_is_resolved_a_stopped_consumer_resumed_and_vanished_rows_confirmed(
    jietong: Run, folder: Path, made: Made
) -> None:
    change(
        folder / "timeline.db", f"UPDATE stream SET conflict = 1 WHERE type = '{REQUESTED}' AND subject = '{made.near}'"
    )
    change(folder / "utility-jm-water.db", "INSERT OR IGNORE INTO source_seen VALUES ('progress/1', 'd', NULL, 1)")
    source = "urn:jietong:440700:hookup"
    assert (
        jietong("resolve", "timeline", "--source", source, "--type", REQUESTED, "--subject", made.near, "--key", "1")[0]
        == 0
    )
    assert jietong("resume", "timeline", REQUESTED, "--allow", 3, "--key", "2")[0] == 0
    assert jietong("confirm", "utility:jm-water", "--key", "3")[0] == 0
    assert wishes(folder) == [("1", "resolve"), ("2", "resume"), ("3", "confirm")]
    small = SmallCity(folder)
    small.start()
    small.until(lambda: all(done for done in outcomes(folder)))
    small.close()
    assert sorted(outcomes(folder)) == [
        "1 streams go on",
        f"{REQUESTED}: up to 3 invalid events may pass",
        "what vanished from the source ends at the next full scan",
    ]


def test_a_city_that_does_not_answer_in_time_leaves_the_wish_standing(
    jietong: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "PATIENCE", 0.3)
    small = SmallCity(folder)  # its lock is held, but nothing moves
    answer = told(jietong, "redrive", "utility:jm-gas")
    small.close()
    assert (answer["state"], answer["result"]) == ("asked", None)


def test_a_task_is_shown_until_a_person_has_done_it(running: SmallCity, jietong: Run, made: Made) -> None:
    [task] = told(jietong, "tasks")
    assert (task["subject"], task["kind"]) == (made.far, "uncovered")
    assert told(jietong, "tasks", "done", task["id"])["state"] == "done"
    assert told(jietong, "tasks") == []
    assert [row["id"] for row in told(jietong, "tasks", "--all")] == [task["id"]]


def wishes(folder: Path) -> list[tuple[Any, ...]]:
    return rows(folder, "SELECT key, name FROM command ORDER BY key")


def outcomes(folder: Path) -> list[Any]:
    return [row[0] for row in rows(folder, "SELECT result FROM command")]


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for file in ("hookup.db", "investment.db", "timeline.db", "utility-jm-gas.db", "utility-jm-water.db"):
        with closing(sqlite3.connect(folder / file)) as db:
            found += db.execute(sql).fetchall()
    return sorted(found, key=repr)


# -- explain ------------------------------------------------------------------------------------------------------------------
def test_explain_tells_every_event_with_its_way_and_what_is_held(jietong: Run, made: Made) -> None:
    story = told(jietong, "explain", made.near)
    words = [(event["type"], event["word"]) for event in story["events"]]
    assert words[:2] == [(REGISTERED, "REGISTERED"), (REGISTERED, "DECIDED")]
    assert words.count((REQUESTED, "LEAD")) == 8
    [gas] = [event for event in story["events"] if event["operator"] == "jm-gas"]
    assert gas["happened"] <= gas["recorded"] <= gas["logged"] <= gas["readers"]["timeline"]["at"]
    assert gas["readers"]["utility:jm-gas"]["fate"] == "parked"
    assert {row["reason"] for row in story["held"]} == {
        "the operator refuses this subject for now",
        "behind 3, which is parked",
    }
    [water] = [case for case in story["cases"] if case["operator"] == "jm-water"]
    assert (water["requested"], water["progress"]) == ("OPEN", "CONTACTED")
    code, out, _ = jietong("explain", made.near)
    assert code == 0
    assert "! utility:jm-gas: parked the operator refuses this subject for now" in out
    assert PHONE not in out + json.dumps(story)


@pytest.mark.parametrize(
    ("project", "operator", "said"),
    [
        ("near", "jm-water", "Requests to Jiangmen Water: 1; delivered: 1."),
        ("near", "jm-water", "answered PERMANENT CONTACTED"),
        ("near", "jm-gas", "not delivered, parked: the operator refuses this subject for now"),
        ("far", "jm-gas", "did not serve 440785 on 2026-03-02 (440785 2014-01-01 – 2024-01-01)"),
        ("far", "jm-gas", "Nothing was ever asked of Jiangmen Gas"),
        ("near", "jm-power", "in the log"),
    ],
)
def test_explain_says_why_an_operator_did_or_did_not_get_it(
    jietong: Run, made: Made, project: str, operator: str, said: str
) -> None:
    code, out, _ = jietong("explain", getattr(made, project), "--operator", operator)
    assert code == 0
    assert said in out


def test_explain_says_that_hookup_has_not_learned_a_fact_yet(jietong: Run, folder: Path, made: Made) -> None:
    change(
        folder / "hookup.db", "UPDATE inbox SET fate = 'dead', reason = 'decode: bytes left over' WHERE sequence = 2"
    )
    assert (
        "hookup has not applied it (dead: decode: bytes left over)"
        in jietong("explain", made.far, "--operator", "jm-gas")[1]
    )


def test_explain_refuses_a_code_or_an_operator_that_nobody_knows(jietong: Run, made: Made) -> None:
    code, _, err = jietong("explain", "2603-440703-04-01-999999")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = jietong("explain", made.near, "--operator", "nobody")
    assert code == 2
    assert "jm-water" in err


# -- verify -------------------------------------------------------------------------------------------------------------------
def test_a_city_at_rest_adds_up(jietong: Run) -> None:
    report = told(jietong, "verify")
    assert report["adds_up"] is True
    assert jietong("verify")[0] == 0
    [written] = [line for line in report["written"] if line["type"] == REQUESTED]
    [taken] = [line for line in report["taken"] if line["reader"] == "utility:jm-gas"]
    assert written["events"] == written["logged"] == 14
    assert taken["settled"] + taken["waiting"] + taken["held"] == 14


NEAR = f"type = '{REQUESTED}' AND sequence = 8"
BROKEN: list[tuple[str, str, str, str]] = [
    ("log", f"DELETE FROM record WHERE topic = '{REQUESTED}' AND \"offset\" = 2", "missing", "written"),
    ("hookup", f"DELETE FROM outbox WHERE {NEAR}", "misnumbered", "written"),
    ("hookup", f"UPDATE total SET sequence = sequence + 1 WHERE type = '{REQUESTED}'", "announced", "written"),
    (
        "timeline",
        f"UPDATE stream SET last = 4; DELETE FROM inbox WHERE type = '{REQUESTED}' AND sequence = 5",
        "gaps",
        "taken",
    ),
    (
        "timeline",
        f"UPDATE stream SET last = 5, known = 5 WHERE type = '{REQUESTED}'; DELETE FROM inbox WHERE sequence > 5",
        "short",
        "taken",
    ),
    (
        "hookup",
        "UPDATE counter SET sequence = 5; UPDATE total SET sequence = 10; DELETE FROM outbox WHERE sequence > 5",
        "ahead",
        "taken",
    ),
]


@pytest.mark.parametrize(("file", "damage", "column", "side"), BROKEN)
def test_whatever_does_not_add_up_is_named_with_its_number(
    jietong: Run, folder: Path, file: str, damage: str, column: str, side: str
) -> None:
    change(folder / f"{file}.db", *damage.split(";"))
    code, out, _ = jietong("verify", "--json")
    report = json.loads(out)
    assert code == 1
    assert report["adds_up"] is False
    [line, *_] = [
        line for line in report[side] if line["type"] == REQUESTED and (column == "announced" or line[column])
    ]
    assert line[column]
    code, out, _ = jietong("verify")
    assert code == 1
    assert "does not add up: " in out


def test_what_is_unsent_or_not_read_yet_adds_up(jietong: Run, folder: Path, made: Made) -> None:
    change(folder / "hookup.db", f"INSERT INTO unsent (n) SELECT n FROM outbox WHERE {NEAR}")
    change(folder / "timeline.db", f"UPDATE position SET \"offset\" = 0 WHERE topic = '{REQUESTED}'",
           f"DELETE FROM stream WHERE type = '{REQUESTED}'", f"DELETE FROM inbox WHERE type = '{REQUESTED}'")  # fmt: skip
    report = told(jietong, "verify")
    assert report["adds_up"] is True
    [written] = [line for line in report["written"] if line["type"] == REQUESTED]
    [taken] = [line for line in report["taken"] if line["type"] == REQUESTED and line["reader"] == "timeline"]
    assert written["unsent"] == 1
    assert taken["to_read"] == 13


def test_a_busy_city_adds_up_at_every_look_and_so_does_each_backup_of_it(
    running: SmallCity, jietong: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    busy = threading.Event()

    def work() -> None:
        while not busy.is_set():
            running.file("440703", "忙")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for n in range(3):
            assert told(jietong, "verify")["adds_up"] is True
            assert jietong("backup", tmp_path / f"b{n}")[0] == 0
    finally:
        busy.set()
        worker.join()
    for n in range(3):
        target = tmp_path / f"r{n}"
        assert run(["restore", str(tmp_path / f"b{n}"), "--data", str(target)]) == 0
        capfd.readouterr()
        assert run(["verify", "--json", "--data", str(target)]) == 0, capfd.readouterr().out


# -- doctor -------------------------------------------------------------------------------------------------------------------
def test_a_sound_city_passes_the_doctor(jietong: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIETONG_PORT", "0")
    code, out, _ = jietong("doctor", "--json")
    checks = {check["check"]: check["state"] for check in json.loads(out)}
    assert code == 0, out
    assert {
        "python",
        "sqlite",
        "folder",
        "disk",
        "clock",
        "port",
        "schemas",
        "city",
        "databases",
        "lock",
    } == checks.keys()


def test_the_doctor_finds_a_taken_port_an_alarm_a_clock_gone_back_and_an_unclean_end(
    jietong: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder / "hookup.db", "INSERT INTO alarm VALUES ('silent', 'x', 'no sign of life', 1)",
           "INSERT INTO mark VALUES ('running', '1')", "UPDATE outbox SET recorded = recorded + 3600000")  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("JIETONG_PORT", str(taken.getsockname()[1]))
        code, out, _ = jietong("doctor", "--json")
    states = {check["check"]: check["state"] for check in json.loads(out)}
    assert code == 1
    assert {name for name, state in states.items() if state == "failed"} == {"port", "alarm", "clock"}
    assert states["last end"] == "warning"


def test_the_doctor_refuses_a_database_of_a_newer_version(jietong: Run, folder: Path) -> None:
    change(folder / "hookup.db", "PRAGMA user_version = 99")
    code, out, _ = jietong("doctor")
    assert code == 1
    assert "newer Jietong" in out


# -- backup, restore ----------------------------------------------------------------------------------------------------------
def test_a_backup_holds_every_database_its_manifest_and_nothing_else(
    jietong: Run, folder: Path, tmp_path: Path
) -> None:
    assert jietong("backup", tmp_path / "b")[0] == 0
    assert {file.name for file in (tmp_path / "b").iterdir()} == {file.name for file in folder.glob("*.db")} | {
        "manifest.json"
    }


def test_a_city_goes_on_from_a_restored_backup(jietong: Run, folder: Path, made: Made, tmp_path: Path) -> None:
    assert jietong("backup", tmp_path / "b")[0] == 0
    (folder / "hookup.db").unlink()
    assert jietong("restore", tmp_path / "b")[0] == 2
    assert jietong("restore", tmp_path / "b", "--force")[0] == 0
    [aside] = folder.glob("before-restore-*")
    assert (aside / "timeline.db").exists()
    small = SmallCity(folder)
    small.start()
    code = small.file("440703", "后来")
    small.until(lambda: code in {case.subject for case in small.operators["jm-water"].cases()})
    small.close()


def test_a_restore_is_refused_while_a_city_runs(jietong: Run, running: SmallCity, tmp_path: Path) -> None:
    assert jietong("backup", tmp_path / "b")[0] == 0
    code, _, err = jietong("restore", tmp_path / "b", "--force")
    assert code == 2
    assert f"process {os.getpid()}" in err


def spoil_bytes(of: Path) -> None:
    content = bytearray((of / "hookup.db").read_bytes())
    content[5000] ^= 1
    (of / "hookup.db").write_bytes(content)


def spoil_path(of: Path) -> None:
    manifest = json.loads((of / "manifest.json").read_text())
    manifest["files"][0]["file"] = "../" + manifest["files"][0]["file"]
    (of / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_bytes, spoil_path, lambda of: (of / "hookup.db").unlink(), lambda of: (of / "manifest.json").unlink(),
        lambda of: (of / "manifest.json").write_text("{}"),
    ],
)  # fmt: skip
def test_a_spoiled_backup_is_refused_and_nothing_is_replaced(
    jietong: Run, folder: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    assert jietong("backup", tmp_path / "b")[0] == 0
    before = {file.name: file.read_bytes() for file in folder.glob("*.db")}
    spoil(tmp_path / "b")
    code, _, err = jietong("restore", tmp_path / "b", "--force")
    assert (code, len(err.splitlines())) == (2, 1)
    assert {file.name: file.read_bytes() for file in folder.glob("*.db")} == before


def test_a_backup_into_a_folder_that_is_not_empty_is_refused(jietong: Run, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    assert jietong("backup", tmp_path / "b")[0] == 2
    assert jietong("backup", tmp_path / "c", "--dry-run")[0] == 0
    assert not (tmp_path / "c").exists()


# -- leads, answers -----------------------------------------------------------------------------------------------------------
def test_leads_are_exported_with_cells_defused_and_imported_again_unchanged(
    jietong: Run, tmp_path: Path, made: Made
) -> None:
    out = tmp_path / "leads.csv"
    assert jietong("leads", "export", "--operator", "jm-water", "--out", out)[0] == 0
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    with out.open(encoding="utf-8-sig", newline="") as stream:
        leads = list(csv.DictReader(stream))
    assert {lead["name"] for lead in leads} == {"'=蓬江智造园", "恩平温泉"}
    assert {lead["status"] for lead in leads} == {"LEAD", "CONTACTED"}
    assert told(jietong, "answers", "import", out, "--operator", "jm-water") == {
        "read": 2, "taken": 0, "unchanged": 2, "rejected": 0, "dry_run": False,
    }  # fmt: skip
    assert told(jietong, "leads", "export", "--operator", "jm-water", "--since", "2099-01-01") == []
    assert out.read_bytes().decode() == jietong("leads", "export", "--operator", "jm-water")[1]


def answers(file: Path, *lines: str, encoding: str = "utf-8") -> Path:
    file.write_text("\n".join(("case,status,reason,account,works_external,fee,days", *lines)), encoding=encoding)
    return file


def case_of(jietong: Run, subject: str) -> str:
    leads = told(jietong, "leads", "export", "--operator", "jm-water")
    return next(lead["case"] for lead in leads if lead["subject"] == subject)


def test_answers_take_the_operators_steps_and_a_bad_row_keeps_no_other_out(
    jietong: Run, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = case_of(jietong, made.near), case_of(jietong, made.far)
    lines = (
        f"{near},ACCEPTED,,,,,", f"{far},REFUSED,,,,,", f"{far},DECLINED,不再建设,,,,", "nobody,CONTACTED,,,,,",
        f"{near},PLAN_REPLIED,,,yes,1.234,", f"{near},PLAN_REPLIED,,,是,1200.50,3", f"{near},FINISHED,,,,,",
    )  # fmt: skip
    file = answers(tmp_path / "a.csv", *lines, encoding="gb18030")
    dry = told(jietong, "answers", "import", file, "--operator", "jm-water", "--dry-run")
    assert (dry["taken"], dry["rejected"]) == (3, 4)
    code, out, _ = jietong("answers", "import", file, "--operator", "jm-water", "--json")
    assert code == 1
    assert json.loads(out) == {**dry, "dry_run": False}
    with (tmp_path / "a.csv.rejects.csv").open(encoding="utf-8-sig", newline="") as stream:
        refused = {(row["row"], row["column"]) for row in csv.DictReader(stream)}
    assert refused == {("3", "reason"), ("5", "status"), ("6", "fee"), ("8", "status")}
    status = {lead["case"]: lead["status"] for lead in told(jietong, "leads", "export", "--operator", "jm-water")}
    assert status == {near: "PLAN_REPLIED", far: "DECLINED"}


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"case\n1", b'case,status\n"1,2'])
def test_a_file_that_is_no_table_of_answers_is_refused_in_one_line(
    jietong: Run, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    code, _, err = jietong("answers", "import", tmp_path / "a.csv", "--operator", "jm-water")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "a.csv" in err
    assert jietong("answers", "import", tmp_path / "none.csv", "--operator", "jm-water")[0] == 2
    assert jietong("leads", "export", "--operator", "nobody")[0] == 2


# -- wrong use ----------------------------------------------------------------------------------------------------------------
READING = [
    ("status",), ("topics",), ("tail", REQUESTED), ("held",), ("tasks",), ("verify",), ("explain", "x"), ("backup", "b"),
    ("redrive", "hookup"), ("leads", "export", "--operator", "jm-water"),
]  # fmt: skip


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_no_command_shows_a_traceback_for_a_folder_that_is_none(
    command: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run([*command, "--data", str(tmp_path / "none")])
    err = capfd.readouterr().err
    assert (code, err) == (0, "") if command == ("topics",) else code == 2 and err.startswith("jietong: ")
    assert len(err.splitlines()) <= 1


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
@pytest.mark.parametrize(
    "command", [("status",), ("verify",), ("held",), ("backup", "b")], ids=lambda command: str(command[0])
)
def test_a_file_that_is_no_database_is_named(
    jietong: Run,
    folder: Path,
    command: tuple[str, ...],
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "hookup.db").write_bytes(content)
    for rest in folder.glob("hookup.db-*"):
        rest.unlink()
    code, _, err = jietong(*command)
    if command[0] == "backup" and not content:
        return
    assert code == 2
    assert "hookup.db" in err
    assert len(err.splitlines()) == 1


def test_what_a_newer_version_wrote_is_refused(jietong: Run, folder: Path) -> None:
    change(folder / "hookup.db", "PRAGMA user_version = 99")
    code, _, err = jietong("status")
    assert code == 2
    assert "written by a newer Jietong" in err


@pytest.mark.parametrize("wrong", [["nothing"], ["status", "--nothing"], ["tail"], ["tail", "x", "-n", "many"]])
def test_wrong_use_is_said_in_a_line_and_ends_with_2(wrong: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(wrong) == 2
    assert len(capfd.readouterr().err.splitlines()) <= 1


def test_the_bare_command_shows_its_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert capfd.readouterr().err.startswith("Usage: jietong ")


def test_an_interrupt_ends_with_130(jietong: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jietong.cli.folder.Folder.__init__", interrupted)
    assert jietong("status") == (130, "", "")


def test_a_full_disk_is_said_in_a_line(jietong: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x.db")

    assert jietong("backup", tmp_path / "b")[0] == 0
    monkeypatch.setattr("shutil.copyfile", full)
    code, _, err = jietong("restore", tmp_path / "b", "--force")
    assert code == 2
    assert "No space left on device; nothing was replaced" in err
