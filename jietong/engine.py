"""Wiring, at the edge: what a program gets to run with. The embedded engine: one folder, one process, one thread a movement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import MetaData

from jietong.adapters.embedded import EmbeddedLog, Lock
from jietong.adapters.sqlite import SqliteStore
from jietong.around.retry import patiently
from jietong.catalog import Catalog
from jietong.contract import Contract
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.draw import Draw
from jietong.delivery.heads import Heads
from jietong.delivery.outbox import Outbox
from jietong.delivery.pour import Deliveries, Pour
from jietong.delivery.relay import Relay
from jietong.delivery.runner import BEAT, Consuming, Drawing, Health, Movement, Relaying, run
from jietong.delivery.tables import delivery
from jietong.event import Envelope
from jietong.keys import FileKeys
from jietong.platform import Sink, Source
from jietong.service import Service


def now_millis() -> int:
    """This machine's clock: milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@dataclass
class Engine:
    """One city's engine on one folder. Opening it takes the log's lock: UsageError if another process has it."""

    folder: Path
    city: str
    catalog: Catalog
    clock: Callable[[], int] = now_millis
    log_cap: int = 4 * 1024**3
    stores: dict[str, SqliteStore] = field(default_factory=dict[str, SqliteStore])
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.contract = Contract(self.catalog)
        self.keys = FileKeys(self.folder / "keys")
        self.log = EmbeddedLog(self.folder, self.catalog.topics, cap=self.log_cap)
        self._locks: list[Lock] = []

    def now(self) -> datetime:
        """The clock's moment."""
        return datetime.fromtimestamp(self.clock() / 1000, UTC)

    def urn(self, name: str) -> str:
        return f"urn:jietong:{self.city}:{name}"

    def store(self, name: str, *tables: MetaData) -> SqliteStore:
        """A program's database, `<name>.db`; with the tables of delivery."""
        return self._opened(name, delivery, *tables)

    def platform(self, name: str, *tables: MetaData) -> SqliteStore:
        """A stand-in platform's own database, `platform-<name>.db`: none of our tables."""
        return self._opened(f"platform-{name}", *tables)

    def outbox(self, store: SqliteStore, name: str | None = None) -> Outbox:
        return Outbox(self.urn(name or store.name), self.contract, self.clock, store.bell)

    # -- movements -----------------------------------------------------------------------------------------------------
    def relay(self, store: SqliteStore, outbox: Outbox) -> Movement:
        lock = Lock(self.folder / f"{store.path.stem}.relay.lock")
        self._locks.append(lock)
        return Relaying(Relay(outbox.source, store, self.log, self.contract, self.clock), store, lock.take)

    def consume(self, service: Service, store: SqliteStore, outbox: Outbox) -> Movement:
        return self._consuming(Consumer(service, store, self.log, outbox), store, outbox, service.types)

    def pour(
        self,
        name: str,
        types: Sequence[str],
        wanted: Callable[[Envelope], bool],
        sink: Sink,
        store: SqliteStore,
        outbox: Outbox,
    ) -> Movement:
        pour = Pour(Deliveries(name, types, wanted), sink, store, self.log, outbox)
        return self._consuming(pour, store, outbox, types)

    def draw(self, source: Source, store: SqliteStore, outbox: Outbox) -> Movement:
        return Drawing(Draw(source, store, outbox), store, self.stopping.wait)

    def feeds(self) -> list[Program]:
        """Feeds that were imported since we last looked: each a database `feed-<name>.db` whose outbox wants a relay."""
        found = {f"feed:{file.stem.removeprefix('feed-')}" for file in self.folder.glob("feed-*.db")}
        return [self._feed(name) for name in sorted(found - self.stores.keys())]

    def _feed(self, name: str) -> Program:
        store = self.store(name)
        return Program(name, [self.relay(store, self.outbox(store))])

    def _consuming(self, consumer: Consumer, store: SqliteStore, outbox: Outbox, types: Sequence[str]) -> Movement:
        heads = Heads(self.log, self.contract)
        return Consuming(consumer, Completeness(types, store, outbox, heads), store)

    def _opened(self, name: str, *tables: MetaData) -> SqliteStore:
        if name not in self.stores:
            file = name.replace(":", "-")
            self.stores[name] = SqliteStore(self.folder / f"{file}.db", *tables, name=name)
        return self.stores[name]

    def close(self) -> None:
        for store in self.stores.values():
            store.close()
        for lock in self._locks:
            lock.release()
        self.log.close()


@dataclass(frozen=True, slots=True)
class Program:
    """What `connectors/<x>/__main__.py` and `services/<x>/__main__.py` make: a name and its movements."""

    name: str
    movements: Sequence[Movement]


class Running:
    """The movements of some programs, each in a thread of its own."""

    def __init__(self, engine: Engine, programs: Sequence[Program], beat: float = BEAT) -> None:
        self.engine = engine
        self.health: dict[str, Health] = {}
        self.movements: list[Movement] = []
        self.failed = threading.Event()
        self._beat = beat
        self._programs = programs
        self._threads: list[threading.Thread] = []

    def start(self) -> Running:
        for program in self._programs:
            self.add(program)
        return self

    def add(self, program: Program) -> None:
        """Start a program's movements, now or while others run."""
        for movement in program.movements:
            self.movements.append(movement)
            self.health[movement.name] = Health(movement.name)
            thread = threading.Thread(target=self._run, args=(movement,), name=movement.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def consumers(self) -> list[Consumer]:
        """Every consumer and pour, to look at."""
        return [movement.consumer for movement in self.movements if isinstance(movement, Consuming)]

    def stop(self, seconds: float = 10.0) -> None:
        """Tell all to finish what they are at; waits at most so long."""
        self.engine.stopping.set()
        for store in self.engine.stores.values():
            store.bell.ring()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def bug(self) -> BaseException | None:
        """The first movement's error that no rule covers: the process must end, and be started again."""
        return next((health.error for health in self.health.values() if health.error), None)

    def _run(self, movement: Movement) -> None:
        try:
            run(movement, self.engine.stopping, patiently(self.engine.stopping), self.health[movement.name], self._beat)
        except BaseException:  # noqa: BLE001 — kept in health.error; whoever runs us ends the process
            self.failed.set()
