"""The stand-in real-estate platform: pre-sale licences (商品房预售许可证) and first registrations (首次登记).

It joined fully: each command is one transaction that holds the state, the record of handling and its events. It knows
developers only, which are firms: nothing personal is in these events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from connectors.realestate.tables import LICENCE
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.identifiers import ProjectCode, UnitCode
from jietong.store import Store, Transaction

CHANGED = "licensing.licence.changed.v1"
REGISTERED = "realestate.registration.progressed.v1"
PRESALE = "商品房预售许可证"
CITY_TIME = ZoneInfo("Asia/Shanghai")

Ending = Literal["WITHDRAWN", "REVOKED", "DEREGISTERED", "PENALTY_REVOKED", "CANCELLED", "LAPSED"]
Change = Literal["EXTENDED", "SUSPENDED", "RESUMED"]
FOLLOWS: dict[str, tuple[str, ...]] = {
    "EXTENDED": ("ISSUED", "EXTENDED", "RESUMED"),
    "SUSPENDED": ("ISSUED", "EXTENDED", "RESUMED"),
    "RESUMED": ("SUSPENDED",),
}
IN_FORCE = ("ISSUED", "EXTENDED", "SUSPENDED", "RESUMED")
"""What an ending may follow."""


class Publishes(Protocol):
    """The outbox."""

    def add(self, tx: Transaction, /, *drafts: Draft) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Presale:
    """An application for a pre-sale licence: `units` dwellings of the buildings in `scope`."""

    project_code: ProjectCode
    holder_uscc: str
    holder_name: str
    scope: str
    units: int
    authority_region: str
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit (户) of a building; area in m²."""

    number: int
    usage: str
    area: Decimal


class Platform:
    """Every command takes `now` (aware) and may carry an idempotency key `command`: repeated, it does nothing and
    answers as it did. Raises UsageError if what it is about is not there or its state forbids it."""

    def __init__(self, store: Store, outbox: Publishes) -> None:
        self.store, self.outbox = store, outbox

    def issue(self, asked: Presale, *, now: datetime, command: str | None = None) -> str:
        """Grant a pre-sale licence; its number."""
        with self.store.transaction() as tx:
            if found := done(tx, command):
                return found
            day = now.astimezone(CITY_TIME).date()
            row: dict[str, Any] = {
                "licence": next_number(tx, f"江房预许字（{day.year}）第", "号"), "project_code": asked.project_code,
                "status": "ISSUED", "holder_uscc": asked.holder_uscc, "holder_name": asked.holder_name,
                "scope": asked.scope, "units": asked.units, "issued_on": day.isoformat(),
                "valid_until": asked.valid_until and asked.valid_until.isoformat(),
                "authority_region": asked.authority_region,
            }  # fmt: skip
            tx.execute(INSERT_LICENCE, row)
            self._changed(tx, row, now, command)
        return row["licence"]

    def change(
        self,
        licence: str,
        status: Change | Ending,
        *,
        now: datetime,
        valid_until: date | None = None,
        command: str | None = None,
    ) -> None:
        """Extend (with the new `valid_until`), suspend or resume a licence, or end it."""
        with self.store.transaction() as tx:
            if done(tx, command):
                return
            row = _licence(tx, licence)
            if row["status"] not in FOLLOWS.get(status, IN_FORCE):
                raise UsageError(f"licence {licence}: is {row['status']}; it cannot become {status}")
            if status == "EXTENDED" and valid_until is None:
                raise UsageError(f"licence {licence}: an extension needs its new last day")
            row["status"] = status
            row["valid_until"] = valid_until.isoformat() if valid_until else row["valid_until"]
            tx.execute("UPDATE licence SET status = :status, valid_until = :valid_until WHERE licence = :licence", row)
            self._changed(tx, row, now, command)

    def register_first(
        self,
        project: ProjectCode,
        county: str,
        building: int,
        units: Sequence[Unit],
        *,
        now: datetime,
        command: str | None = None,
    ) -> list[UnitCode]:
        """Enter a finished building's units in the register (登簿), under one registration number; their codes."""
        with self.store.transaction() as tx:
            if found := done(tx, command):
                return _registered(tx, found)
            parcel, day = _parcel(tx, project, county), now.astimezone(CITY_TIME).date()
            registration = next_number(tx, f"{day:%Y%m%d}-", "")
            handled(tx, registration, "REGISTERED", now, command)
            entries: dict[UnitCode, Unit] = {}
            for unit in sorted(units, key=lambda unit: unit.number):
                code = UnitCode.make(county=county, parcel=parcel, building=building, unit=unit.number)
                _enter(tx, code, unit, project, registration, now)
                entries[code] = unit
            self.outbox.add(tx, *(_first(c, u, project, county, registration, now) for c, u in entries.items()))
        return list(entries)

    def _changed(self, tx: Transaction, row: dict[str, Any], now: datetime, command: str | None) -> None:
        handled(tx, row["licence"], row["status"], now, command)
        data = {
            "licence": row["licence"], "licence_id": None, "licence_kind": PRESALE, "status": row["status"],
            "supersedes_licence_id": None, "holder_uscc": row["holder_uscc"], "holder_name": row["holder_name"],
            "project_code": row["project_code"], "issued_on": date.fromisoformat(row["issued_on"]),
            "valid_from": date.fromisoformat(row["issued_on"]),
            "valid_until": date.fromisoformat(row["valid_until"]) if row["valid_until"] else None,
            "scope": row["scope"], "units": row["units"], **_where(row["authority_region"]),
        }  # fmt: skip
        self.outbox.add(tx, Draft(type=CHANGED, subject=row["project_code"], time=now, data=data))


INSERT_LICENCE = f"INSERT INTO licence ({', '.join(LICENCE)}) VALUES ({', '.join(f':{name}' for name in LICENCE)})"
INSERT_UNIT = """INSERT INTO unit (code, project_code, registration, usage, area, registered_at)
VALUES (:code, :project, :registration, :usage, :area, :at)"""


def _enter(tx: Transaction, code: UnitCode, unit: Unit, project: str, registration: str, now: datetime) -> None:
    if tx.execute("SELECT 1 FROM unit WHERE code = :code", {"code": code}).one():
        raise UsageError(f"unit {code}: is in the register already")
    tx.execute(INSERT_UNIT, {"code": code, "project": project, "registration": registration, "usage": unit.usage,
                             "area": str(unit.area), "at": millis(now)})  # fmt: skip


def _first(code: UnitCode, unit: Unit, project: str, county: str, registration: str, now: datetime) -> Draft:
    data: dict[str, Any] = {
        "registration": registration, "registration_kind": "FIRST", "status": "REGISTERED", "project_code": project,
        "predecessors": [], "successors": [], "correlation": None, "accounts": [], "usage": unit.usage,
        "area": unit.area, "owner_name": None, "registered_on": now.astimezone(CITY_TIME).date(), **_where(county),
    }  # fmt: skip
    return Draft(type=REGISTERED, subject=code, time=now, data=data)


def _where(region: str) -> dict[str, Any]:
    return {"site_regions": [region], "authority_region": region, "functional_zone": None, "item_code": None,
            "historical": False}  # fmt: skip


def done(tx: Transaction, command: str | None) -> str | None:
    """The licence or registration that this command was carried out on, if it was."""
    if command is None:
        return None
    row = tx.execute("SELECT about FROM handling WHERE command = :command", {"command": command}).one()
    return row[0] if row else None


def handled(tx: Transaction, about: str, status: str, now: datetime, command: str | None) -> None:
    tx.execute("INSERT INTO handling (about, status, at, command) VALUES (:about, :status, :at, :command)",
               {"about": about, "status": status, "at": millis(now), "command": command})  # fmt: skip


def next_number(tx: Transaction, before: str, after: str) -> str:
    """Numbers run within what stands before them: the year of licences, the day of registrations."""
    sql = "SELECT count(DISTINCT about) FROM handling WHERE about LIKE :before"
    (taken,) = tx.execute(sql, {"before": f"{before}%"}).all()[0]
    return f"{before}{taken + 1:05}{after}"


def _licence(tx: Transaction, number: str) -> dict[str, Any]:
    row = tx.execute(f"SELECT {', '.join(LICENCE)} FROM licence WHERE licence = :number", {"number": number}).one()
    if row is None:
        raise UsageError(f"licence {number}: not issued here")
    return dict(zip(LICENCE, row, strict=True))


def _parcel(tx: Transaction, project: str, county: str) -> int:
    """The project's parcel number in the county; its first building brings the land into the register."""
    sql = "SELECT number FROM parcel WHERE project_code = :project"
    if found := tx.execute(sql, {"project": project}).one():
        return found[0]
    (last,) = tx.execute("SELECT coalesce(max(number), 0) FROM parcel WHERE county = :c", {"c": county}).all()[0]
    tx.execute("INSERT INTO parcel (project_code, county, number) VALUES (:project, :county, :number)",
               {"project": project, "county": county, "number": last + 1})  # fmt: skip
    return last + 1


def _registered(tx: Transaction, registration: str) -> list[UnitCode]:
    rows = tx.execute("SELECT code FROM unit WHERE registration = :r ORDER BY code", {"r": registration}).all()
    return [UnitCode(row[0]) for row in rows]


def millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
