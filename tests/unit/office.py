"""One hookup service on a store in memory, told facts one by one: what tests of its rules are written with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from jietong.catalog import load
from jietong.city import City
from jietong.city import load as load_city
from jietong.contract import Contract
from jietong.event import Draft, Envelope, Event, Key
from jietong.testing import MemoryStore
from services.hookup.ahead import Ahead
from services.hookup.hookup import Hookup
from services.hookup.learning import (
    ABSENCE,
    ACCEPTANCE,
    APPROVAL,
    DEMAND,
    PERMIT_DECIDED,
    PERMIT_REQUESTED,
    PROGRESSED,
    PROJECT,
    REQUESTED,
    SURVEY,
    TRENCH,
)
from services.hookup.tables import hookup

CATALOG = load()
CITY = load_city("jiangmen", CATALOG)
CONTRACT = Contract(CATALOG)
CODE = "2106-440703-04-01-237445"
OTHER = "2106-440703-04-01-237453"
T0 = datetime(2026, 3, 2, 1, tzinfo=UTC)
"""A Monday, 9:00 in Jiangmen."""
WHERE: dict[str, Any] = {
    "site_regions": ["440703"],
    "authority_region": "440703",
    "functional_zone": None,
    "item_code": None,
    "historical": False,
}
SOURCES = {
    PROJECT: "investment", APPROVAL: "engineering", ACCEPTANCE: "engineering", DEMAND: "hookup", SURVEY: "engineering",
    PERMIT_DECIDED: "engineering",
}  # fmt: skip
NO_DEMAND = dict.fromkeys(
    ("water_m3_per_day", "water_pipe_dn_mm", "fire_supply", "drainage_m3_per_day", "power_kva_temporary", "power_kva_permanent", "voltage",
     "dual_supply", "gas_m3_per_hour", "telecom_cores", "cable_terminals")
)  # fmt: skip
Fact = tuple[str, dict[str, Any]]


def project(status: str, **facts: Any) -> Fact:
    where = {name: facts.pop(name) for name in tuple(WHERE) if name in facts}
    return PROJECT, {
        "status": status,
        "decision_form": "FILED",
        "document_number": "江备 1",
        "project": facts,
        **WHERE,
        **where,
    }


def approval(
    decision: str,
    work: str | None = "W1",
    item: str = "I1",
    kind: str = "CONSTRUCTION",
    part: str = "FULL",
    **more: Any,
) -> Fact:
    return APPROVAL, {
        "work": work, "previous_work": None, "item_instance": item, "decision_kind": kind, "permit_part": part, "phase": 1, "decision": decision,
        "acceptance_basis": "FULL", "decision_basis": "FULL", "missing": [], "missing_due": None, "document_number": None, "document_title": None,
        "decided_on": None, "valid_until": None, "department_name": None, "project": None, **WHERE, **more,
    }  # fmt: skip


def acceptance(decision: str, work: str = "W1", item: str = "J1") -> Fact:
    return ACCEPTANCE, {"work": work, "item_instance": item, "acceptance_kind": "JOINT", "decision": decision, "phase": 1, "buildings": [],
                        "document_number": None, "decided_on": None, "department_name": None, **WHERE}  # fmt: skip


def word(action: str, **more: Any) -> Fact:
    """The company's own word."""
    demand = {**NO_DEMAND, **more.pop("demand", {})}
    return DEMAND, {"work": None, "phase": 1, "action": action, "operators_chosen": [], "demand_basis": "CONFIRMED", "confirmed_by_uscc": None,
                    "contact_name": None, "contact_phone": None, **more, "demand": demand}  # fmt: skip


def demand(kva: str, **more: Any) -> Fact:
    return word("CONFIRMED", demand={"power_kva_permanent": Decimal(kva)}, **more)


def survey(number: str, **more: Any) -> Fact:
    return SURVEY, {
        "survey": number,
        "stage": "ACCEPTANCE",
        "status": "PUBLISHED",
        "authority_region": "440703",
        **more,
    }


class Office:
    """`now` is its clock. Every fact is encoded and decoded on its way, and what it says is encoded."""

    def __init__(self, city: City = CITY) -> None:
        self.city, self.now = city, T0
        self.store = MemoryStore("hookup", hookup)
        self.service = Hookup(city, lambda: round(self.now.timestamp() * 1000))
        self.sequences: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.said: list[Draft] = []

    # -- what happens --------------------------------------------------------------------------------------------------
    def tell(
        self,
        type: str,
        data: Mapping[str, Any],
        subject: str = CODE,
        source: str | None = None,
        at: datetime | None = None,
    ) -> list[Draft]:
        """One event, in a batch with others; returns what the service says to it. `at`: when it happened (default: now)."""
        event = self._event(type, data, subject, source, at)
        with self.store.transaction() as tx:
            among = Ahead(tx, sorted({subject, CODE, OTHER}))
            self.service.learn(among, event)
            drafts = list(self.service.due(among, event.subject, event))
        return self._heard(drafts)

    def learn(
        self,
        type: str,
        data: Mapping[str, Any],
        subject: str = CODE,
        source: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """As `tell`, but nothing is said: so facts are read again after a restore."""
        event = self._event(type, data, subject, source, at)
        with self.store.transaction() as tx:
            self.service.learn(tx, event)

    def _event(
        self, type: str, data: Mapping[str, Any], subject: str, source: str | None, at: datetime | None
    ) -> Event:
        source = f"urn:jietong:440700:{source or SOURCES.get(type, type)}"
        self.sequences[source, type] += 1
        moment = at or self.now
        draft = Draft(type=type, subject=subject, time=moment, data=data)
        return decoded(draft, source, self.sequences[source, type], moment)

    def step(
        self,
        operator: str,
        kind: str,
        status: str,
        subject: str = CODE,
        work: str = "",
        case: str | None = None,
        **more: Any,
    ) -> list[Draft]:
        """An operator's word on its case of this kind (of the project's, or the given, 工程)."""
        found = case or self.case(operator, kind, subject, work)
        return self.tell(PROGRESSED, {
            "case": found, "operator": operator, "business_kind": kind, "phase": 1, "work": work or None, "status": status, "reason": None,
            "answers_request": str(UUID(int=1)), "answers_sequence": 1, "segment_owner": "UNKNOWN", "account": None, "plan": None,
            "promised_days": None, **more,
        }, subject, f"utility:{operator}")  # fmt: skip

    def walk(self, operator: str, kind: str, *statuses: str, **more: Any) -> None:
        for status in statuses:
            self.step(operator, kind, status, **more)

    def decide(self, permit: Draft, decision: str, **more: Any) -> list[Draft]:
        """A department's word on one permit that was asked for."""
        return self.tell(PERMIT_DECIDED, {
            "permit": permit.data["permit"], "case": permit.data["case"], "operator": permit.data["operator"], "decision": decision,
            "answers_request": str(UUID(int=1)), "answers_sequence": 1, "authority_region": "440703", **more,
        }, permit.subject)  # fmt: skip

    def wait(self, until: datetime) -> list[Draft]:
        """Time passes; returns what the clocks make the service say."""
        self.now = until
        drafts: list[Draft] = []
        for _ in range(100):
            with self.store.transaction() as tx:
                subjects = self.service.waking(tx, round(until.timestamp() * 1000))
                among = Ahead(tx, sorted(subjects))
                found = [draft for subject in subjects for draft in self.service.due(among, subject, None)]
            if not subjects:
                return drafts
            drafts += self._heard(found)
        raise AssertionError("it wakes for ever")

    def days(self, days: float) -> list[Draft]:
        return self.wait(self.now + timedelta(days=days))

    def _heard(self, drafts: list[Draft]) -> list[Draft]:
        for draft in drafts:
            CONTRACT.encode(draft)
        self.said += drafts
        return drafts

    # -- what is seen --------------------------------------------------------------------------------------------------
    def rows(self, sql: str, **values: Any) -> list[Any]:
        with self.store.snapshot() as tx:
            return tx.execute(sql, values).all()

    def case(self, operator: str, kind: str, subject: str = CODE, work: str = "") -> str:
        [[found]] = self.rows("SELECT id FROM case_ WHERE subject = :s AND operator = :o AND business_kind = :k AND work = :w AND phase = 1",
                              s=subject, o=operator, k=kind, w=work)  # fmt: skip
        return found

    def cases(self) -> dict[tuple[str, str, str, int], tuple[str, bool, str | None]]:
        """Every case that is not as if it had never been: where it stands, whether confirmed, the utility's word."""
        rows = self.rows("SELECT work, operator, business_kind, phase, requested, confirmed, progress FROM case_")
        return {tuple(row[:4]): (row[4], bool(row[5]), row[6]) for row in rows if row[4] != "CANCELLED"}

    def statuses(self, operator: str, kind: str) -> list[str]:
        return [
            d.data["status"] for d in self.of(REQUESTED) if d.operator == operator and d.data["business_kind"] == kind
        ]

    def last(self, operator: str, kind: str) -> Mapping[str, Any]:
        return [d.data for d in self.of(REQUESTED) if d.operator == operator and d.data["business_kind"] == kind][-1]

    def of(self, type: str) -> list[Draft]:
        return [draft for draft in self.said if draft.type == type]

    def permits(self) -> list[Draft]:
        return self.of(PERMIT_REQUESTED)

    def absences(self) -> list[tuple[str, str, str]]:
        return [(d.data["kind"], d.data["status"], d.data["responsible"]) for d in self.of(ABSENCE)]

    def trenches(self) -> list[Mapping[str, Any]]:
        return [d.data for d in self.of(TRENCH)]

    def tasks(self) -> set[tuple[str, str]]:
        return {(row[0], row[1]) for row in self.rows("SELECT kind, about FROM task WHERE done IS NULL")}

    def breaches(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT kind FROM breach")}


def decoded(draft: Draft, source: str, sequence: int, recorded: datetime) -> Event:
    """A draft as its reader gets it."""
    fingerprint, body = CONTRACT.encode(draft)
    key = Key(source, draft.type, draft.subject, sequence)
    millis = round(draft.time.timestamp() * 1000)
    return CONTRACT.decode(Envelope(
        key=key, id=uuid5(NAMESPACE_URL, repr(tuple(key))), fingerprint=fingerprint, body=body, time=millis,
        recorded=round(recorded.timestamp() * 1000), operator=draft.operator,
    ))  # fmt: skip


def plan(**more: Any) -> dict[str, Any]:
    """A plan with external works in a street."""
    return {"works_external": True, "access_point": None, "capacity": None, "length_m": Decimal("300.00"), "fee": None, "days": None,
            "road": "新昌路", "planned_start": date(2026, 4, 1), "planned_finish": date(2026, 4, 10), **more}  # fmt: skip
