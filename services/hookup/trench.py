"""Dig once (一次开挖): works of several owners in one street and season, and roads that must not be dug."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from jietong.city import Moratorium

SEASON = 90
"""Days between first days within which two works are of one season."""


class Works(NamedTuple):
    """Where and when the owner of a case wants to dig."""

    subject: str
    case: str
    operator: str
    start: date
    finish: date


class Trench(NamedTuple):
    """A proposal for one road: who, and the first and last day on which all could dig together."""

    works: tuple[Works, ...]
    start: date
    finish: date
    moratorium: Moratorium | None


def proposal(mine: str, planned: Iterable[Works], closed: Sequence[Moratorium]) -> Trench | None:
    """What one subject is told of a road on which `planned` are all works; None: nothing to join and nothing in the way.

    Its season is its own works and whatever begins within `SEASON` days of one of them.
    """
    rest = sorted(planned, key=lambda w: (w.start, w.subject, w.case))
    own = [w.start for w in rest if w.subject == mine]
    season = [w for w in rest if any(abs((w.start - start).days) <= SEASON for start in own)]
    if not season:
        return None
    start = max(w.start for w in season)
    longest = max(w.finish - w.start for w in season)
    hit = next((m for m in closed if any(w.start <= m.until and w.finish >= m.since for w in season)), None)
    while blocking := next((m for m in closed if start <= m.until and start + longest >= m.since), None):
        start = blocking.until + timedelta(days=1)
    if len({w.operator for w in season}) < 2 and hit is None:
        return None
    return Trench(tuple(season), start, start + longest, hit)
