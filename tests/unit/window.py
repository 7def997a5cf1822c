"""One transfer service on a store in memory, with its counter, told facts one by one: what tests of its rules are written with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from jietong.catalog import load
from jietong.city import City
from jietong.city import load as load_city
from jietong.contract import Contract
from jietong.event import Draft, Envelope, Event, Fate, Key
from jietong.keys import MemoryKeys
from jietong.testing import MemoryStore
from services.transfer.counter import Counter
from services.transfer.tables import transfer
from services.transfer.transfer import ANSWERED, REGISTRATION, REQUESTED, Transfers

CATALOG = load()
CITY = load_city("jiangmen", CATALOG)
CONTRACT = Contract(CATALOG)
KEYS = MemoryKeys()
UNIT = "440703001001GB00123F00010001"
UPPER, LOWER = "440703001001GB00123F00010002", "440703001001GB00123F00010003"
T0 = datetime(2026, 3, 2, 1, tzinfo=UTC)
SELLER, BUYER = "李四", "王五"
NO_ANSWER: dict[str, Any] = dict.fromkeys((
    "reason", "account", "new_account", "arrears", "arrears_stay", "meter_reading", "meter_unit", "read_on", "auto_debit_stopped",
    "contract_signed", "safety_checked", "effective_on",
))  # fmt: skip


def choice(
    utility: str, choice: str = "MOVE", account: str | None = None, operator: str | None = None
) -> dict[str, Any]:
    return {"utility": utility, "account": account, "choice": choice, "operator": operator}


def registration(
    status: str, *accounts: Mapping[str, Any], kind: str = "TRANSFER", number: str = "R1", **more: Any
) -> dict[str, Any]:
    return {
        "registration": number, "registration_kind": kind, "status": status, "project_code": None, "predecessors": [], "successors": [],
        "correlation": None, "accounts": list(accounts), "usage": "住宅", "area": Decimal("88.50"), "owner_name": KEYS.seal("s", "transfer", SELLER),
        "registered_on": date(2026, 3, 4) if status == "REGISTERED" else None, "site_regions": ["440703"], "authority_region": "440703",
        "functional_zone": None, "item_code": None, "historical": False, "transfer_basis": "SALE" if kind == "TRANSFER" else None,
        "to_name": KEYS.seal("b", "transfer", BUYER), "to_identity": KEYS.seal("b", "transfer", "440703199001011234"), "to_phone": None,
        "to_uscc": None, "co_owners": None, "shares": None, "address": "新昌路88号1栋101", **more,
    }  # fmt: skip


class Window:
    """`said`: every request, oldest first."""

    def __init__(self, city: City = CITY) -> None:
        self.store, self.service = MemoryStore("transfer", transfer), Transfers(city)
        self.counter = Counter(self.store)
        self.said: list[Draft] = []
        self.sequences: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self.now = T0

    def tell(self, data: Mapping[str, Any], unit: str = UNIT, source: str = "realestate") -> Fate:
        return self._event(REGISTRATION, data, unit, source)

    def answer(self, request: Draft, status: str, *, source: str | None = None, unit: str = UNIT, **more: Any) -> Fate:
        """An operator's answer to one request."""
        asked = request.data
        data = {"transfer": asked["transfer"], "registration": asked["registration"], "operator": asked["operator"], "status": status,
                "answers_request": str(UUID(int=1)), "answers_sequence": 1, "answers_round": asked["round"], **NO_ANSWER, **more}  # fmt: skip
        return self._event(ANSWERED, data, unit, source or f"utility:{asked['operator']}")

    def _event(self, type: str, data: Mapping[str, Any], unit: str, source: str) -> Fate:
        key = (source, type, unit)
        self.sequences[key] += 1
        self.now += timedelta(minutes=1)
        event = Event(type=type, subject=unit, time=self.now, data=data, id=uuid5(NAMESPACE_URL, f"{key} {self.sequences[key]}"),
                      source=f"urn:jietong:440700:{source}", sequence=self.sequences[key], recorded=self.now)  # fmt: skip
        CONTRACT.encode(event)
        with self.store.transaction() as tx:
            fate = self.service.learn(tx, event)
            self._note(list(self.service.due(tx, unit, event)))
        self.wake()
        return fate

    def wake(self) -> None:
        while True:
            with self.store.transaction() as tx:
                subjects = self.service.waking(tx, 0)
                for subject in subjects:
                    self._note(list(self.service.due(tx, subject, None)))
            if not subjects:
                return

    def _note(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            CONTRACT.encode(draft)
        self.said += drafts

    # -- looking -------------------------------------------------------------------------------------------------------
    def asked(self, operator: str, unit: str = UNIT) -> list[tuple[str, str]]:
        """(step, choice) of everything asked of an operator."""
        mine = [draft for draft in self.said if (draft.operator, draft.subject) == (operator, unit)]
        return [(draft.data["step"], draft.data["choice"]) for draft in mine]

    def last(self, operator: str, unit: str = UNIT) -> Draft:
        return [draft for draft in self.said if (draft.operator, draft.subject) == (operator, unit)][-1]

    def tasks(self) -> set[str]:
        return {task.kind for task in self.counter.tasks()}

    def standing(self) -> dict[str, str]:
        """operator → what the counter sees, of the first registration."""
        return {checked.operator: checked.status for checked in self.counter.checked("R1")}

    def links(self, unit: str = UNIT) -> set[tuple[str, str]]:
        with self.store.snapshot() as tx:
            rows = tx.execute(
                "SELECT operator, account FROM link WHERE subject = :unit AND closed = 0", {"unit": unit}
            ).all()
        return {(row[0], row[1]) for row in rows}

    def decoded(self) -> list[Event]:
        """Its requests as they come back from the log."""
        found: list[Event] = []
        for n, draft in enumerate(self.said, 1):
            print_, body = CONTRACT.encode(draft)
            key = Key("urn:jietong:440700:transfer", REQUESTED, draft.subject, n)
            found.append(
                CONTRACT.decode(Envelope(key=key, id=UUID(int=n), fingerprint=print_, body=body, time=0, recorded=0))
            )
        return found

    def dump(self) -> str:
        """Everything in its database, to look for what must not be there."""
        with self.store.snapshot() as tx:
            return repr([tx.execute(f"SELECT * FROM {table.name}").all() for table in transfer.sorted_tables])
