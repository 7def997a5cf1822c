"""Where an event is born: numbered, encoded and kept in the transaction that made it true."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from typing import Any, NamedTuple
from uuid import UUID

from uuid6 import uuid7

from jietong.contract import OPERATOR, Contract, to_millis
from jietong.errors import InvalidEventError
from jietong.event import Draft, Envelope, Event, Key, Stream, derived_id, follow_up_id
from jietong.identifiers import kind_of
from jietong.store import Bell, Row, Transaction

COLUMNS = "source, type, aggregateid, sequence, id, fingerprint, payload, time, recorded, cause, supersedes, operator, traceparent"
INSERT = f"""INSERT INTO outbox ({COLUMNS}, aggregatetype)
VALUES (:source, :type, :aggregateid, :sequence, :id, :fingerprint, :payload, :time, :recorded, :cause, :supersedes, :operator,
        :traceparent, :aggregatetype)"""
COUNT = """INSERT INTO counter (source, type, subject, sequence) VALUES (:source, :type, :subject, :more)
ON CONFLICT (source, type, subject) DO UPDATE SET sequence = counter.sequence + :more RETURNING sequence"""
TOTAL = """INSERT INTO total (source, type, sequence) VALUES (:source, :type, :more)
ON CONFLICT (source, type) DO UPDATE SET sequence = total.sequence + :more"""
REBASED = "rebased"
"""The mark of an outbox that was given back what it had lost: whoever made those events may make them again."""
PENDING = f"""SELECT n, {COLUMNS} FROM (SELECT n FROM unsent WHERE n > :after AND (n < :first OR n > :last) ORDER BY n LIMIT :limit) AS next
JOIN outbox USING (n) ORDER BY n"""
DEPTH = "SELECT count(*), (SELECT recorded FROM outbox WHERE n = (SELECT min(n) FROM unsent)) FROM unsent"
"""How many rows wait, and when the oldest of them was recorded: cheap however many there are."""
SENT = "NOT EXISTS (SELECT 1 FROM unsent u WHERE u.n = outbox.n)"
OF_KEY = "source = :source AND type = :type AND aggregateid = :subject AND sequence = :sequence"
WAITS = "INSERT INTO unsent (n) SELECT n FROM outbox WHERE id = :id"
AGAIN = "INSERT INTO unsent (n) SELECT n FROM outbox WHERE {} ON CONFLICT (n) DO NOTHING"
LAST = "sequence = (SELECT sequence FROM counter c WHERE c.source = outbox.source AND c.type = outbox.type AND c.subject = outbox.aggregateid)"


class Head(NamedTuple):
    """What an outbox says of itself: its newest event, and per type the sum of its counters."""

    newest: str | None
    counts: dict[str, int]


class Outbox:
    """One source's outbox, in the database of the program that owns it."""

    def __init__(self, source: str, contract: Contract, clock: Callable[[], int], bell: Bell) -> None:
        self.source, self.contract, self.clock, self.bell = source, contract, clock, bell

    def add(self, tx: Transaction, *drafts: Draft, cause: Event | None = None) -> list[UUID]:
        """Number and keep events; returns their ids. InvalidEventError (nothing kept: let the transaction fail)."""
        return self.put(tx, [self.prepare(draft, cause) for draft in drafts])

    def prepare(self, draft: Draft, cause: Event | None = None) -> Envelope:
        """Encoded and checked, not yet numbered (its sequence is 0)."""
        spec = self.contract.spec(draft.type)
        if (kind := kind_of(draft.subject)) not in spec.subject:
            raise InvalidEventError(
                f"{draft.type}: subject: {kind or 'of no known kind'}; must be {' or '.join(spec.subject)}"
            )
        if draft.operator is not None and not OPERATOR.fullmatch(draft.operator):
            raise InvalidEventError(f"{draft.type}: operator: no operator's id")
        fingerprint, body = self.contract.encode(draft)
        return Envelope(
            key=Key(self.source, draft.type, draft.subject, 0), id=self._id(draft, cause), fingerprint=fingerprint, body=body,
            time=to_millis(draft.time), recorded=0, cause=cause.id if cause else None, supersedes=draft.supersedes,
            operator=draft.operator, traceparent=cause.traceparent if cause else None,
        )  # fmt: skip

    def put(self, tx: Transaction, envelopes: Sequence[Envelope]) -> list[UUID]:
        """Counters are taken in sorted order: their row locks order the writers of one stream, and never deadlock."""
        if not envelopes:
            return []
        recorded = self.clock()
        streams: defaultdict[Stream, list[Envelope]] = defaultdict(list)
        fresh = _not_here(tx, envelopes)
        for envelope in fresh:
            streams[envelope.key.stream].append(envelope)
        numbered: dict[UUID, Envelope] = {}
        for stream in sorted(streams):
            first = counted(tx, stream, len(streams[stream])) - len(streams[stream])
            for n, e in enumerate(streams[stream], first + 1):
                numbered[e.id] = replace(e, key=Key(*stream, n), recorded=recorded)
        insert(tx, [numbered[e.id] for e in fresh])
        tx.after_commit(self.bell)
        return [e.id for e in envelopes]

    def once(self, tx: Transaction, key: str, *drafts: Draft) -> list[UUID]:
        """As `add`, for a command from outside: a retry after an unknown outcome gets the first result."""
        if found := tx.execute("SELECT result FROM idempotency WHERE key = :key", {"key": key}).one():
            return [UUID(text) for text in json.loads(found[0])]
        ids = self.add(tx, *drafts)
        tx.execute("INSERT INTO idempotency (key, result, recorded) VALUES (:key, :result, :recorded)",
                   {"key": key, "result": json.dumps([str(id) for id in ids]), "recorded": self.clock()})  # fmt: skip
        return ids

    def _id(self, draft: Draft, cause: Event | None) -> UUID:
        if cause:
            return follow_up_id(cause.id, self.source, draft.type, *draft.about)
        return derived_id(self.source, draft.type, *draft.about) if draft.about else uuid7()


def insert(tx: Transaction, envelopes: Sequence[Envelope]) -> None:
    """Keep rows as they are numbered, and count them."""
    keep(tx, envelopes)
    add_up(tx, Counter((e.key.source, e.key.type) for e in envelopes))


def add_up(tx: Transaction, more: Mapping[tuple[str, str], int]) -> None:
    for (source, type), count in sorted(more.items()):
        tx.execute(TOTAL, {"source": source, "type": type, "more": count})


def mark(tx: Transaction, name: str) -> None:
    """Note something of this database, for good or until it is deleted."""
    tx.execute("INSERT INTO mark (name, value) VALUES (:name, '1') ON CONFLICT (name) DO NOTHING", {"name": name})


def keep(tx: Transaction, envelopes: Iterable[Envelope], sent: bool = False) -> None:
    """Keep rows as they are numbered, to be sent unless they are; their counters and totals are the caller's."""
    rows: list[dict[str, Any]] = [
        {
            "source": e.key.source, "type": e.key.type, "aggregateid": e.key.subject, "sequence": e.key.sequence, "id": str(e.id),
            "fingerprint": e.fingerprint, "payload": e.body, "time": e.time, "recorded": e.recorded, "operator": e.operator,
            "cause": str(e.cause) if e.cause else None, "supersedes": str(e.supersedes) if e.supersedes else None,
            "traceparent": e.traceparent, "aggregatetype": kind_of(e.key.subject) or "",
        }
        for e in envelopes
    ]  # fmt: skip
    tx.execute_many(INSERT, rows)
    if not sent:
        tx.execute_many(WAITS, [{"id": row["id"]} for row in rows])


def drop(tx: Transaction, keys: Iterable[Key]) -> None:
    """Take rows away; their counters and totals are the caller's."""
    rows = [key._asdict() for key in keys]
    tx.execute_many(f"DELETE FROM unsent WHERE n IN (SELECT n FROM outbox WHERE {OF_KEY})", rows)
    tx.execute_many(f"DELETE FROM outbox WHERE {OF_KEY}", rows)


def recount(tx: Transaction, counters: Mapping[Stream, int]) -> None:
    """Set counters to what their streams have, and the totals with them."""
    more: Counter[tuple[str, str]] = Counter()
    for stream, count in sorted(counters.items()):
        more[stream.source, stream.type] += count - counted(tx, stream, 0)
        tx.execute("UPDATE counter SET sequence = :count WHERE source = :source AND type = :type AND subject = :subject",
                   {**stream._asdict(), "count": count})  # fmt: skip
    add_up(tx, more)


def pending(tx: Transaction, limit: int, after: int = 0, but: tuple[int, int] = (0, 0)) -> list[tuple[int, Envelope]]:
    """The oldest rows not yet sent; `after` a row only to step over what is stuck, never as a position: ids become
    visible out of order. `but` those from one row to another, which are being marked."""
    rows = tx.execute(
        PENDING,
        {"after": after, "first": but[0], "last": but[1], "limit": limit},
    )
    return [(row[0], envelope_of(row[1:])) for row in rows.all()]


def mark_sent(tx: Transaction, numbers: Iterable[int]) -> None:
    tx.execute_many("DELETE FROM unsent WHERE n = :n", [{"n": n} for n in numbers])


def head(tx: Transaction) -> Head:
    newest = tx.execute("SELECT id FROM outbox ORDER BY n DESC LIMIT 1").one()
    return Head(
        newest[0] if newest else None, dict(starmap(_pair, tx.execute("SELECT type, sequence FROM total").all()))
    )


def depth(tx: Transaction) -> tuple[int, int | None]:
    """How many rows wait to be sent, and when the oldest of them was recorded."""
    count, oldest = tx.execute(DEPTH).all()[0]
    return count, oldest


def has(tx: Transaction, event_id: str) -> bool:
    return tx.execute("SELECT 1 FROM outbox WHERE id = :id", {"id": event_id}).one() is not None


def written(tx: Transaction, source: str, type: str, subject: str | None) -> int:
    """How many events there are of a stream; without a subject, of a type."""
    if subject is None:
        row = tx.execute("SELECT sequence FROM total WHERE source = :s AND type = :t", {"s": source, "t": type}).one()
    else:
        row = tx.execute("SELECT sequence FROM counter WHERE source = :s AND type = :t AND subject = :subject",
                         {"s": source, "t": type, "subject": subject}).one()  # fmt: skip
    return row[0] if row else 0


def resend(tx: Transaction, source: str, type: str, subject: str | None, after: int) -> int:
    """Let wait again: one subject's rows after a sequence; without a subject the last row of every subject, and ordinary
    gaps ask for the rest. Returns how many will go again."""
    if subject is None:
        return tx.execute(AGAIN.format(f"type = :type AND {LAST}"), {"type": type}).rowcount
    return tx.execute(AGAIN.format("source = :source AND type = :type AND aggregateid = :subject AND sequence > :after"),
                      {"source": source, "type": type, "subject": subject, "after": after}).rowcount  # fmt: skip


def resend_all(tx: Transaction, type: str) -> int:
    """Everything of a type: its topic was made anew."""
    return tx.execute(AGAIN.format("type = :type"), {"type": type}).rowcount


def envelope_of(row: Row) -> Envelope:
    """From a row of `COLUMNS`, here or in the inbox."""
    source, type, subject, sequence, id, fingerprint, body, time, recorded, cause, supersedes, operator, traceparent = (
        row
    )
    return Envelope(
        key=Key(source, type, subject, sequence), id=UUID(id), fingerprint=fingerprint, body=body, time=time, recorded=recorded,
        cause=UUID(cause) if cause else None, supersedes=UUID(supersedes) if supersedes else None, operator=operator,
        traceparent=traceparent,
    )  # fmt: skip


def counted(tx: Transaction, stream: Stream, more: int) -> int:
    """Raise a stream's counter, lock it until the transaction ends, and return it."""
    row = tx.execute(COUNT, {**stream._asdict(), "more": more}).one()
    assert row is not None  # noqa: S101 — RETURNING gives one
    return row[0]


def _not_here(tx: Transaction, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
    """Without those that came back in a rebase: the same row read again, the same command given again, is the same event."""
    if tx.execute("SELECT 1 FROM mark WHERE name = :name", {"name": REBASED}).one() is None:
        return envelopes
    sql = "SELECT 1 FROM outbox WHERE id = :id AND type = :type AND aggregateid = :subject"
    return [e for e in envelopes if not tx.execute(sql, {**e.key._asdict(), "id": str(e.id)}).one()]


def _pair(type: str, sequence: int) -> tuple[str, int]:
    return type, sequence
