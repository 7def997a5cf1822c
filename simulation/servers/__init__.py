"""The real servers of a city, for tests, `make city`, faults and benchmarks: no container engine, nothing left behind.

Apache Kafka, Apicurio Registry, PostgreSQL and Prometheus as child processes on free ports of loopback, in a folder the
caller gives; they end with us however we end. What a machine lacks is said by `missing()` in one sentence.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .database import Postgres, postgres
from .log import Kafka, kafka
from .metrics import Prometheus, prometheus
from .network import Address, Proxy, proxy
from .process import Server, ServerError, together
from .schemas import Registry, registry
from .software import missing

__all__ = [
    "Address",
    "City",
    "Kafka",
    "Postgres",
    "Prometheus",
    "Proxy",
    "Registry",
    "Server",
    "ServerError",
    "kafka",
    "missing",
    "postgres",
    "prometheus",
    "proxy",
    "registry",
    "servers",
    "together",
]


@dataclass
class City:
    """The three servers a city stands on."""

    kafka: Kafka
    registry: Registry
    postgres: Postgres


@contextmanager
def servers(folder: Path, nodes: int = 1) -> Generator[City]:
    """All three, started together and ended together. Raises ServerError."""
    started: list[Kafka | Server] = []

    def kept(one: Kafka | Server) -> Kafka | Server:
        started.append(one)
        return one

    try:
        log, names, database = together(
            lambda: kept(kafka(folder / "kafka", nodes)),
            lambda: kept(registry(folder / "registry")),
            lambda: kept(postgres(folder / "postgres")),
        )
        yield City(cast("Kafka", log), cast("Registry", names), cast("Postgres", database))
    finally:
        if started:
            together(*(one.stop for one in started))
