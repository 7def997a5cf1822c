"""The registry's window (登记窗口): transfers (转移登记), splits and merges (分割、合并), the applicants' choice of accounts, and what
comes back of them while the parties are still there.

It joined fully: each command is one transaction that holds the state, the record of handling and its events. Names and
identity numbers are sealed as they are taken in: nothing personal lies here in clear.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from connectors.realestate.platform import CITY_TIME, REGISTERED, Publishes, Unit, done, handled, millis, next_number
from connectors.realestate.tables import RESULT
from jietong.catalog import source_name
from jietong.errors import UsageError
from jietong.event import Draft, Event
from jietong.identifiers import UnitCode
from jietong.keys import Keys
from jietong.store import Store, Transaction

TRANSFER_REQUESTED, TRANSFER_ANSWERED = "utility.account.transfer.requested.v1", "utility.account.transfer.answered.v1"
PURPOSE = "transfer"
UTILITIES = ("供水", "供电", "供气", "通信", "有线电视")

Basis = Literal["SALE", "EXCHANGE", "GIFT", "INHERITANCE", "COURT_SALE", "DIVISION", "OTHER"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the applicant chose for one account: `choice` MOVE, CLOSE or LEAVE; a broadband account is moved or closed."""

    utility: str
    choice: str
    account: str | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """The new owner (转入人), one of them if they are several (共有): a person by identity number, or an organisation by its credit
    code. `shares`: such as 1/2 1/2, None if owned jointly or alone."""

    name: str
    identity: str | None = None
    phone: str | None = None
    uscc: str | None = None
    co_owners: int | None = None
    shares: str | None = None


class Result(NamedTuple):
    """One account of an application as the counter sees it. `status` is PENDING (not yet) until its operator has answered what
    was asked last."""

    transfer: str
    unit: str
    operator: str
    utility: str
    step: str
    choice: str
    status: str
    account: str | None
    new_account: str | None
    arrears: Decimal | None
    arrears_stay: bool
    reason: str | None


class Window:
    """Commands take `now` (aware). Raises UsageError if what it is about is not there or its state forbids it. Without `keys` no
    name is told to anyone."""

    def __init__(self, store: Store, outbox: Publishes, keys: Keys | None = None) -> None:
        self.store, self.outbox, self.keys = store, outbox, keys

    # -- what people do ------------------------------------------------------------------------------------------------
    def accept(
        self,
        unit: str,
        to: Party,
        accounts: Sequence[Choice] = (),
        *,
        basis: Basis = "SALE",
        now: datetime,
        command: str | None = None,
    ) -> str:
        """受理 a transfer of a unit; its number. What the operators know of the unit comes back to `results` in seconds."""
        with self.store.transaction() as tx:
            if found := done(tx, command):
                return found
            concerned = [(_unit(tx, unit), "OF", unit)]
            registration = _accept(tx, ("TRANSFER", basis), concerned, self._sealed(to), now, command)
            tx.execute(
                "UPDATE concerned SET accounts = :accounts WHERE registration = :r",
                {"accounts": _choices(accounts), "r": registration},
            )
            self._say(tx, registration, now)
        return registration

    def divide(self, before: Sequence[str], after: Sequence[Unit], *, now: datetime, command: str | None = None) -> str:
        """受理 a split of one unit (分割) or a merge into one (合并); its number, which is also its correlation. The new units are
        numbered in the building of the first."""
        if not before or not after or min(len(before), len(after)) != 1:
            raise UsageError("one unit is split into several, or several are merged into one")
        with self.store.transaction() as tx:
            if found := done(tx, command):
                return found
            concerned = [(_unit(tx, unit), "BEFORE", unit) for unit in before]
            made = [(unit, "AFTER", _coded(tx, before[0], unit)) for unit in after]
            kind = "SPLIT" if len(before) == 1 else "MERGE"
            registration = _accept(tx, (kind, None), [*concerned, *made], {}, now, command)
            self._say(tx, registration, now)
        return registration

    def choose(
        self,
        registration: str,
        accounts: Sequence[Choice],
        *,
        unit: str | None = None,
        now: datetime,
        command: str | None = None,
    ) -> None:
        """The applicant's choice, once the pre-check is seen; of a split or merge, for one of its units."""
        with self.store.transaction() as tx:
            if done(tx, command):
                return
            _expect(tx, registration)
            handled(tx, registration, "CHOSEN", now, command)
            changed = tx.execute("UPDATE concerned SET accounts = :accounts WHERE registration = :r AND (:unit = '' OR unit = :unit)",
                                 {"accounts": _choices(accounts), "r": registration, "unit": unit or ""}).rowcount  # fmt: skip
            if not changed:
                raise UsageError(f"registration {registration}: is not about that unit")
            self._say(tx, registration, now)

    def register(self, registration: str, *, now: datetime, command: str | None = None) -> None:
        """登簿: the entry in the register."""
        self._become(registration, "REGISTERED", now, command)

    def withdraw(self, registration: str, *, now: datetime, command: str | None = None) -> None:
        """撤回申请."""
        self._become(registration, "WITHDRAWN", now, command)

    def _become(self, registration: str, status: str, now: datetime, command: str | None) -> None:
        with self.store.transaction() as tx:
            if done(tx, command):
                return
            _expect(tx, registration)
            tx.execute(
                "UPDATE application SET status = :status WHERE registration = :r", {"status": status, "r": registration}
            )
            handled(tx, registration, status, now, command)
            self._say(tx, registration, now)
            if status == "REGISTERED":
                _enter(tx, registration, now)

    def applications(self, *statuses: str) -> list[tuple[str, str]]:
        """(number, kind) of those in these statuses (none given: of all), oldest first."""
        with self.store.snapshot() as tx:
            rows = tx.execute(
                "SELECT registration, kind, status FROM application ORDER BY accepted_at, registration"
            ).all()
        return [(row[0], row[1]) for row in rows if not statuses or row[2] in statuses]

    def results(self, registration: str) -> list[Result]:
        """What the parties are told of each account."""
        with self.store.snapshot() as tx:
            rows = tx.execute(f"SELECT {', '.join(RESULT)} FROM result WHERE registration = :r AND step IS NOT NULL "
                              "ORDER BY unit, utility, operator, transfer", {"r": registration}).all()  # fmt: skip
        return [_result(dict(zip(RESULT, row, strict=True))) for row in rows]

    # -- what comes back -----------------------------------------------------------------------------------------------
    def take(self, event: Event) -> None:
        """What was asked of an operator, and its answer: once or many times, the same effect. Of a registration that is not ours
        nothing is kept."""
        data = event.data
        with self.store.transaction() as tx:
            mine = tx.execute("SELECT 1 FROM application WHERE registration = :r", {"r": data["registration"]}).one()
            if mine is None or self._taken(tx, event):
                return
            row = dict.fromkeys(RESULT) | {"round": 0, "answered_round": 0, "sequence": 0, "unit": event.subject}
            row |= {name: data[name] for name in ("transfer", "registration", "operator")}
            tx.execute(NEW_RESULT, row)
            if event.type == TRANSFER_REQUESTED:
                tx.execute("UPDATE result SET utility = :utility, step = :step, choice = :choice, round = :round WHERE transfer = :transfer",
                           {name: data[name] for name in ("transfer", "utility", "step", "choice", "round")})  # fmt: skip
            else:
                tx.execute(ANSWERED, _answered(event))

    def taken(self, event: Event) -> bool:
        with self.store.snapshot() as tx:
            return self._taken(tx, event)

    def _taken(self, tx: Transaction, event: Event) -> bool:
        """Also what cannot hold: another's answer, and one after what was final. What is done stays done."""
        data, sql = (
            event.data,
            "SELECT round, sequence, status, answered_round, operator FROM result WHERE transfer = :t",
        )
        if event.type == TRANSFER_ANSWERED and source_name(event.source) != f"utility:{data['operator']}":
            return True
        if (row := tx.execute(sql, {"t": data["transfer"]}).one()) is None:
            return False
        if event.type == TRANSFER_REQUESTED:
            return row[0] >= data["round"]
        final = row[2] == "DONE" or (row[2] in ("DECLINED", "STOPPED") and row[3] >= data["answers_round"])
        return final or row[1] >= event.sequence or row[4] != data["operator"]

    # -- acting by itself ----------------------------------------------------------------------------------------------
    def act(self, chance: random.Random, *, now: datetime) -> str | None:
        """A clerk's next deed (seeded): something that was accepted is chosen for and entered, or withdrawn, else a new one comes
        in; its number. None: no unit is in the register."""
        open_ = [number for number, kind in self.applications("ACCEPTED") if kind == "TRANSFER"]
        if not open_ or chance.random() < 0.4:
            return self._arrive(chance, now)
        number = chance.choice(open_)
        if chance.random() < 0.1:
            self.withdraw(number, now=now)
        else:
            found = [result for result in self.results(number) if result.account]
            choices = [
                Choice(r.utility, chance.choice(("MOVE", "MOVE", "CLOSE", "LEAVE")), r.account, r.operator)
                for r in found
            ]
            self.choose(number, choices or [Choice(chance.choice(UTILITIES), "MOVE")], now=now)
            self.register(number, now=now)
        return number

    def _arrive(self, chance: random.Random, now: datetime) -> str | None:
        with self.store.snapshot() as tx:
            rows = tx.execute("SELECT code FROM unit WHERE code NOT IN (SELECT unit FROM ended) ORDER BY code").all()
        if not rows:
            return None
        n = chance.randrange(10**6)
        to = Party(name=f"买受人{n}", identity=f"ID{n:06}", co_owners=chance.choice((None, 1, 2)))
        basis: Basis = chance.choice(("SALE", "SALE", "SALE", "GIFT", "INHERITANCE", "COURT_SALE"))
        return self.accept(chance.choice(rows)[0], to, basis=basis, now=now)

    # -- what is said --------------------------------------------------------------------------------------------------
    def _say(self, tx: Transaction, registration: str, now: datetime) -> None:
        """One event per unit it is about, with one correlation if they are several."""
        kind, status, basis, party = tx.execute("SELECT kind, status, basis, party FROM application WHERE registration = :r",
                                                {"r": registration}).all()[0]  # fmt: skip
        rows = tx.execute(
            "SELECT unit, role, usage, area, accounts FROM concerned WHERE registration = :r ORDER BY unit",
            {"r": registration},
        ).all()
        before, after = ([row[0] for row in rows if row[1] == role] for role in ("BEFORE", "AFTER"))
        project = _project(tx, registration)
        told = {name: _opened(value) for name, value in json.loads(party).items()}
        for unit, role, usage, area, accounts in rows:
            data = {
                "registration": registration, "registration_kind": kind, "status": status, "transfer_basis": basis,
                "project_code": project, "predecessors": before if role == "AFTER" else [],
                "successors": after if role == "BEFORE" else [], "correlation": registration if before else None,
                "accounts": json.loads(accounts), "usage": usage, "area": Decimal(area), "owner_name": _owner(tx, unit),
                "registered_on": now.astimezone(CITY_TIME).date() if status == "REGISTERED" else None, "address": None,
                **{name: told.get(name) for name in ("to_name", "to_identity", "to_phone", "to_uscc", "co_owners", "shares")},
                "site_regions": [unit[:6]], "authority_region": unit[:6], "functional_zone": None, "item_code": None, "historical": False,
            }  # fmt: skip
            self.outbox.add(tx, Draft(type=REGISTERED, subject=unit, time=now, data=data))

    def _sealed(self, to: Party) -> dict[str, Any]:
        """Sealed once, when it is taken in."""
        open_: dict[str, Any] = {"to_uscc": to.uscc, "co_owners": to.co_owners, "shares": to.shares}
        if self.keys is None:
            return open_
        person = to.identity or to.uscc or to.name
        named = {"to_name": to.name, "to_identity": to.identity, "to_phone": to.phone}
        return open_ | {name: _kept(self.keys.seal(person, PURPOSE, text)) for name, text in named.items() if text}


class ResultSink:
    """What operators are asked and answer goes back to the registry. See `jietong.platform.Sink`."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def deliver(self, event: Event) -> None:
        self.window.take(event)

    def delivered(self, event: Event) -> bool:
        return self.window.taken(event)


NEW_RESULT = f"""INSERT INTO result ({", ".join(RESULT)}) VALUES ({", ".join(f":{name}" for name in RESULT)})
ON CONFLICT (transfer) DO NOTHING"""
ANSWERED = """UPDATE result SET status = :status, answered_round = :round, sequence = :sequence, account = coalesce(:account, account),
new_account = :new_account, arrears = :arrears, arrears_stay = :stay, reason = :reason WHERE transfer = :transfer"""


def _answered(event: Event) -> dict[str, Any]:
    data = event.data
    copied = {name: data[name] for name in ("transfer", "status", "account", "new_account", "reason")}
    return {**copied, "round": data["answers_round"], "sequence": event.sequence, "stay": int(bool(data["arrears_stay"])),
            "arrears": None if data["arrears"] is None else str(data["arrears"])}  # fmt: skip


def _result(row: Mapping[str, Any]) -> Result:
    current = row["answered_round"] == row["round"] or row["status"] == "DONE"
    return Result(
        row["transfer"], row["unit"], row["operator"], row["utility"], row["step"], row["choice"], row["status"] if current else "PENDING",
        row["account"], row["new_account"], None if row["arrears"] is None else Decimal(row["arrears"]), bool(row["arrears_stay"]), row["reason"],
    )  # fmt: skip


def _accept(
    tx: Transaction, what: tuple[str, str | None], units: Iterable[tuple[Unit, str, str]], party: Mapping[str, Any], now: datetime,
    command: str | None,
) -> str:  # fmt: skip
    """`what`: kind and basis; `units`: each with its part in it and its code."""
    registration = next_number(tx, f"{now.astimezone(CITY_TIME):%Y%m%d}-", "")
    handled(tx, registration, "ACCEPTED", now, command)
    tx.execute("INSERT INTO application (registration, kind, status, basis, party, accepted_at) "
               "VALUES (:r, :kind, 'ACCEPTED', :basis, :party, :at)",
               {"r": registration, "kind": what[0], "basis": what[1], "party": json.dumps(party), "at": millis(now)})  # fmt: skip
    for unit, role, code in units:
        tx.execute("INSERT INTO concerned (registration, unit, role, usage, area, accounts) VALUES (:r, :unit, :role, :usage, :area, '[]')",
                   {"r": registration, "unit": code, "role": role, "usage": unit.usage, "area": str(unit.area)})  # fmt: skip
    return registration


def _expect(tx: Transaction, registration: str) -> None:
    row = tx.execute("SELECT status FROM application WHERE registration = :r", {"r": registration}).one()
    if row is None:
        raise UsageError(f"registration {registration}: not accepted here")
    if row[0] != "ACCEPTED":
        raise UsageError(f"registration {registration}: is {row[0]}; nothing more may be done on it")


def _unit(tx: Transaction, code: str) -> Unit:
    row = tx.execute(
        "SELECT usage, area FROM unit WHERE code = :code AND code NOT IN (SELECT unit FROM ended)", {"code": code}
    ).one()
    if row is None:
        raise UsageError(f"unit {code}: is not in the register, or was divided or merged away")
    return Unit(int(code[-4:]), row[0], Decimal(row[1]))


def _coded(tx: Transaction, beside: str, unit: Unit) -> UnitCode:
    """The code of a new unit in the building of another."""
    code = UnitCode.make(
        county=beside[:6],
        district=beside[6:12],
        parcel=int(beside[14:19]),
        building=int(beside[20:24]),
        unit=unit.number,
    )
    if tx.execute("SELECT 1 FROM unit WHERE code = :code", {"code": code}).one():
        raise UsageError(f"unit {code}: is in the register already")
    return code


def _enter(tx: Transaction, registration: str, now: datetime) -> None:
    """The register itself: new units, those they were made from ended, the new owner."""
    by = {"r": registration, "at": millis(now)}
    tx.execute("INSERT INTO unit (code, project_code, registration, usage, area, registered_at) SELECT unit, :project, registration, usage, area, "
               ":at FROM concerned WHERE registration = :r AND role = 'AFTER'", {**by, "project": _project(tx, registration)})  # fmt: skip
    tx.execute(
        "INSERT INTO ended (unit, registration) SELECT unit, registration FROM concerned WHERE registration = :r AND role = 'BEFORE'",
        by,
    )
    party = json.loads(tx.execute("SELECT party FROM application WHERE registration = :r", by).all()[0][0])
    if name := party.get("to_name"):
        tx.execute("INSERT INTO owner (unit, name, registration) SELECT unit, :name, registration FROM concerned WHERE registration = :r "
                   "AND role = 'OF' ON CONFLICT (unit) DO UPDATE SET name = :name, registration = :r", {**by, "name": json.dumps(name)})  # fmt: skip


def _project(tx: Transaction, registration: str) -> str | None:
    """The project that built the units it is about."""
    return tx.execute("SELECT min(u.project_code) FROM unit u JOIN concerned c ON c.unit = u.code WHERE c.registration = :r",
                      {"r": registration}).all()[0][0]  # fmt: skip


def _owner(tx: Transaction, unit: str) -> Any:
    row = tx.execute("SELECT name FROM owner WHERE unit = :unit", {"unit": unit}).one()
    return _opened(json.loads(row[0])) if row and row[0] else None


def _choices(accounts: Sequence[Choice]) -> str:
    return json.dumps([asdict(choice) for choice in accounts], ensure_ascii=False)


def _kept(sealed: Mapping[str, Any]) -> dict[str, str]:
    return {"key": sealed["key"], **{name: base64.b64encode(sealed[name]).decode() for name in ("nonce", "ciphertext")}}


def _opened(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    sealed: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType] — of JSON
    return {"key": sealed["key"], **{name: base64.b64decode(sealed[name]) for name in ("nonce", "ciphertext")}}
