"""Learning without speaking: what a service does after its outbox was rebased.

What it reads again was answered before. Speaking at once, from half its facts, it would cancel and reopen what was right.
So it learns until it has read what the log held and the owners had announced when it began, and nothing waits or is held;
then it reconciles every subject once. Rows of its database say so, not flags in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jietong.broker import Broker, Place
from jietong.contract import Contract
from jietong.delivery import alarms, inbox, positions
from jietong.delivery.heads import Announced, Heads
from jietong.event import HELD, Fate
from jietong.service import Service
from jietong.store import Store, Transaction

QUIET, OWED = "quiet", "reconcile"
AT_ONCE = 200
"""Subjects reconciled in one transaction."""
SET = "INSERT INTO mark (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = :value"
ONLY_LEARNS = "learns without speaking since its outbox was rebased; it speaks when all is read and nothing is held"


def begin(tx: Transaction, name: str, now: int) -> None:
    """From now on `name` only learns."""
    tx.execute("DELETE FROM mark WHERE name = :name", {"name": OWED})
    tx.execute(SET, {"name": QUIET, "value": ""})
    alarms.raise_(tx, "quiet", name, ONLY_LEARNS, now)


def holds(tx: Transaction) -> bool:
    """Whether what is learned in this transaction is not to be spoken of. It locks the row: speaking begins after every
    transaction that kept silent, so that none of them is forgotten."""
    return tx.execute("UPDATE mark SET value = value WHERE name = :name", {"name": QUIET}).rowcount == 1


def silent(tx: Transaction) -> bool:
    """Whether it only learns, to look at; changes and locks nothing."""
    return tx.execute("SELECT 1 FROM mark WHERE name = :name", {"name": QUIET}).one() is not None


def look(store: Store, broker: Broker, contract: Contract, service: Service) -> bool:
    """The slow look at whether all is read; whether the service may speak again, from now on."""
    with store.snapshot() as tx:
        row = tx.execute("SELECT value FROM mark WHERE name = :name", {"name": QUIET}).one()
        if row is None:
            return False
        held = [key for key in inbox.held(tx, Fate.WAITING, *HELD) if key.type in service.types]
        known, at = inbox.sums(tx), positions.load(tx, service.types)
    topics, announced = broker.topics(service.types), Heads(broker, contract).read()
    ends = {f"{name}/{p}": bounds.end for name, topic in topics.items() for p, bounds in topic.bounds.items()}
    if not row[0]:
        counts = {source: said.head.counts for source, said in announced.items()}
        begun = {"name": QUIET, "value": json.dumps({"ends": ends, "counts": counts})}
        with store.transaction() as tx:
            tx.execute("UPDATE mark SET value = :value WHERE name = :name AND value = ''", begun)
        return False
    goal = json.loads(row[0])
    read = all(
        place in at and at[place].topic_id == topic.id and at[place].offset >= min(ends[text], goal["ends"].get(text, 0))
        for name, topic in topics.items() for p in topic.bounds for place, text in [(Place(name, p), f"{name}/{p}")]
    )  # fmt: skip
    if held or not read or _short(known, announced, goal["counts"], service.types):
        return False
    with store.transaction() as tx:
        ended = tx.execute("DELETE FROM mark WHERE name = :name", {"name": QUIET}).rowcount == 1
        if ended:
            tx.execute(SET, {"name": OWED, "value": ""})
            alarms.clear(tx, "quiet", service.name)
        return ended


def _short(
    known: Mapping[tuple[str, str], int],
    announced: Mapping[str, Announced],
    goal: Mapping[str, Mapping[str, int]],
    types: Sequence[str],
) -> bool:
    """Whether less is known than was announced when it began; an owner that was rebased meanwhile may announce less."""
    return any(
        known.get((source, type), 0) < min(counts.get(type, 0), announced[source].head.counts.get(type, 0))
        for source, counts in goal.items()
        if source in announced
        for type in types
    )


def wakes(tx: Transaction, service: Service, now: int) -> tuple[str | None, Sequence[str]]:
    """Whom to let speak though nothing came: nobody while it only learns; then every subject once, those behind the last
    one reconciled, which comes first; then those whose hour has come (and None)."""
    rows = tx.execute(
        "SELECT name, value FROM mark WHERE name IN (:quiet, :owed)", {"quiet": QUIET, "owed": OWED}
    ).all()
    marks = {row[0]: row[1] for row in rows}
    if QUIET in marks:
        return None, ()
    if OWED in marks:
        last = marks[OWED]
        return last, sorted(subject for subject in service.subjects(tx) if subject > last)[:AT_ONCE]
    return None, sorted(service.waking(tx, now))


def reconciled(tx: Transaction, last: str, subjects: Sequence[str]) -> bool:
    """These follow now, in this transaction, or none is left; whether no other copy was faster."""
    done: Mapping[str, Any] = {"name": OWED, "last": last, "next": subjects[-1] if subjects else ""}
    if not subjects:
        return tx.execute("DELETE FROM mark WHERE name = :name AND value = :last", done).rowcount == 1
    return tx.execute("UPDATE mark SET value = :next WHERE name = :name AND value = :last", done).rowcount == 1
