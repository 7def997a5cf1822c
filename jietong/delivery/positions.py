"""How far a reader got, in its own database: compared and swapped whole, and named by the record before it.

A number may be given twice: by a log that was truncated and grew again, or by a topic made anew.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any, NamedTuple

from jietong.broker import Bounds, Broker, Place, Record, Topic
from jietong.errors import FencedError
from jietong.store import Transaction, placeholders

SWAP = """UPDATE position SET topic_id = :topic_id, "offset" = :offset, digest = :digest
WHERE topic = :topic AND partition = :partition AND topic_id = :old_id AND "offset" = :old_offset
AND (digest = :old_digest OR (digest IS NULL AND :none))"""


class Position(NamedTuple):
    """The next record to read. `digest` names the record before it; None where the log has none."""

    topic: str
    partition: int
    topic_id: str
    offset: int
    digest: bytes | None

    @property
    def place(self) -> Place:
        return Place(self.topic, self.partition)

    def after(self, record: Record) -> Position:
        return self._replace(offset=record.offset + 1, digest=record.digest)


def beginnings(broker: Broker, topics: Iterable[str], have: Container[Place] = ()) -> list[Position]:
    """Where the log begins now, of every partition of these topics that we do not have."""
    found = broker.topics(topics)
    return [
        _beginning(topic, p)
        for topic in found.values()
        for p in sorted(topic.bounds)
        if Place(topic.name, p) not in have
    ]


def ends(broker: Broker, topics: Iterable[str]) -> list[Position]:
    """Where the log ends now, of every partition of these topics."""
    found = broker.topics(topics)
    at = {Place(topic.name, p): bounds.end for topic in found.values() for p, bounds in sorted(topic.bounds.items())}
    before = broker.records({place: offset - 1 for place, offset in at.items() if offset})
    return [
        Position(
            place.topic,
            place.partition,
            found[place.topic].id,
            offset,
            before[place].digest if place in before else None,
        )
        for place, offset in at.items()
    ]


def located(broker: Broker, olds: Collection[Position]) -> dict[Place, Position]:
    """Where to read from: at each of these, or at the log's beginning if that place is no longer the one we left."""
    topics = broker.topics({old.topic for old in olds})
    before = broker.records({old.place: old.offset - 1 for old in olds if old.digest})
    return {
        old.place: old
        if _still_there(old, topics[old.topic], before.get(old.place))
        else _beginning(topics[old.topic], old.partition)
        for old in olds
    }


def _still_there(old: Position, topic: Topic, before: Record | None) -> bool:
    """Same topic, within its bounds, and the same record before it; a record that retention has taken says nothing."""
    bounds = topic.bounds.get(old.partition)
    if bounds is None or topic.id != old.topic_id or not bounds.start <= old.offset <= bounds.end:
        return False
    return (
        old.digest is None
        or (old.offset == bounds.start and before is None)
        or (before is not None and before.digest == old.digest)
    )


def _beginning(topic: Topic, partition: int) -> Position:
    return Position(topic.name, partition, topic.id, topic.bounds.get(partition, Bounds(0, 0)).start, None)


def begin(tx: Transaction, positions: Iterable[Position]) -> None:
    """Positions of a new reader; where a copy of it was faster, its stand."""
    tx.execute_many('INSERT INTO position (topic, partition, topic_id, "offset", digest) VALUES (:topic, :partition, :topic_id, :offset, :digest) '
                    "ON CONFLICT (topic, partition) DO NOTHING",
                    [position._asdict() for position in positions])  # fmt: skip


def load(tx: Transaction, topics: Iterable[str]) -> dict[Place, Position]:
    marks, named = placeholders("t", topics)
    rows = tx.execute(
        f'SELECT topic, partition, topic_id, "offset", digest FROM position WHERE topic IN ({marks})', named
    ).all()
    return {Place(row[0], row[1]): Position(*row) for row in rows}


def swap(tx: Transaction, old: Position, new: Position) -> None:
    """FencedError if it is not where we left it: a copy of us that lost its partition ends here."""
    parameters: Mapping[str, Any] = new._asdict() | {
        "old_id": old.topic_id, "old_offset": old.offset, "old_digest": old.digest, "none": old.digest is None,
    }  # fmt: skip
    if tx.execute(SWAP, parameters).rowcount != 1:
        raise FencedError(f"{old.topic}/{old.partition}: another copy of this consumer has moved its position")
