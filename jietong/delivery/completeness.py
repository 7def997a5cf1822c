"""What is missing, and asking for it: gaps, and sums that fall short of what an owner has announced.

Level-triggered: one slow beat computes both from the tables and asks, at most once per stream in ten minutes, doubling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from jietong.broker import Place
from jietong.catalog import RESEND
from jietong.delivery import alarms, inbox, positions
from jietong.delivery.heads import Announced, Heads
from jietong.delivery.outbox import Outbox
from jietong.delivery.positions import Position
from jietong.event import Draft
from jietong.store import Store, Transaction

GRACE, PATIENCE = 120_000, 600_000
LONGEST = 3_600_000
"""Milliseconds that reading on may put off asking for a short sum."""
SILENT = 300_000

What = tuple[str, str, str]
"""(source, type, subject); an empty subject asks for the last row of every one."""
Unread = Mapping[Place, tuple[int, int]]


class Completeness:
    """One consumer's slow look at what it should have."""

    def __init__(self, topics: Sequence[str], store: Store, outbox: Outbox, heads: Heads) -> None:
        self.topics, self.store, self.outbox, self.heads = topics, store, outbox, heads
        self._moved: dict[str, tuple[int, int]] = {}
        self._reading: dict[What, tuple[int, Mapping[Place, int]]] = {}

    def beat(self, monotonic: int) -> int:
        """Ask for what is missing; returns the number of requests. `monotonic`: this machine's own clock, milliseconds.

        The sum is read first, the newest head after: a head precedes its rows, so a lost one cannot hide behind a new one.
        """
        with self.store.snapshot() as tx:
            known, gaps, at = inbox.sums(tx), inbox.gaps(tx), positions.load(tx, self.topics)
        announced = self.heads.read()
        short = self._short(known, announced)
        unread = self._unread(at.values(), {type for _, type in short})
        with self.store.transaction() as tx:
            self._alarms(tx, known, announced, monotonic)
            missing: dict[What, int] = {
                (gap.stream.source, gap.stream.type, gap.stream.subject): gap.last for gap in gaps
            }
            missing |= {(source, type, ""): 0 for source, type in short}
            missing |= {(source, type, ""): known[source, type] for source, type in _ahead(known, announced)}
            _forget(tx, missing)
            due = [what for what, after in sorted(missing.items()) if _may_ask(tx, what, after, self.outbox.clock())]
            due = self._read(due, {(source, type, "") for source, type in short}, unread, monotonic)
            self.outbox.add(tx, *(self._request(what, missing[what]) for what in due))
        return len(due)

    def _short(self, known: Mapping[tuple[str, str], int], announced: Mapping[str, Announced]) -> list[tuple[str, str]]:
        return [(source, type) for source, said in announced.items() for type in self.topics
                if known.get((source, type), 0) < said.head.counts.get(type, 0)]  # fmt: skip

    def _unread(self, at: Iterable[Position], types: Iterable[str]) -> Unread:
        """Of these types the partitions with a record that is not read yet: where we stand there, and where the log ends. An
        end alone says little, for what was there may be gone."""
        topics = self.heads.broker.topics(types)
        ends = {Place(name, p): bounds.end for name, topic in topics.items() for p, bounds in topic.bounds.items()}
        here = {old.place: old.offset for old in at if old.offset < ends.get(old.place, 0)}
        return {place: (here[place], ends[place]) for place in self.heads.broker.records(here)}

    def _read(self, due: Sequence[What], short: set[What], unread: Unread, now: int) -> list[What]:
        """What is due is asked for; a short sum only when all is read that was in the log when it fell due. A reader that
        has a backlog would else have its owners send again what lies before it."""
        self._reading = {what: since for what, since in self._reading.items() if what in short}
        for what in due:
            if what in short:
                ends = {place: end for place, (_, end) in unread.items() if place.topic == what[1]}
                self._reading.setdefault(what, (now, ends))
        done = [what for what, (since, ends) in self._reading.items() if now - since >= LONGEST
                or all(place not in unread or unread[place][0] >= end for place, end in ends.items())]  # fmt: skip
        for what in done:
            del self._reading[what]
        return sorted([*(what for what in due if what not in short), *done])

    def _request(self, what: What, after: int) -> Draft:
        source, type, subject = what
        data = {"type": type, "subject": subject or None, "after": after, "asked_by": self.outbox.source}
        return Draft(
            type=RESEND, subject=source, time=datetime.fromtimestamp(self.outbox.clock() / 1000, UTC), data=data
        )

    def _alarms(
        self, tx: Transaction, known: Mapping[tuple[str, str], int], announced: Mapping[str, Announced], now: int
    ) -> None:
        """A sum above the head: an owner was restored without asking us. A head that stands still, or is missing."""
        ahead = _ahead(known, announced)
        for source, type in known:
            _alarm(
                tx,
                (source, type) in ahead,
                "ahead",
                f"{source}/{type}",
                "we know more events than their owner announces: was it restored?",
                self.outbox.clock(),
            )
        for source, said in announced.items():
            if self._moved.get(source, (-1, 0))[0] != said.timestamp:
                self._moved[source] = (said.timestamp, now)
            reads = any(said.head.counts.get(type) for type in self.topics)
            _alarm(
                tx,
                reads and now - self._moved[source][1] > SILENT,
                "silent",
                source,
                "no sign of life for five minutes: is its relay running?",
                self.outbox.clock(),
            )
        heard = {source for source, _ in known}
        for source in heard - announced.keys():
            alarms.raise_(
                tx,
                "no-head",
                source,
                "its events are here, its head is not: the heads topic lost it",
                self.outbox.clock(),
            )
        for source in heard & announced.keys():
            alarms.clear(tx, "no-head", source)


def _ahead(known: Mapping[tuple[str, str], int], announced: Mapping[str, Announced]) -> set[tuple[str, str]]:
    """Where we know more than is announced. Asking for what comes after it tells the owner, which then stands still."""
    return {(source, type) for (source, type), total in known.items()
            if source in announced and total > announced[source].head.counts.get(type, 0)}  # fmt: skip


def _alarm(tx: Transaction, on: bool, name: str, about: str, detail: str, now: int) -> None:
    if on:
        alarms.raise_(tx, name, about, detail, now)
    else:
        alarms.clear(tx, name, about)


def _may_ask(tx: Transaction, what: What, after: int, now: int) -> bool:
    """A gap, or to be ahead, at once; a short sum after two minutes without reaching it. Again after ten minutes, doubling.
    What was put off by a clock that ran ahead is due."""
    named = dict(zip(("source", "type", "subject"), what, strict=True))
    first = now if what[2] or after else now + GRACE
    tx.execute("INSERT INTO asked (source, type, subject, next_at, wait) VALUES (:source, :type, :subject, :first, :patience) ON CONFLICT DO NOTHING",
               {**named, "first": first, "patience": PATIENCE})  # fmt: skip
    return tx.execute("UPDATE asked SET next_at = :now + wait, wait = wait * 2 WHERE source = :source AND type = :type AND subject = :subject "
                      "AND (next_at <= :now OR next_at > :now + wait)", {**named, "now": now}).rowcount == 1  # fmt: skip


def _forget(tx: Transaction, missing: Mapping[What, int]) -> None:
    for what in tx.execute("SELECT source, type, subject FROM asked").all():
        if (what[0], what[1], what[2]) not in missing:
            tx.execute("DELETE FROM asked WHERE source = :source AND type = :type AND subject = :subject",
                       dict(zip(("source", "type", "subject"), what, strict=True)))  # fmt: skip
