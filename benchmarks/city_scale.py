"""A relay with a long backlog before it, beside one with a short one: its CPU per event, and how its memory grows.

Each backlog lies in an outbox of its own, and is relayed by a process of its own that has warmed up on another outbox.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast
from uuid import UUID

import psycopg
from psycopg import sql

from benchmarks import seeding
from benchmarks.city import ROOT, Bench
from benchmarks.memory import MIB
from benchmarks.table import Line
from benchmarks.workload import APPROVAL, CITY
from jietong import backends, catalog, settings
from jietong.delivery import outbox
from jietong.delivery.runner import Relaying
from jietong.engine import Engine, now_millis
from jietong.event import Envelope, Key
from jietong.store import Store

WARM = 10_000
"""Events relayed before anything is measured: connections, statements, code and caches are there by then; and events of
the backlog itself after which memory is first looked at."""
CHUNK = 10_000
"""Rows seeded in one transaction."""
TARGET, MEMORY = 1.15, 16.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a relaying process says of itself: seconds of its own CPU and on the wall for an event, MiB that it grew."""

    cpu: float
    wall: float
    grown: float


def scale(b: Bench, many: int = 1_000_000, few: int = 10_000, rounds: int = 3) -> list[Line]:
    """Before and after the long backlog a short one; their mean is what it is compared with."""
    ratios: list[float] = []
    long: list[Told] = []
    short: list[float] = []
    walls: list[float] = []
    for _ in range(rounds):
        before, there, after = _relayed(b, few), _relayed(b, many), _relayed(b, few)
        here = (before.cpu + after.cpu) / 2
        ratios.append(there.cpu / here)
        walls.append(there.wall / ((before.wall + after.wall) / 2))
        short.append(here)
        long.append(there)
    return [
        Line(f"relay CPU per event on servers, backlog of {many:,} / {few:,}", ratios, target=TARGET),
        Line(f"  CPU, backlog of {few:,}", [cost * 1e6 for cost in short], "µs"),
        Line(f"  CPU, backlog of {many:,}", [told.cpu * 1e6 for told in long], "µs"),
        Line("  the same on the wall, servers' work and all", walls),
        Line(f"memory growth of the relay, {many:,} events", [told.grown for told in long], "MiB", target=MEMORY),
    ]


def _relayed(b: Bench, rows: int) -> Told:
    names = b.fresh("warm"), b.fresh("backlog")
    for name, count in zip(names, (WARM, rows), strict=True):
        _seed(b, name, count)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.city_scale", *names]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    with psycopg.connect(b.city.postgres.url) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
    return Told(**json.loads(said.splitlines()[-1]))


def _seed(b: Bench, name: str, count: int) -> None:
    """An outbox with so many approvals that have not been sent, those of one project far apart."""
    store = b.store(name)
    rows = _rows(b, b.engine.urn(name), count)
    while some := list(itertools.islice(rows, CHUNK)):
        with store.transaction() as tx:
            outbox.insert(tx, some)


def _rows(b: Bench, source: str, count: int) -> Iterator[Envelope]:
    chance, subjects = random.Random(7), seeding.codes(min(seeding.SUBJECTS, count))
    bodies = itertools.cycle(seeding.approvals(b.engine.contract, 1000))
    for n, body in zip(range(count), bodies, strict=False):
        key = Key(source, APPROVAL, subjects[n % len(subjects)], n // len(subjects) + 1)
        at = now_millis()
        yield replace(body, key=key, id=UUID(int=chance.getrandbits(128)), time=at, recorded=at)


# -- the process that relays --------------------------------------------------------------------------------------------------
def relay(warm: str, backlog: str) -> Told:
    """As a program's relay does it, without its threads."""
    known = catalog.load()
    engine = Engine(backends.of(settings.load(), known), CITY, known)
    try:
        for _ in _batches(engine, engine.store(warm)):
            pass
        return _measured(_batches(engine, engine.store(backlog)))
    finally:
        engine.close()


def _batches(engine: Engine, store: Store) -> Iterator[int]:
    """How many rows have gone, batch by batch."""
    relay = cast("Relaying", engine.relay(store, engine.outbox(store))).relay
    relay.start()
    gone, more = 0, True
    while more:
        done = relay.step()
        gone, more = gone + done.rows, done.more
        yield gone


def _measured(batches: Iterator[int]) -> Told:
    cpu, wall = time.process_time(), time.monotonic()
    gone, before, most = 0, 0.0, 0.0
    for gone in batches:
        if gone >= WARM:
            most = max(most, _resident())
            before = before or most
    return Told((time.process_time() - cpu) / gone, (time.monotonic() - wall) / gone, most - before)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / MIB


if __name__ == "__main__":
    print(json.dumps(asdict(relay(*sys.argv[1:]))))
