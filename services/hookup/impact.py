"""What would happen if a document fell (影响预览): asked before an officer withdraws or changes an approval, changing nothing.

The same functions answer that decide it afterwards, so what is previewed is what is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jietong.store import Transaction
from services.hookup.cases import ACCEPTED_ON, CANCELLED, NONE, OPEN, SUSPENDED, Case, target
from services.hookup.hookup import Hookup
from services.hookup.knowing import Known

SUBJECTS = "SELECT DISTINCT subject FROM support WHERE document = :document AND standing <> 'FALLEN' ORDER BY subject"


@dataclass(frozen=True, slots=True)
class Effect:
    """One case that hears of it. `received`: how many messages it had; `acted`: the utility's last step, if any.

    `says`: SUSPENDED or CANCELLED, or None: it stands on another approval, is connected, or is over. `why` in words.
    """

    subject: str
    case: str
    operator: str
    business_kind: str
    work: str
    received: int
    acted: str | None
    says: str | None
    why: str


def impact(tx: Transaction, service: Hookup, document: str) -> list[Effect]:
    """What falls with a document, case by case. Empty: no standing approval has this number."""
    subjects = [row[0] for row in tx.execute(SUBJECTS, {"document": document}).all()]
    return [effect for subject in subjects for effect in _of(tx, service, subject, document)]


def _of(tx: Transaction, service: Hookup, subject: str, document: str) -> Iterator[Effect]:
    """Every case that the document supports, or that changes with it."""
    before = service.wants(Known(tx, subject, service.zone))
    told = Known(tx, subject, service.zone, frozenset({document}))
    after = service.wants(told)
    for identity, case in sorted(told.cases.items()):
        stood = before.live.get(identity) or before.resting.get(identity)
        if stood is None or case.requested == NONE:
            continue
        says, why = _said(target(after, identity, case.progress), case)
        if says or stood.support.document == document or identity not in (after.live.keys() | after.resting.keys()):
            yield Effect(
                subject,
                case.id,
                identity.operator,
                identity.business_kind,
                identity.work,
                case.round,
                case.progress,
                says,
                why,
            )


def _said(aim: str | None, case: Case) -> tuple[str | None, str]:
    """What the case would hear, and why. See `cases.next_status`."""
    if aim == OPEN:
        return None, "another approval supports it"
    if aim is None:
        return (
            None,
            "connected: nothing is cut; a person decides" if case.progress == "CONNECTED" else "over: nothing is said",
        )
    if aim == SUSPENDED and case.requested == OPEN:
        works = "; works are under way and are made safe" if case.progress == "WORKS_STARTED" else ""
        if case.progress not in ACCEPTED_ON:
            return SUSPENDED, "another approval of it rests, so it rests too"
        return SUSPENDED, f"accepted, so it is suspended and waits for a person{works}"
    if aim == CANCELLED and case.requested in (OPEN, SUSPENDED):
        return CANCELLED, "not accepted yet, so it is taken back"
    return None, f"stands {case.requested.lower()} already"
