"""Which cases a project's facts want, and what is to be said to bring a case there. Plain functions, no database.

A case (接入事项) is one (工程, operator, business kind, phase) of a project. Its target follows from the facts alone, so
every interleaving of the topics ends in the same cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol
from uuid import NAMESPACE_URL, uuid5

IN_FORCE, SUSPENDED, FALLEN = "IN_FORCE", "SUSPENDED", "FALLEN"
STANDING: Mapping[str, str] = {
    "APPROVED": IN_FORCE, "EXTENDED": IN_FORCE, "RESUMED": IN_FORCE, "CONDITION_MET": IN_FORCE, "SUSPENDED": SUSPENDED,
    "REFUSED": FALLEN, "APPLICATION_WITHDRAWN": FALLEN, "WITHDRAWN": FALLEN, "REVOKED": FALLEN, "DEREGISTERED": FALLEN,
    "PENALTY_REVOKED": FALLEN, "LAPSED": FALLEN, "CONDITION_LAPSED": FALLEN,
}  # fmt: skip
"""What a decision makes of an approval. DOCUMENTED is not here: the paper to an earlier approval changes no case."""

ACCEPTED_ON = frozenset({"ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED"})
"""From here on a case is never cancelled by an event: it is suspended, and a person decides."""
OVER = frozenset({"CONNECTED", "NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED"})
"""Nothing more is said to the utility of its own accord; what is connected is never cut."""
NONE, OPEN, CANCELLED = "NONE", "OPEN", "CANCELLED"


class Identity(NamedTuple):
    """`work` is '' for the project itself and for its first 工程, which adopts the project's cases."""

    work: str
    operator: str
    business_kind: str
    phase: int

    def case(self, subject: str) -> str:
        return str(uuid5(NAMESPACE_URL, "\x1f".join((subject, *map(str, self)))))


@dataclass(frozen=True, slots=True)
class Opening:
    """A trigger row that a decided fact met: which business, with which utilities, for whom."""

    business_kind: str
    utilities: Sequence[str]
    customer_role: str


@dataclass(frozen=True, slots=True)
class Support:
    """A fact that wants cases, as long as it is in force."""

    type: str
    item: str
    standing: str
    openings: Sequence[Opening]
    work: str | None
    phase: int
    decision_kind: str | None
    permit_part: str | None
    document: str | None
    site_regions: Sequence[str]
    authority_region: str
    functional_zone: str | None
    decided: int
    on: date

    @property
    def rank(self) -> tuple[int, str, str]:
        """Of several that want one case, the earliest is named as its trigger."""
        return self.decided, self.type, self.item


@dataclass(frozen=True, slots=True)
class Want:
    """A case that is wanted: by what, from whom."""

    identity: Identity
    utility: str
    work: str | None
    customer_role: str
    support: Support


class Serving(Protocol):
    """A city's operators: who serves these regions on that day."""

    def __call__(self, utility: str, regions: Sequence[str], on: date) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """`live` in force, `resting` while their support is suspended, `uncovered` (utility, business kind) nobody serves."""

    live: Mapping[Identity, Want]
    resting: Mapping[Identity, Want]
    uncovered: frozenset[tuple[str, str]]


def wanted(supports: Iterable[Support], works: Sequence[str], chosen: Sequence[str], serving: Serving) -> Wanted:
    """From everything that supports a project's hookups. `works`: its 工程 in the order they were learned; `chosen`: the
    operators the customer chose (empty: all)."""
    live: dict[Identity, Want] = {}
    resting: dict[Identity, Want] = {}
    uncovered: set[tuple[str, str]] = set()
    for support in sorted((s for s in supports if s.standing != FALLEN), key=lambda s: s.rank):
        for want in _wants(support, works, chosen, serving, uncovered):
            (live if support.standing == IN_FORCE else resting).setdefault(want.identity, want)
    return Wanted(
        live, {identity: want for identity, want in resting.items() if identity not in live}, frozenset(uncovered)
    )


def _wants(
    support: Support, works: Sequence[str], chosen: Sequence[str], serving: Serving, uncovered: set[tuple[str, str]]
) -> Iterator[Want]:
    for opening in support.openings:
        for utility in opening.utilities:
            operators = serving(utility, support.site_regions, support.on)
            if not operators and support.standing == IN_FORCE:
                uncovered.add((utility, opening.business_kind))
            mine = [operator for operator in operators if operator in chosen] or operators
            for operator in mine:
                for slot, work in _slots(support.work, works):
                    identity = Identity(slot, operator, opening.business_kind, support.phase)
                    yield Want(identity, utility, work, opening.customer_role, support)


def _slots(work: str | None, works: Sequence[str]) -> list[tuple[str, str | None]]:
    """A fact of the project wants a case for each of its 工程; a fact of one 工程 only its own. The first adopts."""
    if work is not None:
        return [("" if not works or work == works[0] else work, work)]
    return [("", works[0] if works else None), *((other, other) for other in works[1:])]


def target(wants: Wanted, identity: Identity, progress: str | None) -> str | None:
    """Where a case should stand: OPEN, SUSPENDED or CANCELLED; None: leave it as it is."""
    if identity in wants.live:
        return OPEN
    if progress in OVER:
        return None
    if progress in ACCEPTED_ON or identity in wants.resting:
        return SUSPENDED
    return CANCELLED


@dataclass(slots=True)
class Case:
    """A case as it was last requested, and the utility's last word on it."""

    id: str
    utility: str
    requested: str = NONE
    confirmed: bool = False
    round: int = 0
    content: str = ""
    said: str = "{}"
    progress: str | None = None
    opened: int = 0


def next_status(case: Case, aim: str | None, demanded: bool, content: str) -> str | None:
    """The next thing to say so that a case comes from where it stands to where it should; None: it is there.

    `demanded`: the company has confirmed its demand; `content` names what would be said now.
    """
    now = case.requested
    if aim == OPEN and case.progress not in OVER:
        if now in (NONE, CANCELLED):
            return "LEAD"
        if now == SUSPENDED:
            return "RESUMED"
        return "REQUESTED" if demanded and not case.confirmed else "AMENDED" if content != case.content else None
    if aim == SUSPENDED and (now == OPEN or (now == CANCELLED and case.progress in ACCEPTED_ON)):
        return "SUSPENDED"
    return "CANCELLED" if aim == CANCELLED and now in (OPEN, SUSPENDED) else None


AFTER: Mapping[str, str] = {
    "LEAD": OPEN,
    "REQUESTED": OPEN,
    "AMENDED": OPEN,
    "RESUMED": OPEN,
    "SUSPENDED": SUSPENDED,
    "CANCELLED": CANCELLED,
}
"""Where a case stands once this was said."""
