"""Port: a service, a few functions over a transaction. It never publishes: it says what is due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from jietong.event import Draft, Event, Fate
from jietong.store import Transaction

Learned = Literal[Fate.APPLIED, Fate.FILTERED]


class Service(Protocol):
    """Level-triggered: every interleaving that keeps each topic's order ends in one state."""

    @property
    def name(self) -> str:
        """Also its consumer group, and the last part of its source's URN."""
        ...

    @property
    def types(self) -> Sequence[str]:
        """The event types it reads."""
        ...

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        """The transaction of a batch that is about these subjects, and no other: what all of them need may be read at once."""
        ...

    def learn(self, tx: Transaction, event: Event) -> Learned:
        """Record the fact. Raises RejectedError or InvalidEventError if it is the event's own fault."""
        ...

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        """Wanted minus requested, from all facts known, and note it as requested. Without a cause: a reconciliation."""
        ...

    def remember(self, tx: Transaction, event: Event) -> None:
        """Take back one of its own events, come back from the log after a restore."""
        ...

    def subjects(self, tx: Transaction) -> Iterable[str]:
        """What to reconcile."""
        ...

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        """Some of the subjects that something is due for by the hour alone (ms since 1970 UTC): what is found here goes
        through `due`, without a cause, and must not be found again then."""
        ...
