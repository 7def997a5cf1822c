"""The company's door (企业之门): what a company confirms about its demand enters as an event of hookup's own outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jietong.event import Draft
from jietong.store import Store, Transaction
from services.hookup.hookup import DEMAND

FIELDS = (
    "water_m3_per_day", "water_pipe_dn_mm", "fire_supply", "drainage_m3_per_day", "power_kva_temporary", "power_kva_permanent", "voltage",
    "dual_supply", "gas_m3_per_hour", "telecom_cores", "cable_terminals",
)  # fmt: skip


class Publishes(Protocol):
    """The outbox."""

    def once(self, tx: Transaction, key: str, *drafts: Draft) -> Any: ...


class Door:
    """`key` is the company's idempotency key: a retry after an unknown outcome is one confirmation."""

    def __init__(self, store: Store, outbox: Publishes) -> None:
        self.store, self.outbox = store, outbox

    def confirm(
        self, subject: str, demand: Mapping[str, Any], *, key: str, now: datetime, operators: Sequence[str] = ()
    ) -> None:
        """The demand of a project, as its company confirms it. Raises InvalidEventError naming a field outside its range."""
        data = {
            "work": None, "phase": 1, "action": "CONFIRMED", "operators_chosen": list(operators),
            "demand": {name: demand.get(name) for name in FIELDS},
            "demand_basis": "CONFIRMED", "confirmed_by_uscc": None, "contact_name": None, "contact_phone": None,
        }  # fmt: skip
        with self.store.transaction() as tx:
            self.outbox.once(tx, key, Draft(type=DEMAND, subject=subject, time=now, data=data))
