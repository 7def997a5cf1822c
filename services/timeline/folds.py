"""From all facts of one thread to its row: pure functions, given the facts by type, source and sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from services.timeline.words import ENDS, PATH, STAGES

Values = Mapping[str, Any]

ITEM = "engineering.item.progressed.v1"
ACCEPTANCE = "engineering.acceptance.decided.v1"
ASKED = "utility.connection.requested.v1"

STOPPED = frozenset({
    "APPLICATION_WITHDRAWN", "NOT_ACCEPTED", "REJECTED_AT_INTAKE", "NOT_PASSED", "WITHDRAWN", "REVOKED",
})  # fmt: skip
"""Item statuses that carry a project nowhere (国家标准 2 4 5 13 14 15)."""
IN_FORCE = frozenset({"APPROVED", "SUSPENDED"})
STILL_APPROVED = frozenset({"EXTENDED", "RESUMED", "CONDITION_MET"})
"""Words about an approval that leave it as it was."""
OF_CASE = ("operator", "utility", "business_kind", "work", "phase", "contact_within_hours")
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
        "decision_form": _last(decided, "decision_form"),
        "document": _last(decided, "document_number"),
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
    kind = _last(decisions, "decision_kind") or _last(decisions, "acceptance_kind")
    stage = _last(moves, "stage")
    basis = _last(decisions, "decision_basis")
    met = any(fact.word == "CONDITION_MET" for fact in decisions)
    return {
        "source": facts[0].source,
        "instance": facts[0].detail["item_instance"],
        "work": _last(facts, "work"),
        "name": _last(moves, "item_name"),
        "department": _last(moves, "department_name") or _last(decisions, "department_name"),
        "status": status,
        "kind": kind,
        "part": _last(decisions, "permit_part"),
        "phase": _last(decisions, "phase"),
        "decision": decision,
        "basis": None if met else basis,
        "buildings": "、".join(_last(decisions, "buildings") or ()) or None,
        "document": _last(decisions, "document_number"),
        "title": _last(decisions, "document_title"),
        "decided_on": _last(decisions, "decided_on"),
        "valid_until": _last(decisions, "valid_until"),
        "missing_due": None if met else _last(decisions, "missing_due"),
        "stage": STAGES.index(stage) + 1 if stage in STAGES else STAGE_OF_KIND.get(str(kind), 0),
        "live": decision in IN_FORCE if decision else status not in STOPPED,
        "started_at": min(fact.time for fact in facts),
        "moved_at": max(fact.time for fact in facts),
        "decided_at": decided,
    }


def licence(facts: list[Fact]) -> Values:
    """电子证照, as last told."""
    last = facts[-1]
    return {
        "source": last.source,
        "licence": last.detail["licence"],
        "kind": _last(facts, "licence_kind"),
        "status": last.word,
        **{name: _last(facts, name) for name in ("issued_on", "valid_until", "scope")},
        "moved_at": last.time,
    }


def registration(facts: list[Fact]) -> Values:
    """不动产登记, as last told."""
    last = facts[-1]
    return {
        "source": last.source,
        "registration": last.detail["registration"],
        "unit": last.subject,
        "kind": _last(facts, "registration_kind"),
        "status": last.word,
        **{name: _last(facts, name) for name in ("usage", "registered_on")},
        "moved_at": last.time,
    }


@dataclass(slots=True)
class _Case:
    """A case while it is folded: what was asked of the operator, then what it answered to that."""

    opened: int = 0
    """The round that opened it, or opened it again after a cancellation: older answers are history."""
    asked: int = 0
    standing: str | None = None
    base: str = "LEAD"
    paused: bool = False
    reached: str | None = None
    ended: tuple[str, int] | None = None
    opening: Fact | None = None
    times: dict[str, int] = field(default_factory=dict[str, int])

    def ask(self, fact: Fact) -> None:
        if fact.word in ("LEAD", "REQUESTED"):
            self.asked = fact.detail["round"]
            if self.standing in (None, "CANCELLED"):
                self.opened, self.opening, self.base, self.times = self.asked, fact, "LEAD", {}
            step = "LEAD" if fact.word == "LEAD" else "DEMAND_CONFIRMED"
            self.base = max(self.base, step, key=PATH.index)
            self.times.setdefault(step, fact.recorded)  # a lead is there once it is committed
        if fact.word != "AMENDED":
            self.standing = fact.word

    def answer(self, fact: Fact, to: int) -> None:
        if to < self.opened:
            return
        if fact.word in ("SUSPENDED", "RESUMED"):
            self.paused = fact.word == "SUSPENDED"
        elif fact.word in ENDS:
            self.ended = (fact.word, to)
        elif fact.word in PATH:
            self.reached, self.ended = fact.word, None
            self.times.setdefault(fact.word, fact.time)

    @property
    def state(self) -> str:
        """What is connected is never cut by an event; an end holds until the operator is asked again."""
        if self.reached == "CONNECTED":
            return self.reached
        if self.standing == "CANCELLED":
            return self.standing
        if self.ended and self.ended[1] >= self.asked:
            return self.ended[0]
        if self.standing == "SUSPENDED" or self.paused:
            return "SUSPENDED"
        return self.base if self.ended or not self.reached else max(self.base, self.reached, key=PATH.index)


def connection(facts: list[Fact]) -> Values:
    """公用接入: a case's state from its requests (by round) and its answers. Either may be known before the other."""
    asks = sorted((fact for fact in facts if fact.type == ASKED), key=lambda fact: (fact.detail["round"], fact.source))
    answers = [fact for fact in facts if fact.type != ASKED]
    case = _Case()
    for fact in asks:
        case.ask(fact)
    rounds = {fact.id: fact.detail["round"] for fact in asks}
    for fact in answers:
        case.answer(fact, rounds.get(fact.detail["answers_request"], case.asked))
    opening: Values = case.opening.detail if case.opening else {}
    return {
        "reference": facts[0].detail["case"],
        **{name: _last(facts, name) for name in OF_CASE},
        **{name: opening.get(name) for name in ("trigger_type", "trigger_kind", "trigger_part")},
        "state": case.state,
        "segment_owner": _last(answers[-1:], "segment_owner"),
        "triggered_at": _moment(opening.get("triggered_at")),
        **{f"{step.lower()}_at": case.times.get(step) for step in PATH},
        "moved_at": max(fact.time for fact in facts),
    }


def _last(facts: Iterable[Fact], name: str) -> Any:
    """The newest that was said of it: nothing said later takes nothing back."""
    said = [value for fact in facts if (value := fact.detail.get(name)) not in (None, "UNKNOWN", [])]
    return said[-1] if said else None


def _moment(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
