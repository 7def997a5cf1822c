"""The stand-in investment platform (投资项目在线审批监管平台): registers, decides, changes and cancels projects.

It joined fully: each command is one transaction that holds the state, the record of handling and the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from connectors.investment.tables import COLUMNS, DAYS, DECIMALS, FACTS, named
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.identifiers import ProjectCode
from jietong.store import Store, Transaction

REGISTERED = "investment.project.registered.v1"
PURPOSE = "hookup"
"""Why a contact may be called: the utility calls the company first."""
CITY_TIME = ZoneInfo("Asia/Shanghai")
Form = Literal["EXAMINED", "VERIFIED", "FILED"]
"""审批 (government investment), 核准 (listed in the catalogue), 备案 (all other)."""


class Publishes(Protocol):
    """The outbox."""

    def add(self, tx: Transaction, /, *drafts: Draft) -> Any: ...


class Seals(Protocol):
    """The keys of personal fields."""

    def seal(self, person: str, purpose: str, text: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """申报: what the company tells of its project. Units as in the schema's ProjectFacts; None is not known.

    The contact leaves the platform, sealed, only if `contact_consent` was given.
    """

    name: str
    site_regions: tuple[str, ...]
    authority_region: str
    applicant_uscc: str | None = None
    applicant_name: str | None = None
    kind: str | None = None
    address: str | None = None
    longitude: Decimal | None = None
    latitude: Decimal | None = None
    total_investment: Decimal | None = None
    land_area: Decimal | None = None
    floor_area: Decimal | None = None
    planned_start: date | None = None
    planned_finish: date | None = None
    buildings: int | None = None
    households: int | None = None
    height: Decimal | None = None
    floors: int | None = None
    content: str | None = None
    contact_name: str | None = None
    contact_phone: str | None = None
    contact_consent: bool = False
    functional_zone: str | None = None


WHERE = ("site_regions", "authority_region", "functional_zone")
CONTACT = ("contact_name", "contact_phone", "contact_consent")
PROJECT = tuple(f.name for f in fields(Application) if f.name not in WHERE + CONTACT)


@dataclass(frozen=True, slots=True)
class _Project:
    code: str
    status: str
    decision_form: str
    document_number: str | None
    told: Application


class Platform:
    """Every command takes `now` (aware) and may carry an idempotency key `command`: repeated, it does nothing and
    answers as it did. Raises UsageError if the project is not there or its state forbids it."""

    def __init__(self, store: Store, outbox: Publishes, keys: Seals) -> None:
        self.store, self.outbox, self.keys = store, outbox, keys

    def register(self, told: Application, *, now: datetime, command: str | None = None) -> ProjectCode:
        """赋码: the project gets its code, of the month (in the city) and the region of the authority."""
        with self.store.transaction() as tx:
            if done := _done(tx, command):
                return ProjectCode(done)
            code = _next_code(tx, told.authority_region, now)
            self._put(tx, _Project(code, "REGISTERED", "UNDECIDED", None, told), "REGISTERED", now, command)
        return code

    def decide(self, code: str, form: Form, document: str, *, now: datetime, command: str | None = None) -> None:
        """立项: examined, verified or filed, once."""
        with self.store.transaction() as tx:
            if _done(tx, command):
                return
            project = _open(tx, code)
            if project.status == "DECIDED":
                raise UsageError(f"project {code}: is decided already; change it instead")
            decided = replace(project, status="DECIDED", decision_form=form, document_number=document)
            self._put(tx, decided, "DECIDED", now, command)

    def change(self, code: str, changes: Mapping[str, Any], *, now: datetime, command: str | None = None) -> None:
        """变更: other facts of a project that stays what it is, by the names of `Application`."""
        if unknown := sorted(set(changes) - set(FACTS)):
            raise UsageError(f"project {code}: {', '.join(unknown)}: no such fact in an application")
        with self.store.transaction() as tx:
            if _done(tx, command):
                return
            project = _open(tx, code)
            changed = replace(project, told=replace(project.told, **changes))
            if changed != project:
                self._put(tx, changed, "CHANGED", now, command)

    def cancel(self, code: str, *, now: datetime, command: str | None = None) -> None:
        """撤销: the project is given up. Final."""
        with self.store.transaction() as tx:
            if not _done(tx, command):
                self._put(tx, replace(_open(tx, code), status="CANCELLED"), "CANCELLED", now, command)

    def _put(self, tx: Transaction, project: _Project, status: str, now: datetime, command: str | None) -> None:
        at = round(now.timestamp() * 1000)
        row = {name: _plain(value) for name, value in asdict(project.told).items()}
        row |= {"code": project.code, "status": project.status, "at": at, "decision_form": project.decision_form,
                "document_number": project.document_number}  # fmt: skip
        tx.execute(UPSERT, row)
        tx.execute("INSERT INTO handling (code, status, at, command) VALUES (:code, :status, :at, :command)",
                   {"code": project.code, "status": status, "at": at, "command": command})  # fmt: skip
        data = {"status": status, "decision_form": project.decision_form, "document_number": project.document_number,
                "project": self._facts(project.told), "site_regions": list(project.told.site_regions),
                "authority_region": project.told.authority_region, "functional_zone": project.told.functional_zone,
                "item_code": None, "historical": False}  # fmt: skip
        self.outbox.add(tx, Draft(type=REGISTERED, subject=project.code, time=now, data=data))

    def _facts(self, told: Application) -> dict[str, Any]:
        facts: dict[str, Any] = {name: getattr(told, name) for name in PROJECT}
        for name in ("contact_name", "contact_phone"):
            text = getattr(told, name) if told.contact_consent else None
            facts[name] = self.keys.seal(_person(told), PURPOSE, text) if text else None
        return facts


UPSERT = f"""INSERT INTO project ({", ".join(COLUMNS)}, registered_at, changed_at)
VALUES ({", ".join(f":{name}" for name in COLUMNS)}, :at, :at)
ON CONFLICT (code) DO UPDATE SET {", ".join(f"{name} = :{name}" for name in COLUMNS[1:])}, changed_at = :at"""


def _person(told: Application) -> str:
    """Whom a key is for: this contact of this company."""
    return f"{told.applicant_uscc}/{told.contact_name}/{told.contact_phone}"


def _done(tx: Transaction, command: str | None) -> str | None:
    """The project that this command was carried out on, if it was."""
    if command is None:
        return None
    row = tx.execute("SELECT code FROM handling WHERE command = :command", {"command": command}).one()
    return row[0] if row else None


def _next_code(tx: Transaction, region: str, now: datetime) -> ProjectCode:
    month = now.astimezone(CITY_TIME).date()
    begins = f"{month:%y%m}-{region}-"
    (taken,) = tx.execute("SELECT count(*) FROM project WHERE code LIKE :begins", {"begins": f"{begins}%"}).all()[0]
    return ProjectCode.make(month=month, region=region, serial=taken + 1)


def _open(tx: Transaction, code: str) -> _Project:
    row = tx.execute(f"SELECT {', '.join(COLUMNS)} FROM project WHERE code = :code", {"code": code}).one()
    if row is None:
        raise UsageError(f"project {code}: not registered here")
    found = named(row)
    if found["status"] == "CANCELLED":
        raise UsageError(f"project {code}: is cancelled; nothing can be done with it any more")
    told = Application(**{name: _meant(name, found[name]) for name in FACTS})
    return _Project(row[0], row[1], row[2], row[3], told)


def _plain(value: Any) -> Any:
    """As a column holds it."""
    match value:
        case Decimal():
            return str(value)
        case date():
            return value.isoformat()
        case tuple():
            return " ".join(value)  # pyright: ignore[reportUnknownArgumentType]
        case bool():
            return int(value)
        case _:
            return value


def _meant(name: str, value: Any) -> Any:
    """As an application tells it."""
    if value is None:
        return None
    if name in DECIMALS:
        return Decimal(value)
    if name in DAYS:
        return date.fromisoformat(value)
    if name == "site_regions":
        return tuple(value.split())
    return bool(value) if name == "contact_consent" else value
