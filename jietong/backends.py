"""What an engine stands on: one folder and one process, or the servers of a city.

Wiring, at the edge: the only place that names adapters for programs. The libraries of the city engine are loaded where it runs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import MetaData

from jietong.adapters.embedded import EmbeddedLog, Lock
from jietong.adapters.sqlite import SqliteStore
from jietong.broker import Broker
from jietong.catalog import Catalog
from jietong.contract import Registry
from jietong.delivery import alarms
from jietong.errors import UsageError
from jietong.settings import Settings
from jietong.store import Store

PLATFORM = "platform-"
PATIENCE = 30.0
"""Seconds that a program which starts waits for a registry that starts too."""
TENDED = 5.0
"""Seconds between two looks at what the servers' sessions do."""


class Backend(Protocol):
    """`member` names this process in a consumer group, the same after a restart. `keys`: the folder of the city's keys.
    `servers`: log and stores are servers, whose answers take time and cost this process nothing."""

    @property
    def broker(self) -> Broker: ...
    @property
    def registry(self) -> Registry | None:
        """None: the ids of `schemas/ids.yaml`."""
        ...

    @property
    def keys(self) -> Path: ...
    @property
    def member(self) -> str: ...
    @property
    def servers(self) -> bool: ...
    def store(self, name: str, *tables: MetaData) -> Store:
        """A database, opened once a process. Raises UsageError if its tables are not ours."""
        ...

    def single(self, name: str) -> Callable[[], bool]:
        """Asked each time, whether this process is the one that does this: taken if nobody does it, held until it ends."""
        ...

    def feeds(self) -> Iterable[str]:
        """The names of the feeds that were imported, `feed:...`."""
        ...

    def tend(self) -> None:
        """Now and then: what the backend does for itself."""
        ...

    def close(self) -> None: ...


class Embedded:
    """One folder, held by one process. UsageError if another one has it."""

    registry: Registry | None = None
    member, servers = "", False

    def __init__(self, folder: Path, catalog: Catalog, log_cap: int = 4 * 1024**3) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.keys = folder, folder / "keys"
        self.broker = EmbeddedLog(folder, catalog.topics, cap=log_cap)
        self._stores: list[SqliteStore] = []
        self._locks: list[Lock] = []

    def store(self, name: str, *tables: MetaData) -> SqliteStore:
        self._stores.append(store := SqliteStore(self.folder / f"{_stem(name)}.db", *tables, name=name))
        return store

    def single(self, name: str) -> Callable[[], bool]:
        self._locks.append(lock := Lock(self.folder / f"{_stem(name)}.lock"))
        return lock.take

    def feeds(self) -> Iterable[str]:
        return (f"feed:{file.stem.removeprefix('feed-')}" for file in self.folder.glob("feed-*.db"))

    def tend(self) -> None:
        self.broker.trim()

    def close(self) -> None:
        for store in self._stores:
            store.close()
        for lock in self._locks:
            lock.release()
        self.broker.close()


class OnServers:
    """Apache Kafka, PostgreSQL, a schema registry. Raises UsageError, in a line, for whatever of them is wrong."""

    servers = True

    def __init__(self, settings: Settings, catalog: Catalog, name: str = "jietong") -> None:
        kafka, postgres, registry = _city_libraries()
        self.keys, self.member = settings.data / "keys", settings.member or socket.gethostname()
        user, password, cafile = settings.registry_login()
        names = registry.ConfluentRegistry(
            catalog, registry.Access(settings.needed("schema_registry_url"), user, password, cafile)
        )
        self.registry: Registry | None = names
        self._names = names
        self.broker = kafka.KafkaLog(
            settings.needed("kafka_bootstrap_servers"), name, settings.kafka_security(), settings.kafka_poll_interval
        )
        try:
            self.database = postgres.Database(settings.needed("database_url"))
            self.broker.check(catalog.topics)
            names.check(PATIENCE)
        except UsageError:
            self.close()
            raise
        self._open = postgres.PostgresStore
        self._stores: list[Any] = []
        self._tended = 0.0
        self._sitting: Mapping[str, str] | None = None

    def store(self, name: str, *tables: MetaData) -> Store:
        self._stores.append(store := self._open(self.database, name, *tables))
        return store

    def single(self, name: str) -> Callable[[], bool]:
        return lambda: self.database.hold(name)

    def feeds(self) -> Iterable[str]:
        return [name for name in self.database.schemas() if name.startswith("feed:")]

    def tend(self) -> None:
        """One process of a city watches for sessions that sit in a transaction, whoever's they are."""
        watcher = next((store for store in self._stores if not store.name.startswith(PLATFORM)), None)
        if watcher is None or time.monotonic() - self._tended < TENDED:
            return
        self._tended = time.monotonic()
        found: Mapping[str, str] = self.database.sitting() if self.database.hold("sitting sessions") else {}
        if found != self._sitting:
            with watcher.transaction() as tx:
                alarms.only(tx, "idle-transaction", found, time.time_ns() // 1_000_000)
            self._sitting = found

    def close(self) -> None:
        for store in getattr(self, "_stores", ()):
            store.close()
        if found := getattr(self, "database", None):
            found.close()
        self.broker.close()
        self._names.close()


def log(settings: Settings, name: str) -> Any:
    """The log of a city alone, whatever else is there or not."""
    kafka, _, _ = _city_libraries()
    return kafka.KafkaLog(settings.needed("kafka_bootstrap_servers"), name, settings.kafka_security())


def of(settings: Settings, catalog: Catalog, name: str = "jietong") -> Backend:
    """The one that the settings name."""
    if settings.engine == "city":
        return OnServers(settings, catalog, name)
    return Embedded(settings.data, catalog, settings.log_cap)


def _city_libraries() -> tuple[Any, Any, Any]:
    try:
        from jietong.adapters import kafka, postgres, registry  # noqa: PLC0415 — a laptop needs none of them
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the city engine needs {error.name}, which is not installed: pip install 'jietong[city]'"
        ) from None
    return kafka, postgres, registry


def _stem(name: str) -> str:
    return name.replace(":", "-").replace(" ", ".")
