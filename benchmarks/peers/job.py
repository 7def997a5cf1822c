"""The job that both peers do in one transaction: inbox rows, the facts learned, the cases wanted, follow-ups in the outbox.

The domain is hookup's own, called over psycopg by a thin adapter, so that a comparison is one of the delivery frame. The
tables are those of the service, row for row: inbox, outbox, its counter, and hookup's.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Self, cast

import fastavro
import psycopg
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.schema import CreateSchema

from benchmarks.peers.wire import Arrival, Schemas
from jietong import catalog
from jietong.city import City, load
from jietong.delivery.tables import delivery
from jietong.event import Draft, Event, Stream, follow_up_id
from jietong.identifiers import kind_of
from jietong.store import Bell, Parameters, Row
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

APPROVAL = "engineering.approval.decided.v1"
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

INBOX = {
    "source": "text", "type": "text", "subject": "text", "sequence": "bigint", "id": "text", "digest": "bytea",
    "fingerprint": "bytea", "body": "bytea", "time": "bigint", "recorded": "bigint", "cause": "text", "supersedes": "text",
    "operator": "text", "traceparent": "text",
}  # fmt: skip
OUTBOX = {
    "id": "text", "source": "text", "aggregatetype": "text", "aggregateid": "text", "type": "text", "sequence": "bigint",
    "fingerprint": "bytea", "payload": "bytea", "time": "bigint", "recorded": "bigint", "cause": "text",
    "supersedes": "text", "operator": "text", "traceparent": "text",
}  # fmt: skip
COUNTER = {"source": "text", "type": "text", "subject": "text", "sequence": "bigint"}


def _statement(sql: str, columns: dict[str, str]) -> tuple[bytes, bytes]:
    """For one row, and for many: `unnest` of one array a column, which for a single row costs psycopg more than the rest
    of its statement. Bytes go in binary, for psycopg would else write them in hexadecimal."""
    given = [(f"%({name}){'b' if kind == 'bytea' else 's'}", kind) for name, kind in columns.items()]
    one = f"(VALUES ({', '.join(f'{value}::{kind}' for value, kind in given)}))"
    many = f"unnest({', '.join(f'{value}::{kind}[]' for value, kind in given)})"
    return sql.format(rows=one).encode(), sql.format(rows=many).encode()


LET_IN = _statement(
    f"""INSERT INTO inbox ({", ".join(INBOX)}, fate, settled)
SELECT u.*, 'applied', %(now)s FROM {{rows}} AS u ON CONFLICT DO NOTHING
RETURNING source, type, subject, sequence""",
    INBOX,
)
SEND = _statement(
    f"""WITH kept AS (INSERT INTO outbox ({", ".join(OUTBOX)}) SELECT * FROM {{rows}} AS u RETURNING n)
INSERT INTO unsent (n) SELECT n FROM kept""",
    OUTBOX,
)
COUNT = _statement(
    f"""INSERT INTO counter ({", ".join(COUNTER)}) SELECT * FROM {{rows}} AS u
ON CONFLICT (source, type, subject) DO UPDATE SET sequence = counter.sequence + excluded.sequence
RETURNING source, type, subject, sequence""",
    COUNTER,
)
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) AS name"
NAMED = re.compile(r"(?<![:\w]):(\w+)")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a peer is started with. `name`: its consumer group and its schema in the database."""

    bootstrap: str
    database: str
    registry: str
    name: str
    city: str
    topics: Sequence[str]
    clock: Callable[[], int]

    @classmethod
    def read(cls, name: str) -> Self:
        """From the command line."""
        parser = argparse.ArgumentParser(
            description="A peer of the hookup service; ends on SIGTERM and prints its counts."
        )
        parser.add_argument("--bootstrap", required=True, help="host:port of a broker")
        parser.add_argument("--database", required=True, help="postgresql://…")
        parser.add_argument("--registry", required=True, help="address of a Confluent-compatible registry")
        parser.add_argument(
            "--name", default=name, help="consumer group, and schema in the database; default %(default)s"
        )
        parser.add_argument("--city", default="jiangmen", help="the city pack")
        parser.add_argument("--topics", nargs="+", default=[APPROVAL], help="what is consumed; default %(default)s")
        parser.add_argument(
            "--now", type=int, help="the hour it is, ms since 1970 UTC, for ever; else this machine's clock"
        )
        chosen = parser.parse_args()
        now: int | None = chosen.now
        clock = _machine if now is None else lambda: now
        return cls(chosen.bootstrap, chosen.database, chosen.registry, chosen.name, chosen.city, chosen.topics, clock)


def _machine() -> int:
    return time.time_ns() // 1_000_000


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


@dataclass(slots=True)
class Counts:
    """What a peer did; `seconds` and `cpu` (of the whole process) from its first call to the end of its last one."""

    events: int = 0
    duplicates: int = 0
    requests: int = 0
    transactions: int = 0
    began: tuple[float, float] = (0.0, 0.0)
    ended: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        if not self.transactions:
            self.began = _clocks()

    def note(self, events: int, taken: int, requests: int) -> None:
        self.events += events
        self.duplicates += events - taken
        self.requests += requests
        self.transactions += 1
        self.ended = _clocks()

    def printed(self) -> str:
        """One line of JSON."""
        seconds, cpu = (end - begin for begin, end in zip(self.began, self.ended, strict=True))
        return json.dumps({
            "events": self.events, "duplicates": self.duplicates, "requests": self.requests, "transactions": self.transactions,
            "seconds": round(seconds, 3), "cpu": round(cpu, 3),
        })  # fmt: skip


class Rows(psycopg.Cursor[Row]):
    """What the domain's port `jietong.store.Rows` asks of a cursor."""

    def one(self) -> Row | None:
        return self.fetchone()

    def all(self) -> list[Row]:
        return self.fetchall()


class Transaction:
    """The domain's port `jietong.store.Transaction` over a psycopg connection."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Parameters = {}) -> Rows:  # noqa: B006 — never changed
        return cast("Rows", self._connection.execute(_psycopg(sql), parameters))

    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        cursor = self._connection.cursor()
        cursor.executemany(_psycopg(sql), parameters)
        return cursor.rowcount

    def put(
        self, sql: tuple[bytes, bytes], columns: Iterable[str], rows: Sequence[dict[str, Any]], **more: Any
    ) -> Rows:
        """One statement, of `_statement`, for all rows."""
        if len(rows) == 1:
            return cast("Rows", self._connection.execute(sql[0], {**rows[0], **more}))
        named = {column: [row[column] for row in rows] for column in columns}
        return cast("Rows", self._connection.execute(sql[1], {**named, **more}))

    def lock(self, names: Iterable[str]) -> None:
        self._connection.execute(LOCK, [sorted(names)])

    def after_commit(self, ring: Bell) -> None:
        """Nobody waits for a bell here."""


@lru_cache(maxsize=1024)
def _psycopg(sql: str) -> bytes:
    """`:name` as psycopg writes it."""
    return NAMED.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


class Job:
    """What the handlers call: `done` is the whole job in one transaction, for one event or for many."""

    def __init__(self, settings: Settings, schemas: Schemas) -> None:
        city: City = load(settings.city, catalog.load())
        self.counts = Counts()
        self._clock, self._schemas = settings.clock, schemas
        self._domain = Hookup(city, settings.clock)
        self._source = f"urn:jietong:{city.code}:{self._domain.name}"

    def done(self, engine: Engine, arrivals: Sequence[Arrival]) -> None:
        """Raises what the domain and the database raise; then nothing of it was done."""
        self.counts.begin()
        with engine.begin() as connection:
            raw = cast("psycopg.Connection[Row]", connection.connection.driver_connection)
            taken, requests = self._take(Transaction(raw), arrivals)
        self.counts.note(len(arrivals), taken, requests)

    def _take(self, tx: Transaction, arrivals: Sequence[Arrival]) -> tuple[int, int]:
        """How many were new, and how many follow-ups they have."""
        fresh = self._let_in(tx, arrivals)
        taken, drafts = len(fresh), list[tuple[Draft, Event]]()
        for event in (arrival.event for arrival in arrivals):
            if event.key in fresh:
                fresh.discard(event.key)
                self._domain.learn(tx, event)
                drafts += [(draft, event) for draft in self._domain.due(tx, event.subject, event)]
        if drafts:
            self._send(tx, drafts)
        return taken, len(drafts)

    def _let_in(self, tx: Transaction, arrivals: Sequence[Arrival]) -> set[tuple[Any, ...]]:
        """The keys of those that were not here before."""
        return set(tx.put(LET_IN, INBOX, [_inbox(arrival) for arrival in arrivals], now=self._clock()).all())

    def _send(self, tx: Transaction, drafts: Sequence[tuple[Draft, Event]]) -> None:
        """Follow-ups, numbered within their streams."""
        more = Counter(Stream(self._source, draft.type, draft.subject) for draft, _ in drafts)
        rows = [{**stream._asdict(), "sequence": n} for stream, n in sorted(more.items())]
        next = {Stream(*row[:3]): row[3] - more[Stream(*row[:3])] for row in tx.put(COUNT, COUNTER, rows).all()}
        outbox: list[dict[str, Any]] = []
        for draft, cause in drafts:
            next[Stream(self._source, draft.type, draft.subject)] += 1
            outbox.append(self._outbox(draft, cause, next[Stream(self._source, draft.type, draft.subject)]))
        tx.put(SEND, OUTBOX, outbox)

    def _outbox(self, draft: Draft, cause: Event, sequence: int) -> dict[str, Any]:
        schema, out = self._schemas.current(draft.type), io.BytesIO()
        fastavro.schemaless_writer(out, schema.parsed, dict(draft.data))
        return {
            "id": str(follow_up_id(cause.id, self._source, draft.type, *draft.about)), "source": self._source, "type": draft.type,
            "aggregatetype": kind_of(draft.subject) or "", "aggregateid": draft.subject, "sequence": sequence,
            "fingerprint": schema.fingerprint, "payload": out.getvalue(), "time": _millis(draft.time), "recorded": self._clock(),
            "cause": str(cause.id), "supersedes": draft.supersedes and str(draft.supersedes), "operator": draft.operator,
            "traceparent": cause.traceparent,
        }  # fmt: skip


def opened(settings: Settings) -> Engine:
    """A pool on the peer's own schema, whose tables are made if need be.

    `max_workers` cannot be more than 1 here, so one handler runs at a time and one connection is all it needs.
    """
    url = make_url(settings.database).set(drivername="postgresql+psycopg")
    path = {"options": f'-c search_path="{settings.name}"', "cursor_factory": Rows}
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args=path)
    with engine.begin() as connection:
        connection.execute(CreateSchema(settings.name, if_not_exists=True))
        for metadata in (delivery, hookup):
            metadata.create_all(connection)
    return engine


def _inbox(arrival: Arrival) -> dict[str, Any]:
    event = arrival.event
    return {
        **event.key._asdict(), "id": str(event.id), "digest": arrival.digest, "fingerprint": arrival.fingerprint, "body": arrival.body,
        "time": _millis(event.time), "recorded": _millis(event.recorded), "cause": event.cause and str(event.cause),
        "supersedes": event.supersedes and str(event.supersedes), "operator": event.operator, "traceparent": event.traceparent,
    }  # fmt: skip


def _millis(moment: datetime) -> int:
    return (moment - EPOCH) // MILLISECOND
