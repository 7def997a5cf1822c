"""What travels: a draft, the event an outbox makes of it, and its envelope before its turn.

A stream is (source, type, subject); its sequence counts 1, 2, 3 …, so a reader of one topic can tell a gap from a filter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5


class Fate(StrEnum):
    """What became of an event at one consumer: exactly one of these, at any moment."""

    WAITING = "waiting"
    APPLIED = "applied"
    FILTERED = "filtered"
    PARKED = "parked"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"


HELD = (Fate.PARKED, Fate.DEAD)
SETTLED = (Fate.APPLIED, Fate.FILTERED, Fate.SUPERSEDED, Fate.SKIPPED)


class Stream(NamedTuple):
    """Where order is promised."""

    source: str
    type: str
    subject: str


class Key(NamedTuple):
    """One event, once and for all: its stream and its sequence (from 1)."""

    source: str
    type: str
    subject: str
    sequence: int

    @property
    def stream(self) -> Stream:
        return Stream(self.source, self.type, self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A fact as domain code states it, before an outbox has numbered it.

    `time`: when it happened on the platform (aware). `about`: what its id is made of; a follow-up's (case, round), a
    table row's (table, key, change stamp, digest); empty for a fact born of a command, whose id is a UUIDv7.
    `supersedes`: the id of an event this one corrects. `operator`: the one utility it is addressed to, if any.
    """

    type: str
    subject: str
    time: datetime
    data: Mapping[str, Any]
    about: tuple[str, ...] = ()
    supersedes: UUID | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Draft):
    """A draft that its outbox has numbered and kept. `recorded` is the outbox commit's time."""

    id: UUID
    source: str
    sequence: int
    recorded: datetime
    cause: UUID | None = None
    traceparent: str | None = None

    @property
    def key(self) -> Key:
        return Key(self.source, self.type, self.subject, self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An authentic event before its turn: everything but the meaning of its body.

    `time` and `recorded` are milliseconds since 1970 UTC. `fingerprint` names the writer's schema; an empty one is a
    void (its owner lost the event and says so); one of five bytes starting with 0 is a schema id nobody knew yet.
    """

    key: Key
    id: UUID
    fingerprint: bytes
    body: bytes
    time: int
    recorded: int
    cause: UUID | None = None
    supersedes: UUID | None = None
    operator: str | None = None
    traceparent: str | None = None
    claimed: bytes | None = None
    """The digest its header claims, while the schema is unknown and it cannot be computed."""

    @property
    def digest(self) -> bytes:
        return self.claimed or digest(self.fingerprint, self.body)

    @property
    def void(self) -> bool:
        return not self.fingerprint


def void(key: Key) -> Envelope:
    """No event: its owner lost it and says so, and every reader steps over it."""
    return Envelope(key=key, id=uuid5(NAMESPACE_URL, repr(tuple(key))), fingerprint=b"", body=b"", time=0, recorded=0)


def digest(fingerprint: bytes, body: bytes) -> bytes:
    """SHA-256 over schema fingerprint and body: two events of one meaning have one digest."""
    return hashlib.sha256(fingerprint + body).digest()


def follow_up_id(cause: UUID, *about: str) -> UUID:
    """The cause's 48 time bits, and a hash of the cause and of what the follow-up is about (UUID version 8)."""
    tail = hashlib.sha256("\x1f".join((cause.hex, *about)).encode()).digest()[:10]
    raw = bytearray(cause.bytes[:6] + tail)
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    return UUID(bytes=bytes(raw))


def derived_id(*about: str) -> UUID:
    """An id made of what it is about alone: the same row read twice is the same event."""
    return uuid5(NAMESPACE_URL, "\x1f".join(about))
