"""The bench on real servers: Apache Kafka, PostgreSQL, a registry; each case has a database and topics of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from jietong import catalog, migrations
from jietong import settings as settings_
from jietong.around.retry import patiently
from jietong.backends import OnServers
from jietong.broker import Message, Place, partition_of
from jietong.catalog import HEADS, RESEND
from jietong.cli import topics
from jietong.delivery import relay
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.heads import Heads
from jietong.delivery.limits import Limit
from jietong.delivery.tables import delivery
from jietong.engine import Engine, Program, Running
from jietong.errors import FencedError, JietongError, RetriableError
from jietong.event import Envelope
from simulation import servers
from simulation.supervise import settings
from tests.faults.bench import APPROVAL, NO_LIMIT, Bench, draft, tables
from tests.faults.harness import told, until
from tests.faults.recorder import Recorder, done
from tests.outside.checker import Caps, Verdict, check
from tests.outside.servers import Servers

USED = (APPROVAL, HEADS, RESEND)
ASKED = 5.0


class Ground:
    """Servers with topics and schemas, on which one case after the other is played."""

    def __init__(self, city: servers.City, folder: Path) -> None:
        self.city, self.folder = city, folder
        self.types = catalog.load()
        self._cases = count(1)
        env = settings(city, folder) | {"PYTHONWARNINGS": "ignore"}
        for command in (("topics", "apply"), ("schema", "push")):
            jietong = str(Path(sys.executable).with_name("jietong"))
            subprocess.run([jietong, *command], env=env, capture_output=True, check=True)
        self.admin: Any = AdminClient({"bootstrap.servers": city.kafka.direct, "log_level": 0})

    def fresh(self) -> str:
        """The address of an empty database; the topics of the bench are empty too."""
        number = next(self._cases)
        with psycopg.connect(f"{self.city.postgres.admin.rpartition('/')[0]}/postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE case{number} OWNER jietong".encode())
        if number > 1:
            self.empty(*USED)
        url = f"{self.city.postgres.url.rpartition('/')[0]}/case{number}"
        for name, own in (("engineering", tables), ("reader", done)):
            with migrations.in_schema(lambda: psycopg.connect(url), name) as connection:
                migrations.upgrade(connection, migrations.branches(delivery))
                migrations.create(connection, [own])
        return url

    def empty(self, *names: str) -> None:
        """Topics made anew, as their files say."""
        for gone in self.admin.delete_topics(list(names)).values():
            gone.result(30)
        with closing(self.backend("postgresql://nobody@127.0.0.1/none", checked=False)) as log:
            for name in names:
                until(lambda name=name: created(log, self.types.topic(name)))

    def backend(self, url: str, *, checked: bool = True, **more: Any) -> Any:
        """What an engine stands on; or the log alone."""
        kafka, registry = self.city.kafka.bootstrap, self.city.registry.url
        chosen = settings_.load(**{
            "engine": "city", "data": self.folder, "database_url": url, "kafka_bootstrap_servers": kafka,
            "schema_registry_url": registry, **more,
        })  # fmt: skip
        if checked:
            return OnServers(chosen, self.types)
        from jietong.backends import log

        return log(chosen, "bench")

    def producer(self, **more: Any) -> Producer:
        """A client we did not write."""
        return Producer({
            "bootstrap.servers": self.city.kafka.direct, "acks": "all", "log_level": 0, "linger.ms": 500,
            "batch.num.messages": 10_000, "message.max.bytes": 900_000_000, **more,
        })  # fmt: skip


def created(log: Any, spec: Any) -> bool:
    """The old one may not quite be gone."""
    with suppress(JietongError):
        log.create(spec.topic, spec.partitions, 1, topics.wanted(spec, 1))
        return True
    return False


class CityBench(Bench):
    """See `Bench`. `write` is another's way into the log; `flow` reads to its end."""

    def __init__(self, ground: Ground, **more: Any) -> None:
        self.ground, self.url, self.more = ground, ground.fresh(), more
        self.steps: list[int] = []
        super().__init__(ground.folder / self.url.rpartition("/")[2])
        self.folder.mkdir(exist_ok=True)

    def open(self, limit: Limit = NO_LIMIT, batch: int = 500) -> None:
        backend = self.ground.backend(self.url, **self.more)
        relay.BETWEEN_LOOKS = 0.0  # each time they are moved
        self.engine = Engine(backend, "440700", self.types, clock=lambda: self.now)
        self.contract, self.log = self.engine.contract, self.engine.log  # pyright: ignore[reportAttributeAccessIssue]
        self.platform, self.store = self.engine.store("engineering", tables), self.engine.store("reader", done)  # pyright: ignore[reportAttributeAccessIssue]
        self.outbox = self.engine.outbox(self.platform)
        self.relay = self.engine.relay(self.platform, self.outbox)
        self.backwards = self.engine.relay(self.store, self.engine.outbox(self.store))
        self.read(limit, batch)

    def read(self, limit: Limit = NO_LIMIT, batch: int = 500) -> None:
        if hasattr(self, "reader"):
            with suppress(RetriableError):
                self.reader.stop()
        self.reader = self.consumer(self.engine, "1", limit, batch)
        outbox = self.engine.outbox(self.store)
        self.completeness = Completeness([APPROVAL], self.store, outbox, Heads(self.log, self.contract))
        self.reader.start()

    def consumer(self, engine: Engine, member: str, limit: Limit = NO_LIMIT, batch: int = 500) -> Consumer:
        service = Recorder("reader", APPROVAL, verdict=self._verdict)
        store = engine.store("reader", done)
        return Consumer(service, store, engine.log, engine.outbox(store), limit, batch, member)

    def close(self) -> None:
        with suppress(JietongError):
            self.reader.stop()
        self.engine.close()

    # -- what happens --------------------------------------------------------------------------------------------------
    def send(self) -> None:
        for each in (self.relay, self.backwards):
            patiently(self.engine.stopping)(lambda each=each: each.step(0), lambda _: None)

    def flow(self) -> int:
        self.send()
        return self.take()

    def take(self, seconds: float = 60) -> int:
        """To the end of the log; the number of records taken. What was away is tried again, as the runner does."""
        begun, until_ = len(self.steps), time.monotonic() + seconds
        while not self.caught_up():
            assert time.monotonic() < until_, self.reader.lag()
            self.step()
        return sum(self.steps[begun:])

    def step(self) -> None:
        try:
            self.steps.append(self.reader.step(0.2))
        except (RetriableError, FencedError):
            self.reader.start()

    def caught_up(self) -> bool:
        lags = self.reader.lag()
        return len(lags) == self.types.topic(APPROVAL).partitions and not any(lags.values())

    def write(self, *messages: Message, into: int | None = None, **more: Any) -> None:
        """By a client that is not ours, in one batch a partition. `into`: all into this one, wherever their keys belong."""
        producer = self.ground.producer(**more)
        for message in messages:
            place = partition_of(message.key, self.types.topic(APPROVAL).partitions) if into is None else into
            producer.produce(message.topic, message.value, message.key, place, headers=list(message.headers))
        assert producer.flush(60) == 0

    def refused(self, message: Message) -> str | None:
        """What the broker says against a record."""
        said: list[Any] = []
        producer = self.ground.producer()
        producer.produce(message.topic, message.value, message.key, 0, on_delivery=lambda error, _: said.append(error))
        producer.flush(60)
        return said[0] and said[0].name()

    @contextmanager
    def member(self, name: str, **more: Any) -> Generator[Running]:
        """A copy of the reader as a process of its own would be: its own clients and sessions, its own threads."""
        engine = Engine(
            self.ground.backend(self.url, member=name, **self.more, **more),
            "440700",
            self.types,
            clock=lambda: self.now,
        )
        store = engine.store("reader", done)
        outbox = engine.outbox(store)
        service = Recorder("reader", APPROVAL, verdict=self._verdict)
        movements = Running(
            engine, [Program("reader", [engine.consume(service, store, outbox), engine.relay(store, outbox)])], beat=0.5
        )
        with ended(engine.close, movements.stop):
            yield movements.start()
        assert movements.bug() is None, movements.bug()

    def numbers(self, partition: int = 0) -> Iterator[int]:
        """Projects whose events stand in this partition."""
        parts = self.types.topic(APPROVAL).partitions
        return (n for n in count(1) if partition_of(draft(n).subject.encode(), parts) == partition)

    # -- what is there -------------------------------------------------------------------------------------------------
    def judged(self, within: float = 60.0, **held: tuple[Envelope, ...]) -> Verdict:
        history = self.folder / "history.ndjson"
        with history.open("w", encoding="utf-8") as file:
            for fate, envelopes in held.items():
                for envelope in envelopes:
                    file.write(
                        f"{json.dumps({'held': {'consumer': 'reader', **envelope.key._asdict(), 'fate': fate}})}\n"
                    )
        where = self.url, self.ground.city.kafka.direct, self.ground.city.registry.url
        with closing(Servers(*where)) as seen:
            verdict = check(seen, history, within=within, caps=Caps())
        shown = ("events", "fates", "records in the log", "duplicates in the log", "records of no row", "strays")
        told(
            **{name: verdict.numbers[name] for name in shown},
            **{name: "holds" for name in verdict.faults if not verdict.faults[name]},
        )
        assert verdict.clean, str(verdict)
        return verdict


@contextmanager
def ended(*close: Callable[[], object]) -> Generator[None]:
    """Whatever happens within, these are closed, the last first."""
    try:
        yield
    finally:
        for each in close[::-1]:
            each()


def placed(bench: CityBench) -> dict[Place, int]:
    """Where the reader's positions are."""
    return {Place(topic, p): n for topic, p, n in bench.rows('SELECT topic, partition, "offset" FROM position')}
