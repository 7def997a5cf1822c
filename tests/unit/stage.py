"""A small stage for the tests of delivery: one platform, one log, one reader, all in memory, and a clock that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Integer, MetaData, Table, Text

from jietong import failpoint
from jietong.broker import Message, Record
from jietong.catalog import HEADS, RESEND, Catalog, Schema, TopicSpec, load
from jietong.contract import Contract
from jietong.delivery import alarms
from jietong.delivery.consumer import Consumer
from jietong.delivery.limits import Limit
from jietong.delivery.outbox import Outbox
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.event import Draft, Event, Fate, Key
from jietong.store import Transaction
from jietong.testing import MemoryLog, MemoryStore

A, B, C = (f"local:test:{n}" for n in (1, 2, 3))
DECIDED, NOTED = "test.decided.v1", "test.noted.v1"
TOPICS = {DECIDED: 2, NOTED: 1, RESEND: 1, HEADS: 1}
PLATFORM, READER = "urn:jietong:440700:platform", "urn:jietong:440700:reader"
EPOCH = 1_700_000_000_000
MINUTE = 60_000
NO_LIMIT = Limit(in_a_row=10**9, least=10**9)
UNDECODABLE = b"\x02"  # claims a text of one byte, and ends


def small_catalog() -> Catalog:
    whole = load()
    core = {name: whole.topics[name] for name in (HEADS, RESEND)}
    specs = {
        name: TopicSpec(name, {}, ["local"], ["platform", "reader"], "tests", ["*"], TOPICS[name], "internal")
        for name in (DECIDED, NOTED)
    }
    schemas = {
        name: [Schema(name, 1, {"type": "record", "name": "Test", "fields": [{"name": "what", "type": "string"}]})]
        for name in specs
    }
    schemas[NOTED] = [
        Schema(NOTED, 1, {"type": "record", "name": "Note", "fields": [{"name": "what", "type": "string"}]})
    ]
    ids = {(DECIDED, 1): 101, (NOTED, 1): 102} | {key: id for key, id in whole.ids.items() if key[0] in core}
    return Catalog({**specs, **core}, {**schemas, **{name: whole.schemas[name] for name in core}}, ids)


CONTRACT = Contract(small_catalog())
effects = MetaData()
Table(
    "done",
    effects,
    Column("n", Integer, primary_key=True),
    Column("subject", Text),
    Column("sequence", Integer),
    Column("what", Text),
)


class Recorder:
    """A service that writes down what happened to it; `meets` is what a test has it do first, `wants` its follow-ups."""

    name = "reader"

    def __init__(self, *types: str) -> None:
        self.types: Sequence[str] = types or (DECIDED,)
        self.meets: Callable[[Event], object] = lambda event: None
        self.wants: Callable[[Event], Iterable[Draft]] = lambda event: ()
        self.alarms: dict[str, int] = {}
        """By subject, when it has something to say of its own accord (ms)."""
        self.says: Callable[[str], Iterable[Draft]] = lambda subject: ()

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        return tx

    def learn(self, tx: Transaction, event: Event) -> Fate:
        tx.execute("INSERT INTO done (subject, sequence, what) VALUES (:subject, :sequence, :what)",
                   {"subject": event.subject, "sequence": event.sequence, "what": event.data["what"]})  # fmt: skip
        self.meets(event)
        return Fate.FILTERED if event.data["what"] == "filtered" else Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        if cause:
            return self.wants(cause)
        self.alarms.pop(subject, None)
        return self.says(subject)

    def remember(self, tx: Transaction, event: Event) -> None: ...

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return ()

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        return [subject for subject, at in self.alarms.items() if at <= now]


class Stage:
    """One platform whose outbox a relay sends, and one reader; `now` is everybody's clock."""

    def __init__(self, log: MemoryLog | None = None, service: Recorder | None = None) -> None:
        self.now = EPOCH
        self.log = log or MemoryLog(TOPICS)
        self.log.compacted = {HEADS}
        self.service = service or Recorder()
        self.platform, self.reader = MemoryStore("platform", delivery), MemoryStore("reader", delivery, effects)
        self.outbox = Outbox(PLATFORM, CONTRACT, lambda: self.now, self.platform.bell)
        self.own = Outbox(READER, CONTRACT, lambda: self.now, self.reader.bell)

    def emit(
        self,
        subject: str = A,
        what: str = "x",
        type: str = DECIDED,
        body: bytes | None = None,
        supersedes: UUID | None = None,
    ) -> UUID:
        draft = Draft(type=type, subject=subject, time=moment(self.now), data={"what": what}, supersedes=supersedes)
        envelope = self.outbox.prepare(draft)
        with self.platform.transaction() as tx:
            [id] = self.outbox.put(tx, [envelope if body is None else replace(envelope, body=body)])
        return id

    def relayed(self, batch: int = 500) -> Relay:
        """A relay at its start, with nothing sent yet."""
        relay = Relay(PLATFORM, self.platform, self.log, CONTRACT, lambda: self.now, batch)
        relay.start()
        relay.beat()
        return relay

    def send(self) -> None:
        relay = self.relayed()
        while relay.step().more:
            pass

    def consumer(self, limit: Limit = NO_LIMIT, batch: int = 500) -> Consumer:
        made = Consumer(self.service, self.reader, self.log, self.own, limit, batch)
        made.start()
        return made

    def records(self, topic: str = DECIDED) -> list[Record]:
        return self.log.everything(topic)

    def again(self, record: Record, **changed: Any) -> None:
        """Put a record into the log once more, perhaps another one."""
        r = replace(record, **changed)
        self.log.append([Message(r.topic, r.key, r.value, r.headers)])

    # -- what became of it ---------------------------------------------------------------------------------------------
    def fates(self, subject: str = A) -> list[str]:
        return self.column(f"SELECT fate FROM inbox WHERE subject = '{subject}' ORDER BY sequence")

    def done(self, subject: str = A) -> list[str]:
        return self.column(f"SELECT what FROM done WHERE subject = '{subject}' ORDER BY n")

    def column(self, sql: str, store: MemoryStore | None = None) -> list[Any]:
        with (store or self.reader).snapshot() as tx:
            return [row[0] for row in tx.execute(sql).all()]

    def alarms(self, store: MemoryStore | None = None) -> list[str]:
        with (store or self.reader).snapshot() as tx:
            return [alarm.name for alarm in alarms.standing(tx)]

    def close(self) -> None:
        failpoint.armed.clear()
        self.platform.close()
        self.reader.close()


def moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def key(sequence: int, subject: str = A, type: str = DECIDED) -> Key:
    return Key(PLATFORM, type, subject, sequence)


@contextmanager
def dying(point: str, nth: int = 1) -> Iterator[None]:
    """The process ends at this point's nth passing; the test goes on in the next one."""
    failpoint.armed[point] = ("crash", nth)
    try:
        yield
    except failpoint.Crash:
        pass
    else:
        raise AssertionError(f"{point} was not passed {nth} times")
    finally:
        failpoint.armed.clear()
