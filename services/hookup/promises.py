"""Promises and what became of them (承诺兑现): the receipt a case is opened with, and the facts that break it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from jietong.city import Promise
from jietong.workdays import Deadline
from services.hookup.clocks import Clocks, Life, Step
from services.hookup.facts import Facts
from services.hookup.machine import ACKNOWLEDGED

HOUR = 3_600_000
AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(\S+)\s*")
"""A capacity as people write it: a number and its unit."""


def receipt(promise: Promise | None, contact_by: Deadline, known: int, to_ask: int) -> dict[str, Any]:
    """The promise as it stood when the case was opened; a later change of it does not touch the case."""
    own = {"contact_by": contact_by.at, "provisional": contact_by.provisional, "known": known, "to_ask": to_ask}
    if promise is None:
        return own
    return {
        **own, "contact_hours": promise.contact_within_hours, "plan_days": promise.plan_days, "connect_days": promise.connect_days,
        "fee": promise.fee, "boundary": promise.boundary, "capacity": promise.capacity, "visit": promise.applicant_visit,
        "owner": promise.owner,
    }  # fmt: skip


def breaches(
    opened: int, promised: Facts, life: Life, clocks: Clocks, works_allowed: bool
) -> Iterator[tuple[str, str]]:
    """(kind, what was promised and what came) of everything in a case's steps that breaks its receipt.

    `works_allowed`: whether every permit of the works was granted, or none is needed.
    """
    steps, accepted = [step for step in life.steps if step.status not in ACKNOWLEDGED], life.accepted
    if steps and (hours := promised.get("contact_hours")) and steps[0].at > opened + hours * HOUR:
        yield "LATE_CONTACT", f"promised within {hours} h, after {(steps[0].at - opened) / HOUR:.0f} h"
    days = (accepted and accepted.data.get("promised_days")) or promised.get("connect_days")
    if accepted and promised.get("connect_days") and days > promised["connect_days"]:
        yield "PROMISE_WORSENED", f"promised {promised['connect_days']} working days, at acceptance {days}"
    for step in steps:
        if step.data.get("visit_demanded") and promised.get("visit") is False:
            yield "VISIT_DEMANDED", f"no visit may be asked of the applicant; asked with {step.status}"
        if step.status == "PLAN_REPLIED":
            yield from _of_plan(step, promised)
            plan_days = promised.get("plan_days")
            if accepted and plan_days and (used := clocks.used(life, step.at)) > plan_days:
                yield "LATE_PLAN", f"promised in {plan_days} working days of the utility's own, took {used}"
        if step.status == "WORKS_STARTED" and not works_allowed:
            yield "WORKS_WITHOUT_PERMIT", "works began before every permit was granted"
        if step.status == "CONNECTED" and accepted and days and (used := clocks.used(life, step.at)) > days:
            yield "LATE_CONNECTION", f"promised {days} working days of the utility's own, took {used}"


def _of_plan(step: Step, promised: Facts) -> Iterator[tuple[str, str]]:
    plan: Facts = step.data.get("plan") or {}
    fee, most = plan.get("fee"), promised.get("fee")
    if fee is not None and most is not None and fee > most:
        yield "FEE_ABOVE_PROMISE", f"promised at most {most} CNY, asks {fee} CNY"
    boundary, up_to = plan.get("boundary"), promised.get("boundary")
    if boundary and up_to and boundary != up_to:
        yield "BOUNDARY_MOVED", f"promised to pay up to {up_to}, plans {boundary}"
    if _less(plan.get("capacity"), promised.get("capacity")):
        yield "CAPACITY_BELOW_PROMISE", f"promised {promised['capacity']}, plans {plan['capacity']}"


def _less(planned: str | None, promised: str | None) -> bool:
    """Whether both are amounts of one unit, and the planned one is smaller. Anything else is for a person to compare."""
    one, other = AMOUNT.fullmatch(planned or ""), AMOUNT.fullmatch(promised or "")
    return bool(one and other and one[2].lower() == other[2].lower() and Decimal(one[1]) < Decimal(other[1]))
