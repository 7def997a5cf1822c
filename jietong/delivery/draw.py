"""Platform → outbox: drafts and reading position enter the connector's database in one transaction.

Rows whose digest was already seen are dropped; a row that cannot become an event stays in `source_held` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NoReturn

from jietong import failpoint
from jietong.delivery import alarms
from jietong.delivery.outbox import Outbox
from jietong.errors import HaltError, InvalidEventError
from jietong.event import Draft, Envelope
from jietong.platform import Reading, Source
from jietong.store import Store, Transaction, placeholders

BATCH = 500
AGAIN = 500
MOST_VANISHED, VANISHED_SHARE = 20, 0.01
NEVER_SEEN = "SELECT row FROM source_held WHERE row NOT IN (SELECT row FROM source_seen WHERE digest = '')"
"""Held rows, but for those that vanished and whose ending cannot be told."""


@dataclass(slots=True)
class Drawn:
    """What a look at a platform brought, in rows; and in events."""

    read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    vanished: int = 0
    events: int = 0


class Draw:
    """Reads one source into one outbox."""

    def __init__(self, source: Source, store: Store, outbox: Outbox) -> None:
        self.source, self.store, self.outbox = source, store, outbox
        self._again_after = ""
        self._at: str | None = None

    def step(self) -> Drawn:
        """What changed since the position, and what was held before. Raises RetriableError while the platform is away."""
        with self.store.snapshot() as tx:
            at = tx.execute("SELECT position FROM source_position WHERE source = :s", {"s": self.outbox.source}).one()
        drawn = Drawn()
        self._take(self.source.read(at[0] if at else None), drawn)
        with self.store.snapshot() as tx:
            held = self._held_next(tx)
        if held:
            self._take(self.source.again(held), drawn)
        return drawn

    def _held_next(self, tx: Transaction) -> list[str]:
        """Held rows take turns: many that never can become events do not keep one from its parent that came."""
        sql = "SELECT row FROM source_held WHERE row > :after ORDER BY row LIMIT :most"
        rows = [row[0] for row in tx.execute(sql, {"after": self._again_after, "most": AGAIN}).all()]
        self._again_after = rows[-1] if len(rows) == AGAIN else ""
        return rows

    def full(self, endings: bool = True) -> Drawn:
        """Every row there is: late ones are taken, vanished ones end (if `endings`).

        Raises HaltError when more than 20 rows or 1 % vanished at once, unless a person has confirmed it.
        """
        drawn, present = Drawn(), set[str]()
        self._take(_noting(self.source.scan(), present), drawn)
        with self.store.snapshot() as tx:
            seen = tx.execute("SELECT row, memo, revision FROM source_seen WHERE digest <> ''").all()
            sure = tx.execute("SELECT 1 FROM mark WHERE name = 'vanished-confirmed'").one() is not None
        if endings:
            vanished = [(row[0], row[1], row[2]) for row in seen if row[0] not in present]
            if not sure and (len(vanished) > MOST_VANISHED or len(vanished) > max(1, VANISHED_SHARE * len(seen))):
                self._ask(
                    f"{len(vanished)} of {len(seen)} rows vanished at once; none was ended: a person must confirm"
                )
            self._end(vanished, present, drawn)
        return drawn

    def _ask(self, detail: str) -> NoReturn:
        with self.store.transaction() as tx:
            alarms.raise_(tx, "vanished", self.outbox.source, detail, self.outbox.clock())
        raise HaltError(f"{self.outbox.source}: {detail}")

    def _take(self, readings: Iterable[Reading], drawn: Drawn) -> None:
        rest = iter(readings)
        while batch := list(islice(rest, BATCH)):
            with self.store.snapshot() as tx:
                unchanged, held = self._unchanged(tx, batch), self._still_held(tx, batch)
            drawn.read += len(batch)
            fresh = [reading for reading in batch if reading.row not in unchanged | held]
            drawn.unchanged += sum(reading.row in unchanged for reading in batch)
            drawn.rejected += sum(reading.row in held for reading in batch)
            at = next((reading.position for reading in reversed(batch) if reading.position), None)
            if not fresh and at == self._at:
                continue
            with self.store.transaction() as tx:
                self._batch(tx, fresh, at, drawn)
                failpoint.passing("draw.before_commit")
            failpoint.passing("draw.after_commit")
            self._at = at

    def _unchanged(self, tx: Transaction, batch: list[Reading]) -> set[str]:
        """Rows of a batch that say, each time they are in it, what they said when they were seen last."""
        marks, named = placeholders("r", {reading.row for reading in batch})
        rows = tx.execute(
            f"SELECT row, digest FROM source_seen WHERE row IN ({marks}) AND row NOT IN (SELECT row FROM source_held)",
            named,
        ).all()
        seen = {row[0]: row[1] for row in rows}
        changed = {reading.row for reading in batch if seen.get(reading.row) != reading.digest}
        return {row for row in seen if row not in changed}

    def _still_held(self, tx: Transaction, batch: list[Reading]) -> set[str]:
        marks, named = placeholders("r", {reading.row for reading in batch if reading.reason})
        rows = tx.execute(f"SELECT row, digest FROM source_held WHERE row IN ({marks})", named).all() if named else []
        held = {row[0]: row[1] for row in rows}
        changed = {reading.row for reading in batch if not reading.reason or held.get(reading.row) != reading.digest}
        return {row for row in held if row not in changed}

    def _batch(self, tx: Transaction, batch: list[Reading], at: str | None, drawn: Drawn) -> None:
        marks, named = placeholders("r", {reading.row for reading in batch})
        rows = tx.execute(f"SELECT row, digest, revision FROM source_seen WHERE row IN ({marks})", named).all()
        seen: dict[str, tuple[str, int]] = {row[0]: (row[1], row[2]) for row in rows}
        rows = tx.execute(f"SELECT row, digest FROM source_held WHERE row IN ({marks})", named).all()
        held: dict[str, str] = {row[0]: row[1] for row in rows}
        prepared = [envelope for reading in batch for envelope in self._one(tx, reading, seen, held, drawn)]
        drawn.events += len(self.outbox.put(tx, prepared))
        if at is not None:
            tx.execute("INSERT INTO source_position (source, position) VALUES (:source, :at) ON CONFLICT (source) DO UPDATE SET position = :at",
                       {"source": self.outbox.source, "at": at})  # fmt: skip

    def _one(
        self, tx: Transaction, reading: Reading, seen: dict[str, tuple[str, int]], held: dict[str, str], drawn: Drawn
    ) -> list[Envelope]:
        before, revision = seen.get(reading.row, ("", 0))
        if before == reading.digest:
            drawn.unchanged += 1
            _let_go(tx, reading.row, held)
            return []
        try:
            drafts = _latest(reading.drafts) if before else reading.drafts
            envelopes = [] if reading.reason else [self.outbox.prepare(_revised(draft, revision)) for draft in drafts]
            reason = reading.reason
        except InvalidEventError as error:
            envelopes, reason = [], str(error)
        if reason:
            drawn.rejected += 1
            if held.get(reading.row) != reading.digest:
                held[reading.row] = reading.digest
                _hold(tx, reading, reason, self.outbox.clock())
            return []
        drawn.changed += bool(before)
        drawn.new += not before
        seen[reading.row] = (reading.digest, revision + 1)
        _see(tx, reading, revision + 1)
        _let_go(tx, reading.row, held)
        return envelopes

    def _end(self, vanished: Sequence[tuple[str, str | None, int]], present: set[str], drawn: Drawn) -> None:
        with self.store.transaction() as tx:
            for row, memo, revision in sorted(vanished):
                drawn.vanished += 1
                drawn.events += self._ended(tx, self.source.gone(row, memo), revision)
                tx.execute("UPDATE source_seen SET digest = '', revision = revision + 1 WHERE row = :row", {"row": row})
            for (row,) in tx.execute(NEVER_SEEN).all():
                if row not in present:
                    tx.execute("DELETE FROM source_held WHERE row = :row", {"row": row})
            tx.execute("DELETE FROM mark WHERE name = 'vanished-confirmed'")
            alarms.clear(tx, "vanished", self.outbox.source)

    def _ended(self, tx: Transaction, ending: Reading, revision: int) -> int:
        """An ending that cannot be told stays in sight, as a row that cannot become an event does."""
        reason = ending.reason
        try:
            return 0 if reason else len(self.outbox.add(tx, *(_revised(draft, revision) for draft in ending.drafts)))
        except InvalidEventError as error:
            reason = str(error)
        finally:
            if reason:
                _hold(tx, ending, reason, self.outbox.clock())
        return 0


def _let_go(tx: Transaction, row: str, held: dict[str, str]) -> None:
    if held.pop(row, None) is not None:
        tx.execute("DELETE FROM source_held WHERE row = :row", {"row": row})


def _hold(tx: Transaction, reading: Reading, reason: str, now: int) -> None:
    tx.execute("INSERT INTO source_held (row, digest, reason, since) VALUES (:row, :digest, :reason, :now) ON CONFLICT (row) DO UPDATE "
               "SET digest = :digest, reason = :reason",
               {"row": reading.row, "digest": reading.digest, "reason": reason[:300], "now": now})  # fmt: skip


def _see(tx: Transaction, reading: Reading, revision: int) -> None:
    tx.execute("INSERT INTO source_seen (row, digest, memo, revision) VALUES (:row, :digest, :memo, :revision) ON CONFLICT (row) DO UPDATE "
               "SET digest = :digest, memo = :memo, revision = :revision",
               {"row": reading.row, "digest": reading.digest, "memo": reading.memo, "revision": revision})  # fmt: skip


def _revised(draft: Draft, revision: int) -> Draft:
    """A row that comes back to an earlier content says it anew: another event, with another id."""
    return replace(draft, about=(*draft.about, str(revision))) if revision and draft.about else draft


def _latest(drafts: Iterable[Draft]) -> list[Draft]:
    """Of a row seen before only the last fact of each type is new."""
    return list({draft.type: draft for draft in drafts}.values())


def _noting(readings: Iterable[Reading], present: set[str]) -> Iterable[Reading]:
    for reading in readings:
        present.add(reading.row)
        yield reading
