"""The real servers, started once for a whole run, for the tests marked `city`."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from jietong import backends, catalog, city, settings
from jietong.engine import Engine
from simulation import servers
from simulation.city import set_up
from simulation.supervise import settings as environment


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Generator[servers.City]:
    """Kafka, a registry and PostgreSQL; in CI a server that does not start is a failure."""
    if lacks := servers.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacks)
    with servers.servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
def empty_city(real: servers.City, tmp_path: Path) -> Iterator[settings.Settings]:
    """The settings of a city without a past on these servers: its topics, tables and schemas are made."""
    emptied(real)
    env = environment(real, tmp_path / "data")
    (tmp_path / "data").mkdir()
    set_up(env)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield settings.load()


@pytest.fixture
def on_servers(empty_city: settings.Settings) -> Iterator[Callable[[], Engine]]:
    """Makes engines of that city, each as another process would have it."""
    made: list[Engine] = []

    def engine() -> Engine:
        known = catalog.load()
        made.append(Engine(backends.of(empty_city, known), city.load("jiangmen", known).code, known))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def emptied(real: servers.City) -> None:
    """Forget every topic and every schema of ours."""
    admin = AdminClient({"bootstrap.servers": real.kafka.bootstrap})
    for _ in range(3):
        topics = [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]
        if not topics:
            break
        for done in admin.delete_topics(topics, operation_timeout=30).values():
            done.result()
    with psycopg.connect(real.postgres.url, autocommit=True) as session:
        found = "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'"
        for (name,) in session.execute(found).fetchall():
            session.execute(f"DROP SCHEMA {name} CASCADE".encode())
