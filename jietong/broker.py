"""Port: a durable, partitioned log of records. Kafka's words, Kafka's meaning.

Partition = murmur2 of the key, computed here and passed explicitly: another client's default agreed on 32 of 200 keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A record on its way into the log. `value` None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A record in the log. `timestamp` is the log's own (append) time, milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0

    @property
    def digest(self) -> bytes:
        """Names this record: a number may be given twice, by a log that was truncated or made anew."""
        return hashlib.sha256(repr((self.key, self.value, self.headers)).encode()).digest()


class Place(NamedTuple):
    topic: str
    partition: int


class Assignment(NamedTuple):
    """What a member of a group holds. Made anew, it has another generation, and each of its places must be sought again."""

    generation: int
    places: frozenset[Place]


class Bounds(NamedTuple):
    """The first offset retained, and the next to be written."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the log has it now; a re-created topic has another `id`."""

    name: str
    id: str
    bounds: Mapping[int, Bounds] = field(default_factory=dict[int, Bounds])


class Reader(Protocol):
    """One member of a consumer group. Not shared between threads."""

    def poll(self, seconds: float, limit: int) -> Sequence[Record]:
        """Up to `limit` records from where each assigned partition stands, in order within a partition; waits at most so long."""
        ...

    def assigned(self) -> Assignment:
        """The partitions this member holds now; none of them is read before it was sought."""
        ...

    def seek(self, place: Place, offset: int) -> None: ...
    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Advisory: the truth is the position in the reader's own database."""
        ...

    def close(self) -> None: ...


class Broker(Protocol):
    """The log. Every call raises RetriableError while it is away."""

    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        """Write them, durably; for each, whether it was acknowledged. One not acknowledged may still be there."""
        ...

    def topic(self, name: str) -> Topic:
        """As the log has it at this moment. Raises UsageError if there is no such topic."""
        ...

    def topics(self, names: Iterable[str]) -> Mapping[str, Topic]:
        """As `topic`, of many at once."""
        ...

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        """Records at or after an offset, beside any group."""
        ...

    def records(self, offsets: Mapping[Place, int]) -> Mapping[Place, Record]:
        """The record at each of these offsets, where there is one; all at once."""
        ...

    def reader(self, group: str, topics: Sequence[str]) -> Reader: ...


@lru_cache(maxsize=8_192)
def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's own default for a keyed record, so that every tool finds it where it looks."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, seed 0x9747b28c: org.apache.kafka.common.utils.Utils.murmur2."""
    m, mask, size = 0x5BD1E995, 0xFFFFFFFF, len(data)
    h = 0x9747B28C ^ size
    whole = size - size % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = h * m & mask ^ (k ^ k >> 24) * m & mask
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
