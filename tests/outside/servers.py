"""A city on its servers as any tool sees it: plain SQL on PostgreSQL, raw records of Kafka, ids of the schema registry."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from psycopg import sql

from tests.outside.tables import Row, Seen, Topic, stem, store

ANSWER = 15.0
"""Seconds a server may take to answer."""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|public$)' ORDER BY 1"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"
BORN = "CAST(CAST(r.xmin AS text) AS bigint), r.ctid"
"""In the order of the transactions that wrote them, for rows that are never changed."""
Place = tuple[str, int]


class Servers:
    """Raises ValueError, in a line, for a server that is away and a table that is missing."""

    def __init__(self, database: str, bootstrap: str, registry: str | None = None) -> None:
        self._url, self._registry = database, registry.rstrip("/") if registry else None
        self._log = Log(bootstrap)
        self._session: psycopg.Connection[Row] | None = None
        self._stores: dict[str, str] = {}
        self._schemas: dict[bytes, Any] = {}

    def look(self) -> Seen:
        seen = Seen(topics=self._log.look())
        with self._said():
            self._leave()
            self._session = session = psycopg.connect(self._url, connect_timeout=int(ANSWER))
            session.read_only, session.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
            names = [row[0] for row in session.execute(SCHEMAS).fetchall()]
            self._stores = {stem(name): name for name in names}
            if not names:
                raise ValueError("no store in it")
        for name in names:
            self._store(seen, session, name)
        return seen

    def rows(self, store: str, sql: str, values: Mapping[str, Any]) -> list[Row]:
        """At the moment of the last look. A value given as text takes the type of what it is compared with."""
        if store not in self._stores or self._session is None:
            raise ValueError(f"{self._name}: no store {store}")
        with self._said(store):
            self._enter(self._session, self._stores[store])
            asked: Any = sql.format(**{name: f"%({name})s" for name in values})
            return self._session.execute(asked, {name: str(value) for name, value in values.items()}).fetchall()

    def schema(self, prefix: bytes) -> Any:
        if self._registry is None:
            return None
        if prefix not in self._schemas:
            url = f"{self._registry}/schemas/ids/{int.from_bytes(prefix[1:])}"
            try:
                with urlopen(url, timeout=ANSWER) as answer:  # noqa: S310 — the address we were given
                    self._schemas[prefix] = json.loads(json.load(answer)["schema"])
            except HTTPError as error:
                if error.code != 404:
                    raise ValueError(f"{url}: {error}") from None
                self._schemas[prefix] = "an id that the registry does not know"
            except OSError as error:
                raise ValueError(f"{url}: {error}") from None
        return self._schemas[prefix]

    def close(self) -> None:
        self._leave()
        self._log.close()

    def _store(self, seen: Seen, session: psycopg.Connection[Row], name: str) -> None:
        with self._said(name):
            self._enter(session, name)
            tables = {row[0] for row in session.execute(TABLES, [f'"{name}"'])}
            if not tables:
                raise ValueError("no table in it")

            def ask(sql: str) -> Iterable[Row]:
                return session.execute(cast("Any", sql)).fetchall()

            store(seen, stem(name), ask, tables, BORN)

    @staticmethod
    def _enter(session: psycopg.Connection[Row], name: str) -> None:
        session.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(name)))

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(psycopg.Error):
                session.close()

    @property
    def _name(self) -> str:
        """Its address without the password."""
        return re.sub(r"//([^:/@]*)(:[^@]*)?@", r"//\1@", self._url)

    @contextmanager
    def _said(self, store: str = "") -> Generator[None]:
        where = f"{self._name}: {store}: " if store else f"{self._name}: "
        try:
            yield
        except psycopg.Error as error:
            lines = (error.diag.message_primary or str(error)).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{where}{lines[0].strip()}") from None
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None


class Log:
    """Every topic of a cluster that is not internal, read on from where the last look ended. No member of any group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._admin: Any = AdminClient(settings)  # whose answers have no types
        self._consumer = Consumer({
            **settings, "group.id": "none", "enable.auto.commit": False, "isolation.level": "read_committed",
            "enable.partition.eof": True, "auto.offset.reset": "error",
        })  # fmt: skip
        self._topics: dict[str, Topic] = {}
        self._next: dict[Place, int] = {}

    def look(self) -> dict[str, Topic]:
        """Raises ValueError if the cluster is away."""
        try:
            return self._look()
        except KafkaException as error:
            raise ValueError(f"{self._bootstrap}: {cast('KafkaError', error.args[0]).str()}") from None

    def close(self) -> None:
        self._consumer.close()

    def _look(self) -> dict[str, Topic]:
        places = self._described()
        starts = self._offsets(places, cast("OffsetSpec", OffsetSpec.earliest()))
        ends = self._offsets(places, cast("OffsetSpec", OffsetSpec.latest()))
        for name in {name for name, part in places if ends[name, part] < self._next.get((name, part), 0)}:
            self._anew(name, self._topics[name].id)  # cut off
        for (name, part), start in starts.items():
            topic = self._topics[name]
            topic.forgot |= start > 0
            topic.ends[part] = max(topic.ends.get(part, 0), start)
            self._next[name, part] = max(self._next.get((name, part), 0), start)
        self._read({place: self._next[place] for place, end in ends.items() if self._next[place] < end}, ends)
        return self._topics

    def _described(self) -> list[Place]:
        """The partitions there are; a topic made anew is read anew."""
        names = sorted(self._admin.list_topics(timeout=ANSWER).topics)
        if not names:  # none: it would not answer for nothing
            return []
        found = self._admin.describe_topics(TopicCollection(names), request_timeout=ANSWER)
        described = [said for said in (future.result() for future in found.values()) if not said.is_internal]
        for said in described:
            topic_id = _id(said.topic_id)
            if said.name not in self._topics or self._topics[said.name].id != topic_id:
                self._anew(said.name, topic_id)
        for gone in self._topics.keys() - {said.name for said in described}:
            del self._topics[gone]
        return [(said.name, part.id) for said in described for part in said.partitions]

    def _anew(self, name: str, topic_id: str) -> None:
        self._topics[name] = Topic(topic_id)
        self._next = {place: offset for place, offset in self._next.items() if place[0] != name}

    def _offsets(self, places: Iterable[Place], which: OffsetSpec) -> dict[Place, int]:
        wanted = {TopicPartition(*place): which for place in places}
        if not wanted:
            return {}
        isolation = IsolationLevel.READ_COMMITTED
        found = self._admin.list_offsets(wanted, isolation_level=isolation, request_timeout=ANSWER)
        return {(at.topic, at.partition): future.result().offset for at, future in found.items()}

    def _read(self, places: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        """To the ends; what no client can read is given up with the rest of its partition."""
        left, until = set(places), time.monotonic() + ANSWER
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
        while left:
            messages = self._consumer.consume(10_000, timeout=0.2)
            if time.monotonic() > until:
                raise ValueError(f"{self._bootstrap}: {len(left)} partitions were not read within {ANSWER:.0f} s")
            for message in messages:
                place = cast("str", message.topic()), cast("int", message.partition())
                if place in left:  # not what a client says of a server
                    until = time.monotonic() + ANSWER
                    left -= {place} if self._taken(place, message, ends[place]) else set()
        self._consumer.unassign()

    def _taken(self, place: Place, message: Message, end: int) -> bool:
        """Whether that was the last of its partition."""
        topic, error = self._topics[place[0]], message.error()
        if error is None:
            headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
            topic.take({name: (value or b"").decode(errors="replace") for name, value in headers}, message.value())
            self._next[place] = topic.ends[place[1]] = cast("int", message.offset()) + 1
            return self._next[place] >= end
        if error.code() != KafkaError._PARTITION_EOF:
            topic.forgot, topic.ends[place[1]] = True, end
            topic.unreadable += 1
        self._next[place] = end
        return True


def _id(said: Any) -> str:
    """As everyone but this client writes it."""
    most, least = said.get_most_significant_bits(), said.get_least_significant_bits()
    return str(uuid.UUID(int=(most % 2**64) << 64 | least % 2**64))
