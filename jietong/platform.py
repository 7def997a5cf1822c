"""Port: a platform that is not ours, read (Source) or written (Sink)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jietong.event import Draft, Event


@dataclass(frozen=True, slots=True)
class Reading:
    """One row of a platform, seen.

    `row` names it (table and key). `digest` is of the content that matters: seen again with the same one it is dropped.
    `drafts` are the facts it tells, oldest first; of a row that was seen before with another digest only the last of
    each type is new. A `reason` instead says why it cannot become an event (yet): it stays in sight (`source_held`)
    and is read again until it can. `memo` is kept beside the digest, for the day the row is gone. `position` is where
    to go on after it.
    """

    row: str
    digest: str
    drafts: Sequence[Draft] = ()
    reason: str | None = None
    memo: str | None = None
    position: str | None = None


class Source(Protocol):
    """A platform, read. Its tables are not ours: what happens between two reads of one row is not seen.

    Ids of its events are made of `Draft.about` = (table, key, change stamp, digest): the same row read twice is one event.
    """

    def read(self, after: str | None) -> Iterable[Reading]:
        """What changed since a position (None: from the beginning), with an overlap: late commits are seen again.
        Raises RetriableError while the platform is away."""
        ...

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        """These rows once more: they were held."""
        ...

    def scan(self) -> Iterable[Reading]:
        """Every row there is: the guarantee behind the overlap."""
        ...

    def gone(self, row: str, memo: str | None) -> Reading:
        """What a scan did not find any more: an ending where the platform means one by it, else no draft."""
        ...


class Sink(Protocol):
    """A platform, written."""

    def deliver(self, event: Event) -> None:
        """Once or many times, same effect: the event's id is the idempotency key.

        Raises RejectedError if it refuses this subject, RetriableError if it is away.
        """
        ...

    def delivered(self, event: Event) -> bool:
        """Whether it has this event: asked when the outcome of a delivery is unknown."""
        ...
