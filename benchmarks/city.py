"""A city's real servers with an engine on them, where every benchmark of `make bench-city` begins; and its programs, as processes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import psycopg

from benchmarks import workload
from benchmarks.workload import APPROVAL
from connectors.utility.connector import REQUESTED
from connectors.utility.tables import utility
from jietong import backends, catalog, city, migrations, settings
from jietong.adapters.postgres import Database, PostgresStore
from jietong.backends import OnServers
from jietong.broker import Message
from jietong.delivery import outbox
from jietong.delivery.tables import delivery
from jietong.engine import Engine
from jietong.event import Draft, Envelope
from jietong.store import Row, Store
from services.hookup.tables import hookup
from simulation import servers
from simulation.city import set_up
from simulation.supervise import Programs, programs
from simulation.supervise import settings as environment

ROOT = Path(__file__).parents[1]
BATCH = 1000
WITHIN = 600.0
BEGUN = 2_000
"""Approvals of the workload left out: from there on projects are at all stages, and one in four or so opens cases."""
READ = 'SELECT sum("offset") FROM position WHERE topic = :topic'
RECEIPTS = "SELECT count(*) FROM receipt"
ASKED = "SELECT operator, count(*) FROM outbox WHERE type = :type GROUP BY operator"


@dataclass
class Bench:
    """A city's servers, and an engine on them."""

    city: servers.City
    engine: Engine
    env: Mapping[str, str]
    runs: int = 0

    def approvals(self, count: int, seed: int) -> list[Envelope]:
        coming = workload.envelopes(self.engine.contract, 100 * count, seed)
        return list(islice((e for e in coming if e.key.type == APPROVAL), count))

    def send(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), BATCH):
            if not all(self.engine.log.append(messages[start : start + BATCH])):
                raise RuntimeError("the log did not take the workload")

    def store(self, name: str, *tables: Any) -> PostgresStore:
        """A store that is made now."""
        database: Database = cast("OnServers", self.engine.backend).database
        with migrations.in_schema(lambda: psycopg.connect(self.city.postgres.url), name) as connection:
            migrations.upgrade(connection, migrations.branches(delivery, *tables))
        return PostgresStore(database, name, delivery, *tables)

    def fresh(self, what: str) -> str:
        self.runs += 1
        return f"{what}_{self.runs}"

    @contextmanager
    def running(self, *names: str, env: Mapping[str, str] = {}) -> Generator[Programs]:
        """These programs, each a process of its own, up and ready; ended at the end. `env`: more settings of theirs."""
        data = Path(self.env["JIETONG_DATA"])
        running = programs(data.parent / self.fresh("programs"), self.city, data, names=names, env=env)
        try:
            running.start()
            yield running
        finally:
            running.stop()


@contextmanager
def bench() -> Generator[Bench]:
    with tempfile.TemporaryDirectory() as folder, servers.servers(Path(folder) / "servers") as city:
        env = environment(city, Path(folder) / "data")
        (Path(folder) / "data").mkdir()
        set_up(env)
        os.environ |= env
        known = catalog.load()
        engine = Engine(backends.of(settings.load(), known), workload.CITY, known)
        try:
            yield Bench(city, engine, env)
        finally:
            engine.close()


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall, and of this process's CPU."""
    wall, cpu = time.monotonic(), time.process_time()
    do()
    return time.monotonic() - wall, time.process_time() - cpu


def until(so: Callable[[], bool], what: str, pause: float = 0.1) -> None:
    """Wait, at most `WITHIN` seconds. Raises RuntimeError naming what did not come to be."""
    end = time.monotonic() + WITHIN
    while not so():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {WITHIN:.0f} s: {what}")
        time.sleep(pause)


def approvals(seed: int) -> Iterator[Draft]:
    """Without end, of a city under way."""
    return islice((draft for draft in workload.drafts(seed) if draft.type == APPROVAL), BEGUN, None)


@dataclass
class Way:
    """From an approval in the outbox of the platform that gave it to the operators' own rows, as the tables have it."""

    engine: Engine
    owner: Store = field(init=False)
    hookup: Store = field(init=False)
    operators: Mapping[str, Store] = field(init=False)

    def __post_init__(self) -> None:
        pack = city.load("jiangmen", self.engine.catalog)
        self.owner, self.hookup = self.engine.store("engineering"), self.engine.store("hookup", hookup)
        self.operators = {name: self.engine.platform(name, utility) for name in pack.operators}
        self.outbox = self.engine.outbox(self.owner)

    def add(self, drafts: Sequence[Draft]) -> None:
        """In one transaction, as a platform that joined fully."""
        with self.owner.transaction() as tx:
            self.outbox.add(tx, *drafts)

    def unsent(self) -> int:
        """Approvals that the relay has before it."""
        return _waiting(self.owner)

    def unread(self) -> int:
        """Approvals that hookup has before it, once they are in the log."""
        return behind(self.engine, self.hookup, APPROVAL)

    def unasked(self) -> int:
        """What hookup has made and not sent."""
        return _waiting(self.hookup)

    def undelivered(self, *but: str) -> int:
        """Requests that hookup made and their operators have not taken, those of some operators apart."""
        with self.hookup.snapshot() as tx:
            asked = dict(tx.execute(ASKED, {"type": REQUESTED}).all())  # pyright: ignore[reportArgumentType] — two columns
        wanted = sum(count for name, count in asked.items() if name not in but)
        return wanted - sum(row[0] for row in self.rows(RECEIPTS, {}, *but))

    def over(self, *but: str) -> bool:
        """Whether nothing is under way. Asked in this order, what moves on meanwhile is seen further down."""
        return not (self.unsent() or self.unread() or self.unasked() or self.undelivered(*but))

    def rows(self, sql: str, named: Mapping[str, Any], *but: str) -> Iterator[Row]:
        """What a query gives, operator by operator."""
        for name, store in self.operators.items():
            if name not in but:
                with store.snapshot() as tx:
                    yield from tx.execute(sql, named).all()


def behind(engine: Engine, store: Store, topic: str) -> int:
    """Records of a topic that a reader has before it."""
    end = sum(bounds.end for bounds in engine.log.topic(topic).bounds.values())
    with store.snapshot() as tx:
        return end - (tx.execute(READ, {"topic": topic}).all()[0][0] or 0)


def _waiting(store: Store) -> int:
    with store.snapshot() as tx:
        return outbox.depth(tx)[0]
