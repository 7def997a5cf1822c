"""Every event, once, with exactly one fate: the primary key is the promise, the counts are a GROUP BY.

waiting → applied | filtered | parked | dead;  parked, dead → waiting (redrive) | superseded | skipped
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jietong.broker import Record
from jietong.delivery.outbox import envelope_of
from jietong.event import HELD, Envelope, Fate, Key, Stream
from jietong.store import Row, Transaction, placeholders

COLUMNS = (
    "source, type, subject, sequence, id, fingerprint, body, time, recorded, cause, supersedes, operator, traceparent"
)
OF_STREAM = "source = :source AND type = :type AND subject = :subject"
OF_KEY = f"{OF_STREAM} AND sequence = :sequence"
INSERT = f"""INSERT INTO inbox ({COLUMNS}, digest, fate, settled) VALUES (:source, :type, :subject, :sequence, :id, :fingerprint, :body,
:time, :recorded, :cause, :supersedes, :operator, :traceparent, :digest, :fate, :settled)"""
SETTLE = f"UPDATE inbox SET fate = :fate, reason = :reason, settled = :now WHERE {OF_KEY}"
STAND = """INSERT INTO stream (source, type, subject, last, known, conflict) VALUES (:source, :type, :subject, :last, :known, :conflict)
ON CONFLICT (source, type, subject) DO UPDATE SET last = excluded.last, known = excluded.known, conflict = excluded.conflict"""
GAPS = """SELECT DISTINCT s.source, s.type, s.subject, s.last FROM inbox i JOIN stream s USING (source, type, subject)
WHERE i.fate IN ('waiting', 'parked', 'dead') AND i.fate = 'waiting' AND i.sequence > s.last + 1 AND NOT EXISTS (SELECT 1 FROM inbox j
WHERE j.source = i.source AND j.type = i.type AND j.subject = i.subject AND j.sequence = i.sequence - 1)
UNION SELECT source, type, subject, sequence - 1 FROM inbox
WHERE fate IN ('waiting', 'parked', 'dead') AND fate = 'parked' AND length(fingerprint) = 5"""
"""The list of fates says nothing that the next word does not: it lets SQLite use the partial index `held`."""
AT_TURN = """SELECT DISTINCT s.source, s.type, s.subject FROM inbox i JOIN stream s USING (source, type, subject)
JOIN inbox n ON n.source = s.source AND n.type = s.type AND n.subject = s.subject AND n.sequence = s.last + 1
WHERE i.fate IN ('waiting', 'parked', 'dead') AND i.fate = 'waiting' AND s.conflict = 0 AND n.fate NOT IN ('parked', 'dead')"""
LONGEST_REASON = 300


@dataclass(slots=True)
class Standing:
    """How far a stream is settled (`last`), the highest sequence known, held ones included, and whether it stands still
    because one of its sequences has two meanings."""

    last: int
    known: int
    conflict: bool = False


@dataclass(slots=True)
class Accepted:
    """What a batch of envelopes brought: per stream what is new, in order; what we had; what contradicts what we had.
    `unkept`: what is not in the table yet."""

    fresh: dict[Stream, dict[int, Envelope]] = field(default_factory=dict[Stream, dict[int, Envelope]])
    unkept: dict[Key, Envelope] = field(default_factory=dict[Key, Envelope])
    standing: dict[Stream, Standing] = field(default_factory=dict[Stream, Standing])
    duplicates: int = 0
    conflicts: list[Envelope] = field(default_factory=list[Envelope])


class Gap(NamedTuple):
    stream: Stream
    last: int


def accept(tx: Transaction, envelopes: Sequence[Envelope]) -> Accepted:
    """Let authentic events in, to wait for their turn. One transaction may call this once before it drains; what is new it
    is to `keep` at its end, or before it settles anything by itself."""
    got = Accepted()
    for e in envelopes:
        stream, n = e.key.stream, e.key.sequence
        at = got.standing.get(stream) or got.standing.setdefault(stream, standing(tx, stream))
        if n <= at.known and (had := _known_digest(tx, got, e, at)) is not None:
            if had in (e.digest, b"") or e.void:
                got.duplicates += 1
                _clear_up(tx, got, e)
            elif _settled_before(tx, e):
                got.duplicates += 1
            else:
                at.conflict = True
                got.conflicts.append(e)
            continue
        at.known = max(at.known, n)
        got.fresh.setdefault(stream, {})[n] = e
    new = [e for events in got.fresh.values() for e in events.values()]
    got.unkept = {e.key: e for e in new}
    for e in new:
        if e.supersedes:
            tx.execute(f"UPDATE inbox SET fate = 'superseded' WHERE {OF_STREAM} AND id = :id AND fate IN ('parked', 'dead')",
                       {**e.key.stream._asdict(), "id": str(e.supersedes)})  # fmt: skip
    return got


def standing(tx: Transaction, stream: Stream) -> Standing:
    row = tx.execute(f"SELECT last, known, conflict FROM stream WHERE {OF_STREAM}", stream._asdict()).one()
    return Standing(row[0], row[1], bool(row[2])) if row else Standing(0, 0)


def stand(tx: Transaction, standings: Iterable[tuple[Stream, Standing]]) -> None:
    tx.execute_many(
        STAND,
        [
            {**stream._asdict(), "last": at.last, "known": at.known, "conflict": int(at.conflict)}
            for stream, at in standings
        ],
    )


def turn(tx: Transaction, stream: Stream, at: Standing, fresh: dict[int, Envelope]) -> Envelope | None:
    """The event whose turn it is; steps over what a person or a later event has settled."""
    while at.last < at.known and not at.conflict:
        if envelope := fresh.pop(at.last + 1, None):
            return envelope
        row = tx.execute(
            f"SELECT fate, digest, {COLUMNS} FROM inbox WHERE {OF_KEY}", {**stream._asdict(), "sequence": at.last + 1}
        ).one()
        if row is None or row[0] in HELD:
            return None
        if row[0] == Fate.WAITING:
            return _stored(row)
        at.last += 1
    return None


def ready(tx: Transaction, stream: Stream, limit: int) -> list[Envelope]:
    """The events whose turn it is, one after the other, as far as none before them is held or missing. Changes nothing."""
    at = standing(tx, stream)
    events: list[Envelope] = []
    while len(events) < limit and (envelope := turn(tx, stream, at, {})):
        events.append(envelope)
        at.last = envelope.key.sequence
    return events


def settle(tx: Transaction, key: Key, fate: Fate, reason: str | None, now: int) -> Fate:
    """The body stays: if its owner loses the event, a reader can give it back. What would be held may already be
    superseded: then that is its fate. Returns the fate it got."""
    if fate in HELD and _corrected(tx, key):
        fate = Fate.SUPERSEDED
    tx.execute(SETTLE, {**key._asdict(), "fate": fate, "reason": reason and reason[:LONGEST_REASON], "now": now})
    return fate


def keep(
    tx: Transaction, unkept: dict[Key, Envelope], settled: Sequence[tuple[Key, Fate]] = (), now: int | None = None
) -> None:
    """Write what is new, with the fates that need no look at what else is there: applied and filtered. The rest waits."""
    fates = dict(settled)
    rows = [
        _row(e) | {"fate": fates[key], "settled": now}
        if key in fates
        else _row(e) | {"fate": Fate.WAITING, "settled": None}
        for key, e in unkept.items()
    ]
    tx.execute_many(INSERT, rows)
    old = [{**key._asdict(), "fate": fate, "reason": None, "now": now} for key, fate in settled if key not in unkept]
    tx.execute_many(SETTLE, old)
    unkept.clear()


def redrive(tx: Transaction, stream: Stream, *fates: Fate) -> int:
    """Held events of a stream wait for their turn again."""
    marks, named = placeholders("f", fates or HELD)
    return tx.execute(f"UPDATE inbox SET fate = 'waiting', settled = NULL WHERE {OF_STREAM} AND fate IN ({marks})",
                      {**stream._asdict(), **named}).rowcount  # fmt: skip


def skip(tx: Transaction, key: Key, who: str, why: str, now: int) -> bool:
    """A person steps over a held event; whether it was held."""
    survived(tx, key)
    return tx.execute(f"{SETTLE} AND fate IN ('parked', 'dead')",
                      {**key._asdict(), "fate": Fate.SKIPPED, "reason": f"{who}: {why}"[:LONGEST_REASON], "now": now}).rowcount == 1  # fmt: skip


def held(tx: Transaction, *fates: Fate) -> list[Key]:
    marks, named = placeholders("f", fates or HELD)
    rows = tx.execute(
        f"SELECT source, type, subject, sequence FROM inbox WHERE fate IN ('waiting', 'parked', 'dead') AND fate IN ({marks}) ORDER BY 1, 2, 3, 4",
        named,
    ).all()
    return [Key(*row) for row in rows]


def unsettled(tx: Transaction) -> int:
    return tx.execute("SELECT count(*) FROM inbox WHERE fate IN ('waiting', 'parked', 'dead')").all()[0][0]


def fates(tx: Transaction) -> dict[tuple[str, str], int]:
    """(type, fate) → how many."""
    return {
        (row[0], row[1]): row[2]
        for row in tx.execute("SELECT type, fate, count(*) FROM inbox GROUP BY type, fate").all()
    }


def gaps(tx: Transaction) -> list[Gap]:
    """Streams where something waits and its predecessor was never seen; behind a held one too: it may be superseded.
    And what nobody can read for want of its schema: perhaps only this copy is damaged."""
    return [Gap(Stream(*row[:3]), row[3]) for row in tx.execute(GAPS).all()]


def at_turn(tx: Transaction) -> list[Stream]:
    """Streams where something waits, and the next event is here and not held: it waits, or a person has stepped over it."""
    return [Stream(*row) for row in tx.execute(AT_TURN).all()]


def sums(tx: Transaction) -> dict[tuple[str, str], int]:
    """(source, type) → sum over its subjects of the highest sequence known, held ones included."""
    return {
        (row[0], row[1]): row[2]
        for row in tx.execute("SELECT source, type, sum(known) FROM stream GROUP BY source, type").all()
    }


def stray(tx: Transaction, record: Record, topic_id: str, reason: str, now: int, most: int = 4096) -> bool:
    """Keep a record (of its value `most` bytes) that says nothing about any stream: seen, counted, without effect.
    Whether it is a new one."""
    headers = json.dumps([[name, (value or b"").decode("latin-1")] for name, value in record.headers[:100]])
    done = tx.execute("INSERT INTO stray (topic, partition, \"offset\", topic_id, key, value, headers, reason, seen) VALUES (:topic, :partition, "
               ":offset, :topic_id, :key, :value, :headers, :reason, :seen) ON CONFLICT DO NOTHING",
               {"topic": record.topic, "partition": record.partition, "offset": record.offset, "topic_id": topic_id, "key": record.key[:1000],
                "value": record.value and record.value[:most], "headers": headers[:4096],
                "reason": reason[:LONGEST_REASON], "seen": now})  # fmt: skip
    return done.rowcount == 1


def deaths(tx: Transaction, key: Key) -> int:
    """How often this process ended while it was attempted."""
    row = tx.execute(f"SELECT deaths FROM attempt WHERE {OF_KEY}", key._asdict()).one()
    return row[0] if row else 0


def attempting(tx: Transaction, key: Key) -> None:
    """About to be tried: counted as a death until it is known to be survived."""
    tx.execute("INSERT INTO attempt (source, type, subject, sequence, deaths) VALUES (:source, :type, :subject, :sequence, 1) "
               "ON CONFLICT (source, type, subject, sequence) DO UPDATE SET deaths = attempt.deaths + 1", key._asdict())  # fmt: skip


def returned(tx: Transaction, key: Key) -> None:
    """The try ended in an exception, not in a death: it does not count."""
    tx.execute(f"UPDATE attempt SET deaths = deaths - 1 WHERE {OF_KEY}", key._asdict())
    tx.execute(f"DELETE FROM attempt WHERE {OF_KEY} AND deaths <= 0", key._asdict())


def survived(tx: Transaction, key: Key) -> None:
    tx.execute(f"DELETE FROM attempt WHERE {OF_KEY}", key._asdict())


def _known_digest(tx: Transaction, got: Accepted, e: Envelope, at: Standing) -> bytes | None:
    """The digest we have of this sequence; empty where it lies before this group's beginning; None if it is new."""
    if mine := got.fresh.get(e.key.stream, {}).get(e.key.sequence):
        return mine.digest
    row = tx.execute(f"SELECT digest FROM inbox WHERE {OF_KEY}", e.key._asdict()).one()
    return row[0] if row else b"" if e.key.sequence <= at.last else None


def contradicted(tx: Transaction, e: Envelope) -> None:
    """Note a second meaning of a sequence, until a person has chosen."""
    tx.execute(
        "INSERT INTO mark (name, value) VALUES (:name, 'open') ON CONFLICT (name) DO NOTHING", {"name": _meaning(e)}
    )


def keep_first_meanings(tx: Transaction, stream: Stream) -> None:
    """A person's choice: what this reader took first stands, and the other meanings, coming again, are duplicates."""
    start = f"meaning/{'/'.join(stream)}/"
    tx.execute(
        "UPDATE mark SET value = 'settled' WHERE substr(name, 1, :length) = :start",
        {"length": len(start), "start": start},
    )


def _meaning(e: Envelope) -> str:
    return f"meaning/{'/'.join(e.key.stream)}/{e.key.sequence}/{e.digest.hex()}"


def _settled_before(tx: Transaction, e: Envelope) -> bool:
    return (
        tx.execute("SELECT 1 FROM mark WHERE name = :name AND value = 'settled'", {"name": _meaning(e)}).one()
        is not None
    )


def _clear_up(tx: Transaction, got: Accepted, e: Envelope) -> None:
    """What is parked because nobody knew its schema may have been damaged just there: a copy that can be read takes its place."""
    if e.claimed is not None or e.void:
        return
    fresh = got.fresh.get(e.key.stream, {})
    if e.key.sequence in fresh:
        fresh[e.key.sequence] = e
    else:
        tx.execute(f"UPDATE inbox SET fingerprint = :fingerprint, body = :body, fate = 'waiting' WHERE {OF_KEY} AND fate = 'parked' "
                   "AND length(fingerprint) = 5", {**e.key._asdict(), "fingerprint": e.fingerprint, "body": e.body})  # fmt: skip


def _corrected(tx: Transaction, key: Key) -> bool:
    return (
        tx.execute(
            f"SELECT 1 FROM inbox WHERE {OF_STREAM} AND supersedes = (SELECT id FROM inbox WHERE {OF_KEY})",
            key._asdict(),
        ).one()
        is not None
    )


def _row(e: Envelope) -> dict[str, Any]:
    source, type, subject, sequence = e.key
    return {
        "source": source, "type": type, "subject": subject, "sequence": sequence, "id": str(e.id), "fingerprint": e.fingerprint,
        "body": e.body, "time": e.time, "recorded": e.recorded, "cause": e.cause and str(e.cause), "operator": e.operator,
        "supersedes": e.supersedes and str(e.supersedes), "traceparent": e.traceparent, "digest": e.digest,
    }  # fmt: skip


def _stored(row: Row) -> Envelope:
    """An envelope out of the table; one whose schema was unknown on arrival carries the digest its header claimed."""
    envelope = envelope_of(row[2:])
    return replace(envelope, claimed=row[1]) if len(envelope.fingerprint) == 5 else envelope
