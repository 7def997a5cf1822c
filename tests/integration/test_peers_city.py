"""The peers of the comparison do the service's job: on real servers each leaves the rows that hookup itself leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from benchmarks.peers.job import Settings, opened
from benchmarks.workload import APPROVAL, CITY, SOURCES, drafts
from jietong import catalog
from jietong.adapters.embedded import EmbeddedLog
from jietong.adapters.sqlite import SqliteStore
from jietong.broker import partition_of
from jietong.catalog import Catalog
from jietong.city import load
from jietong.contract import Contract, fingerprint, to_millis
from jietong.delivery import consumer
from jietong.delivery.outbox import Outbox
from jietong.delivery.tables import delivery
from jietong.event import Envelope, Key, Stream, derived_id
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup
from simulation.servers import City, missing, servers

pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
COUNT, TWICE, PARTITIONS = 300, 10, 3
"""Approvals; each how many is sent twice; partitions."""
WITHIN = 60.0
"""Seconds a peer may take."""
PEERS = ("per_message", "batch")
QUESTIONS = {
    "inbox": "source, type, subject, sequence, id, digest, fingerprint, body, fate, time, recorded, cause, operator, settled",
    "outbox": "source, aggregatetype, aggregateid, type, sequence, id, fingerprint, payload, time, recorded, cause, operator",
    "unsent": "count(*)",
    "support": "subject, source, type, item, standing, rows, work, phase, document, site_regions, facts, decided, extended",
    "case_": "subject, work, operator, business_kind, phase, id, requested, confirmed, round, content, data, opened, asked, receipt",
    "task": "id, subject, kind, about, detail, unit, since, done, gone",
}
"""What must be the same, row for row; not the order in which it was written, which is that of no one key."""
HELD = """INSERT INTO inbox (source, type, subject, sequence, id, digest, fate, fingerprint, body, time, recorded)
VALUES (%s, %s, %s, %s, '', '', 'waiting', '', '', 0, 0)"""
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
Kept = dict[str, list[tuple[Any, ...]]]


class Registered:
    """The ids that the real registry gave, as the contract asks for them."""

    def __init__(self, url: str, known: Catalog) -> None:
        with SchemaRegistryClient({"url": url}) as client:
            self._ids = {
                fingerprint(schema.definition): client.register_schema(f"{topic}-value", Schema(json.dumps(schema.definition), "AVRO"))
                for topic, schemas in known.schemas.items() for schema in schemas
            }  # fmt: skip

    def id(self, fingerprint: bytes) -> int:
        return self._ids[fingerprint]

    def fingerprint(self, id: int) -> bytes | None:
        return next((known for known, number in self._ids.items() if number == id), None)


@dataclass
class Stage:
    """Servers with the approvals in their log, and what the service keeps of them."""

    servers: City
    kept: Kept
    ends: dict[int, int]
    """Partition → where its log ends."""

    @contextmanager
    def peer(self, module: str, name: str) -> Generator[subprocess.Popen[str]]:
        """A peer's process; `name` is its group and its schema."""
        command = [
            sys.executable, "-m", f"benchmarks.peers.{module}", "--bootstrap", self.servers.kafka.bootstrap,
            "--database", self.servers.postgres.url, "--registry", self.servers.registry.url, "--name", name, "--now", "0",
        ]  # fmt: skip
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def whole(self, module: str, name: str) -> dict[str, Any]:
        """All of the log through a peer; its counts."""
        with self.peer(module, name) as process:
            return self.finished(process, name)

    def finished(self, process: subprocess.Popen[str], name: str) -> dict[str, Any]:
        """Wait until its group has committed the log's end, then tell it to end; its counts."""
        group = self._group(name)
        until(lambda: self._committed(group) == self.ends, process)
        process.terminate()
        said, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 0
        return json.loads(said.splitlines()[-1])

    def settings(self, name: str) -> Settings:
        where = (self.servers.kafka.bootstrap, self.servers.postgres.url, self.servers.registry.url)
        return Settings(*where, name, "jiangmen", [APPROVAL], lambda: 0)

    def forget(self, name: str) -> None:
        """Its group begins at the beginning again."""
        self._group(name).commit(offsets=[TopicPartition(APPROVAL, n, 0) for n in self.ends], asynchronous=False)

    def connect(self, name: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.servers.postgres.url, options=f'-c search_path="{name}"')

    def rows(self, name: str) -> Kept:
        with self.connect(name) as db:
            return kept(lambda sql: db.execute(sql.encode()).fetchall())

    def _committed(self, group: Consumer) -> dict[int, int]:
        with suppress(KafkaException):  # the coordinator is not there yet
            return {
                at.partition: at.offset for at in group.committed([TopicPartition(APPROVAL, n) for n in self.ends], 5)
            }
        return {}

    def _group(self, name: str) -> Consumer:
        """To look at a group from outside: no member of it."""
        return Consumer(
            {"bootstrap.servers": self.servers.kafka.bootstrap, "group.id": name, "enable.auto.commit": False}
        )


def kept(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> Kept:
    return {table: sorted(ask(f"SELECT {columns} FROM {table}"), key=repr) for table, columns in QUESTIONS.items()}


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + WITHIN
    while not true():
        assert process.poll() is None, "the peer ended by itself"
        assert time.monotonic() < end, f"not within {WITHIN:.0f} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if lacking := missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    known = catalog.load()
    approvals = list(islice(decided(Contract(known)), COUNT))
    service = by_the_service(tmp_path_factory.mktemp("service"), known, approvals)
    with servers(tmp_path_factory.mktemp("servers")) as city:
        admin = AdminClient({"bootstrap.servers": city.kafka.bootstrap})
        admin.create_topics([NewTopic(APPROVAL, PARTITIONS, 1)])[APPROVAL].result()
        ends = send(city.kafka.bootstrap, Contract(known, Registered(city.registry.url, known)), approvals)
        yield Stage(city, service, ends)


def decided(contract: Contract) -> Iterator[Envelope]:
    """The benchmarks' approvals, each construction permit extended at once: an extension counts, so one that is applied
    twice shows."""
    numbers: Counter[Stream] = Counter()
    for draft in (draft for draft in drafts() if draft.type == APPROVAL):
        permit = draft.data["decision_kind"] == "CONSTRUCTION"
        for said in (draft, *([replace(draft, data={**draft.data, "decision": "EXTENDED"})] if permit else [])):
            stream = Stream(SOURCES[APPROVAL], APPROVAL, said.subject)
            numbers[stream] += 1
            print_, body = contract.encode(said)
            key, id, at = Key(*stream, numbers[stream]), derived_id(*stream, str(numbers[stream])), to_millis(said.time)
            yield Envelope(key=key, id=id, fingerprint=print_, body=body, time=at, recorded=at + 40)


def by_the_service(folder: Path, known: Catalog, approvals: Sequence[Envelope]) -> Kept:
    """What hookup keeps of them, through our own consumer on the embedded engine."""
    contract, log = Contract(known), EmbeddedLog(folder, known.topics)
    store = SqliteStore(folder / "hookup.db", delivery, hookup)
    outbox = Outbox(f"urn:jietong:{CITY}:hookup", contract, lambda: 0, store.bell)
    ours = consumer.Consumer(Hookup(load("jiangmen", known), lambda: 0), store, log, outbox)
    try:
        log.append([contract.message(envelope) for envelope in approvals])
        ours.start()
        while ours.step(0):
            pass
        with store.snapshot() as tx:
            return kept(lambda sql: tx.execute(sql).all())
    finally:
        store.close()
        log.close()


def send(bootstrap: str, contract: Contract, approvals: Sequence[Envelope]) -> dict[int, int]:
    """Every tenth twice, as a relay does that did not hear; returns how many records there are of each partition."""
    producer, sent = Producer({"bootstrap.servers": bootstrap, "acks": "all"}), Counter[int]()
    for n, message in enumerate(map(contract.message, approvals)):
        for _ in range(1 if n % TWICE else 2):
            where = partition_of(message.key, PARTITIONS)
            producer.produce(message.topic, message.value, message.key, where, headers=list(message.headers))
            sent[where] += 1
    assert producer.flush(WITHIN) == 0
    return dict(sent)


@pytest.mark.parametrize("module", PEERS)
def test_a_peer_keeps_what_the_service_keeps_and_reading_again_changes_nothing(module: str, stage: Stage) -> None:
    name = f"whole-{module}"
    first = stage.whole(module, name)
    rows = stage.rows(name)
    stage.forget(name)
    again = stage.whole(module, name)
    assert rows == stage.kept
    assert stage.rows(name) == rows
    assert len(rows["inbox"]) == COUNT
    assert len(rows["outbox"]) == first["requests"] > COUNT / 10
    sent = sum(stage.ends.values())
    assert (first["events"], first["duplicates"]) == (sent, sent - COUNT)
    assert (first["transactions"] == sent) == (module == "per_message")
    assert (again["events"], again["duplicates"], again["requests"]) == (sent, sent, 0)


@pytest.mark.parametrize("module", PEERS)
def test_a_peer_whose_connection_is_cut_in_the_middle_does_every_event_once_and_in_order(
    module: str, stage: Stage
) -> None:
    name = f"cut-{module}"
    opened(stage.settings(name)).dispose()
    with stage.connect(name) as db, stage.connect(name) as other:
        other.autocommit = True
        db.execute(HELD, stage.kept["inbox"][COUNT // 2][:4])  # not committed: the peer waits for it
        with stage.peer(module, name) as process:
            until(lambda: bool(other.execute(WAITING).fetchall()), process)
            other.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAITING}) AS waiting")
            db.rollback()
            stage.finished(process, name)
    assert stage.rows(name) == stage.kept
