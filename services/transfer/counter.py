"""The counter (过户窗口): what people see of transfers, and what they decide. A decision is heard by the service within a second.

Every command takes who decided (`by`: an office or staff number, never a name) and `now` (aware). Raises UsageError.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from jietong.errors import UsageError
from jietong.store import Row, Store, Transaction
from services.transfer.facts import loads
from services.transfer.transfer import WAKE, heirs_of
from services.transfer.transfers import DIVIDED, LEVEL, PENDING, SETTLEMENT, STOP, UNMATCHED

WRONG = "wrong-answer"
LONGEST = 50
SELECT = "SELECT id, subject, operator, utility, asked, answer, answered_round, told FROM transfer"


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known at the counter of one account. `status` is PENDING (not yet) until its operator has answered what was
    asked last; `arrears` in CNY."""

    transfer: str
    unit: str
    operator: str
    utility: str
    step: str
    choice: str
    status: str
    account: str | None
    arrears: Decimal | None


class Task(NamedTuple):
    """What waits for a person."""

    id: str
    subject: str
    kind: str
    about: str
    detail: str
    since: int


class _Found(NamedTuple):
    subject: str
    operator: str
    status: str


class Counter:
    """The command side of the transfer service, on its own database."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- what is seen --------------------------------------------------------------------------------------------------
    def checked(self, registration: str) -> list[Checked]:
        """The answer of a pre-check, or of what followed it: each account of a registration, never a guess."""
        with self.store.snapshot() as tx:
            rows = tx.execute(
                f"{SELECT} WHERE registration = :registration ORDER BY subject, utility, operator, id",
                {"registration": registration},
            )
            return [_checked(row) for row in rows.all()]

    def tasks(self, *kinds: str) -> list[Task]:
        """Open tasks of these kinds (none given: of all), oldest first."""
        with self.store.snapshot() as tx:
            rows = tx.execute(
                "SELECT id, subject, kind, about, detail, since FROM task WHERE done IS NULL ORDER BY since, id"
            ).all()
        return [task for row in rows if not kinds or row[2] in kinds for task in [Task(*row)]]

    def wrong_answers(self) -> int:
        """How many answers of operators could not be taken, ever."""
        with self.store.snapshot() as tx:
            return tx.execute("SELECT count(*) FROM task WHERE kind = :kind", {"kind": WRONG}).all()[0][0]

    # -- what is decided -----------------------------------------------------------------------------------------------
    def match(self, transfer: str, account: str, *, by: str, now: datetime) -> None:
        """This is the account, of this unit and this operator: it is asked again, and remembered for the unit's next transfer."""
        if not account or len(account) > LONGEST or not account.isprintable():
            raise UsageError(f"account: a number of 1 to {LONGEST} printable characters")
        with self.store.transaction() as tx:
            found = _find(tx, transfer, (UNMATCHED, PENDING))
            link = {
                "subject": found.subject,
                "operator": found.operator,
                "account": account,
                "by": by,
                "at": _millis(now),
            }
            kept = tx.execute("INSERT INTO link (subject, operator, account, closed, by_, at) VALUES (:subject, :operator, :account, 0, :by, :at) "
                              "ON CONFLICT (subject, operator, account) DO UPDATE SET closed = link.closed RETURNING closed", link).one()  # fmt: skip
            if kept and kept[0]:
                raise UsageError(
                    f"transfer {transfer}: {found.operator} closed that account of this unit; name another"
                )
            _decide(tx, transfer, "account = :account", by, now, account=account)
            _wake(tx, found.subject, now)

    def settled(self, transfer: str, *, by: str, now: datetime) -> None:
        """Someone saw that the arrears are paid: the operator is asked to look again. It goes on by itself without this, too,
        once the operator has the payment."""
        with self.store.transaction() as tx:
            found = _find(tx, transfer, (SETTLEMENT,))
            _decide(tx, transfer, "settled = decision.settled + 1", by, now, settled=1)
            _wake(tx, found.subject, now)

    def told(self, transfer: str, *, by: str, now: datetime) -> None:
        """The estate or the buyer was told what stays owed."""
        with self.store.transaction() as tx:
            found = _find(tx, transfer, ("DONE",))
            _decide(tx, transfer, "told = 1", by, now, told=1)
            _wake(tx, found.subject, now)

    def assign(self, unit: str, operator: str, account: str, successor: str | None, *, by: str, now: datetime) -> None:
        """After a split or merge: the account of `unit` goes to this unit made from it, or (None) to none."""
        with self.store.transaction() as tx:
            families = tx.execute("SELECT source, correlation, kind FROM registration WHERE subject = :unit AND status = 'REGISTERED'",
                                  {"unit": unit}).all()  # fmt: skip
            open_ = {
                link
                for row in families
                if row[2] in DIVIDED and row[1]
                for link in heirs_of(tx, row[0], row[1]).ambiguous
            }
            if (unit, operator, account) not in open_:
                raise UsageError(f"unit {unit}: no such account of {operator} waits for a person to say where it goes")
            if successor is not None and not _follows(tx, unit, successor):
                raise UsageError(f"unit {unit}: the other unit was not made from it")
            tx.execute("INSERT INTO heir (subject, operator, account, successor, by_, at) VALUES (:unit, :operator, :account, :to, :by, :at) "
                       "ON CONFLICT (subject, operator, account) DO UPDATE SET successor = :to, by_ = :by, at = :at",
                       {"unit": unit, "operator": operator, "account": account, "to": successor or "", "by": by, "at": _millis(now)})  # fmt: skip
            _wake(tx, unit, now)

    def close(self, task: str, *, now: datetime) -> None:
        """A task that no fact closes is done. The others close by themselves."""
        with self.store.transaction() as tx:
            row = tx.execute("SELECT kind FROM task WHERE id = :id AND done IS NULL", {"id": task}).one()
            if row is None:
                raise UsageError(f"task {task}: not open here")
            if row[0] in LEVEL:
                raise UsageError(f"task {task}: {row[0]} closes by itself once what it asks for is done")
            tx.execute("UPDATE task SET done = :now WHERE id = :id", {"id": task, "now": _millis(now)})


def _checked(row: Row) -> Checked:
    asked: list[tuple[str, str]] = loads(row[4])
    step, choice = asked[-1]
    answered = row[6] == len(asked)
    told = loads(row[7])
    status = row[5] if answered or row[5] == "DONE" else PENDING
    return Checked(row[0], row[1], row[2], row[3], step, choice, status, told.get("account"), told.get("arrears"))


def _find(tx: Transaction, transfer: str, statuses: tuple[str, ...]) -> _Found:
    row = tx.execute(
        f"{SELECT} WHERE id = :id",
        {"id": transfer},
    ).one()
    if row is None:
        raise UsageError(f"transfer {transfer}: not known here")
    checked = _checked(row)
    if checked.step == STOP or checked.status not in statuses:
        raise UsageError(
            f"transfer {transfer}: is {checked.status}; this is decided only while it is {' or '.join(statuses)}"
        )
    return _Found(row[1], row[2], checked.status)


def _decide(
    tx: Transaction,
    transfer: str,
    change: str,
    by: str,
    now: datetime,
    account: str | None = None,
    settled: int = 0,
    told: int = 0,
) -> None:
    tx.execute(
        f"INSERT INTO decision (transfer, account, settled, told, by_, at) VALUES (:transfer, :account, :settled, :told, :by, :at) "
        f"ON CONFLICT (transfer) DO UPDATE SET {change}, by_ = :by, at = :at",
        {"transfer": transfer, "account": account, "settled": settled, "told": told, "by": by, "at": _millis(now)},
    )


def _follows(tx: Transaction, unit: str, successor: str) -> bool:
    rows = tx.execute("SELECT data FROM registration WHERE subject = :unit", {"unit": unit}).all()
    return any(successor in loads(row[0])["successors"] for row in rows)


def _wake(tx: Transaction, subject: str, now: datetime) -> None:
    at = _millis(now)
    tx.execute(
        "INSERT INTO wake (subject, at) VALUES (:subject, :at) ON CONFLICT (subject) DO UPDATE SET at = :at",
        {"subject": subject, "at": at},
    )
    tx.execute(WAKE, {"subject": subject, "at": at})


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
