"""A new reader, and a reader of more types: from now on, by an exact cut, or from the beginning.

From now on: its positions first, at the log's end; then each owner's counters, of one snapshot, become how far its streams
are settled; and each owner's head is in the log before anyone relies on that, or a restored owner could give these
sequences again unnoticed. What an owner committed before its snapshot lies behind the cut, be it sent or not: when it
comes, it is a duplicate. What it commits later leaves later, so the log has it after the positions.

All of it is one transaction of the reader's: killed anywhere, it is either a new reader or none; and it may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from jietong import failpoint
from jietong.broker import Broker
from jietong.catalog import RESEND
from jietong.contract import Contract
from jietong.delivery import heads, inbox, outbox, positions, rebase
from jietong.delivery.heads import Heads
from jietong.delivery.inbox import Standing
from jietong.delivery.outbox import Head, Outbox
from jietong.delivery.positions import Position
from jietong.errors import RetriableError, UsageError
from jietong.event import Draft, Stream
from jietong.store import Store, Transaction, placeholders

PATIENCE, LOOK = 60.0, 0.2
"""Seconds that an owner's relay gets to announce what was counted, and between two looks."""


class Owner(NamedTuple):
    """Somebody's outbox. `mine`: whether its relay is ours to stand in for (`jietong.backends.Backend.single`); then nobody
    else announces it."""

    store: Store
    mine: Callable[[], bool]


@dataclass(slots=True)
class Provisioned:
    """What was, or would be, done: types that begin, types that had begun, streams that are settled up to the cut, and what
    owners are asked to send again, (source, type)."""

    begun: list[str]
    had: list[str]
    streams: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class Provision:
    """Of a reader, whose outbox this is, in a city of these owners. `wait`: for so many seconds, between two looks."""

    reader: Store
    own: Outbox
    owners: Sequence[Owner]
    broker: Broker
    wait: Callable[[float], object] = time.sleep

    @property
    def contract(self) -> Contract:
        return self.own.contract

    def plan(self, types: Sequence[str], whole: bool) -> Provisioned:
        """What would be done now. Changes nothing."""
        done = self._standing(types)
        if whole:
            done.asked = self._gone(positions.beginnings(self.broker, done.begun))
        else:
            done.streams = sum(len(_counted(owner, done.begun)[0]) for owner in self.owners)
        return done

    def from_now(self, types: Sequence[str]) -> Provisioned:
        """Raises UsageError for a type whose position is lost, or an owner whose relay does not announce it; RewoundError for
        an owner that was restored from a backup."""
        done = self._standing(types)
        ends = positions.ends(self.broker, done.begun)
        failpoint.passing("provision.after_positions")
        seeds = [seed for owner in self.owners for seed in self._seeds(owner, done.begun)]
        done.streams = len(seeds)
        with self.reader.transaction() as tx:
            self._begin(tx, ends)
            inbox.stand(tx, seeds)
            failpoint.passing("provision.before_commit")
        return done

    def whole(self, types: Sequence[str]) -> Provisioned:
        """The reader begins where the log does; what the log no longer has, its owners are asked to send. UsageError as above."""
        done = self._standing(types)
        beginnings = positions.beginnings(self.broker, done.begun)
        done.asked = self._gone(beginnings)
        with self.reader.transaction() as tx:
            self._begin(tx, beginnings)
            self.own.add(tx, *(self._request(source, type) for source, type in done.asked))
            failpoint.passing("provision.before_commit")
        return done

    def _standing(self, types: Sequence[str]) -> Provisioned:
        """Which of these begin now. A type that was read and has no position is nobody's to guess."""
        with self.reader.snapshot() as tx:
            had = {place.topic for place in positions.load(tx, types)}
            known = {row[0] for row in tx.execute("SELECT DISTINCT type FROM stream").all()}
        if lost := sorted(known & (set(types) - had)):
            raise UsageError(f"{self.reader.name}: has read {', '.join(lost)} and has no position there; nothing jumps quietly: "
                             "restore its database")  # fmt: skip
        return Provisioned(sorted(set(types) - had), sorted(had))

    def _begin(self, tx: Transaction, begins: Iterable[Position]) -> None:
        """Raises UsageError if it has begun by itself meanwhile: its program was started."""
        begins = list(begins)
        if positions.load(tx, {at.topic for at in begins}):
            raise UsageError(
                f"{self.reader.name}: has begun by itself meanwhile; stop its program, and begin with a new database"
            )
        positions.begin(tx, begins)

    def _seeds(self, owner: Owner, types: Sequence[str]) -> list[tuple[Stream, Standing]]:
        """An owner's counters, of one snapshot, once the log has its head."""
        with owner.store.snapshot() as tx:
            sources = [row[0] for row in tx.execute("SELECT DISTINCT source FROM total").all()]
        for source in sources:
            rebase.refuse_restored(owner.store, self.broker, self.contract, source)
        seeds, head = _counted(owner, types)
        for source in {stream.source for stream, _ in seeds}:
            self._known(owner, source, head)
        return seeds

    def _gone(self, beginnings: Iterable[Position]) -> list[tuple[str, str]]:
        """(source, type) of which the log no longer has the beginning."""
        lacks = {at.topic for at in beginnings if at.offset}
        return sorted(pair for owner in self.owners for pair in _written(owner, lacks))

    def _known(self, owner: Owner, source: str, head: Head) -> None:
        """Until the log has a head of this source that is not below this one. Its own relay writes it; where none runs, we
        do. A head never goes back: whoever stands in for a relay looks first, when nobody else may write."""
        known = Heads(self.broker, self.contract)
        until = time.monotonic() + PATIENCE
        while True:
            mine = owner.mine()
            said = known.read().get(source)
            if said and all(said.head.counts.get(type, 0) >= n for type, n in head.counts.items()):
                return
            if mine:
                if not all(self.broker.append([heads.message(self.contract, source, head, self.own.clock())])):
                    raise RetriableError("the log did not take the head; run it again")
                return
            if time.monotonic() > until:
                raise UsageError(f"{source}: its relay has not announced its newest events within {PATIENCE:.0f} s; does it run, or "
                                 "what does it wait for (`/readyz`)? Nothing was changed")  # fmt: skip
            self.wait(LOOK)

    def _request(self, source: str, type: str) -> Draft:
        data = {"type": type, "subject": None, "after": 0, "asked_by": self.own.source}
        return Draft(type=RESEND, subject=source, time=datetime.fromtimestamp(self.own.clock() / 1000, UTC), data=data)


def _counted(owner: Owner, types: Iterable[str]) -> tuple[list[tuple[Stream, Standing]], Head]:
    """An owner's counters of these types, and its head, of one snapshot."""
    marks, named = placeholders("t", types)
    with owner.store.snapshot() as tx:
        rows = tx.execute(f"SELECT source, type, subject, sequence FROM counter WHERE type IN ({marks})", named).all()
        head = outbox.head(tx)
    return [(Stream(*row[:3]), Standing(row[3], row[3])) for row in rows if row[3]], head


def _written(owner: Owner, types: Iterable[str]) -> list[tuple[str, str]]:
    """(source, type) of these that an owner has events of."""
    marks, named = placeholders("t", types)
    with owner.store.snapshot() as tx:
        rows = tx.execute(f"SELECT source, type FROM total WHERE type IN ({marks}) AND sequence > 0", named).all()
    return [(row[0], row[1]) for row in rows]
