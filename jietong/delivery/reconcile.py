"""Reconciliation (对账): what every owner wrote, what the log has, what each reader took; and whether it adds up.

A running city moves while it is counted. So each is read before what must contain it: first the readers, then the owners,
then the log. What a reader knows, its owner has written; what an owner had sent is in the log, or was trimmed from it;
and what stands in the log before a reader's position, that reader has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jietong.broker import Broker, Place
from jietong.contract import Contract
from jietong.errors import DamagedError
from jietong.event import Stream
from jietong.store import Store, Transaction

PAGE = 1000
OURS = "jietong."
"""Types of the delivery core itself: relays read them and keep no inbox."""
OWED = """SELECT source, type, aggregateid, sequence FROM unsent JOIN outbox USING (n)"""
ROWS = """SELECT c.source, c.type, c.subject, c.sequence, count(o.n), coalesce(max(o.sequence), 0) FROM counter c
LEFT JOIN outbox o ON o.source = c.source AND o.type = c.type AND o.aggregateid = c.subject GROUP BY 1, 2, 3"""
PRESENT = (
    """SELECT sequence FROM inbox WHERE source = :source AND type = :type AND subject = :subject AND sequence > :last"""
)

Pair = tuple[str, str]
"""(source, type)."""
Offsets = dict[int, tuple[Place, int]]


@dataclass(slots=True)
class Written:
    """An owner's side of one (source, type). `missing`: sent, and not in a log that still keeps its first records."""

    source: str
    type: str
    events: int = 0
    announced: int = 0
    unsent: int = 0
    logged: int = 0
    trimmed: int = 0
    missing: int = 0
    misnumbered: int = 0

    @property
    def adds_up(self) -> bool:
        return not (self.missing or self.misnumbered or self.events != self.announced)


@dataclass(slots=True)
class Taken:
    """A reader's side of one (source, type). While nothing moves, settled + waiting + held + to_read + gaps + short and
    the owner's unsent are the owner's events.

    `to_read` is before it in the log; `gaps` are below what it knows, `short` above; `ahead` its owner never wrote.
    """

    reader: str
    source: str
    type: str
    settled: int = 0
    waiting: int = 0
    held: int = 0
    to_read: int = 0
    gaps: int = 0
    short: int = 0
    ahead: int = 0

    @property
    def adds_up(self) -> bool:
        return not (self.gaps or self.short or self.ahead)


@dataclass(slots=True)
class Report:
    """`strays` are records of the log that say nothing about any stream; each reader has them, without effect."""

    written: list[Written]
    taken: list[Taken]
    strays: int = 0

    @property
    def adds_up(self) -> bool:
        return all(line.adds_up for line in (*self.written, *self.taken))


@dataclass(slots=True)
class _Owners:
    """Per stream its counter and the sequences that have not left yet; the lines begun."""

    counters: dict[Stream, int] = field(default_factory=dict[Stream, int])
    unsent: dict[Stream, set[int]] = field(default_factory=dict[Stream, set[int]])
    lines: dict[Pair, Written] = field(default_factory=dict[Pair, Written])


@dataclass(slots=True)
class _Log:
    """Per stream and sequence the last offset it stands at; which partitions have lost their first records."""

    offsets: dict[Stream, dict[int, tuple[Place, int]]] = field(
        default_factory=dict[Stream, dict[int, tuple[Place, int]]]
    )
    trimmed: set[str] = field(default_factory=set[str])
    strays: int = 0


class _Reader(NamedTuple):
    """How far a reader is in each partition, and per stream (last, known, what it has beyond its last)."""

    positions: Mapping[Place, int]
    streams: Mapping[Stream, tuple[int, int, frozenset[int]]]
    fates: Mapping[tuple[str, str, str], int]


def reconcile(stores: Mapping[str, Store], broker: Broker, contract: Contract) -> Report:
    """Count everything. `stores` are the programs' databases; each is read in one snapshot, none is written."""
    readers = {name: reader for name, store in stores.items() if (reader := _reader(store, broker)).positions}
    owners = _owners(stores.values())
    log = _logged(broker, contract, sorted({pair[1] for pair in owners.lines}))
    for stream, counter in owners.counters.items():
        _compare(owners, log, stream, counter)
    taken = [line for name, reader in readers.items() for line in _taken(name, reader, owners, log)]
    return Report(sorted(owners.lines.values(), key=lambda w: (w.source, w.type)), taken, log.strays)


# -- looking -------------------------------------------------------------------------------------------------------------
def _owners(stores: Iterable[Store]) -> _Owners:
    owners = _Owners()
    for store in stores:
        with store.snapshot() as tx:
            for source, kind, total in tx.execute("SELECT source, type, sequence FROM total").all():
                owners.lines[source, kind] = Written(source, kind, announced=total)
            for *stream, sequence in tx.execute(OWED).all():
                owners.unsent.setdefault(Stream(*stream), set()).add(sequence)
            for *stream, counter, rows, highest in tx.execute(ROWS).all():
                at = Stream(*stream)
                line = owners.lines.setdefault((at.source, at.type), Written(at.source, at.type))
                line.events += rows
                line.misnumbered += not counter == rows == highest
                owners.counters[at] = counter
    for stream, sequences in owners.unsent.items():
        owners.lines[stream.source, stream.type].unsent += len(sequences)
    return owners


def _logged(broker: Broker, contract: Contract, topics: Iterable[str]) -> _Log:
    log = _Log()
    for topic in map(broker.topic, topics):
        log.trimmed |= {topic.name for bounds in topic.bounds.values() if bounds.start}
        for partition, bounds in topic.bounds.items():
            place, at = Place(topic.name, partition), bounds.start
            while at < bounds.end and (records := broker.read(place, at, PAGE)):
                at = records[-1].offset + 1
                for record in records:
                    try:
                        key = contract.envelope(record).key
                    except DamagedError:
                        log.strays += 1
                        continue
                    log.offsets.setdefault(key.stream, {})[key.sequence] = (place, record.offset)
    return log


def _reader(store: Store, broker: Broker) -> _Reader:
    """A topic made anew is read again from its beginning, whatever the position says."""
    with store.snapshot() as tx:
        rows = tx.execute('SELECT topic, partition, "offset", topic_id FROM position').all()
        positions = {Place(topic, partition): offset if broker.topic(topic).id == topic_id else 0
                     for topic, partition, offset, topic_id in rows if not topic.startswith(OURS)}  # fmt: skip
        fates = tx.execute("SELECT source, type, fate, count(*) FROM inbox GROUP BY source, type, fate").all()
        return _Reader(positions, dict(_streams(tx)), {(row[0], row[1], row[2]): row[3] for row in fates})


def _streams(tx: Transaction) -> Iterator[tuple[Stream, tuple[int, int, frozenset[int]]]]:
    for *named, last, known in tx.execute("SELECT source, type, subject, last, known FROM stream").all():
        stream = Stream(*named)
        beyond = tx.execute(PRESENT, {**stream._asdict(), "last": last}).all() if last < known else []
        yield stream, (last, known, frozenset(row[0] for row in beyond))


# -- comparing -----------------------------------------------------------------------------------------------------------
def _compare(owners: _Owners, log: _Log, stream: Stream, counter: int) -> None:
    line, there = owners.lines[stream.source, stream.type], log.offsets.get(stream, {})
    unsent = owners.unsent.get(stream, set())
    absent = sum(n not in there and n not in unsent for n in range(1, counter + 1))
    line.logged += sum(n <= counter for n in there)
    if stream.type in log.trimmed:
        line.trimmed += absent
    else:
        line.missing += absent


def _taken(name: str, reader: _Reader, owners: _Owners, log: _Log) -> Iterator[Taken]:
    read = {place.topic for place in reader.positions}
    lines = {pair: Taken(name, *pair) for pair in owners.lines if pair[1] in read}
    for stream in reader.streams:
        lines.setdefault((stream.source, stream.type), Taken(name, stream.source, stream.type))
    for (*pair, fate), count in reader.fates.items():
        line = lines[pair[0], pair[1]]
        match fate:
            case "waiting":
                line.waiting += count
            case "parked" | "dead":
                line.held += count
            case _:
                line.settled += count
    for stream in owners.counters.keys() | reader.streams.keys():
        if line := lines.get((stream.source, stream.type)):
            _follow(line, stream, reader, owners, log)
    yield from (lines[pair] for pair in sorted(lines))


def _follow(line: Taken, stream: Stream, reader: _Reader, owners: _Owners, log: _Log) -> None:
    """One stream at one reader: what it lacks, and what it cannot have."""
    counter, unsent = owners.counters.get(stream, 0), owners.unsent.get(stream, set())
    last, known, beyond = reader.streams.get(stream, (0, 0, frozenset[int]()))
    line.ahead += max(0, known - counter)
    for n in range(last + 1, max(counter, known) + 1):
        if n in beyond or n in unsent:
            continue
        place, offset = log.offsets.get(stream, {}).get(n, (None, 0))
        if place and offset >= reader.positions.get(place, 0):
            line.to_read += 1
        elif n < known:
            line.gaps += 1
        else:
            line.short += 1
