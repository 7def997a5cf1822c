"""Errors, whose class says what happens next.

JietongError
├── UsageError              the person at the keyboard mends it: one line, exit code 2
├── RetriableError          something of ours is away: roll back, wait in place, hold nothing
├── Fault                   the event's own fault: roll back, do the batch again knowing the verdict
│   ├── InvalidEventError     no one can use it as it is: dead, a person decides
│   └── RejectedError         one subject refused while others pass: parked, tried again by itself
├── DamagedError            this copy was damaged on its way: a stray, the gap is asked for again
└── HaltError               going on would break the promise: the movement stops and says why
    ├── RewoundError          a database was restored from a backup
    ├── LostError             less came back to it than it had announced: a person asks its readers
    ├── FencedError           another copy of us moved on: roll back and look again
    └── LimitError            too many invalid events: a bad deploy must not drain a topic
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jietong.event import Key


class JietongError(Exception):
    """The root of all errors of this library. Messages never carry personal data or values of fields."""


class UsageError(JietongError):
    """A wrong file, option or setting. The message says what is wrong, where, and what to do."""


class RetriableError(JietongError):
    """Something of ours is away: a database, the log, the registry, a whole target. Nothing is held; try again."""


class Fault(JietongError):  # noqa: N818 — its leaves are the errors; a fault is what they share
    """The event's own fault; `key` is set by the consumer, `fate` says where it waits."""

    fate = "dead"
    key: Key | None = None


class InvalidEventError(Fault):
    """Undecodable, a schema not allowed here, or a value that is refused: dead until a person decides."""


class RejectedError(Fault):
    """A target refuses this subject while others pass, or a decisive word is unknown: parked, tried again later."""

    fate = "parked"


class DamagedError(JietongError):
    """The bytes are not those their owner wrote: says nothing about its stream."""


class HaltError(JietongError):
    """Going on would break the promise: stop this movement, raise an alarm, say the way on."""


class RewoundError(HaltError):
    """What this database announced is no longer in it: it was restored from a backup."""


class LostError(HaltError):
    """Some of what a restored database had announced is neither in it nor in the log; a reader may have it."""


class FencedError(HaltError):
    """The position is not where we left it: another copy of this consumer moved it."""


class LimitError(HaltError):
    """Too many invalid events in one topic; the batch that tripped the limit was rolled back."""
