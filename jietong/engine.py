"""Wiring, at the edge: what a program gets to run with, whatever it stands on; one thread a movement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData

from jietong.around.retry import patiently
from jietong.backends import PLATFORM, Backend, Embedded
from jietong.broker import Broker
from jietong.catalog import Catalog
from jietong.contract import Contract
from jietong.delivery import rebase
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
from jietong.store import Store


def now_millis() -> int:
    """This machine's clock: milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@dataclass
class Engine:
    """One city's engine, as one process has it. `host` and `password`: where its pages listen, and their login's."""

    backend: Backend
    city: str
    catalog: Catalog
    clock: Callable[[], int] = now_millis
    host: str = "127.0.0.1"
    password: str | None = None
    stores: dict[str, Store] = field(default_factory=dict[str, Store])
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.contract = Contract(self.catalog, self.backend.registry, self.city)
        self.keys = FileKeys(self.backend.keys)
        self.heads = Heads(self.log, self.contract)

    @property
    def log(self) -> Broker:
        return self.backend.broker

    def now(self) -> datetime:
        """The clock's moment."""
        return datetime.fromtimestamp(self.clock() / 1000, UTC)

    def urn(self, name: str) -> str:
        return f"urn:jietong:{self.city}:{name}"

    def store(self, name: str, *tables: MetaData) -> Store:
        """A program's database, with the tables of delivery."""
        return self._opened(name, delivery, *tables)

    def platform(self, name: str, *tables: MetaData) -> Store:
        """A stand-in platform's own database, `platform-<name>`: none of our tables."""
        return self._opened(f"{PLATFORM}{name}", *tables)

    def outbox(self, store: Store, name: str | None = None) -> Outbox:
        return Outbox(self.urn(name or store.name), self.contract, self.clock, store.bell)

    # -- movements -----------------------------------------------------------------------------------------------------
    def relay(self, store: Store, outbox: Outbox) -> Movement:
        mine = self.backend.single(f"{store.name} relay")
        relay = Relay(outbox.source, store, self.log, self.contract, self.clock, servers=self.backend.servers)
        return Relaying(relay, store, mine)

    def consume(self, service: Service, store: Store, outbox: Outbox) -> Movement:
        consumer = Consumer(service, store, self.log, outbox, member=self.backend.member)
        return self._consuming(consumer, store, outbox, service.types)

    def pour(
        self,
        name: str,
        types: Sequence[str],
        wanted: Callable[[Envelope], bool],
        sink: Sink,
        store: Store,
        outbox: Outbox,
    ) -> Movement:
        pour = Pour(Deliveries(name, types, wanted), sink, store, self.log, outbox, self.backend.member)
        return self._consuming(pour, store, outbox, types)

    def draw(self, source: Source, store: Store, outbox: Outbox) -> Movement:
        def check() -> None:
            rebase.refuse_restored(store, self.log, self.contract, outbox.source)

        mine = self.backend.single(f"{store.name} draw")
        return Drawing(Draw(source, store, outbox), store, self.stopping.wait, mine, check)

    def feeds(self) -> list[Program]:
        """Feeds that were imported since we last looked: each a database whose outbox wants a relay."""
        return [self._feed(name) for name in sorted(set(self.backend.feeds()) - self.stores.keys())]

    def _feed(self, name: str) -> Program:
        store = self.store(name)
        return Program(name, [self.relay(store, self.outbox(store))])

    def _consuming(self, consumer: Consumer, store: Store, outbox: Outbox, types: Sequence[str]) -> Movement:
        return Consuming(consumer, Completeness(types, store, outbox, self.heads), store, aside=self.backend.servers)

    def _opened(self, name: str, *tables: MetaData) -> Store:
        if name not in self.stores:
            self.stores[name] = self.backend.store(name, *tables)
        return self.stores[name]

    def close(self) -> None:
        self.backend.close()


def embedded(
    folder: Path, city: str, catalog: Catalog, clock: Callable[[], int] = now_millis, log_cap: int = 4 * 1024**3
) -> Engine:
    """The engine of one folder. UsageError if another process runs on it."""
    return Engine(Embedded(folder, catalog, log_cap), city, catalog, clock)


@dataclass(frozen=True, slots=True)
class Program:
    """What `connectors/<x>/__main__.py` and `services/<x>/__main__.py` make: a name, its movements, and pages by their path."""

    name: str
    movements: Sequence[Movement]
    pages: Mapping[str, Any] = field(default_factory=dict[str, Any])


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
