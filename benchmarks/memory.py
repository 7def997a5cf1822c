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
from jietong.delivery.consumer import BATCH, Consumer
from jietong.delivery.outbox import Outbox
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.engine import Engine, now_millis
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

EVENTS, HOOKUP_EVENTS = 1_000_000, 50_000
WARM = 20
"""One part in so many of the events is let through before the first look."""
LOOK = 20
"""Batches between two looks."""
TARGET = 16.0
MIB = 1024 * 1024


def measure(events: int = EVENTS, hookup_events: int = HOOKUP_EVENTS) -> list[Line]:
    """Each in a process of its own, so that nothing that ran before counts."""
    return [
        Line(f"memory growth, relay and inbox, {events:,} events", [_grown("core", events)], "MiB", TARGET),
        Line(f"memory growth, hookup, {hookup_events:,} events", [_grown("hookup", hookup_events)], "MiB", TARGET),
    ]


def core(folder: Path, events: int) -> Iterator[None]:
    """Everything an outbox has, through the relay and the log into an inbox; a batch at a time."""
    known = catalog.load()
    contract = Contract(known)
    subjects = seeding.codes(min(seeding.SUBJECTS, events))
    seeding.outbox(
        folder / "owner.db", subjects, seeding.approvals(contract, 1000), events // len(subjects), sent=False
    )
    owner, reader = SqliteStore(folder / "owner.db", delivery), SqliteStore(folder / "idle.db", delivery)
    log = EmbeddedLog(folder, known.topics)
    relay = Relay(seeding.SOURCE, owner, log, contract, now_millis)
    consumer = Consumer(
        Idle(), reader, log, Outbox(f"urn:jietong:{workload.CITY}:idle", contract, now_millis, reader.bell)
    )
    relay.start()
    consumer.start()
    while relay.step().rows:
        consumer.step(0)
        yield
    while consumer.step(0):
        yield
    if consumer.counts.events < events // len(subjects) * len(subjects):
        raise SystemExit(f"only {consumer.counts.events} of {events} events came through")


def drain(folder: Path, events: int) -> Iterator[None]:
    """A log of events through hookup and into its outbox."""
    workload.fill(folder, events)
    known = catalog.load()
    engine = Engine(folder, workload.CITY, known)
    store = engine.store("hookup", hookup)
    consumer = Consumer(Hookup(load("jiangmen", known)), store, engine.log, engine.outbox(store))
    consumer.start()
    while consumer.step(0):
        yield


def grown(steps: Iterator[None], batches: int) -> float:
    """MiB between the most that was resident after warming up and the most that ever was from then on."""
    before, most = 0.0, 0.0
    for n, _ in enumerate(steps, 1):
        if n <= batches // WARM:
            before = max(before, _resident())
        elif n % LOOK == 0:
            most = max(most, _resident())
    return max(most, _resident()) - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / MIB


def _grown(what: str, events: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.memory", what, str(events), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["core" | "hookup" as what, count, folder]:
            movement = {"core": core, "hookup": drain}[what]
            print(json.dumps(grown(movement(Path(folder), int(count)), int(count) // BATCH)))
        case sizes:
            print(markdown(measure(*(int(size) for size in sizes))))
