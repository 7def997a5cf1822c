"""One project's events as everyone has them: its outboxes, the log, every inbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jietong.broker import Place, partition_of
from jietong.cli.folder import Folder, has_table
from jietong.cli.tail import paged
from jietong.contract import Contract
from jietong.delivery import inbox, outbox
from jietong.errors import DamagedError, Fault, UsageError
from jietong.event import Envelope, Event, Key
from jietong.store import Store, placeholders

WORDS = ("action", "decision", "status")


class Reading(NamedTuple):
    """What became of an event at one consumer; `at` is when that was settled (ms), None while it waits."""

    fate: str
    reason: str | None
    at: int | None


@dataclass(slots=True)
class Told:
    """One event: as its outbox has it, when the log had it first (ms), and what became of it at each consumer.

    `owner` is the program whose outbox has it; None if only readers do. A reader of its type that has not come to it yet
    is missing from `readings`. `event` is None if it cannot be decoded; `fault` says why.
    """

    envelope: Envelope
    owner: str | None
    sent: bool
    event: Event | None = None
    fault: str | None = None
    logged: int | None = None
    readings: dict[str, Reading] = field(default_factory=dict[str, Reading])

    @property
    def word(self) -> str:
        """What it says in one word."""
        data: Mapping[str, Any] = self.event.data if self.event else {}
        return next((data[name] for name in WORDS if name in data), "")


def story(folder: Folder, code: str) -> list[Told]:
    """Every event of a project, of the units and licences on its map too, in the order in which it happened."""
    subjects = _subjects(folder, code)
    streams = {pair for store in folder.programs.values() for pair in _pairs(store)}
    told: dict[Key, Told] = {}
    for name, store in folder.programs.items():
        for envelope, sent in _written(store, streams, subjects):
            told[envelope.key] = Told(envelope, name, sent)
    for name, store in folder.programs.items():
        for envelope, reading in _read(store, streams, subjects):
            told.setdefault(envelope.key, Told(envelope, None, sent=True)).readings[name] = reading
    _log(folder, told)
    for one in told.values():
        _decode(one, folder.contract)
    return sorted(told.values(), key=lambda t: (t.envelope.time, t.envelope.recorded, t.envelope.key))


def _subjects(folder: Folder, code: str) -> list[str]:
    """The code, and what the timeline has put on its map."""
    subjects = {code}
    if store := folder.programs.get("timeline"):
        with store.snapshot() as tx:
            if has_table(tx, "fact"):
                found = tx.execute("SELECT DISTINCT subject FROM fact WHERE project = :code", {"code": code}).all()
                subjects |= {row[0] for row in found}
    return sorted(subjects)


def _pairs(store: Store) -> list[tuple[str, str]]:
    with store.snapshot() as tx:
        rows = tx.execute("SELECT source, type FROM total UNION SELECT source, type FROM stream").all()
        return [(row[0], row[1]) for row in rows]


def _written(
    store: Store, streams: Iterable[tuple[str, str]], subjects: Sequence[str]
) -> Iterator[tuple[Envelope, bool]]:
    marks, named = placeholders("s", subjects)
    sql = f"""SELECT {outbox.SENT}, {outbox.COLUMNS} FROM outbox
    WHERE source = :source AND type = :type AND aggregateid IN ({marks})"""
    with store.snapshot() as tx:
        rows = [row for s, t in streams for row in tx.execute(sql, {**named, "source": s, "type": t}).all()]
    return ((outbox.envelope_of(row[1:]), bool(row[0])) for row in rows)


def _read(
    store: Store, streams: Iterable[tuple[str, str]], subjects: Sequence[str]
) -> Iterator[tuple[Envelope, Reading]]:
    marks, named = placeholders("s", subjects)
    sql = f"""SELECT fate, reason, settled, {inbox.COLUMNS} FROM inbox
    WHERE source = :source AND type = :type AND subject IN ({marks})"""
    with store.snapshot() as tx:
        rows = [row for s, t in streams for row in tx.execute(sql, {**named, "source": s, "type": t}).all()]
    return ((outbox.envelope_of(row[3:]), Reading(row[0], row[1], row[2])) for row in rows)


def _log(folder: Folder, told: Mapping[Key, Told]) -> None:
    """When the log had each of them first; what it no longer keeps stays unknown."""
    try:
        log = folder.log
    except UsageError:  # no city ever ran here
        return
    for topic, subject in sorted({(key.type, key.subject) for key in told}):
        bounds = log.topic(topic).bounds
        place = Place(topic, partition_of(subject.encode(), len(bounds)))
        for record in paged(log, place, bounds[place.partition]):
            if record.key != subject.encode():
                continue
            try:
                found = told.get(folder.contract.envelope(record).key)
            except DamagedError:
                continue
            if found and found.logged is None:
                found.logged = record.timestamp


def _decode(told: Told, contract: Contract) -> None:
    try:
        told.event = None if told.envelope.void else contract.decode(told.envelope)
    except Fault as fault:
        told.fault = str(fault)
