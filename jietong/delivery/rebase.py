"""The way on after an owner's database was restored from a backup.

Every event that the log has and the database lacks comes back into the outbox, sent, under its old sequence. If fewer are
found than the last head announced, a reader may have what the log has lost too: `LostError`. A person then halts the
readers, asks each what it knows of this source, and confirms. In a stream that lost something, rows that never left move
behind the highest sequence anyone knows, and a sequence that nobody has becomes a void. A new head ends it.

All of it is one transaction and then the head: it may be repeated at any time, also after a death at any point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from uuid6 import uuid7

from jietong import failpoint
from jietong.broker import Broker, Place, Record
from jietong.catalog import HEADS, RESEND
from jietong.contract import Contract
from jietong.delivery import heads, inbox, outbox, positions, quiet
from jietong.delivery.heads import Announced
from jietong.delivery.outbox import envelope_of
from jietong.errors import DamagedError, Fault, LostError, RetriableError, RewoundError
from jietong.event import Envelope, Key, Stream, void
from jietong.service import Service
from jietong.store import Store, Transaction, placeholders

PAGE = 500
OURS = "jietong."
"""Types of the delivery core itself: nobody keeps an inbox of them, so nobody can give one back."""
BY_ID = f"SELECT {outbox.SENT}, {outbox.COLUMNS} FROM outbox WHERE id IN ({{marks}})"
OF_STREAM = f"""SELECT {outbox.SENT}, {outbox.COLUMNS} FROM outbox WHERE source = :source AND type = :type AND aggregateid = :subject
ORDER BY sequence"""
SENT = f"""SELECT type, count(*) FROM outbox WHERE source = :source AND ({outbox.SENT} OR length(fingerprint) = 0) GROUP BY type"""
PASSED = """SELECT type, subject, last FROM stream s WHERE source = :source AND last > 0 AND NOT EXISTS (SELECT 1 FROM inbox i
WHERE i.source = s.source AND i.type = s.type AND i.subject = s.subject AND i.sequence = s.last)"""
HAS = f"""SELECT digest, {inbox.COLUMNS} FROM inbox WHERE source = :source AND (type, subject, sequence) > (:type, :subject, :sequence)
ORDER BY type, subject, sequence LIMIT :most"""


class Answer(NamedTuple):
    """What a reader knows of a source: a page of its events, or sequences it has passed without having the event."""

    events: Sequence[Envelope]
    passed: Mapping[Stream, int]


class Row(NamedTuple):
    """A row of the outbox."""

    sent: bool
    envelope: Envelope

    @property
    def key(self) -> Key:
        return self.envelope.key


@dataclass(slots=True)
class Known:
    """What log and readers know of a source, held against its database: events it lacks or has otherwise (`absent`), rows
    it does not know to have left (`left`), sequences passed without the event, keys with two meanings."""

    absent: dict[Key, Envelope] = field(default_factory=dict[Key, Envelope])
    left: set[Key] = field(default_factory=set[Key])
    passed: dict[Stream, int] = field(default_factory=dict[Stream, int])
    contradicted: set[Key] = field(default_factory=set[Key])
    given: set[Key] = field(default_factory=set[Key])
    """Of `absent`, what only a reader has."""


@dataclass(slots=True)
class Plan:
    """What a rebase does, or did. `missing`: type → announced events that nobody has shown."""

    source: str
    announced: bool
    rewound: bool
    given: list[Key] = field(default_factory=list[Key])
    back: list[Envelope] = field(default_factory=list[Envelope])
    voids: list[Envelope] = field(default_factory=list[Envelope])
    moved: list[tuple[Key, Envelope]] = field(default_factory=list[tuple[Key, Envelope]])
    dropped: list[Key] = field(default_factory=list[Key])
    missing: dict[str, int] = field(default_factory=dict[str, int])
    contradicted: list[Key] = field(default_factory=list[Key])
    counters: dict[Stream, int] = field(default_factory=dict[Stream, int])

    @property
    def needed(self) -> bool:
        return bool(self.rewound or self.counters or not self.announced)

    @property
    def stops(self) -> str | None:
        """Why a person must ask the readers first."""
        if not self.announced:
            return "its head is not in the log, so nothing says how much it had announced"
        if self.missing:
            lost = ", ".join(f"{count} of {type}" for type, count in sorted(self.missing.items()))
            return f"less is found, here and in the log, than it had announced: {lost}"
        return None


@dataclass(frozen=True, slots=True)
class Rebase:
    """Of one source. `service`: the one whose outbox this is, if it is a service's. Nothing else may send for this source
    meanwhile; whoever writes into its outbox may go on."""

    source: str
    store: Store
    broker: Broker
    contract: Contract
    clock: Callable[[], int]
    service: Service | None = None

    def plan(self, asked: Iterable[Store] | None = None) -> Plan:
        """What `run` would do. Changes nothing. `asked`: the databases of the readers, halted; None if nobody was asked."""
        announced, known = self._look(asked)
        with self.store.snapshot() as tx:
            return _planned(tx, self.source, known, announced)

    def run(self, asked: Iterable[Store] | None = None) -> Plan:
        """Do it. Raises LostError if less came back than was announced and nobody was asked: then nothing was changed."""
        announced, known = self._look(asked)
        failpoint.passing("rebase.before_transaction")
        with self.store.transaction() as tx:
            _lock(tx, known)
            plan = _planned(tx, self.source, known, announced)
            if plan.stops and asked is None:
                raise LostError(
                    f"{self.source}: {plan.stops}. Nothing was changed. Halt its readers, ask each of them, and confirm."
                )
            if plan.needed:
                self._apply(tx, plan, asked is not None)
            head = outbox.head(tx)
            failpoint.passing("rebase.before_commit")
        failpoint.passing("rebase.before_head")
        if not all(self.broker.append([heads.message(self.contract, self.source, head, self.clock())])):
            raise RetriableError("the log did not take the head; run it again")
        failpoint.passing("rebase.after_head")
        return plan

    def _look(self, asked: Iterable[Store] | None) -> tuple[Announced | None, Known]:
        known = Known()
        announced = heads.Heads(self.broker, self.contract).read().get(self.source)
        for events in logged(self.broker, self.contract, self.source):
            _compare(self.store, known, events, False)
        for reader in asked or ():
            for answer in answers(reader, self.source):
                _compare(self.store, known, [e for had in answer.events if (e := _whole(self.contract, had))], True)
                for stream, last in answer.passed.items():
                    known.passed[stream] = max(last, known.passed.get(stream, 0))
        return announced, known

    def _apply(self, tx: Transaction, plan: Plan, confirmed: bool) -> None:
        outbox.drop(tx, [*plan.dropped, *(key for key, _ in plan.moved)])
        outbox.keep(tx, plan.back, sent=True)
        outbox.keep(tx, [envelope for _, envelope in plan.moved])
        outbox.keep(tx, plan.voids, sent=True)  # last: the newest id is then one that no backup of before can have
        outbox.recount(tx, plan.counters)
        outbox.mark(tx, outbox.REBASED)
        tx.execute("DELETE FROM mark WHERE name = :name", {"name": heads.REWOUND})
        if confirmed:
            self._answered(tx)
        if self.service:
            for envelope in plan.back:
                self._remember(tx, self.service, envelope)
            quiet.begin(tx, self.service.name, self.clock())

    def _remember(self, tx: Transaction, service: Service, envelope: Envelope) -> None:
        """What cannot be read comes back as bytes, and nothing is remembered of it."""
        event = None
        if not envelope.key.type.startswith(OURS):
            with suppress(Fault):
                event = self.contract.decode(envelope)
        if event:
            service.remember(tx, event)

    def _answered(self, tx: Transaction) -> None:
        """What was asked of us before a person asked everybody is answered by that. Who still lacks something asks again."""
        tx.execute("DELETE FROM position WHERE topic = :topic", {"topic": RESEND})
        positions.begin(tx, positions.ends(self.broker, [RESEND]))


def refuse_restored(store: Store, broker: Broker, contract: Contract, source: str) -> None:
    """Before anything moves. Raises RewoundError if the database is older than what it announced, and notes it there.

    If its head is not in the log: is it new, or did the heads' topic lose it? If the log has events of it that the database
    lacks, then the database was restored as well.
    """
    announced = heads.Heads(broker, contract).read()
    with store.snapshot() as tx:
        rewound = heads.rewound(tx, source, announced)
    if rewound or (source not in announced and any(_lacks(store, page) for page in logged(broker, contract, source))):
        with store.transaction() as tx:
            outbox.mark(tx, heads.REWOUND)
        raise RewoundError(heads.restored(source))


def _lacks(store: Store, events: Sequence[Envelope]) -> bool:
    known = Known()
    _compare(store, known, events, False)
    return bool(known.absent)


def logged(broker: Broker, contract: Contract, source: str) -> Iterator[Sequence[Envelope]]:
    """What the log has of a source, in pages; damaged copies are none."""
    topics = contract.catalog.topics.values()
    for topic in (broker.topic(spec.topic) for spec in topics if spec.topic != HEADS and spec.written_by(source)):
        for partition, bounds in topic.bounds.items():
            place, at = Place(topic.name, partition), bounds.start
            while at < bounds.end and (records := broker.read(place, at, PAGE)):
                at = records[-1].offset + 1
                yield [e for record in records if (e := _own(contract, record, source))]


def answers(reader: Store, source: str) -> Iterator[Answer]:
    """What a reader knows of a source. It must not move meanwhile: what it takes after this is not known to have left."""
    at = {"type": "", "subject": "", "sequence": 0}
    while True:
        with reader.snapshot() as tx:
            rows = tx.execute(HAS, {"source": source, "most": PAGE, **at}).all()
        if not rows:
            break
        events = [envelope_of(row[1:]) for row in rows]
        yield Answer(
            [replace(e, claimed=row[0]) if len(e.fingerprint) == 5 else e for row, e in zip(rows, events, strict=True)],
            {},
        )
        at = {name: value for name, value in events[-1].key._asdict().items() if name != "source"}
    with reader.snapshot() as tx:
        passed = tx.execute(PASSED, {"source": source}).all()
    yield Answer([], {Stream(source, row[0], row[1]): row[2] for row in passed})


# -- what is known, held against the database -------------------------------------------------------------------------------
def _own(contract: Contract, record: Record, source: str) -> Envelope | None:
    if dict(record.headers).get("ce_source") != source.encode():
        return None
    try:
        return _whole(contract, contract.envelope(record))
    except DamagedError:
        return None


def _whole(contract: Contract, e: Envelope) -> Envelope | None:
    """With its schema's fingerprint; None if its schema's id is not, or not yet, known here: it cannot be sent again."""
    try:
        return e if e.claimed is None else replace(e, fingerprint=contract.resolve(e), claimed=None)
    except Fault:
        return None


def _compare(store: Store, known: Known, events: Sequence[Envelope], from_reader: bool) -> None:
    """The log was asked first and has the last word; a void that a reader has settled is its owner's word, and final."""
    if not events:
        return
    marks, ids = placeholders("i", {str(e.id) for e in events})
    with store.snapshot() as tx:
        rows = {row.envelope.id: row for row in map(_row, tx.execute(BY_ID.format(marks=marks), ids).all())}
    for e in events:
        row, before = rows.get(e.id), known.absent.get(e.key)
        if row and _same(row.envelope, e):
            known.left |= set() if row.sent or e.void else {e.key}
        elif before is None or (e.void and e.key in known.given):
            known.absent[e.key] = e
            known.given |= {e.key} if from_reader else set()
        elif before.digest != e.digest and not before.void:
            known.contradicted.add(e.key)


def _lock(tx: Transaction, known: Known) -> None:
    """The counters of the streams that will change, in sorted order: whoever writes into one of them waits for us."""
    for stream in sorted(_touched(tx, known)):
        outbox.counted(tx, stream, 0)


def _touched(tx: Transaction, known: Known) -> set[Stream]:
    return {
        *(key.stream for key in known.absent),
        *(row.key.stream for row in _written_again(tx, known.absent.values())),
        *known.passed,
    }


def _written_again(tx: Transaction, absent: Iterable[Envelope]) -> Iterator[Row]:
    """Rows with the id of an event that is known under another sequence, or with another body."""
    ids = sorted(str(e.id) for e in absent)
    for first in range(0, len(ids), PAGE):
        marks, named = placeholders("i", ids[first : first + PAGE])
        yield from map(_row, tx.execute(BY_ID.format(marks=marks), named).all())


# -- the plan ---------------------------------------------------------------------------------------------------------------
def _planned(tx: Transaction, source: str, known: Known, announced: Announced | None) -> Plan:
    plan = Plan(
        source,
        announced is not None,
        heads.rewound(tx, source, {source: announced} if announced else {}),
        contradicted=sorted(known.contradicted),
    )
    rows = {
        stream: [_row(row) for row in tx.execute(OF_STREAM, stream._asdict()).all()]
        for stream in sorted(_touched(tx, known))
    }
    absent = _absent(plan, known, [row for found in rows.values() for row in found])
    found = Counter[str](dict(tx.execute(SENT, {"source": source}).all()))
    found.update(key.type for key in known.left)
    back = {stream: dict[Key, Envelope]() for stream in rows}
    for key, e in absent.items():
        back[key.stream][key] = e
    ids = {e.id for e in absent.values()}
    for stream, here in rows.items():
        _plan_stream(plan, _Stream(stream, here, back[stream], known, ids), found)
    plan.given = sorted(key for key in known.given if key in absent and not absent[key].void)
    counts = announced.head.counts if announced and plan.needed else {}
    plan.missing = {t: n - found[t] for t, n in counts.items() if n > found[t] and not t.startswith(OURS)}
    return plan


def _absent(plan: Plan, known: Known, rows: Iterable[Row]) -> dict[Key, Envelope]:
    """What is to come back: not what arrived here meanwhile, nor where the database has declared the sequence void. One id
    comes back once; another event that says the same is another event."""
    absent = dict(sorted(known.absent.items()))
    for row in rows:
        other = absent.get(row.key)
        if other and (row.envelope.void or _same(row.envelope, other)):
            del absent[row.key]
            known.left |= set() if row.sent or row.envelope.void else {row.key}
            plan.contradicted += [row.key] if row.envelope.void and not other.void else []
    seen: set[UUID] = set()
    for key, e in absent.items():
        if e.id in seen:
            absent[key] = _new_void(key)
            plan.contradicted.append(key)
        seen.add(e.id)
    return absent


class _Stream(NamedTuple):
    """One stream: its rows, in order, and what comes back to it. `ids`: of all that comes back, to whatever stream."""

    stream: Stream
    rows: Sequence[Row]
    back: Mapping[Key, Envelope]
    known: Known
    ids: set[UUID]

    @property
    def fresh(self) -> list[Row]:
        """Rows that never left, or whose sequence means something else to everybody; not those that come back as they were."""
        return [row for row in self.rows if not self.stays(row) and row.envelope.id not in self.ids]

    def stays(self, row: Row) -> bool:
        """Whether it keeps its sequence: it left under it, or is the void that stands there."""
        if row.key in self.back or row.envelope.id in self.ids:
            return False
        return row.sent or row.envelope.void or row.key in self.known.left


def _plan_stream(plan: Plan, at: _Stream, found: Counter[str]) -> None:
    stay, fresh, back = {row.key for row in at.rows if at.stays(row)}, at.fresh, at.back
    dropped = [row for row in at.rows if row.envelope.id in at.ids]
    top = max([key.sequence for key in (*stay, *back)] + [at.known.passed.get(at.stream, 0)])
    if not back and not dropped and top == len(stay):
        return
    lost = [Key(*at.stream, n) for n in range(1, top + 1) if Key(*at.stream, n) not in stay]
    plan.back += [back[key] for key in lost if key in back]
    plan.voids += [_new_void(key) for key in lost if key not in back]
    plan.moved += [(row.key, replace(row.envelope, key=Key(*at.stream, n))) for n, row in enumerate(fresh, top + 1)]
    plan.dropped += [row.key for row in dropped]
    plan.counters[at.stream] = top + len(fresh)
    found[at.stream.type] += len(back) - sum(row.sent for row in (*dropped, *fresh))


def _same(one: Envelope, other: Envelope) -> bool:
    return (one.key, one.id, one.digest) == (other.key, other.id, other.digest)


def _new_void(key: Key) -> Envelope:
    """With an id of its own, which no backup of an earlier time can have."""
    return replace(void(key), id=uuid7())


def _row(row: Sequence[object]) -> Row:
    return Row(bool(row[0]), envelope_of(tuple(row[1:])))
