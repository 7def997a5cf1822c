"""Heads: what each outbox has announced of itself, and how a database restored from a backup is noticed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from uuid6 import uuid7

from jietong.broker import Broker, Message, Place, Record
from jietong.catalog import HEADS, source_name
from jietong.contract import Contract
from jietong.delivery import outbox
from jietong.delivery.outbox import Head
from jietong.errors import DamagedError, Fault
from jietong.event import Draft, Envelope, Key
from jietong.identifiers import kind_of
from jietong.store import Transaction

PAGE = 1000
REWOUND = "rewound"
"""The mark of a database that was found to be older than its head, until it is rebased: a connector that reads its rows again
may meanwhile make up the number, and even the newest id, of what is gone."""


class Announced(NamedTuple):
    """A head as the log has it, and the log's own time of it (milliseconds)."""

    head: Head
    timestamp: int


class Heads:
    """The newest head of every source, read from the compacted topic; each head once, however many threads ask."""

    def __init__(self, broker: Broker, contract: Contract) -> None:
        self.broker, self._contract = broker, contract
        self._reading = threading.Lock()
        self._next: dict[Place, int] = {}
        self._topic_id = ""
        self._known: dict[str, Announced] = {}
        self.cities: set[str] = set()
        """Whose sources announce themselves here, believed or not."""

    def read(self) -> Mapping[str, Announced]:
        """source → its newest head, of those that are in the log now. Raises RetriableError while the log is away."""
        with self._reading:
            self._read()
            return dict(self._known)

    def _read(self) -> None:
        topic = self.broker.topic(HEADS)
        if topic.id != self._topic_id:
            self._topic_id, self._next = topic.id, {}
        for partition, bounds in topic.bounds.items():
            place = Place(HEADS, partition)
            if self._next.get(place, 0) > bounds.end:
                self._next[place] = bounds.start
            while (at := self._next.get(place, bounds.start)) < bounds.end and (
                records := self.broker.read(place, at, PAGE)
            ):
                self._next[place] = records[-1].offset + 1
                for record in records:
                    self._take(record)

    def _take(self, record: Record) -> None:
        source = record.key.decode("latin-1")
        if kind_of(source) == "source":
            self.cities.add(source.split(":")[2])
        try:
            event = self._contract.decode(self._contract.envelope(record))
        except (DamagedError, Fault):
            return
        data = event.data
        self._known[event.source] = Announced(Head(data["newest"], dict(data["counts"])), record.timestamp)


def message(contract: Contract, source: str, head: Head, now: int) -> Message:
    """A head on its way into the log; its key is the source, so the newest stays."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    data = {"newest": head.newest, "counts": head.counts, "at": moment}
    fingerprint, body = contract.encode(Draft(type=HEADS, subject=source, time=moment, data=data))
    key = Key(source, HEADS, source, max(now, 1))
    return contract.message(Envelope(key=key, id=uuid7(), fingerprint=fingerprint, body=body, time=now, recorded=now))


def rewound(tx: Transaction, source: str, announced: Mapping[str, Announced]) -> bool:
    """Whether this database lacks what it once announced: then it was restored from a backup.

    The sums too: the newest row may be there, and an earlier one, committed later, not.
    """
    if tx.execute("SELECT 1 FROM mark WHERE name = :name", {"name": REWOUND}).one():
        return True
    if not (found := announced.get(source)) or not found.head.newest:
        return False
    here = outbox.head(tx).counts
    return not outbox.has(tx, found.head.newest) or any(here.get(t, 0) < n for t, n in found.head.counts.items())


def restored(source: str) -> str:
    """What to say of it, and the way on."""
    return (
        f"{source}: this database was restored from a backup: events it has announced are no longer in it. "
        f"Nothing was sent. Stop, and bring them back: `jietong outbox rebase {source_name(source)}`."
    )
