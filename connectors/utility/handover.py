"""An operator's account book as a platform that is not ours: requests are delivered to it, its answers are read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from connectors.utility.accounts import AccountBook, boolean, decimal
from connectors.utility.tables import ACCOUNT_ANSWER
from jietong.errors import InvalidEventError
from jietong.event import Draft, Event
from jietong.platform import Reading, Sink, Source
from jietong.store import Row, Store, placeholders

TRANSFER_REQUESTED, TRANSFER_ANSWERED = "utility.account.transfer.requested.v1", "utility.account.transfer.answered.v1"
LOCAL = timezone(timedelta(hours=8))
OVERLAP, LONG_OVERLAP, LONG_EVERY, PAGE = 1_000, 30_000, 10, 1000
"""As of an operator's steps: read again a little at each look and more at every tenth, for what committed late (ms)."""
PREFIX = "account/"
ANSWERS = f"SELECT {', '.join(ACCOUNT_ANSWER)} FROM account_answer"


class TransferSink:
    """Delivers the requests addressed to one operator. See `jietong.platform.Sink`."""

    def __init__(self, operator: str, book: AccountBook, clock: Callable[[], datetime]) -> None:
        self.operator, self.book, self.clock = operator, book, clock

    def deliver(self, event: Event) -> None:
        """Raises InvalidEventError for another operator's request: it is none of this one's business."""
        if event.data["operator"] != self.operator:
            raise InvalidEventError("operator: addressed to another one")
        self.book.deliver(event, self.clock())

    def delivered(self, event: Event) -> bool:
        return self.book.delivered(event)


class TransferSource:
    """Reads one operator's answers. See `jietong.platform.Source`. A position is the last change stamp seen."""

    def __init__(self, operator: str, store: Store) -> None:
        self.operator, self.store, self._looks = operator, store, 0

    def read(self, after: str | None) -> Iterable[Reading]:
        overlap = OVERLAP if self._looks % LONG_EVERY else LONG_OVERLAP
        self._looks += 1
        return self._from(0 if after is None else int(after) - overlap)

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        numbers, named = placeholders("n", [int(row.removeprefix(PREFIX)) for row in rows])
        with self.store.snapshot() as tx:
            found = tx.execute(f"{ANSWERS} WHERE n IN ({numbers}) ORDER BY stamp, n", named).all() if rows else []
        return [self._reading(row) for row in found]

    def scan(self) -> Iterable[Reading]:
        return self._from(0)

    def gone(self, row: str, memo: str | None) -> Reading:
        """An answer that vanished takes nothing back."""
        return Reading(row, "", memo=memo)

    def _from(self, stamp: int) -> Iterator[Reading]:
        """Page by page: no transaction is open while the reader works."""
        at: dict[str, Any] = {"stamp": stamp, "n": 0, "limit": PAGE}
        while True:
            with self.store.snapshot() as tx:
                page = tx.execute(f"{ANSWERS} WHERE (stamp, n) > (:stamp, :n) ORDER BY stamp, n LIMIT :limit", at).all()
            yield from map(self._reading, page)
            if len(page) < PAGE:
                return
            last: dict[str, Any] = dict(zip(ACCOUNT_ANSWER, page[-1], strict=True))
            at |= {"stamp": last["stamp"], "n": last["n"]}

    def _reading(self, row: Row) -> Reading:
        said: dict[str, Any] = dict(zip(ACCOUNT_ANSWER, row, strict=True))
        digest = hashlib.sha256(repr(row).encode()).hexdigest()[:32]
        moment = datetime.fromtimestamp(said["at"] / 1000, UTC)
        draft = Draft(
            type=TRANSFER_ANSWERED, subject=said["subject"], time=moment, data=self._data(said, moment),
            about=("account", str(said["n"]), str(said["stamp"]), digest),
        )  # fmt: skip
        return Reading(f"{PREFIX}{said['n']}", digest, [draft], position=str(said["stamp"]))

    def _data(self, said: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
        day = moment.astimezone(LOCAL).date() if said["status"] == "DONE" else None
        return {
            "transfer": said["transfer"], "registration": said["registration"], "operator": self.operator, "status": said["status"],
            "answers_request": said["request_id"], "answers_sequence": said["request_sequence"], "answers_round": said["round"],
            "reason": said["reason"], "account": said["account"], "new_account": said["new_account"], "arrears": decimal(said["arrears"]),
            "arrears_stay": boolean(said["arrears_stay"]), "meter_reading": decimal(said["meter_reading"]), "meter_unit": said["meter_unit"],
            "read_on": day if said["meter_reading"] is not None else None, "auto_debit_stopped": boolean(said["auto_debit_stopped"]),
            "contract_signed": boolean(said["contract_signed"]), "safety_checked": boolean(said["safety_checked"]), "effective_on": day,
        }  # fmt: skip


class BothSinks:
    """One operator's consumer group delivers its cases and its transfers."""

    def __init__(self, cases: Sink, transfers: Sink) -> None:
        self.cases, self.transfers = cases, transfers

    def deliver(self, event: Event) -> None:
        self._of(event).deliver(event)

    def delivered(self, event: Event) -> bool:
        return self._of(event).delivered(event)

    def _of(self, event: Event) -> Sink:
        return self.transfers if event.type == TRANSFER_REQUESTED else self.cases


class BothSources:
    """One operator's outbox is filled from its cases and its account book. A position is both, separated by a space; before there
    was a book it was the first alone."""

    def __init__(self, cases: Source, transfers: Source) -> None:
        self.cases, self.transfers = cases, transfers

    def read(self, after: str | None) -> Iterator[Reading]:
        first, _, second = (after or "").partition(" ")
        for reading in self.cases.read(first or None):
            first = reading.position or first
            yield _at(reading, first, second)
        for reading in self.transfers.read(second or None):
            second = reading.position or second
            yield _at(reading, first, second)

    def again(self, rows: Sequence[str]) -> Iterator[Reading]:
        mine = [row for row in rows if row.startswith(PREFIX)]
        yield from self.cases.again([row for row in rows if not row.startswith(PREFIX)])
        yield from self.transfers.again(mine)

    def scan(self) -> Iterator[Reading]:
        """Positions are those of `read`: a scan keeps none."""
        for reading in (*self.cases.scan(), *self.transfers.scan()):
            yield _at(reading, "", "")

    def gone(self, row: str, memo: str | None) -> Reading:
        return (self.transfers if row.startswith(PREFIX) else self.cases).gone(row, memo)


def _at(reading: Reading, first: str, second: str) -> Reading:
    position = f"{first} {second}" if first or second else None
    return Reading(reading.row, reading.digest, reading.drafts, reading.reason, reading.memo, position)
