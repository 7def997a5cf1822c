"""The company's word so far, folded from what hookup's own outbox holds of it: nothing of it still waits to be learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from jietong.contract import Contract
from jietong.event import Envelope, Event, Key
from jietong.store import Row, Transaction
from services.hookup.facts import Facts, known
from services.hookup.learning import DEMAND

COLUMNS = "source, type, aggregateid, sequence, id, fingerprint, payload, time, recorded, operator"
CONTACT = ("contact_name", "contact_phone")
SUBJECTS = "SELECT DISTINCT aggregateid FROM outbox WHERE source = :source AND type = :type ORDER BY aggregateid"
OF_SUBJECT = f"""SELECT {COLUMNS} FROM outbox WHERE source = :source AND type = :type AND aggregateid = :subject ORDER BY sequence"""


class Stated(NamedTuple):
    """The demand of one 工程 and phase, and the operators chosen with it (none: all)."""

    demand: Mapping[str, Any]
    operators: tuple[str, ...]


class Consent(NamedTuple):
    """Whether it stands, since when, and the contact data that was given with it, sealed (none: it was withdrawn)."""

    stands: bool
    since: datetime
    contact: Facts

    @property
    def keys(self) -> frozenset[str]:
        """The names of the keys that open it."""
        return frozenset(sealed["key"] for sealed in self.contact.values())


class Objection(NamedTuple):
    """What the company says is wrong, with which field."""

    at: datetime
    field: str | None
    text: str


@dataclass
class Said:
    """Everything a company has said of a subject."""

    stated: dict[tuple[str, int], Stated] = field(default_factory=dict[tuple[str, int], Stated])
    consents: dict[str, Consent] = field(default_factory=dict[str, Consent])
    """By operator."""
    applications: dict[str, tuple[Event, bool]] = field(default_factory=dict[str, tuple[Event, bool]])
    """By number: what was applied for, and whether it stands."""
    begun: date | None = None
    objections: list[Objection] = field(default_factory=list[Objection])

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(sorted({operator for stated in self.stated.values() for operator in stated.operators}))

    @property
    def consented(self) -> list[str]:
        return sorted(operator for operator, consent in self.consents.items() if consent.stands)


def said(tx: Transaction, contract: Contract, source: str, subject: str) -> Said:
    """`source`: hookup's own."""
    whole = Said()
    for event in own(tx, contract, source, DEMAND, subject):
        _add(whole, event)
    return whole


def speakers(tx: Transaction, source: str) -> list[str]:
    """Every subject of which its company has said something."""
    return [subject for (subject,) in tx.execute(SUBJECTS, {"source": source, "type": DEMAND}).all()]


def own(tx: Transaction, contract: Contract, source: str, type: str, subject: str) -> list[Event]:
    """What an outbox said of a subject, in order. One that was lost and is a void says nothing."""
    rows = tx.execute(OF_SUBJECT, {"source": source, "type": type, "subject": subject}).all()
    return [contract.decode(envelope) for envelope in map(_envelope, rows) if not envelope.void]


def _add(whole: Said, event: Event) -> None:
    data = event.data
    match data["action"]:
        case "CONFIRMED" | "CORRECTED":
            _state(whole, data, tuple(data["operators_chosen"]))
        case "CONSENTED" | "CONSENT_WITHDRAWN":
            stands = data["action"] == "CONSENTED"
            contact = known({name: data[name] for name in CONTACT}) if stands else {}
            for operator in data["operators_chosen"]:
                whole.consents[operator] = Consent(stands, event.time, contact)
        case "APPLIED":
            whole.applications[data["application"]] = (event, True)
            if known(data["demand"]):
                _state(whole, data, ())
        case "APPLICATION_WITHDRAWN" if data["application"] in whole.applications:
            whole.applications[data["application"]] = (whole.applications[data["application"]][0], False)
        case "WORKS_BEGUN":
            whole.begun = data["begun_on"]
        case "OBJECTED":
            whole.objections.append(Objection(event.time, data["objects_to"], data["objection"] or ""))
        case _:
            pass


def _state(whole: Said, data: Mapping[str, Any], operators: tuple[str, ...]) -> None:
    whole.stated[data["work"] or "", data["phase"]] = Stated(known(data["demand"]), operators)


def _envelope(row: Row) -> Envelope:
    source, type, subject, sequence, id, fingerprint, body, time, recorded, operator = row
    return Envelope(key=Key(source, type, subject, sequence), id=UUID(id), fingerprint=bytes(fingerprint), body=bytes(body), time=time,
                    recorded=recorded, operator=operator)  # fmt: skip
