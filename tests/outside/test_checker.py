"""A check that can never fail is none: each way of breaking a good folder turns exactly its invariants red."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.harness import ROOT, City, judged
from tests.outside import checker
from tests.outside.checker import Caps, check

INVESTMENT = "urn:jietong:440700:investment"
STREAM = "source, type, subject"
LATER = f"({STREAM}, sequence) IN (SELECT {STREAM}, max(sequence) FROM inbox GROUP BY 1, 2, 3 HAVING max(sequence) > 1)"
ONE = f"rowid = (SELECT rowid FROM inbox WHERE {LATER} AND type LIKE 'investment%' LIMIT 1)"
"""The last event of a stream of several."""
TWICE_ASKED = "(SELECT case_id FROM receipt GROUP BY case_id HAVING count(*) > 1 ORDER BY case_id LIMIT 1)"
ONE_CASE = "(SELECT min(case_id) FROM case_)"
NEWEST = "(SELECT max(rowid) FROM {})"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a city leaves that nothing happened to."""
    folder = tmp_path_factory.mktemp("good")
    running = City(folder, "--seed", "good", "--operations", "60", "--pace", "0.005")
    try:
        running.line("worked")
        verdict = judged(folder)
        running.stop()
    finally:
        running.kill()
    assert verdict.numbers["events"] > 100
    assert all(verdict.numbers["leads"].values())
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "city")


def broken(folder: Path, **checked: Any) -> set[str]:
    return set(check(folder, folder / "history.ndjson", **checked).broken)


def change(folder: Path, name: str, *statements: str) -> None:
    with closing(sqlite3.connect(folder / f"{name}.db")) as db:
        for statement in statements:
            before = db.total_changes
            db.execute(statement)
            assert db.total_changes > before or statement.startswith(("CREATE", "DROP")), (
                f"changed nothing: {statement}"
            )
        db.commit()


def tell(folder: Path, *lines: dict[str, Any]) -> None:
    with (folder / "history.ndjson").open("a", encoding="utf-8") as history:
        history.writelines(f"{json.dumps(line)}\n" for line in lines)


def test_a_good_folder_is_clean(folder: Path) -> None:
    verdict = check(folder, folder / "history.ndjson")
    assert verdict.clean, str(verdict)
    assert verdict.numbers["known"] == sum(verdict.numbers["fates"].values())


class Break(NamedTuple):
    """What is done to one database, and the invariants that must turn red."""

    red: str
    file: str
    statements: tuple[str, ...]


def of(red: str, file: str, *statements: str) -> Break:
    return Break(red, file, statements)


BREAKS = {
    "an event is skipped that nobody predicted": of("I1", "hookup", f"UPDATE inbox SET fate = 'skipped' WHERE {ONE}"),
    "an event is held that nobody predicted": of(
        "I1",
        "hookup",
        f"UPDATE inbox SET fate = 'dead' WHERE {ONE}",
        f"UPDATE stream SET last = last - 1 WHERE ({STREAM}) IN (SELECT {STREAM} FROM inbox WHERE fate = 'dead')",
    ),
    "an effect was not written down": of("I1", "recorder", f"DELETE FROM done WHERE n = {NEWEST.format('done')}"),
    "a row of a platform cannot become an event": of(
        "I1", "engineering", "INSERT INTO source_held (row, digest, reason, since) VALUES ('r', 'd', 'odd', 0)"
    ),
    "an operator lost a lead": of(
        "I1",
        "platform-jm-water",
        f"DELETE FROM receipt WHERE case_id = {ONE_CASE}",
        f"DELETE FROM case_ WHERE case_id = {ONE_CASE}",
    ),
    "an operator's own request was filtered": of(
        "I1",
        "utility-jm-water",
        "UPDATE inbox SET fate = 'filtered' WHERE rowid = (SELECT min(rowid) FROM inbox WHERE operator = 'jm-water')",
    ),
    "an event never came": of("I1 I3 I6", "hookup", f"DELETE FROM inbox WHERE {ONE}"),
    "an event waits": of("I1 I3 I6", "hookup", f"UPDATE inbox SET fate = 'waiting' WHERE {ONE}"),
    "an effect happened twice": of(
        "I2",
        "recorder",
        f"INSERT INTO done ({STREAM}, sequence, id) SELECT {STREAM}, sequence, id FROM done ORDER BY n DESC LIMIT 1",
    ),
    "a case has a second lead": of(
        "I2",
        "platform-jm-water",
        f"CREATE TEMP TABLE twin AS SELECT * FROM case_ WHERE case_id = {TWICE_ASKED}",
        "UPDATE twin SET case_id = 'another'",
        "UPDATE receipt SET case_id = 'another' WHERE rowid = "
        f"(SELECT max(rowid) FROM receipt WHERE case_id = {TWICE_ASKED})",
        "INSERT INTO case_ SELECT * FROM twin",
    ),
    "a round was asked twice": of("I2", "hookup", "UPDATE case_ SET round = round - 1 WHERE rowid = 1"),
    "an operator was asked more often than its rounds": of(
        "I2", "platform-jm-water", f"UPDATE case_ SET round = round - 1 WHERE case_id = {TWICE_ASKED}"
    ),
    "an event has two meanings": of("I2 I5", "hookup", f"UPDATE inbox SET digest = randomblob(32) WHERE {ONE}"),
    "a platform counts more than it has": of(
        "I3", "investment", f"UPDATE counter SET sequence = sequence + 1 WHERE rowid = {NEWEST.format('counter')}"
    ),
    "a reader stands still": of(
        "I3", "hookup", f"UPDATE stream SET last = last - 1 WHERE rowid = {NEWEST.format('stream')}"
    ),
    "two meanings hold a stream": of(
        "I3", "hookup", f"UPDATE stream SET conflict = 1 WHERE rowid = {NEWEST.format('stream')}"
    ),
    "a later event was settled first": of("I3", "hookup", f"UPDATE inbox SET settled = 1 WHERE {ONE}"),
    "a later event had its effect first": of(
        "I3",
        "recorder",
        f"UPDATE done SET n = -n WHERE ({STREAM}, sequence) IN (SELECT {STREAM}, sequence FROM inbox WHERE {ONE})",
    ),
    "an operator got an older request last": of(
        "I3", "platform-jm-water", f"UPDATE receipt SET effect = 'stale' WHERE rowid = {NEWEST.format('receipt')}"
    ),
    "an effect is of no event": of("I5", "recorder", "UPDATE done SET id = 'nobody' WHERE n = 1"),
    "an operator got what nobody sent": of(
        "I5",
        "platform-jm-water",
        "INSERT INTO receipt (event_id, case_id, sequence, received_at, effect) VALUES ('x', 'none', 1, 0, 'opened')",
    ),
    "a row was never sent": of("I6", "investment", "INSERT INTO unsent (n) VALUES (1)"),
    "a delivery is under way for ever": of(
        "I6", "utility-jm-water", "INSERT INTO effect (id, outcome, since) VALUES ('x', 'sending', 0)"
    ),
    "a reader is behind the log": of("I6", "hookup", 'UPDATE position SET "offset" = "offset" - 1 WHERE "offset" > 0'),
    "a reader reads a topic that is gone": of("I6", "hookup", "UPDATE position SET topic_id = 'old'"),
    "a relay has not seen that its topic is another": of("I6", "investment", "UPDATE relayed SET topic_id = 'old'"),
    "a topic made anew did not get everything again": of(
        "I1",
        "log",
        "DELETE FROM record WHERE rowid = (SELECT min(rowid) FROM record WHERE topic LIKE 'investment%')",
    ),
    "a movement is halted": of(
        "I6", "hookup", "INSERT INTO alarm (name, about, detail, since) VALUES ('halted', 'consume hookup', 'odd', 0)"
    ),
    "one event killed its reader again and again": of(
        "I8", "hookup", f"INSERT INTO attempt ({STREAM}, sequence, deaths) VALUES ('s', 't', 'u', 1, 6)"
    ),
    "strays pile up": of(
        "I8",
        "hookup",
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1001) INSERT INTO stray "
        "(topic, partition, \"offset\", topic_id, reason, seen) SELECT 't', 0, n, 'i', 'odd', 0 FROM n",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_folder_turns_its_invariant_red_and_no_other(folder: Path, what: str) -> None:
    red, file, statements = BREAKS[what]
    change(folder, file, *statements)
    verdict = check(folder, folder / "history.ndjson")
    assert verdict.broken == red.split(), str(verdict)


def test_an_operation_that_was_ok_must_stand_on_its_platform(folder: Path) -> None:
    row = {"file": "investment.db", "table": "handling", "where": {"command": "nowhere"}, "subject": "code"}
    tell(folder, {"op": "lost", "at": "begin", "row": row}, {"op": "lost", "at": "ok"})
    assert broken(folder) == {"I1"}


def test_an_unknown_operation_may_have_been_committed_or_not(folder: Path) -> None:
    row = {"file": "investment.db", "table": "handling", "where": {"command": "nowhere"}, "subject": "code"}
    tell(
        folder,
        {"op": "cut off", "at": "begin", "row": row, "events": [[INVESTMENT, "investment.project.registered.v1"]]},
    )
    assert broken(folder) == set()


def test_an_operation_that_failed_must_not_stand_there(folder: Path) -> None:
    tell(folder, {"op": "odd", "at": "begin", "row": one_command(folder)}, {"op": "odd", "at": "failed"})
    assert broken(folder) == {"I5"}


def test_a_row_without_its_event_is_missed(folder: Path) -> None:
    told = {"row": one_command(folder), "events": [[INVESTMENT, "investment.project.registered.v1"]]}
    tell(folder, {"op": "silent", "at": "begin", **told}, {"op": "silent", "at": "ok"})
    assert broken(folder) == {"I3"}


def test_an_operation_without_its_lead_is_missed(folder: Path) -> None:
    told = {"row": one_command(folder), "effects": [["jm-water", "RELOCATE", 1]]}
    tell(folder, {"op": "unheard", "at": "begin", **told}, {"op": "unheard", "at": "ok"})
    assert broken(folder) == {"I1"}


def one_command(folder: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(folder / "investment.db")) as db:
        [command] = db.execute("SELECT command FROM handling ORDER BY n LIMIT 1").fetchone()
    return {"file": "investment.db", "table": "handling", "where": {"command": command}, "subject": "code"}


def test_events_that_no_operation_made_are_phantoms(folder: Path) -> None:
    lines = (folder / "history.ndjson").read_text("utf-8").splitlines()
    with closing(sqlite3.connect(folder / "investment.db")) as db:
        [code] = db.execute("SELECT min(code) FROM project").fetchone()
        commands = {row[0] for row in db.execute("SELECT command FROM handling WHERE code = ?", (code,))}
    kept = [
        line for line in lines if json.loads(line)["op"] not in commands and json.loads(line).get("subject") != code
    ]
    (folder / "history.ndjson").write_text("\n".join(kept) + "\n", "utf-8")
    assert broken(folder) == {"I5"}


def test_what_was_predicted_to_be_held_must_be_held(folder: Path) -> None:
    tell(
        folder,
        {"held": {"consumer": "hookup", "source": "s", "type": "t", "subject": "u", "sequence": 1, "fate": "dead"}},
    )
    assert broken(folder) == {"I1"}


def test_a_predicted_hold_is_no_fault(folder: Path) -> None:
    _, name, statements = BREAKS["an event is held that nobody predicted"]
    change(folder, name, *statements)
    with closing(sqlite3.connect(folder / "hookup.db")) as db:
        key = db.execute("SELECT source, type, subject, sequence FROM inbox WHERE fate = 'dead'").fetchone()
    held = dict(zip(("source", "type", "subject", "sequence"), key, strict=True))
    tell(folder, {"held": {"consumer": "hookup", "fate": "dead", **held}})
    assert broken(folder) == set()


@pytest.mark.parametrize("caps", [{"wal": -1}, {"files": 3}, {"rss": 1}, {"descriptors": 1}, {"threads": 0}])
def test_a_cap_that_is_passed_is_said(folder: Path, caps: dict[str, int]) -> None:
    assert broken(folder, caps=Caps(pid=os.getpid(), **caps)) == {"I8"}


def test_the_command_says_its_verdict_and_its_exit_code(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.outside.checker",
        str(folder),
        "--history",
        str(folder / "history.ndjson"),
        "--json",
    ]
    clean = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (clean.returncode, json.loads(clean.stdout)["clean"]) == (0, True)
    change(folder, "investment", "INSERT INTO unsent (n) VALUES (1)")
    assert checker.main([str(folder)]) == 1
    assert checker.main([str(folder / "nothing here")]) == 2
    change(folder, "hookup", "DROP TABLE stray")
    assert checker.main([str(folder)]) == 2


def test_it_imports_nothing_of_ours() -> None:
    command = "import sys, tests.outside.checker; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"jietong", "services", "connectors", "fastavro"} & set(done.stdout.split())
