"""Everything known of one subject, read once, before anything is decided about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from jietong.store import Row, Transaction
from jietong.workdays import Pause
from services.hookup.cases import FALLEN, Case, Identity, Opening, Support, Works
from services.hookup.clocks import Step, moment
from services.hookup.facts import Facts, dumps, loads, merged
from services.hookup.learning import DEMAND, PROGRESSED
from services.hookup.permits import Permit

SUPPORTS = """SELECT type, item, standing, rows, work, phase, decision_kind, permit_part, document, site_regions, authority_region,
functional_zone, decided, facts, missing, missing_due, extended, historical FROM support WHERE subject = :subject ORDER BY decided, type, item"""
CASES = """SELECT work, operator, business_kind, phase, id, utility, requested, confirmed, round, content, data, progress, progressed,
acknowledged, protection, plan, opened, asked, receipt FROM case_ WHERE subject = :subject"""
PROJECT = "SELECT status, facts, site_regions, authority_region, functional_zone FROM project WHERE subject = :subject"
WORKS = "SELECT work FROM work WHERE subject = :subject ORDER BY ordinal"
DEMANDS = "SELECT work, phase, demand, basis, operators FROM demand WHERE subject = :subject"
WAKES = "SELECT at, guessed FROM wake WHERE subject = :subject"
TASKS = "SELECT id, kind, about, done, gone FROM task WHERE subject = :subject"
RARE = (
    "survey",
    "consent",
    "begun",
    "lineage",
    "step",
    "rest",
    "refusal",
    "permit",
    "works",
    "trench",
    "absence",
    "objection",
)
HAS = f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {name} WHERE subject = :subject)' for name in RARE)}"
SURVEYS = "SELECT facts FROM survey WHERE subject = :subject AND facts IS NOT NULL ORDER BY published DESC, survey"
LINEAGE = "SELECT work, previous FROM lineage WHERE subject = :subject"
CONSENTS = "SELECT operator, contact FROM consent WHERE subject = :subject AND contact IS NOT NULL"
STEPS = "SELECT case_id, status, at, owner, data FROM step WHERE subject = :subject ORDER BY case_id, n"
RESTS = "SELECT case_id, since, until FROM rest WHERE subject = :subject ORDER BY case_id, since"
REFUSALS = "SELECT event, case_id, operator, because, data, at, answered FROM refusal WHERE subject = :subject ORDER BY at, event"
ABSENCES = """SELECT absence, kind, about, status, round, responsible, case_id, operator, since, due, provisional FROM absence
WHERE subject = :subject"""
PERMITS = """SELECT permit, case_id, operator, works_kind, department, route, requested, round, content, data, asked, due, decision, decided,
reason FROM permit WHERE subject = :subject ORDER BY permit"""
CRS = (None, "", "EPSG:4490", "EPSG:4326", "CGCS2000", "WGS84", "WGS 84")
"""Longitude and latitude in degrees that may be compared with a service area. In another system a red line is not used."""


class Demand(NamedTuple):
    """What the company confirmed: the values, JSON, and on what basis."""

    values: str
    basis: str


class Refusal(NamedTuple):
    """A step that was not applied. `data`: the step."""

    event: str
    case: str
    operator: str
    because: str
    data: Facts
    at: int
    answered: bool


class Absence(NamedTuple):
    """An absence as it was last published."""

    kind: str
    about: str
    status: str
    round: int
    responsible: str
    case: str | None
    operator: str | None
    since: int
    due: int
    provisional: bool | int


class Where(NamedTuple):
    """The site: of the project, else of the first approval that names one."""

    site_regions: Sequence[str]
    authority_region: str
    functional_zone: str | None


class Known:
    """`zone`: the city's. `fallen`: documents to be taken as fallen, to ask what would be then."""

    def __init__(self, tx: Transaction, subject: str, zone: tzinfo, fallen: frozenset[str] = frozenset()) -> None:
        self.subject = subject
        by = {"subject": subject}

        def rows(sql: str, rare: str | None = None) -> list[Row]:
            return tx.execute(sql, by).all() if rare is None or self.has[rare] else []

        project = tx.execute(PROJECT, by).one()
        self.has: dict[str, bool] = dict(zip(RARE, map(bool, rows(HAS)[0]), strict=True))
        supports = rows(SUPPORTS)
        self.cancelled = project is not None and project[0] == "CANCELLED"
        self.where = _where(project, supports)
        self.supports = [_support_of(row, self.cancelled or row[8] in fallen, zone, self.where) for row in supports]
        told = [
            *(row[0] for row in rows(SURVEYS, "survey")),
            *([project[1]] if project else []),
            *(row[13] for row in supports),
        ]
        self.facts, self.mark = _pictured(tuple(text for text in told if text))
        works = [row[0] for row in rows(WORKS)]
        self.works = Works(works, [(work, previous) for work, previous in rows(LINEAGE, "lineage")])
        self.cases = {Identity(*row[:4]): _case_of(row) for row in rows(CASES)}
        demands = rows(DEMANDS)
        self._demands = {(row[0], row[1]): Demand(row[2], row[3]) for row in demands}
        self.chosen = sorted({operator for row in demands for operator in loads(row[4])})
        self.consents: Mapping[str, Facts] = {
            operator: loads(contact) for operator, contact in rows(CONSENTS, "consent")
        }
        self.begun = self.has["begun"]
        self.permits = [Permit(*row) for row in rows(PERMITS, "permit")]
        self._rows = rows

    @property
    def red_line(self) -> str | None:
        """The site's boundary, if it can be compared with a service area."""
        return self.facts.get("red_line") if self.facts.get("red_line_crs") in CRS else None

    def demand(self, identity: Identity) -> Demand | None:
        """What the company confirmed for a case's 工程 and phase, or for its project; None: nothing yet."""
        return self._demands.get((identity.work, identity.phase)) or self._demands.get(("", identity.phase))

    def steps(self) -> dict[str, list[Step]]:
        """By case, in order."""
        found: dict[str, list[Step]] = {}
        for case, status, at, owner, data in self._rows(STEPS, "step"):
            found.setdefault(case, []).append(Step(status, at, owner, loads(data)))
        return found

    def rests(self) -> dict[str, list[Pause]]:
        """By case, in order."""
        found: dict[str, list[Pause]] = {}
        for case, since, until in self._rows(RESTS, "rest"):
            found.setdefault(case, []).append(Pause(moment(since), None if until is None else moment(until)))
        return found

    def refusals(self) -> list[Refusal]:
        return [
            Refusal(row[0], row[1], row[2], row[3], loads(row[4]), row[5], bool(row[6]))
            for row in self._rows(REFUSALS, "refusal")
        ]

    def absences(self) -> dict[str, Absence]:
        return {name: Absence(*said) for name, *said in self._rows(ABSENCES, "absence")}


@lru_cache(maxsize=512)
def _pictured(told: tuple[str, ...]) -> tuple[Facts, str]:
    """One picture of what several said, and its mark. Shared: nobody changes it."""
    facts = merged(map(loads, told))
    return facts, mark(facts)


def mark(facts: Facts) -> str:
    """Names what is known of a project."""
    return hashlib.sha256(dumps(facts).encode()).hexdigest()[:16]


def _where(project: Row | None, supports: Sequence[Row]) -> Where:
    rows = [project[2:]] if project else []
    rows += [row[9:12] for row in supports if row[0] not in (DEMAND, PROGRESSED)]
    rows += [row[9:12] for row in supports if row[0] == DEMAND]
    regions, authority, zone = next((row for row in rows if row[0] != "[]"), rows[0] if rows else ("[]", "", None))
    return Where(_texts(regions), authority, zone)


def _support_of(row: Row, fallen: bool, zone: tzinfo, where: Where) -> Support:
    on = datetime.fromtimestamp(row[12] / 1000, UTC).astimezone(zone).date()
    own = Where(_texts(row[9]), row[10], row[11]) if row[9] != "[]" or row[0] not in (DEMAND, PROGRESSED) else where
    return Support(
        row[0], row[1], FALLEN if fallen else row[2], _openings(row[3]), row[4], row[5], row[6], row[7], row[8], *own, row[12], on,
        _texts(row[14]) if row[14] else (), date.fromisoformat(row[15]) if row[15] else None, row[0] == DEMAND, bool(row[17]), row[16],
    )  # fmt: skip


def following_case(support: Support, case: Identity | None, standing: str) -> Support:
    """A support that came of a case: it stands as the case does, and wants something of that 工程 alone."""
    return replace(support, standing=standing, slot=case.work if case else None)


@lru_cache(maxsize=1024)
def _openings(rows: str) -> tuple[Opening, ...]:
    return tuple(Opening(kind, tuple(utilities), role, operator) for kind, utilities, role, operator in loads(rows))


@lru_cache(maxsize=1024)
def _texts(regions: str) -> tuple[str, ...]:
    return tuple(loads(regions))


def _case_of(row: Row) -> Case:
    return Case(row[4], row[5], row[6], bool(row[7]), *row[8:])


def columns(case: Case) -> dict[str, Any]:
    """A case's own columns of `case_`, but for those that only a step writes."""
    return {"id": case.id, "utility": case.utility, "requested": case.requested, "confirmed": int(case.confirmed), "round": case.round,
            "content": case.content, "said": case.said, "opened": case.opened, "asked": case.asked, "receipt": case.receipt}  # fmt: skip
