"""The service: registrations and answers in, requests to operators out, level-triggered. See `services.transfer.transfers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from jietong.catalog import source_name
from jietong.city import City
from jietong.event import Draft, Event, Fate
from jietong.service import Learned
from jietong.store import Row, Transaction
from services.transfer import transfers
from services.transfer.facts import dumps, loads
from services.transfer.transfers import (
    CLOSE,
    DIVIDED,
    DONE,
    LEVEL,
    MATCHED,
    MOVE,
    NOTHING,
    STOP,
    Facts,
    Heirs,
    Known,
    Link,
    Registration,
    Transfer,
    Want,
    Wanted,
)

REGISTRATION, REQUESTED, ANSWERED = (
    "realestate.registration.progressed.v1",
    "utility.account.transfer.requested.v1",
    "utility.account.transfer.answered.v1",
)
LOCAL = timezone(timedelta(hours=8))
WAKEN = 100
FORMER, NEW = ("from_name",), ("to_name", "to_identity", "to_phone", "to_uscc")
WHERE = ("site_regions", "authority_region", "functional_zone", "historical")
TOLD = (
    "account", "new_account", "arrears", "arrears_stay", "meter_reading", "meter_unit", "read_on", "auto_debit_stopped",
    "contract_signed", "safety_checked", "effective_on", "reason",
)  # fmt: skip
TRANSFER = """INSERT INTO transfer (id, subject, registration, operator, utility, asked, content, said, answer, answered_round, told, opened)
VALUES (:id, :subject, :registration, :operator, :utility, :asked, :content, :said, NULL, 0, '{}', :opened)
ON CONFLICT (id) DO UPDATE SET asked = :asked, content = :content, said = :said"""
LINKED = """INSERT INTO link (subject, operator, account, closed, by_, at) VALUES (:subject, :operator, :account, 0, 'operator', :at)
ON CONFLICT (subject, operator, account) DO UPDATE SET closed = 0"""
TASK = """INSERT INTO task (id, subject, kind, about, detail, since) VALUES (:id, :subject, :kind, :about, :detail, :since)
ON CONFLICT (id) DO UPDATE SET done = NULL"""
WAKE = """INSERT INTO wake (subject, at) SELECT DISTINCT other.subject, CAST(:at AS BIGINT) FROM registration mine
JOIN registration other ON other.source = mine.source AND other.correlation = mine.correlation AND other.subject <> mine.subject
WHERE mine.subject = :subject ON CONFLICT (subject) DO UPDATE SET at = :at"""
"""Every other unit of the same split or merge: what it wants depends on this one."""


class Transfers:
    """See `jietong.service.Service`."""

    name = "transfer"
    types = (REGISTRATION, ANSWERED)

    def __init__(self, city: City) -> None:
        self._city = city
        self._utilities = {operator.id: operator.utility for operator in city.operators.values()}

    def _serving(self, utility: str, regions: Sequence[str], on: date) -> list[str]:
        return [operator.id for operator in self._city.serving(utility, regions, on)]

    # -- learn ---------------------------------------------------------------------------------------------------------
    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:  # noqa: ARG002
        return tx

    def learn(self, tx: Transaction, event: Event) -> Learned:
        """首次登记 has no former accounts: it is not for us."""
        if event.type == ANSWERED:
            self._answer(tx, event)
        elif event.data["registration_kind"] == "FIRST":
            return Fate.FILTERED
        else:
            self._registration(tx, event)
        return Fate.APPLIED

    def _registration(self, tx: Transaction, event: Event) -> None:
        """What an event leaves out takes back nothing that was told before."""
        data = dict(event.data)
        key = {"subject": event.subject, "source": event.source, "registration": data["registration"]}
        before = tx.execute("SELECT data FROM registration WHERE subject = :subject AND source = :source AND registration = :registration",
                            key).one()  # fmt: skip
        told: dict[str, Any] = loads(before[0]) if before else {}
        told |= {name: value for name, value in data.items() if value not in (None, [])}
        columns: dict[str, Any] = {"kind": data["registration_kind"], "status": data["status"], "correlation": told.get("correlation"),
                   "data": dumps(data | told), "at": _millis(event.time)}  # fmt: skip
        tx.execute(
            "INSERT INTO registration (subject, source, registration, kind, status, correlation, data, at) VALUES (:subject, :source, "
            ":registration, :kind, :status, :correlation, :data, :at) ON CONFLICT (subject, source, registration) DO UPDATE SET "
            "kind = :kind, status = :status, correlation = :correlation, data = :data, at = :at",
            {**key, **columns},
        )  # fmt: skip
        tx.execute(WAKE, {"subject": event.subject, "at": _millis(event.recorded)})

    def _answer(self, tx: Transaction, event: Event) -> None:
        """An answer that cannot be is a person's, and is never applied."""
        data, source = event.data, source_name(event.source).removeprefix("utility:")
        found = _load(tx, "id", data["transfer"]).get(data["transfer"])
        if reason := transfers.refusal(found, data, source):
            _task(
                tx,
                event.subject,
                "wrong-answer",
                f"{data['transfer']}/{event.id}",
                f"{source}: {reason}",
                _millis(event.recorded),
            )
            return
        if found is None or found.answer == DONE:
            return  # said again: what was done first was done
        told = {name: data[name] for name in TOLD}
        tx.execute("UPDATE transfer SET answer = :answer, answered_round = :round, told = :told WHERE id = :id",
                   {"answer": data["status"], "round": data["answers_round"], "told": dumps(told), "id": found.id})  # fmt: skip
        found.answer, found.answered_round, found.told = data["status"], data["answers_round"], told
        if data["account"] and data["status"] in MATCHED:
            _remember_account(tx, event.subject, found, _millis(event.recorded))

    # -- due -------------------------------------------------------------------------------------------------------------
    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        """Bring every transfer of a unit to where its registrations want it."""
        woken = tx.execute("DELETE FROM wake WHERE subject = :subject RETURNING at", {"subject": subject}).one()
        told = _Told(tx, subject)
        known = Known(self._utilities, self._serving, told.links, told.decided, told.inherited())
        wants = transfers.wanted(told.registrations, known)
        moment = cause.recorded if cause else _moment(woken[0]) if woken else None
        drafts: list[Draft] = []
        for id in sorted(wants.live.keys() | told.transfers.keys()):
            want = wants.live.get(id)
            transfer = told.transfers.setdefault(
                id, Transfer(id, want.operator if want else "", want.registration.number if want else "")
            )
            drafts += self._brought(tx, told, transfer, want, moment)
        self._level_tasks(tx, told, wants, _millis(moment) if moment else told.at)
        return drafts

    def _brought(
        self, tx: Transaction, told: _Told, transfer: Transfer, want: Want | None, moment: datetime | None
    ) -> Iterator[Draft]:
        said = _said(want) if want else told.said.get(transfer.id, {})
        content = transfers.content(said, want.decided) if want else ""
        if (step := transfers.next_step(transfer, want, content)) is None:
            return
        if step == STOP:
            said = {**said, "step": STOP, "settlement_seen": False, **dict.fromkeys((*FORMER, *NEW))}
            content = transfers.content(said, NOTHING)
        transfer.asked.append((step, str(said["choice"])))
        transfer.content = content
        at = moment or _moment(told.at)
        tx.execute(TRANSFER, _row(told.subject, transfer, said, _millis(at)))
        yield Draft(
            type=REQUESTED, subject=told.subject, time=at, operator=transfer.operator, about=(transfer.id, str(transfer.round)),
            data={**said, "round": transfer.round},
        )  # fmt: skip

    def _level_tasks(self, tx: Transaction, told: _Told, wants: Wanted, now: int) -> None:
        due = transfers.tasks(wants, told.transfers, told.told_of)
        for link in told.ambiguous():
            due["successor", f"{link.operator}/{link.account}"] = (
                "several accounts or units: say which unit this account goes to"
            )
        rows = tx.execute(
            "SELECT id, kind, about FROM task WHERE subject = :subject AND done IS NULL", {"subject": told.subject}
        ).all()
        standing = {(row[1], row[2]): row[0] for row in rows if row[1] in LEVEL}
        for kind, about in sorted(due.keys() - standing.keys()):
            _task(tx, told.subject, kind, about, due[kind, about], now)
        for what in sorted(standing.keys() - due.keys()):
            tx.execute("UPDATE task SET done = :now WHERE id = :id", {"id": standing[what], "now": now})

    # -- remember, subjects ------------------------------------------------------------------------------------------------
    def remember(self, tx: Transaction, event: Event) -> None:
        """One of its own requests, come back from the log; with it what a person had decided of it, where that is lost."""
        if event.type != REQUESTED:
            return
        said = {name: value for name, value in event.data.items() if name != "round"}
        found = _load(tx, "id", said["transfer"]).get(said["transfer"])
        transfer = found or Transfer(said["transfer"], said["operator"], said["registration"])
        if event.data["round"] <= transfer.round:
            return
        transfer.asked.append((said["step"], said["choice"]))
        decided = self._decided(tx, event)
        transfer.content = transfers.content(said, NOTHING if said["step"] == STOP else decided)
        tx.execute(TRANSFER, _row(event.subject, transfer, said, _millis(event.time)))

    def _decided(self, tx: Transaction, event: Event) -> tuple[str | None, int]:
        """What a person decided of it; what was lost with the backup is taken from the request that said it."""
        data = event.data
        kept = tx.execute(
            "SELECT account, settled FROM decision WHERE transfer = :transfer", {"transfer": data["transfer"]}
        ).one()
        if kept is not None:
            return kept[0], kept[1]
        by = {"subject": event.subject, "operator": data["operator"], "account": data["account"]}
        linked = tx.execute(
            "SELECT 1 FROM link WHERE subject = :subject AND operator = :operator AND account = :account", by
        ).one()
        key = transfers.transfer_id(data["registration"], event.subject, data["operator"], data["account"] or "")
        decided = (None if linked or key == data["transfer"] else data["account"], int(data["settlement_seen"]))
        if decided != NOTHING:
            tx.execute("INSERT INTO decision (transfer, account, settled, told, by_, at) VALUES (:transfer, :account, :settled, 0, 'log', :at)",
                       {"transfer": data["transfer"], "account": decided[0], "settled": decided[1], "at": _millis(event.time)})  # fmt: skip
        return decided

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return [
            row[0] for row in tx.execute("SELECT subject FROM registration UNION SELECT subject FROM transfer").all()
        ]

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:  # noqa: ARG002 — nothing here waits for an hour
        """Units that a person or a neighbour moved; `due` takes them off the list."""
        return [
            row[0]
            for row in tx.execute("SELECT subject FROM wake ORDER BY at, subject LIMIT :most", {"most": WAKEN}).all()
        ]


class _Told:
    """Everything known of one unit, read once."""

    def __init__(self, tx: Transaction, subject: str) -> None:
        self.subject, by = subject, {"subject": subject}
        rows = tx.execute(f"{REGISTRATIONS} WHERE subject = :subject", by).all()
        self.registrations = [_registration_of(row) for row in rows]
        self.at = max((row[6] for row in rows), default=0)
        self.transfers = _load(tx, "subject", subject)
        self.said: dict[str, Facts] = {row[0]: loads(row[1]) for row in tx.execute(SAID, by).all()}
        self.links = _links(tx, subject)
        rows = tx.execute("SELECT d.transfer, d.account, d.settled, d.told FROM decision d JOIN transfer t ON t.id = d.transfer "
                          "WHERE t.subject = :subject", by).all()  # fmt: skip
        self.decided: dict[str, tuple[str | None, int]] = {row[0]: (row[1], row[2]) for row in rows}
        self.told_of = {row[0] for row in rows if row[3]}
        divided = [r for r in self.registrations if r.kind in DIVIDED and r.data.get("correlation")]
        self._heirs = [heirs_of(tx, r.source, r.data["correlation"]) for r in divided]

    def inherited(self) -> list[Link]:
        """Accounts of other units that came to this one."""
        return [link for heirs in self._heirs for link, unit in heirs.given.items() if unit == self.subject]

    def ambiguous(self) -> list[Link]:
        """Accounts of this unit of which a person must say where they go."""
        return [link for heirs in self._heirs for link in sorted(heirs.ambiguous) if link.subject == self.subject]


SAID = "SELECT id, said FROM transfer WHERE subject = :subject"
REGISTRATIONS = "SELECT subject, source, registration, kind, status, data, at FROM registration"


def heirs_of(tx: Transaction, source: str, correlation: str) -> Heirs:
    """Where the accounts of one split or merge go, as far as is known."""
    by = {"source": source, "correlation": correlation}
    family = [
        _registration_of(row)
        for row in tx.execute(f"{REGISTRATIONS} WHERE source = :source AND correlation = :correlation", by).all()
    ]
    units = {unit for r in family for unit in (r.subject, *r.data["predecessors"])}
    decided: dict[Link, str | None] = {
        Link(*row[:3]): row[3] or None
        for unit in sorted(units)
        for row in tx.execute(
            "SELECT subject, operator, account, successor FROM heir WHERE subject = :unit", {"unit": unit}
        ).all()
    }
    return transfers.heirs(family, [link for unit in sorted(units) for link in _links(tx, unit)], decided)


def _said(want: Want) -> dict[str, Any]:
    """What is told an operator. Whose account it was, and whose it becomes, only where the applicant chose so; a closed one
    becomes nobody's."""
    registration, told = want.registration, want.registration.data
    names = {"from_name": told.get("owner_name"), **{name: told.get(name) for name in NEW}}
    open_ = (*FORMER, *NEW) if want.choice == MOVE else FORMER if want.choice == CLOSE else ()
    return {
        "transfer": want.id, "registration": registration.number, "operator": want.operator, "utility": want.utility,
        "step": want.step, "choice": want.choice, "transfer_basis": registration.basis, "settlement_seen": want.decided[1] > 0,
        "account": want.account, "address": told.get("address"), "usage": told.get("usage"), "area": told.get("area"),
        "predecessors": list(told["predecessors"]), "correlation": told.get("correlation"),
        **{name: value if name in open_ else None for name, value in names.items()},
        "co_owners": told.get("co_owners"), "shares": told.get("shares"), "registered_on": told.get("registered_on"),
        **{name: told.get(name) for name in WHERE},
    }  # fmt: skip


def _load(tx: Transaction, column: str, value: str) -> dict[str, Transfer]:
    rows = tx.execute(
        f"SELECT id, operator, registration, asked, content, answer, answered_round, told FROM transfer WHERE {column} = :value",
        {"value": value},
    ).all()
    return {
        row[0]: Transfer(
            row[0],
            row[1],
            row[2],
            [(step, choice) for step, choice in loads(row[3])],
            row[4],
            row[5],
            row[6],
            loads(row[7]),
        )
        for row in rows
    }


def _row(subject: str, transfer: Transfer, said: Facts, now: int) -> dict[str, Any]:
    return {"id": transfer.id, "subject": subject, "registration": transfer.registration, "operator": transfer.operator,
            "utility": said["utility"], "asked": dumps(transfer.asked), "content": transfer.content, "said": dumps(said),
            "opened": now}  # fmt: skip


def _registration_of(row: Row) -> Registration:
    data = loads(row[5])
    on = data.get("registered_on") or _moment(row[6]).astimezone(LOCAL).date()
    return Registration(row[0], row[1], row[2], row[3], row[4], data, on)


def _links(tx: Transaction, subject: str) -> list[Link]:
    rows = tx.execute(
        "SELECT subject, operator, account FROM link WHERE subject = :subject AND closed = 0 ORDER BY operator, account",
        {"subject": subject},
    )
    return [Link(*row) for row in rows.all()]


def _remember_account(tx: Transaction, subject: str, transfer: Transfer, now: int) -> None:
    """户号与单元的对应: the account that supplies the unit now. What is closed, or replaced by another, no longer does."""
    told, by = transfer.told, {"subject": subject, "operator": transfer.operator, "at": now}
    tx.execute(LINKED, {**by, "account": told["new_account"] or told["account"]})
    replaced = told["new_account"] not in (None, told["account"])
    if transfer.answer == DONE and (transfer.done == CLOSE or replaced):
        tx.execute("UPDATE link SET closed = 1 WHERE subject = :subject AND operator = :operator AND account = :account",
                   {**by, "account": told["account"]})  # fmt: skip
    tx.execute(WAKE, {"subject": subject, "at": now})


def _task(tx: Transaction, subject: str, kind: str, about: str, detail: str, now: int) -> None:
    id = str(uuid5(NAMESPACE_URL, "\x1f".join((subject, kind, about))))
    tx.execute(TASK, {"id": id, "subject": subject, "kind": kind, "about": about, "detail": detail, "since": now})


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
