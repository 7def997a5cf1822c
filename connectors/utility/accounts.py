"""The stand-in for an operator's account book (户号台账): it takes requests to check, move, close or leave an account with its
property, and its clerks work on them.

The book answers what it can tell at once. What it cannot tell is PENDING until a clerk has looked: it never guesses.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.utility.tables import ACCOUNT, ACCOUNT_ANSWER, ACCOUNT_CASE
from jietong.errors import RejectedError, RetriableError, UsageError
from jietong.event import Event
from jietong.store import Row, Store, Transaction

METERED = ("WATER", "POWER", "GAS")
ABSENT_OWNER = ("INHERITANCE", "COURT_SALE")
"""继承、司法拍卖: what the former owner owes stays a debt of that owner or the estate (民法典 465, 1161) and keeps nothing back;
whatever is chosen, no automatic debit of that owner goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account (户号) of the book. `holder`: sealed, None if nobody is known; arrears in CNY; `smart`: its meter reads itself."""

    account: str
    utility: str
    unit: str | None = None
    holder: Mapping[str, Any] | None = None
    status: str = "OPEN"
    arrears: Decimal = Decimal("0.00")
    meter: Decimal | None = None
    meter_unit: str | None = None
    smart: bool = False
    auto_debit: bool = False
    contract: bool = True


class AccountCase(NamedTuple):
    """A transfer as the operator's clerks see it; the fields are the columns of `account_case`."""

    transfer: str
    subject: str
    registration: str
    utility: str
    step: str
    choice: str
    basis: str | None
    round: int
    asked: str | None
    matched: str | None
    unmatched: int
    predecessors: str
    party: str | None
    signed: int
    safe: int
    reading: str | None
    done: str | None
    refused: str | None
    request_id: str
    request_sequence: int
    received_at: int


class AccountBook:
    """Every step takes `now` (aware) and is one transaction. Raises UsageError for a step that cannot be taken."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- what comes in -------------------------------------------------------------------------------------------------
    def deliver(self, event: Event, now: datetime) -> None:
        """Take one request: once or many times, in any order, the same effect; and answer it as far as the book can.

        Raises RejectedError for a blocked subject or a choice this version does not know, RetriableError while away.
        """
        self._answers()
        data = event.data
        with self.store.transaction() as tx:
            if _received(tx, event):
                return
            if tx.execute("SELECT 1 FROM blocked WHERE subject = :subject", {"subject": event.subject}).one():
                raise RejectedError("the operator refuses this subject for now")
            if data["step"] == "EXECUTE" and data["choice"] == "UNKNOWN":
                raise RejectedError("choice: a word that this version does not know")
            tx.execute("INSERT INTO account_receipt (event_id) VALUES (:id)", {"id": str(event.id)})
            found = _case(tx, data["transfer"])
            if found is None or data["round"] > found.round:
                tx.execute(UPSERT, _row(found, event, now))
                self._settle(tx, data["transfer"], now)

    def delivered(self, event: Event) -> bool:
        self._answers()
        with self.store.snapshot() as tx:
            return _received(tx, event)

    # -- what its people do --------------------------------------------------------------------------------------------
    def open(self, *accounts: Account) -> None:
        with self.store.transaction() as tx:
            tx.execute_many(OPEN, [_columns(account) for account in accounts])

    def accounts(self, unit: str | None = None) -> list[Account]:
        """Those of a unit (None: all), by number."""
        where = "" if unit is None else "WHERE unit = :unit"
        with self.store.snapshot() as tx:
            rows = tx.execute(f"{ACCOUNTS} {where} ORDER BY account", {"unit": unit} if unit else {}).all()
        return [_account(row) for row in rows]

    def cases(self, waiting: bool = False) -> list[AccountCase]:
        """Every transfer, oldest first; or those that wait for a clerk or a customer."""
        with self.store.snapshot() as tx:
            rows = [AccountCase(*row) for row in tx.execute(f"{CASES} ORDER BY received_at, transfer").all()]
            return [
                case for case in rows if not waiting or _verdict(tx, case).status in ("PENDING", "PENDING_SETTLEMENT")
            ]

    def pay(self, account: str, *, now: datetime) -> None:
        """缴清: nothing is owed any more; what waited for it goes on by itself."""
        with self.store.transaction() as tx:
            if not tx.execute(
                "UPDATE account SET arrears = '0.00' WHERE account = :account", {"account": account}
            ).rowcount:
                raise UsageError(f"account {account}: not in this book")
            for (transfer,) in tx.execute(
                "SELECT transfer FROM account_case WHERE matched = :account ORDER BY transfer", {"account": account}
            ).all():
                self._settle(tx, transfer, now)

    def bind(self, transfer: str, account: str, *, now: datetime) -> None:
        """A clerk found the account of a transfer."""
        with self.store.transaction() as tx:
            if (found := _find_account(tx, account)) is None or found.status != "OPEN":
                raise UsageError(f"account {account}: not open in this book")
        self._work(transfer, now, matched=account, unmatched=0)

    def not_ours(self, transfer: str, *, now: datetime) -> None:
        """A clerk looked: it is none of ours."""
        self._work(transfer, now, matched=None, unmatched=1)

    def read_meter(self, transfer: str, reading: Decimal, *, now: datetime) -> None:
        """交接抄表."""
        self._work(transfer, now, reading=str(reading))

    def check_safety(self, transfer: str, *, now: datetime) -> None:
        """入户安检: gas does not change hands without it."""
        self._work(transfer, now, safe=1)

    def sign(self, transfer: str, *, now: datetime) -> None:
        """The new holder has signed the supply contract; of telecom, under the real name (实名)."""
        self._work(transfer, now, signed=1)

    def decline(self, transfer: str, reason: str, *, now: datetime) -> None:
        self._work(transfer, now, refused=reason)

    def tend(self, chance: random.Random, *, now: datetime) -> int:
        """A clerk's round, and the customers' (seeded): of each transfer that waits, its next step, or not today; returns how
        many steps were taken."""
        taken = 0
        for case in self.cases(waiting=True):
            if chance.random() < 0.2:
                continue
            taken += 1
            if case.matched is None:
                mine = [account.account for account in self.accounts(case.subject) if account.status == "OPEN"]
                if mine:
                    self.bind(case.transfer, chance.choice(mine), now=now)
                else:
                    self.not_ours(case.transfer, now=now)
            else:
                self._next(case, case.matched, chance, now)
        return taken

    def _next(self, case: AccountCase, account: str, chance: random.Random, now: datetime) -> None:
        with self.store.snapshot() as tx:
            found = _find_account(tx, account)
        if found is None or (found.arrears and case.basis not in ABSENT_OWNER):
            self.pay(account, now=now)
        elif not case.signed and case.choice == "MOVE":
            self.sign(case.transfer, now=now)
        elif not case.safe and case.utility == "GAS" and case.choice == "MOVE":
            self.check_safety(case.transfer, now=now)
        else:
            self.read_meter(case.transfer, (found.meter or Decimal(0)) + chance.randrange(1, 60), now=now)

    def _work(self, transfer: str, now: datetime, **columns: Any) -> None:
        with self.store.transaction() as tx:
            case = _case(tx, transfer)
            if case is None:
                raise UsageError(f"transfer {transfer}: not known to this operator")
            if case.step == "STOP" or case.done is not None or case.refused is not None:
                raise UsageError(f"transfer {transfer}: is over; nothing may be done on it")
            changes = ", ".join(f"{name} = :{name}" for name in columns)
            tx.execute(
                f"UPDATE account_case SET {changes} WHERE transfer = :transfer", {"transfer": transfer, **columns}
            )
            self._settle(tx, transfer, now)

    # -- what follows --------------------------------------------------------------------------------------------------
    def _settle(self, tx: Transaction, transfer: str, now: datetime) -> None:
        """Say what is so now, if it is not what was said last; and do what may be done."""
        case = _case(tx, transfer)
        assert case is not None  # noqa: S101 — it was just written
        if case.matched is None and case.done is None and (match := _match(tx, case)):
            tx.execute(
                "UPDATE account_case SET matched = :account WHERE transfer = :transfer",
                {"transfer": transfer, "account": match},
            )
            case = case._replace(matched=match)
        verdict = _verdict(tx, case)
        if verdict.status == "DONE" and case.done is None:
            _carry_out(tx, case, verdict)
        said = tx.execute("SELECT round, status, reason, arrears FROM account_answer WHERE transfer = :transfer ORDER BY n DESC LIMIT 1",
                          {"transfer": transfer}).one()  # fmt: skip
        arrears = None if verdict.arrears is None else str(verdict.arrears)
        if said != (case.round, verdict.status, verdict.reason, arrears):
            tx.execute(ANSWER, _answer(case, verdict, now))

    def _answers(self) -> None:
        with self.store.snapshot() as tx:
            if tx.execute("SELECT 1 FROM switch WHERE name = 'away' AND value <> 0").one():
                raise RetriableError("the operator's system does not answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is so of a transfer."""

    status: str
    reason: str | None = None
    account: str | None = None
    new_account: str | None = None
    arrears: Decimal | None = None
    stay: bool | None = None
    reading: Decimal | None = None
    unit: str | None = None
    debit_stopped: bool | None = None
    signed: bool | None = None
    safe: bool | None = None


def _match(tx: Transaction, case: AccountCase) -> str | None:
    """The account it surely is: the one that was named, unless the book knows it of another unit; else the only one of the unit."""
    units = (case.subject, *case.predecessors.split())
    if case.asked is not None:
        found = _find_account(tx, case.asked)
        return case.asked if found and found.status == "OPEN" and found.unit in (None, *units) else None
    mine = _open_accounts(tx, case.subject)
    return mine[0] if len(mine) == 1 else None


def _verdict(tx: Transaction, case: AccountCase) -> Verdict:
    if case.done is not None:
        return _done(tx, case)
    if case.step == "STOP":
        return Verdict(status="STOPPED")
    if case.refused is not None:
        return Verdict(status="DECLINED", reason=case.refused)
    account = None if case.matched is None else _find_account(tx, case.matched)
    if account is None:
        return _unknown(tx, case)
    absent, owed = case.basis in ABSENT_OWNER, account.arrears > 0
    about: dict[str, Any] = {
        "account": account.account,
        "arrears": account.arrears,
        "stay": True if absent and owed else None,
    }
    if owed and not absent and case.choice != "LEAVE":
        return Verdict(status="PENDING_SETTLEMENT", reason="欠费待结清", **about)
    if case.step == "PRECHECK":
        return Verdict(status="PRECHECKED", **about)
    reading = _reading(case, account)
    lacking = "" if case.choice == "LEAVE" else _lacking(case, account, reading)
    if lacking:
        return Verdict(status="PENDING", reason=lacking, **about)
    moved = case.choice == "MOVE"
    return Verdict(
        status="DONE", **about, reading=reading, unit=account.meter_unit, signed=True if moved else None,
        new_account=f"{account.account}-{case.round}" if absent and owed and moved else None,
        debit_stopped=True if case.choice != "LEAVE" or absent else None, safe=True if moved and account.utility == "GAS" else None,
    )  # fmt: skip


def _unknown(tx: Transaction, case: AccountCase) -> Verdict:
    """An account that the book does not have is none of ours; one that it has of another unit, and several, are a clerk's."""
    found = _find_account(tx, case.asked) if case.asked else None
    unsure = (found is not None and found.status == "OPEN") if case.asked else len(_open_accounts(tx, case.subject)) > 1
    if unsure and not case.unmatched:
        return Verdict(status="PENDING", reason="人工核对户号")
    return Verdict(status="UNMATCHED")


def _lacking(case: AccountCase, account: Account, reading: Decimal | None) -> str:
    """What an account needs before it changes hands."""
    moved = case.choice == "MOVE"
    return "、".join(
        word
        for word, lacks in (
            ("待抄表", account.meter is not None and account.utility in METERED and reading is None),
            ("待安检", moved and account.utility == "GAS" and not case.safe),
            ("待签约", moved and not case.signed),
        )
        if lacks
    )


def _reading(case: AccountCase, account: Account) -> Decimal | None:
    return Decimal(case.reading) if case.reading is not None else account.meter if account.smart else None


def _done(tx: Transaction, case: AccountCase) -> Verdict:
    """What was done, again."""
    row = tx.execute(f"SELECT {', '.join(ACCOUNT_ANSWER)} FROM account_answer WHERE transfer = :transfer AND status = 'DONE' ORDER BY n LIMIT 1",
                     {"transfer": case.transfer}).one()  # fmt: skip
    said = dict(zip(ACCOUNT_ANSWER, row or (), strict=True))
    return Verdict(
        status="DONE", account=said["account"], new_account=said["new_account"], arrears=decimal(said["arrears"]),
        stay=boolean(said["arrears_stay"]), reading=decimal(said["meter_reading"]), unit=said["meter_unit"],
        debit_stopped=boolean(said["auto_debit_stopped"]), signed=boolean(said["contract_signed"]), safe=boolean(said["safety_checked"]),
    )  # fmt: skip


def _carry_out(tx: Transaction, case: AccountCase, verdict: Verdict) -> None:
    """The book changes: a new holder, and no automatic debit of the former one. Arrears that stay keep the old account, closed,
    and the new holder begins with another."""
    old = verdict.account
    tx.execute(
        "UPDATE account_case SET done = :new WHERE transfer = :transfer",
        {"transfer": case.transfer, "new": verdict.new_account or ""},
    )
    if verdict.debit_stopped:
        tx.execute("UPDATE account SET auto_debit = 0 WHERE account = :old", {"old": old})
    if verdict.reading is not None:
        tx.execute(
            "UPDATE account SET meter = :meter WHERE account = :old", {"old": old, "meter": str(verdict.reading)}
        )
    if verdict.new_account:
        columns = ", ".join(name for name in ACCOUNT if name not in ("account", "arrears"))
        tx.execute(f"INSERT INTO account (account, arrears, {columns}) SELECT :new, '0.00', {columns} FROM account WHERE account = :old",
                   {"old": old, "new": verdict.new_account})  # fmt: skip
    if case.choice == "CLOSE" or verdict.new_account:
        tx.execute("UPDATE account SET status = 'CLOSED' WHERE account = :old", {"old": old})
    if case.choice == "MOVE":
        tx.execute("UPDATE account SET unit = :unit, holder = coalesce(:party, holder), contract = 1 WHERE account = :account",
                   {"unit": case.subject, "party": case.party, "account": verdict.new_account or old})  # fmt: skip


OPEN = f"INSERT INTO account ({', '.join(ACCOUNT)}) VALUES ({', '.join(f':{name}' for name in ACCOUNT)})"
ACCOUNTS = f"SELECT {', '.join(ACCOUNT)} FROM account"
CASES = f"SELECT {', '.join(ACCOUNT_CASE)} FROM account_case"
ONCE = ("transfer", "received_at")
UPSERT = f"""INSERT INTO account_case ({", ".join(ACCOUNT_CASE)}) VALUES ({", ".join(f":{name}" for name in ACCOUNT_CASE)})
ON CONFLICT (transfer) DO UPDATE SET {", ".join(f"{name} = :{name}" for name in ACCOUNT_CASE if name not in ONCE)}"""
ANSWER = f"INSERT INTO account_answer ({', '.join(ACCOUNT_ANSWER[1:])}) VALUES ({', '.join(f':{name}' for name in ACCOUNT_ANSWER[1:])})"


def _row(found: AccountCase | None, event: Event, now: datetime) -> dict[str, Any]:
    """What clerks did stays, unless another account is named now; a new request is looked at anew."""
    data = event.data
    kept = found if found and found.asked in (None, data["account"]) else None
    return {
        "transfer": data["transfer"], "subject": event.subject, "registration": data["registration"], "utility": data["utility"],
        "step": data["step"], "choice": data["choice"], "basis": data["transfer_basis"], "round": data["round"],
        "asked": data["account"], "matched": kept.matched if kept else None, "unmatched": kept.unmatched if kept else 0,
        "predecessors": " ".join(data["predecessors"]), "party": _sealed(data["to_name"]), "signed": found.signed if found else 0,
        "safe": found.safe if found else 0, "reading": found.reading if found else None, "done": found.done if found else None,
        "refused": None, "request_id": str(event.id), "request_sequence": event.sequence, "received_at": _millis(now),
    }  # fmt: skip


def _answer(case: AccountCase, verdict: Verdict, now: datetime) -> dict[str, Any]:
    return {
        "transfer": case.transfer, "subject": case.subject, "registration": case.registration, "status": verdict.status,
        "round": case.round, "request_id": case.request_id, "request_sequence": case.request_sequence, "at": _millis(now),
        "stamp": _millis(now), "reason": verdict.reason, "account": verdict.account, "new_account": verdict.new_account,
        "arrears": None if verdict.arrears is None else str(verdict.arrears), "arrears_stay": _int(verdict.stay),
        "meter_reading": None if verdict.reading is None else str(verdict.reading), "meter_unit": verdict.unit,
        "auto_debit_stopped": _int(verdict.debit_stopped), "contract_signed": _int(verdict.signed), "safety_checked": _int(verdict.safe),
    }  # fmt: skip


def _received(tx: Transaction, event: Event) -> bool:
    return tx.execute("SELECT 1 FROM account_receipt WHERE event_id = :id", {"id": str(event.id)}).one() is not None


def _case(tx: Transaction, transfer: str) -> AccountCase | None:
    row = tx.execute(f"{CASES} WHERE transfer = :transfer", {"transfer": transfer}).one()
    return AccountCase(*row) if row else None


def _find_account(tx: Transaction, account: str) -> Account | None:
    row = tx.execute(f"{ACCOUNTS} WHERE account = :account", {"account": account}).one()
    return _account(row) if row else None


def _open_accounts(tx: Transaction, unit: str) -> list[str]:
    rows = tx.execute(
        "SELECT account FROM account WHERE unit = :unit AND status = 'OPEN' ORDER BY account", {"unit": unit}
    )
    return [row[0] for row in rows.all()]


def _account(row: Row) -> Account:
    named: dict[str, Any] = dict(zip(ACCOUNT, row, strict=True))
    named |= {name: decimal(named[name]) for name in ("arrears", "meter")}
    named |= {name: bool(named[name]) for name in ("smart", "auto_debit", "contract")}
    named["holder"] = _opened(named["holder"])
    return Account(**named)


def _columns(account: Account) -> dict[str, Any]:
    return {
        "account": account.account, "utility": account.utility, "unit": account.unit, "holder": _sealed(account.holder),
        "status": account.status, "arrears": str(account.arrears), "meter": None if account.meter is None else str(account.meter),
        "meter_unit": account.meter_unit, "smart": int(account.smart), "auto_debit": int(account.auto_debit), "contract": int(account.contract),
    }  # fmt: skip


def _sealed(value: Mapping[str, Any] | None) -> str | None:
    """Sealed as it came: this operator's book holds no name in clear."""
    if value is None:
        return None
    return json.dumps(
        {name: base64.b64encode(part).decode() if isinstance(part, bytes) else part for name, part in value.items()}
    )


def _opened(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    value = json.loads(text)
    return {
        "key": value["key"],
        "nonce": base64.b64decode(value["nonce"]),
        "ciphertext": base64.b64decode(value["ciphertext"]),
    }


def decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def boolean(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _int(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
