"""The city's figures once more, naively, from the platforms' and operators' own tables. It imports nothing of ours.

Written from the definitions alone: durations of projects, accepted → connected, and permits. Left out is what only hookup
knows (when a case was opened, absences, breaches, fields of the form, packages), and with it the figures that begin there.
A step that the city refused stands in the operator's table as any other: run it on a year without slips of the hand.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import chinese_calendar
import yaml

ZONE = ZoneInfo("Asia/Shanghai")
PROJECTS = "SELECT code, site_regions FROM project"
DECIDED = "SELECT code, min(at) FROM handling WHERE status = 'DECIDED' GROUP BY code"
APPROVED = """SELECT w.XMDM, i.SPSXBM, max(p.BLSJ) FROM SPGL_XMSPSXBLXXXXB p
JOIN SPGL_XMSPSXBLXXB i ON i.SPSXSLBM = p.SPSXSLBM AND i.SJYXBS = 1
JOIN (SELECT DISTINCT GCDM, XMDM FROM SPGL_XMJBXXB WHERE SJYXBS = 1) w ON w.GCDM = p.GCDM
WHERE p.BLZT IN (11, 12) AND p.SJYXBS = 1 GROUP BY w.XMDM, i.SPSXBM, p.SPSXSLBM"""
STEPS = "SELECT case_id, status, at, segment_owner, promised_days FROM progress ORDER BY case_id, n"
PROMISED = "SELECT case_id, connect_days FROM case_"
DECISIONS = """SELECT w.operator, max(d.JDSJ) FROM LOCAL_WORKS_DECISION d JOIN works_permit w ON w.permit = d.XKBH
WHERE d.JDLX IN ('准予', '不予') AND d.SJYXBS = 1 GROUP BY w.permit, w.operator"""
ECHOES = ("SUSPENDED", "RESUMED", "CANCELLED")
Value = tuple[Any, int]
"""(value, n)."""


class City:
    """Working days and catalogue of a city, from its files."""

    def __init__(self, folder: Path) -> None:
        pack: dict[str, Any] = {}
        for file in folder.glob("*.yaml"):
            pack |= yaml.safe_load(file.read_text("utf-8"))
        working = pack.get("working", {})
        hour, minute = str(working.get("cut_off", "17:30")).split(":")[:2]
        self.cut_off = time(int(hour), int(minute))
        self.off, self.on = set(working.get("days_off", ())), set(working.get("work_days", ()))
        self.items: Mapping[str, Mapping[str, Any]] = pack["item_catalogue"]
        self.parts: Sequence[str] = list(pack["permit_parts"])

    def works(self, day: date) -> bool:
        if day in self.off or day in self.on:
            return day in self.on
        try:
            return bool(chinese_calendar.is_workday(day))
        except NotImplementedError:
            return day.weekday() < 5

    def ends(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The ends of working days from the one moment on and before the other."""
        day = since.astimezone(ZONE).date()
        while (end := datetime.combine(day, self.cut_off, ZONE)) < until:
            if end >= since and self.works(day):
                yield end
            day += timedelta(days=1)

    def days(self, since: datetime, until: datetime) -> int:
        return sum(1 for _ in self.ends(since, until))


def naive(folder: Path, pack: Path, first: date, last: date) -> dict[str, dict[str, Value]]:
    """figure → group ('' is the total; a division for projects, an operator for cases) → (value, n)."""
    city = City(pack)

    def counts(moment: datetime) -> bool:
        return first <= moment.astimezone(ZONE).date() <= last

    found: defaultdict[str, defaultdict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    _projects(folder, city, counts, found)
    for file in sorted(folder.glob("platform-*.db")):
        if file.stem != "platform-engineering":
            _connections(file, city, counts, found)
    _permits(folder / "platform-engineering.db", counts, found)
    return {
        figure: {group: _summed(figure, values) for group, values in groups.items()} for figure, groups in found.items()
    }


def _summed(figure: str, values: list[Any]) -> Value:
    if figure.endswith("_in_time"):
        return sum(values) / len(values), len(values)
    return (len(values) if figure == "permits_decided" else median(values)), len(values)


def _projects(folder: Path, city: City, counts: Any, found: Any) -> None:
    with closing(_opened(folder / "investment.db")) as db:
        regions = {code: {region[:6] for region in sites.split()} for code, sites in db.execute(PROJECTS)}
        decided = {code: _moment(at) for code, at in db.execute(DECIDED)}
    firsts: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    with closing(_opened(folder / "platform-engineering.db")) as db:
        for code, item, at in db.execute(APPROVED):
            moment = datetime.fromisoformat(at).replace(tzinfo=ZONE)
            for what in _kinds(city, city.items[item]):
                firsts[code][what] = min(moment, firsts[code].get(what, moment))
    for code, begun in decided.items():
        mine = {"decided": begun, **firsts[code]}
        for figure, since, until in (
            ("decided_to_first_permit", "decided", "permit"), ("decided_to_main_permit", "decided", "main"),
            ("decided_to_planning", "decided", "planning"), ("planning_to_first_permit", "planning", "permit"),
            ("first_permit_to_acceptance", "permit", "acceptance"),
        ):  # fmt: skip
            if since in mine and until in mine and mine[since] <= mine[until] and counts(mine[until]):
                for group in ("", *regions[code]):
                    found[figure][group].append(city.days(mine[since], mine[until]))


def _kinds(city: City, item: Mapping[str, Any]) -> Iterator[str]:
    part = item.get("permit_part", "FULL")
    if item.get("decision_kind") == "CONSTRUCTION":
        yield "permit"
        if part in ("FULL", *city.parts[-1:]):
            yield "main"
    if item.get("decision_kind") == "ENGINEERING_PLANNING":
        yield "planning"
    if item.get("acceptance_kind"):
        yield "acceptance"


def _connections(file: Path, city: City, counts: Any, found: Any) -> None:
    with closing(_opened(file)) as db:
        promised = dict(db.execute(PROMISED).fetchall())
        steps: defaultdict[str, list[tuple[str, datetime, str, int | None]]] = defaultdict(list)
        for case, status, at, owner, days in db.execute(STEPS):
            steps[case].append((status, _moment(at), owner, days))
    for case, taken in steps.items():
        real = [step for step in taken if step[0] not in ECHOES]
        accepted = [n for n, step in enumerate(taken) if step[0] == "ACCEPTED"]
        if not real or real[-1][0] != "CONNECTED" or not counts(real[-1][1]) or not accepted:
            continue
        life, own, owner = taken[accepted[-1] :], 0, ""
        for (status, at, said, _), (_, until, *_rest) in pairwise(life):
            owner = owner if status == "RESUMED" else said
            own += city.days(at, until) if owner == "UTILITY" else 0
        most = life[0][3] or promised.get(case)
        for group in ("", file.stem.removeprefix("platform-")):
            found["connect_days"][group].append(own)
            if most is not None:
                found["connect_days_promised"][group].append(most)
                found["connected_in_time"][group].append(own <= most)


def _permits(file: Path, counts: Any, found: Any) -> None:
    with closing(_opened(file)) as db:
        rows = db.execute(DECISIONS).fetchall()
    for operator, decided in rows:
        if counts(datetime.fromisoformat(decided).replace(tzinfo=ZONE)):
            for group in ("", operator):
                found["permits_decided"][group].append(1)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{file.absolute()}?mode=ro", uri=True)
