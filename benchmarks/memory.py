"""How much a process grows while it relays and drains a million events: resident memory once warm, and after all."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import seeding, workload
from benchmarks.scale import Idle
from benchmarks.table import Line, markdown
from jietong import catalog
from jietong.adapters.embedded import EmbeddedLog
from jietong.adapters.sqlite import SqliteStore
from jietong.city import load
from jietong.contract import Contract
from jietong.delivery.consumer import Consumer
from jietong.delivery.outbox import Outbox
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.engine import embedded, now_millis
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

EVENTS, HOOKUP_EVENTS = 1_000_000, 50_000
WARM = 10
"""Batches let through before the first look: connections, statements and code are there by then."""
LOOK = 20
"""Batches between two looks."""
TARGET = 16.0
MIB = 1024 * 1024


def measure(events: int = EVENTS, hookup_events: int = HOOKUP_EVENTS) -> list[Line]:
    return [
        Line(f"memory growth, relay and inbox, {events:,} events", [_grown("core", events)], "MiB", TARGET),
        Line(f"memory growth, hookup, {hookup_events:,} events", [_grown("hookup", hookup_events)], "MiB", TARGET),
    ]


def prepare(what: str, folder: Path, events: int) -> None:
    """The input, made by a process of its own: memory that it freed would hide what the drain takes."""
    if what == "hookup":
        workload.fill(folder, events)
        return
    subjects, bodies = seeding.codes(min(seeding.SUBJECTS, events)), seeding.approvals(Contract(catalog.load()), 1000)
    seeding.outbox(folder / "owner.db", subjects, bodies, events // len(subjects), sent=False)


def core(folder: Path) -> Iterator[int]:
    """Everything an outbox has, through the relay and the log into an inbox; how many so far, batch by batch."""
    known = catalog.load()
    contract = Contract(known)
    owner, reader = SqliteStore(folder / "owner.db", delivery), SqliteStore(folder / "idle.db", delivery)
    log = EmbeddedLog(folder, known.topics)
    relay = Relay(seeding.SOURCE, owner, log, contract, now_millis)
    own = Outbox(f"urn:jietong:{workload.CITY}:idle", contract, now_millis, reader.bell)
    consumer = Consumer(Idle(), reader, log, own)
    relay.start()
    consumer.start()
    while relay.step().rows:
        consumer.step(0)
        yield consumer.counts.events
    while consumer.step(0):
        yield consumer.counts.events


def drain(folder: Path) -> Iterator[int]:
    """A log of events through hookup and into its outbox; how many so far, batch by batch."""
    known = catalog.load()
    engine = embedded(folder, workload.CITY, known)
    store = engine.store("hookup", hookup)
    consumer = Consumer(Hookup(load("jiangmen", known), lambda: 0), store, engine.log, engine.outbox(store))
    consumer.start()
    while consumer.step(0):
        yield consumer.counts.events


def grown(batches: Iterator[int], events: int) -> float:
    """MiB between what was resident after `WARM` batches and the most from then on. SystemExit if events are missing."""
    before = most = 0.0
    done = 0
    for n, count in enumerate(batches, 1):
        done = count
        if n == WARM:
            before = _resident()
        elif n > WARM and n % LOOK == 0:
            most = max(most, _resident())
    if done < events:
        sys.exit(f"only {done} of {events} events came through")
    return max(most, _resident()) - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / MIB


def _grown(what: str, events: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        _run("prepare", what, events, folder)
        return json.loads(_run("drain", what, events, folder))


def _run(step: str, what: str, events: int, folder: str) -> str:
    command = [sys.executable, "-m", "benchmarks.memory", step, what, str(events), folder]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", what, count, folder]:
            prepare(what, Path(folder), int(count))
        case ["drain", what, count, folder]:
            print(json.dumps(grown((drain if what == "hookup" else core)(Path(folder)), int(count))))
        case sizes:
            print(markdown(measure(*(int(size) for size in sizes))))
