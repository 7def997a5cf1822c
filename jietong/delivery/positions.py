"""How far a reader got, in its own database: compared and swapped whole, and named by the record before it.

A number may be given twice: by a log that was truncated and grew again, or by a topic made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jietong.broker import Broker, Place, Record, Topic
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


def at(broker: Broker, topic: Topic, partition: int, offset: int) -> Position:
    """The position before an offset, as the log has it now."""
    before = broker.read(Place(topic.name, partition), offset - 1, 1) if offset else ()
    named = before[0].digest if before and before[0].offset == offset - 1 else None
    return Position(topic.name, partition, topic.id, offset, named)


def located(broker: Broker, old: Position) -> Position:
    """Where to read from: here, or the log's beginning if this place is no longer the one we left."""
    topic = broker.topic(old.topic)
    bounds = topic.bounds[old.partition]
    if bounds.start <= old.offset <= bounds.end and at(broker, topic, old.partition, old.offset) == old:
        return old
    return at(broker, topic, old.partition, bounds.start)


def begin(tx: Transaction, positions: Iterable[Position]) -> None:
    """Positions of a new reader."""
    tx.execute_many('INSERT INTO position (topic, partition, topic_id, "offset", digest) VALUES (:topic, :partition, :topic_id, :offset, :digest)',
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
