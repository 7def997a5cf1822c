"""Promises on a case and what became of them (承诺兑现), from what was told: plain functions.

Moments are compared as they were promised. Working days are not counted here: that a plan or a connection is late is what
the city's clocks noticed (服务缺位), and nothing noticed is nothing late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

HOUR = 3_600_000
Case = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise. `promised` and `came`: moments in ms for CONTACT and PROTECTION, working days for PLAN and CONNECTION
    (`came`: ms), CNY for FEE. `became`: PROMISED (its clock has not begun), RUNNING, KEPT, LATE, OVERDUE or BROKEN."""

    kind: str
    promised: int | str | None
    came: int | str | None
    became: str
    provisional: bool = False
    """Whether the moment depends on a year whose working days are not published yet (暂定)."""


def promises(case: Case, absences: Sequence[Mapping[str, Any]], now: int) -> Iterator[Promise]:
    """What was promised on this case. `absences`: those of its project; `now` in milliseconds UTC."""
    times = {step["step"]: step["at"] for step in case["steps"]}
    yield from _word(case, times, now)
    if case["business_kind"] != "PROTECT":
        noticed = {row["kind"]: row["state"] for row in absences if row["reference"] == case["reference"]}
        connect = case.get("promised_days") or case.get("promised_connect_days")
        yield from _days("PLAN", case.get("promised_plan_days"), "PLAN_REPLIED", case, times, noticed)
        yield from _days("CONNECTION", connect, "CONNECTED", case, times, noticed)
        yield from _terms(case)
    if case.get("visit_demanded") and case.get("applicant_visit_required") is False:
        yield Promise("VISIT", None, None, "BROKEN")


def _word(case: Case, times: Mapping[str, int], now: int) -> Iterator[Promise]:
    """The next word by a moment: the first contact, or the answer to a protection request."""
    asked, hours, due = (
        times.get("LEAD", times.get("DEMAND_CONFIRMED")),
        case["contact_within_hours"],
        case.get("answer_by"),
    )
    if due is None and asked is not None and hours is not None:
        due = asked + hours * HOUR
    protects = case["business_kind"] == "PROTECT"
    came = case.get("protected_at" if protects else "answered_at")
    if due is None or (came is None and case["group"] in ("stopped", "done")):
        return
    became = ("KEPT" if came <= due else "LATE") if came is not None else "OVERDUE" if now > due else "RUNNING"
    provisional = bool(case.get("answer_by_provisional"))
    yield Promise("PROTECTION" if protects else "CONTACT", due, came, became, provisional)


def _days(
    kind: str, days: int | None, step: str, case: Case, times: Mapping[str, int], noticed: Mapping[str, str]
) -> Iterator[Promise]:
    """A number of working days that begin with the acceptance."""
    if days is None:
        return
    came, late = times.get(step), noticed.get(f"NO_{kind}")
    if came is not None:
        yield Promise(kind, days, came, "LATE" if late else "KEPT")
    elif case["group"] in ("lead", "working"):
        running = "RUNNING" if "ACCEPTED" in times else "PROMISED"
        yield Promise(kind, days, None, "OVERDUE" if late == "NOTICED" else running)


def _terms(case: Case) -> Iterator[Promise]:
    """What a plan asks against what was promised: the most it costs, and up to where the utility pays."""
    plan: Mapping[str, Any] = case.get("plan") or {}
    most, fee = case.get("promised_fee"), plan.get("fee")
    if most is not None:
        became = "PROMISED" if fee is None else "KEPT" if Decimal(fee) <= Decimal(most) else "BROKEN"
        yield Promise("FEE", most, fee, became)
    up_to, boundary = case.get("promised_boundary"), plan.get("boundary")
    if up_to is not None:
        became = "PROMISED" if boundary is None else "KEPT" if boundary == up_to else "BROKEN"
        yield Promise("BOUNDARY", up_to, boundary, became)
