"""From all facts of one thread to its row: pure functions, given the facts by type, source and sequence.

Here what the platforms decided and published; what was asked and answered is in `cases`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.timeline.words import STAGES

Values = Mapping[str, Any]

ITEM = "engineering.item.progressed.v1"
ACCEPTANCE = "engineering.acceptance.decided.v1"

STOPPED = frozenset({
    "APPLICATION_WITHDRAWN", "NOT_ACCEPTED", "REJECTED_AT_INTAKE", "NOT_PASSED", "WITHDRAWN", "REVOKED",
})  # fmt: skip
"""Item statuses that carry a project nowhere (国家标准 2 4 5 13 14 15)."""
IN_FORCE = frozenset({"APPROVED", "SUSPENDED"})
STILL_APPROVED = frozenset({"EXTENDED", "RESUMED", "CONDITION_MET"})
"""Words about an approval that leave it as it was."""
OF_SURVEY = (
    "work", "phase", "stage", "supersedes_survey", "survey_items", "surveyor_name", "surveyed_on", "published_on",
    "land_area", "floor_area", "height", "units",
)  # fmt: skip
STAGE_OF_KIND = {
    "LAND_USE_PLANNING": 1,
    "ENGINEERING_PLANNING": 2,
    "CONSTRUCTION": 3, "DRAINAGE": 3, "FIRE_DESIGN": 3,
    "JOINT": 4, "STAGED": 4,
}  # fmt: skip
"""For a feed that knows decisions but no items."""


class Fact(NamedTuple):
    """One event, kept. Times in milliseconds UTC."""

    type: str
    source: str
    subject: str
    id: str
    word: str
    time: int
    recorded: int
    detail: Mapping[str, Any]


def project(facts: list[Fact]) -> Values:
    """投资项目: when it got its code and when it was decided. CHANGED changes facts, not the standing."""
    standing = [fact.word for fact in facts if fact.word != "CHANGED"]
    decided = [fact for fact in facts if fact.word == "DECIDED"]
    return {
        "status": standing[-1] if standing else None,
        "registered_at": facts[0].time,
        "decided_at": decided[0].time if decided else None,
        "decision_form": last(decided, "decision_form"),
        "document": last(decided, "document_number"),
    }


def item(facts: list[Fact]) -> Values:
    """审批事项: its newest status, and what was decided. A paper (DOCUMENTED) changes no decision."""
    moves = [fact for fact in facts if fact.type == ITEM]
    decisions = [fact for fact in facts if fact.type != ITEM]
    decision = decided = None
    for fact in decisions:
        if fact.word in STILL_APPROVED:
            decision = "APPROVED"
        elif fact.word != "DOCUMENTED":
            decision, decided = fact.word, fact.time
    status = moves[-1].word if moves else None
    kind = last(decisions, "decision_kind") or last(decisions, "acceptance_kind")
    stage = last(moves, "stage")
    basis = last(decisions, "decision_basis")
    met = any(fact.word == "CONDITION_MET" for fact in decisions)
    return {
        "source": facts[0].source,
        "instance": facts[0].detail["item_instance"],
        "work": last(facts, "work"),
        "previous_work": last(facts, "previous_work"),
        "name": last(moves, "item_name"),
        "department": last(moves, "department_name") or last(decisions, "department_name"),
        "status": status,
        "kind": kind,
        "part": last(decisions, "permit_part"),
        "phase": last(decisions, "phase"),
        "decision": decision,
        "basis": None if met else basis,
        "buildings": "、".join(last(decisions, "buildings") or ()) or None,
        "document": last(decisions, "document_number"),
        "title": last(decisions, "document_title"),
        "decided_on": last(decisions, "decided_on"),
        "valid_until": last(decisions, "valid_until"),
        "missing": None if met else "、".join(last(decisions, "missing") or ()) or None,
        "missing_due": None if met else last(decisions, "missing_due"),
        "stage": STAGES.index(stage) + 1 if stage in STAGES else STAGE_OF_KIND.get(str(kind), 0),
        "live": decision in IN_FORCE if decision else status not in STOPPED,
        "started_at": min(fact.time for fact in facts),
        "moved_at": max(fact.time for fact in facts),
        "decided_at": decided,
    }


def licence(facts: list[Fact]) -> Values:
    """电子证照, as last told."""
    newest = facts[-1]
    return {
        "source": newest.source,
        "licence": newest.detail["licence"],
        "holder": newest.subject,
        "kind": last(facts, "licence_kind"),
        "status": newest.word,
        **{name: last(facts, name) for name in ("issued_on", "valid_until", "scope")},
        "moved_at": newest.time,
    }


def registration(facts: list[Fact]) -> Values:
    """不动产登记, as last told."""
    newest = facts[-1]
    return {
        "source": newest.source,
        "registration": newest.detail["registration"],
        "unit": newest.subject,
        "kind": last(facts, "registration_kind"),
        "status": newest.word,
        **{name: last(facts, name) for name in ("usage", "registered_on")},
        "detail": said(facts, ("predecessors", "successors")),
        "moved_at": newest.time,
    }


def survey(facts: list[Fact]) -> Values:
    """多测合一成果, as last told. Which other one it replaces is said by itself, so it is told apart when it is drawn."""
    newest = facts[-1]
    return {
        "source": newest.source,
        "survey": newest.detail["survey"],
        "status": newest.word,
        "detail": said(facts, OF_SURVEY),
        "moved_at": newest.time,
    }


def last(facts: Sequence[Fact], name: str) -> Any:
    """The newest that was said of it: nothing said later takes nothing back."""
    for fact in reversed(facts):
        if (value := fact.detail.get(name)) not in (None, "UNKNOWN", []):
            return value
    return None


def said(facts: Sequence[Fact], names: Iterable[str]) -> dict[str, Any]:
    """The newest of each of these that was said at all."""
    return {name: value for name in names if (value := last(facts, name)) is not None}


def millis(text: str | None) -> int | None:
    """A moment as JSON keeps it, in milliseconds UTC."""
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
