"""Relay and inbox with a million rows present, beside none: the same events through both, in turns, in one process."""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from benchmarks import seeding
from benchmarks.table import Line, markdown
from benchmarks.workload import APPROVAL, CITY
from jietong import catalog
from jietong.adapters.embedded import EmbeddedLog
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery import outbox, positions
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.heads import Heads
from jietong.delivery.outbox import Outbox
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.engine import now_millis
from jietong.event import Draft, Envelope, Event, Fate, Key
from jietong.service import Learned
from jietong.store import Transaction

ROWS, EVENTS, ROUNDS = 1_000_000, 5_000, 7
TARGET = 1.3


class Idle:
    """A service without a domain: what is left is the inbox. See `jietong.service.Service`."""

    name = "idle"
    types = (APPROVAL,)

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:  # noqa: ARG002
        return tx

    def learn(self, tx: Transaction, event: Event) -> Learned:  # noqa: ARG002 — it only looks at the event
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Sequence[Draft]:  # noqa: ARG002
        return ()

    def remember(self, tx: Transaction, event: Event) -> None:
        """Nothing of its own."""

    def subjects(self, tx: Transaction) -> Sequence[str]:  # noqa: ARG002
        return ()

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:  # noqa: ARG002
        return ()


@dataclass(slots=True)
class Side:
    """One owner and one reader with their log, both with so many rows of each project."""

    owner: SqliteStore
    log: EmbeddedLog
    relay: Relay
    consumer: Consumer
    completeness: Completeness
    each: int

    def offer(self, events: Sequence[tuple[str, Envelope]]) -> None:
        """Each as the next event of its project, into the owner's outbox."""
        at = now_millis()
        rows = [
            replace(
                e,
                key=Key(seeding.SOURCE, APPROVAL, code, self.each + 1),
                id=UUID(int=random.getrandbits(128)),
                time=at,
                recorded=at,
            )
            for code, e in events
        ]
        with self.owner.transaction() as tx:
            outbox.insert(tx, rows)

    def relayed(self) -> None:
        while self.relay.step().more:
            pass

    def drained(self) -> None:
        while self.consumer.step(0):
            pass

    def beat(self) -> None:
        self.consumer.beat()
        self.completeness.beat(time.monotonic_ns() // 1_000_000)

    def close(self) -> None:
        for thing in (self.owner, self.consumer.store, self.log):
            thing.close()


def side(folder: Path, subjects: Sequence[str], bodies: Sequence[Envelope], each: int) -> Side:
    folder.mkdir()
    known = catalog.load()
    contract = Contract(known)
    seeding.outbox(folder / "owner.db", subjects, bodies, each, sent=True)
    seeding.inbox(folder / "idle.db", subjects, bodies, each)
    owner, reader = SqliteStore(folder / "owner.db", delivery), SqliteStore(folder / "idle.db", delivery)
    log = EmbeddedLog(folder, known.topics)
    own = Outbox(f"urn:jietong:{CITY}:idle", contract, now_millis, reader.bell)
    with reader.transaction() as tx:  # a group that began behind what it has
        topic = log.topic(APPROVAL)
        positions.begin(tx, [positions.at(log, topic, partition, 0) for partition in topic.bounds])
    relay, consumer = Relay(seeding.SOURCE, owner, log, contract, now_millis), Consumer(Idle(), reader, log, own)
    relay.start()
    consumer.start()
    return Side(owner, log, relay, consumer, Completeness(Idle.types, reader, own, Heads(log, contract)), each)


def measure(rows: int = ROWS, events: int = EVENTS, rounds: int = ROUNDS) -> list[Line]:
    """The first round warms up and is not counted."""
    subjects, bodies = seeding.codes(), seeding.approvals(Contract(catalog.load()), 1000)
    with tempfile.TemporaryDirectory() as name:
        empty = side(Path(name, "empty"), subjects, bodies, 0)
        full = side(Path(name, "full"), subjects, bodies, rows // len(subjects))
        scattered = random.Random(7).sample(subjects, k=events * (rounds + 1))
        costs = [
            _round(empty, full, list(zip(scattered[n * events :][:events], itertools.cycle(bodies), strict=False)), n)
            for n in range(rounds + 1)
        ][1:]
        beats = [_cpu(full.beat) for _ in range(rounds)]
        empty.close()
        full.close()
    here, there = ([round_[n] for round_ in costs] for n in (0, 1))
    return [
        *_lines("relay", [cost[0] for cost in here], [cost[0] for cost in there], events, rows),
        *_lines("inbox", [cost[1] for cost in here], [cost[1] for cost in there], events, rows),
        Line(f"one slow beat of a reader, {rows:,} rows, CPU", [beat * 1e3 for beat in beats], "ms"),
    ]


def _lines(what: str, none: Sequence[float], full: Sequence[float], events: int, rows: int) -> list[Line]:
    return [
        Line(
            f"{what} CPU per event, {rows:,} rows / none",
            [b / a for a, b in zip(none, full, strict=True)],
            target=TARGET,
        ),
        Line(f"  {what}, no rows", [cost / events * 1e6 for cost in none], "µs"),
        Line(f"  {what}, {rows:,} rows", [cost / events * 1e6 for cost in full], "µs"),
    ]


def _round(empty: Side, full: Side, events: Sequence[tuple[str, Envelope]], number: int) -> list[tuple[float, float]]:
    """CPU seconds of (relay, inbox) without rows and with; who goes first changes from round to round."""
    costs: dict[int, tuple[float, float]] = {}
    for one in (empty, full) if number % 2 else (full, empty):
        one.offer(events)
        costs[id(one)] = (_cpu(one.relayed), _cpu(one.drained))
    return [costs[id(empty)], costs[id(full)]]


def _cpu(do: Callable[[], None]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


if __name__ == "__main__":
    print(markdown(measure(*(int(text) for text in sys.argv[1:]))))
