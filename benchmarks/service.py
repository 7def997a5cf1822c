"""hookup's CPU per event beside the yardstick's, on one log, in turns: each drain is a process of its own."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.table import Line, markdown
from benchmarks.workload import CITY, fill
from jietong import catalog
from jietong.city import load
from jietong.delivery.consumer import Consumer
from jietong.engine import embedded
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

EVENTS, ROUNDS = 20_000, 5
TARGET = 1.25
DATABASE = {"service": "hookup.db", "yardstick": "yardstick.db", "lean": "yardstick.db"}
SAID = "SELECT type, aggregateid, operator, count(*) FROM outbox GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
CASES = "SELECT subject, work, operator, business_kind, phase, requested, round FROM case_ ORDER BY 1, 2, 3, 4, 5"


def drain(folder: Path) -> dict[str, float]:
    """All of the log through hookup's consumer; as the yardstick counts, without setting up and closing."""
    known = catalog.load()
    engine = embedded(folder, CITY, known)
    store = engine.store("hookup", hookup)
    consumer = Consumer(Hookup(load("jiangmen", known), lambda: 0), store, engine.log, engine.outbox(store))
    consumer.start()
    began, commits = time.process_time(), store.commits
    while consumer.step(0):
        pass
    cpu, events, batches = time.process_time() - began, consumer.counts.events, consumer.counts.batches
    made = store.commits - commits
    engine.close()
    return {"events": events, "cpu": cpu, "cpu_per_event": cpu / events, "batches": batches, "commits": made}


def measure(events: int = EVENTS, rounds: int = ROUNDS) -> list[Line]:
    """Raises SystemExit if the two did not ask the same cases of the same operators: then no ratio means anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), events)
        found = list(_rounds(folder, rounds))
        _same(folder / "hookup.db", folder / "yardstick.db")
    return [
        Line(
            "service CPU per event / yardstick", [cost["service"] / cost["yardstick"] for cost in found], target=TARGET
        ),
        Line("  the same, / yardstick that keeps no more than it", [cost["service"] / cost["lean"] for cost in found]),
        *(Line(f"  {which}, CPU per event", [cost[which] * 1e6 for cost in found], "µs") for which in DATABASE),
    ]


def _rounds(folder: Path, rounds: int) -> Iterator[dict[str, float]]:
    """The order changes from round to round, so that a machine that slows down favours none."""
    for n in range(rounds):
        order = list(DATABASE)[:: 1 if n % 2 else -1]
        yield {which: _run(which, folder) for which in order}


def _run(which: str, folder: Path) -> float:
    for file in folder.glob(f"{DATABASE[which]}*"):
        file.unlink()
    command = [sys.executable, "-m", f"benchmarks.{which}", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["cpu_per_event"]


def _same(ours: Path, theirs: Path) -> None:
    for question in (SAID, CASES):
        answers: list[list[tuple[object, ...]]] = []
        for file in (ours, theirs):
            with closing(sqlite3.connect(file)) as db:
                answers.append(db.execute(question).fetchall())
        if answers[0] != answers[1]:
            rows = f"{len(answers[0])} and {len(answers[1])} rows"
            sys.exit(f"service and yardstick did not do the same work: {rows} of {question}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(drain(Path(sys.argv[1]))))
    else:
        print(markdown(measure()))
