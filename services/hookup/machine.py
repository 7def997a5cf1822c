"""The states of a case (接入事项) as a table: who may move it where, from where, what that needs, whose time follows, and
which clock begins. docs/states.md is drawn from it; a utility's step that is not in it is answered and never applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

UTILITY, CUSTOMER, DEPARTMENT, NOBODY = "UTILITY", "CUSTOMER", "DEPARTMENT", "UNKNOWN"
CITY = "CITY"
"""The facts: approvals given, fallen and come back (services/hookup/cases.py)."""
LEAD = "LEAD"
OPEN = ("LEAD", "CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED")
SUPPLY = ("TEMPORARY", "PERMANENT", "TEMP_TO_PERMANENT", "INCREASE", "CONVERT_TO_DIRECT")
LINES = ("PROTECT", "RELOCATE", "CLOSE")
"""Business on lines that are there already: it ends when the works are finished, nothing is connected."""
KINDS = (*SUPPLY, *LINES)


class Move(NamedTuple):
    """One row: `to` may follow `after`, in cases of these `kinds`. `by`: who says so; `owner`: whose time follows."""

    to: str
    zh: str
    after: tuple[str, ...]
    by: str
    owner: str
    needs: str = ""
    clock: str = ""
    kinds: tuple[str, ...] = KINDS


MOVES: tuple[Move, ...] = (
    Move("CONTACTED", "已联系", ("LEAD", "CONTACTED"), UTILITY, CUSTOMER, "the utility called first (主动服务)"),
    Move("ACCEPTED", "已受理", ("LEAD", "CONTACTED"), UTILITY, UTILITY, "the customer has applied (电力供应与使用条例 23)",
         "NO_PLAN, NO_CONNECTION", (*SUPPLY, "RELOCATE", "CLOSE")),
    Move("ACCEPTED", "已受理", ("LEAD", "CONTACTED"), UTILITY, UTILITY, "", "NO_PROTECTION_ANSWER", ("PROTECT",)),
    Move("PLAN_REPLIED", "方案已答复", ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"), UTILITY, CUSTOMER, "a plan (供应方案); a new one replaces it",
         "NO_PERMIT_DECISION, if it has external works", (*SUPPLY, "RELOCATE", "CLOSE")),
    Move("PLAN_REPLIED", "需保护或迁改", ("LEAD", "CONTACTED", "ACCEPTED"), UTILITY, CUSTOMER, "the answer PROTECT or MOVE, once", "",
         ("PROTECT",)),
    Move("CONTRACTED", "已签合同", ("PLAN_REPLIED",), UTILITY, UTILITY, "both have signed"),
    Move("WORKS_STARTED", "已开工", ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"), UTILITY, UTILITY,
         "every permit of the works granted (城市道路管理条例 33)"),
    Move("WORKS_FINISHED", "已完工", ("WORKS_STARTED",), UTILITY, UTILITY, "", "", SUPPLY),
    Move("WORKS_FINISHED", "已完工", ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED"), UTILITY, NOBODY,
         "the lines are safe, moved or closed", "", LINES),
    Move("INSPECTED", "已检验", ("PLAN_REPLIED", "CONTRACTED", "WORKS_FINISHED"), UTILITY, UTILITY,
         "the customer's installation is safe (电力供应与使用条例 24), the pipe it built is taken over (城市供水条例 28)", "", SUPPLY),
    Move("CONNECTED", "已接通", ("ACCEPTED",), UTILITY, NOBODY, "a small user: no plan, no inspection", "", SUPPLY),
    Move("CONNECTED", "已接通", ("INSPECTED",), UTILITY, NOBODY, "inspected before", "", SUPPLY),
    Move("NOT_NEEDED", "无需接入", OPEN, UTILITY, NOBODY, "there is a supply already", "", (*SUPPLY, "RELOCATE", "CLOSE")),
    Move("NOT_NEEDED", "无管线", ("LEAD", "CONTACTED", "ACCEPTED"), UTILITY, NOBODY, "the answer NONE, once", "", ("PROTECT",)),
    Move("DECLINED", "用户谢绝", OPEN, CUSTOMER, NOBODY, "the customer does not want it"),
    Move("REFUSED", "不予接入", OPEN, UTILITY, NOBODY, "a reason"),
    Move("LAPSED", "已失效", OPEN, UTILITY, NOBODY, "the application or the plan ran out"),
)  # fmt: skip
ACKNOWLEDGED = frozenset({"SUSPENDED", "RESUMED", "CANCELLED"})
"""A utility's echo of what it was told (made safe, going on, closed): it moves no case and stops a clock."""
ENDS = frozenset({"CONNECTED", "NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED"})

_ALLOWED: Mapping[tuple[str, str], frozenset[str]] = {
    (kind, move.to): frozenset(a for m in MOVES if m.to == move.to and kind in m.kinds for a in m.after)
    for move in MOVES
    for kind in move.kinds
}


def over(kind: str, progress: str | None) -> bool:
    """Whether nothing more is said to the utility of its own accord. What is connected is never cut."""
    return progress in ENDS or (progress == "WORKS_FINISHED" and kind in LINES)


def wrong(kind: str, progress: str | None, step: str, protection: str | None) -> str | None:
    """Why this step may not follow, in words for its sender; None: it may."""
    now = progress or LEAD
    allowed = _ALLOWED.get((kind, step))
    if allowed is None:
        return f"a case of {kind} knows no {step}"
    if now not in allowed:
        return f"{step} cannot follow {now}; it follows {', '.join(sorted(allowed))}"
    if kind == "PROTECT" and step == "PLAN_REPLIED" and protection not in ("PROTECT", "MOVE"):
        return "a protection request is answered none, protect or move: `protection` is missing"
    return None


def owner(kind: str, step: str) -> str:
    """Whose time follows a step, if its sender did not say."""
    return next((move.owner for move in MOVES if move.to == step and kind in move.kinds), NOBODY)
