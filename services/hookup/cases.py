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

from services.hookup.facts import loads
from services.hookup.machine import over

IN_FORCE, SUSPENDED, FALLEN = "IN_FORCE", "SUSPENDED", "FALLEN"
STANDING: Mapping[str, str] = {
    "APPROVED": IN_FORCE, "EXTENDED": IN_FORCE, "RESUMED": IN_FORCE, "CONDITION_MET": IN_FORCE, "SUSPENDED": SUSPENDED,
    "REFUSED": FALLEN, "APPLICATION_WITHDRAWN": FALLEN, "WITHDRAWN": FALLEN, "REVOKED": FALLEN, "DEREGISTERED": FALLEN,
    "PENALTY_REVOKED": FALLEN, "LAPSED": FALLEN, "CONDITION_LAPSED": FALLEN,
}  # fmt: skip
"""What a decision makes of an approval. DOCUMENTED is not here: the paper to an earlier approval changes no case."""

ACCEPTED_ON = frozenset({"ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED"})
"""From here on a case is never cancelled by an event: it is suspended, and a person decides."""
UNSUPPLIED = frozenset({"NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED"})
NONE, OPEN, CANCELLED = "NONE", "OPEN", "CANCELLED"


class Identity(NamedTuple):
    """`work` is '' for the project itself and for its first 工程, which adopts the project's cases; see `Works`."""

    work: str
    operator: str
    business_kind: str
    phase: int

    def case(self, subject: str) -> str:
        return str(uuid5(NAMESPACE_URL, "\x1f".join((subject, *map(str, self)))))


@dataclass(frozen=True, slots=True)
class Opening:
    """A trigger row that a fact met: which business, with which utilities (or the one `operator`), for whom."""

    business_kind: str
    utilities: Sequence[str]
    customer_role: str
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class Support:
    """A fact that wants cases, as long as it is in force. `asked`: a customer's application, no lead."""

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
    missing: Sequence[str] = ()
    missing_due: date | None = None
    asked: bool = False
    historical: bool = False
    extended: int = 0
    slot: str | None = None
    """Of a fact about one case, that one's: it wants nothing of another 工程."""

    @property
    def rank(self) -> tuple[int, str, str]:
        """Of several that want one case, the earliest is named as its trigger."""
        return self.decided, self.type, self.item


class Works:
    """The 工程 of a project in the order they were learned, and which came of which (前阶段工程).

    Each has a slot: what its cases are kept under. The first 工程 adopts the project's own ('' ). One that came of another
    goes on in its slot; of two that came of one (a split) the first does, the second opens its own; of two that became
    one (a merger) the later one's approvals move to the slot of the earlier.
    """

    def __init__(self, works: Sequence[str] = (), lineage: Iterable[tuple[str, str]] = ()) -> None:
        self.all = works
        at = {work: n for n, work in enumerate(works)}
        came = sorted((at[w], at[p]) for w, p in lineage if w in at and p in at and at[p] < at[w])
        self._first: dict[str, str] = {}
        """Of each that has a successor, the first one."""
        for w, p in came:
            self._first.setdefault(works[p], works[w])
        own: dict[str, str] = {}
        self._origin: dict[str, str] = {}
        for n, work in enumerate(works):
            before = [works[p] for w, p in came if w == n]
            heir = next((p for p in before if self._first[p] == work), None)
            own[work] = own[heir] if heir else "" if n == 0 else work
            if before and heir is None:
                self._origin[work] = own[before[0]]
        self._own = own
        self.current = [(self.slot(work), work) for work in works if work not in self._first] or [("", None)]

    def slot(self, work: str) -> str:
        while work in self._first:
            work = self._first[work]
        return self._own.get(work, work if self._own else "")

    def of(self, work: str | None) -> list[tuple[str, str | None]]:
        """A fact of the project wants a case for each of its 工程; a fact of one 工程 only its own, once an approval has named
        it: which 工程 adopts the project's cases is for the approvals to say, in their order."""
        if work is None:
            return list(self.current)
        return [(self.slot(work), work)] if work in self._own else []

    def at(self, slot: str) -> list[tuple[str, str | None]]:
        """A slot with the 工程 that goes on in it now; none, if none does."""
        return [(own, work) for own, work in self.current if own == slot]

    def origin(self, slot: str) -> str | None:
        """The slot that a split-off 工程 came of."""
        return self._origin.get(slot)


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
    """`live` in force, `resting` while their support is suspended, `uncovered` (utility, business kind) nobody serves;
    `declined` would be wanted, had the customer not chosen another operator."""

    live: Mapping[Identity, Want]
    resting: Mapping[Identity, Want]
    uncovered: frozenset[tuple[str, str]]
    declined: frozenset[Identity]
    applied: Mapping[Identity, int]
    """When the customer last applied for it by itself, ms."""


def wanted(supports: Iterable[Support], works: Works, chosen: Sequence[str], serving: Serving) -> Wanted:
    """From everything that supports a project's hookups. `chosen`: the operators the customer chose (empty: all)."""
    live: dict[Identity, Want] = {}
    resting: dict[Identity, Want] = {}
    uncovered: set[tuple[str, str]] = set()
    declined: set[Identity] = set()
    applied: dict[Identity, int] = {}
    for support in sorted((s for s in supports if s.standing != FALLEN), key=lambda s: s.rank):
        for want, mine in _wants(support, works, chosen, serving, uncovered):
            if not mine:
                declined.add(want.identity)
            else:
                (live if support.standing == IN_FORCE else resting).setdefault(want.identity, want)
                if support.asked:
                    applied[want.identity] = support.decided
    resting = {identity: want for identity, want in resting.items() if identity not in live}
    return Wanted(live, resting, frozenset(uncovered), frozenset(declined - live.keys() - resting.keys()), applied)


def _wants(
    support: Support, works: Works, chosen: Sequence[str], serving: Serving, uncovered: set[tuple[str, str]]
) -> Iterator[tuple[Want, bool]]:
    """Every case a support could want, and whether it does: not if the customer chose others for that utility. Who is to
    supply is the customer's choice, whose lines lie there is not."""
    for opening in support.openings:
        for utility in opening.utilities:
            named = [opening.operator] if opening.operator else None
            operators = named or serving(utility, support.site_regions, support.on)
            if not operators and support.standing == IN_FORCE:
                uncovered.add((utility, opening.business_kind))
            choice = () if opening.business_kind == "PROTECT" else chosen
            mine = named or [operator for operator in operators if operator in choice] or operators
            for operator in operators:
                for slot, work in works.of(support.work) if support.slot is None else works.at(support.slot):
                    identity = Identity(slot, operator, opening.business_kind, support.phase)
                    yield Want(identity, utility, work, opening.customer_role, support), operator in mine


def target(wants: Wanted, identity: Identity, progress: str | None) -> str | None:
    """Where a case should stand: OPEN, SUSPENDED or CANCELLED; None: leave it as it is."""
    if identity in wants.live:
        return OPEN
    if over(identity.business_kind, progress):
        return None
    if progress in ACCEPTED_ON or identity in wants.resting:
        return SUSPENDED
    return CANCELLED


@dataclass(slots=True)
class Case:
    """A case as it was last requested, and what the utility did. The fields are columns of `case_`."""

    id: str
    utility: str
    requested: str = NONE
    confirmed: bool = False
    round: int = 0
    content: str = ""
    said: str = "{}"
    progress: str | None = None
    progressed: int | None = None
    acknowledged: str | None = None
    protection: str | None = None
    plan: str | None = None
    opened: int = 0
    asked: int = 0
    receipt: str | None = None


class Content(NamedTuple):
    """What a request would say of the whole; when one of these changes, the case is amended. The paper that came to an
    earlier approval is not in it: it changes no case."""

    facts: str
    work: str
    regions: str
    zone: str
    demand: str
    missing: str = ""
    continues: str = ""
    permits: str = ""
    authorised: str = ""

    def __str__(self) -> str:
        return "\x1f".join(self)

    @property
    def opened(self) -> frozenset[str]:
        """The personal fields that the operator may see."""
        return frozenset(loads(self.authorised) if self.authorised else ())

    def why(self, before: str) -> str:
        """The reason of an amendment: the most particular of what changed since `before`."""
        old = Content(*before.split("\x1f"))
        if self.authorised != old.authorised:
            return "CONSENT_CHANGED"
        return "PERMITS_DECIDED" if self.permits != old.permits else "FACTS_CHANGED"


def again(case: Case, applied: int) -> bool:
    """Whether the customer applied anew after the case had ended without a supply: then it begins once more."""
    return case.progress in UNSUPPLIED and applied > (case.progressed or 0)


def next_status(
    identity: Identity, case: Case, aim: str | None, demanded: bool, content: Content, asked: bool = False
) -> str | None:
    """The next thing to say so that a case comes from where it stands to where it should; None: it is there.

    `demanded`: the company has confirmed its demand; `content`: what would be said now; `asked`: the customer applied, so
    that there is no lead.
    """
    now, ended = case.requested, over(identity.business_kind, case.progress)
    if aim == OPEN and not ended:
        if now in (NONE, CANCELLED):
            return "REQUESTED" if asked else "LEAD"
        if now == SUSPENDED:
            return "RESUMED"
        return (
            "REQUESTED"
            if (demanded or asked) and not case.confirmed
            else "AMENDED"
            if str(content) != case.content
            else None
        )
    if aim == SUSPENDED and (now == OPEN or (now == CANCELLED and case.progress in ACCEPTED_ON)):
        return "SUSPENDED"
    if aim == CANCELLED and now in (OPEN, SUSPENDED):
        return "CANCELLED"
    withdrawn = now == OPEN and Content(*case.content.split("\x1f")).opened - content.opened
    return "AMENDED" if withdrawn else None


AFTER: Mapping[str, str] = {
    "LEAD": OPEN,
    "REQUESTED": OPEN,
    "AMENDED": OPEN,
    "RESUMED": OPEN,
    "SUSPENDED": SUSPENDED,
    "CANCELLED": CANCELLED,
}
"""Where a case stands once this was said."""
