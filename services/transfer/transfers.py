"""Which transfers a unit's registrations want, what is to be said to bring one there, and which answers hold. Plain functions,
no database.

A transfer (过户) is one account of one registration with one operator. Before the account is known it is that operator's
whole utility. What is wanted follows from the facts alone, so every interleaving of the topics ends in the same transfers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, Protocol
from uuid import NAMESPACE_URL, uuid5

Facts = Mapping[str, Any]

UTILITIES = ("WATER", "POWER", "GAS", "TELECOM", "CABLE_TV")
"""水、电、气、通信、有线电视: what moves with a property, and what a pre-check asks for."""
WORDS: Mapping[str, str] = {
    **{utility: utility for utility in (*UTILITIES, "DRAINAGE", "HEAT")},
    "供水": "WATER", "自来水": "WATER", "水": "WATER", "供电": "POWER", "电": "POWER", "供气": "GAS", "燃气": "GAS",
    "气": "GAS", "通信": "TELECOM", "宽带": "TELECOM", "电信": "TELECOM", "有线电视": "CABLE_TV", "广电": "CABLE_TV",
    "排水": "DRAINAGE", "供热": "HEAT",
}  # fmt: skip
"""What registries call a utility."""

PRECHECK, EXECUTE, STOP = "PRECHECK", "EXECUTE", "STOP"
MOVE, CLOSE, LEAVE, OPEN = "MOVE", "CLOSE", "LEAVE", "UNKNOWN"
"""The applicant's choice for an account; OPEN: none yet, the account is looked for and nothing is done."""
PENDING, PRECHECKED, SETTLEMENT, UNMATCHED, DONE, DECLINED, STOPPED = (
    "PENDING", "PRECHECKED", "PENDING_SETTLEMENT", "UNMATCHED", "DONE", "DECLINED", "STOPPED",
)  # fmt: skip
ANSWERS: Mapping[str, frozenset[str]] = {
    PRECHECK: frozenset({PENDING, PRECHECKED, SETTLEMENT, UNMATCHED, DECLINED, DONE}),
    EXECUTE: frozenset({PENDING, SETTLEMENT, UNMATCHED, DONE, DECLINED}),
    STOP: frozenset({STOPPED, DONE}),
}
"""What may be answered to a step. DONE to another step than EXECUTE: it was done before."""
FINAL = frozenset({DONE, DECLINED, STOPPED})
MATCHED = frozenset({PRECHECKED, SETTLEMENT, DONE})
"""Answers whose account is that of the unit: it is remembered."""
ABSENT_OWNER = frozenset({"INHERITANCE", "COURT_SALE"})
"""继承、司法拍卖: the former owner cannot be asked. The arrears are a debt of the contract with that owner (民法典 465), an heir's
within what was inherited (民法典 1161): they are told, and keep no account back; no automatic debit of that owner survives."""
DIVIDED = frozenset({"SPLIT", "MERGE"})
NOTHING: tuple[str | None, int] = (None, 0)
"""What a person decided of a transfer (account matched, times seen paid), before one did."""


class Choice(NamedTuple):
    """What the applicant chose for one account; `account` None: not known, then it is about the whole utility."""

    utility: str
    operator: str | None
    account: str | None
    choice: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration (不动产登记) of one unit, as last told; `data`: all that was told of it. `on`: the day that says which
    operators serve there."""

    subject: str
    source: str
    number: str
    kind: str
    status: str
    data: Facts
    on: date

    @property
    def basis(self) -> str | None:
        return self.data.get("transfer_basis")

    @property
    def live(self) -> bool:
        return self.status in ("ACCEPTED", "REGISTERED") and not self.data["historical"] and self.kind != "FIRST"


class Link(NamedTuple):
    """An account known to supply a unit."""

    subject: str
    operator: str
    account: str


@dataclass(frozen=True, slots=True)
class Want:
    """A transfer that is wanted. `group`: all operators asked for the same account or utility of one registration share it."""

    id: str
    registration: Registration
    operator: str
    utility: str
    key: str
    account: str | None
    step: str
    choice: str
    decided: tuple[str | None, int] = NOTHING

    @property
    def group(self) -> str:
        return f"{self.registration.number}/{self.key}"


class Serving(Protocol):
    """A city's operators: who serves these regions on that day."""

    def __call__(self, utility: str, regions: Sequence[str], on: date) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """`uncovered`: (registration, utility) chosen, and nobody serves it. `unclear`: (registration, number of the choice) that
    cannot be understood: an unknown utility or operator, or two choices for one account."""

    live: dict[str, Want] = field(default_factory=dict[str, Want])
    uncovered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    unclear: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])


@dataclass(frozen=True, slots=True)
class Known:
    """What else decides: the city's operators with their utility, who serves where, open links of the unit, a person's
    decisions by transfer, and the accounts that came to the unit by a split or merge."""

    operators: Mapping[str, str]
    serving: Serving
    links: Sequence[Link] = ()
    decided: Mapping[str, tuple[str | None, int]] = field(default_factory=dict[str, tuple[str | None, int]])
    inherited: Sequence[Link] = ()


def transfer_id(registration: str, unit: str, operator: str, key: str) -> str:
    return str(uuid5(NAMESPACE_URL, "\x1f".join((registration, unit, operator, key))))


def wanted(registrations: Iterable[Registration], known: Known) -> Wanted:
    """From everything that is registered of a unit."""
    found = Wanted()
    for registration in sorted(registrations, key=lambda r: (r.number, r.source)):
        if registration.live:
            for want in _wants(registration, known, found):
                found.live.setdefault(want.id, want)
    return found


def _wants(registration: Registration, known: Known, found: Wanted) -> Iterator[Want]:
    for choice in (*_choices(registration, known, found), *_unchosen(registration), *_inherited(registration, known)):
        step = PRECHECK if registration.status == "ACCEPTED" else EXECUTE
        if step == EXECUTE and choice.choice == OPEN:
            continue
        operators = [choice.operator] if choice.operator else _asked(registration, choice, known)
        if not operators and choice.choice != OPEN:
            found.uncovered.add((registration.number, choice.utility))
        for operator in operators:
            yield _want(registration, choice, operator, step, known)


def _want(registration: Registration, choice: Choice, operator: str, step: str, known: Known) -> Want:
    key = choice.account or choice.utility
    id = transfer_id(registration.number, registration.subject, operator, key)
    linked = [link.account for link in known.links if link.operator == operator]
    decided = known.decided.get(id, NOTHING)
    account = decided[0] or choice.account or (linked[0] if len(linked) == 1 else None)
    return Want(id, registration, operator, choice.utility, key, account, step, choice.choice, decided)


def _asked(registration: Registration, choice: Choice, known: Known) -> Sequence[str]:
    """Whoever is known to keep this account; else whoever serves there: one who does not know it says so."""
    keeping = {link.operator for link in known.links if link.account == choice.account}
    mine = sorted(operator for operator in keeping if known.operators.get(operator) == choice.utility)
    return mine or known.serving(choice.utility, registration.data["site_regions"], registration.on)


def _choices(registration: Registration, known: Known, found: Wanted) -> list[Choice]:
    """What the applicant chose. Co-owners (共有人) may each name an account: it moves once. Two different choices for one
    account are none: it is checked, and a person asks them."""
    chosen: dict[tuple[str, str | None, str | None], Choice] = {}
    for n, told in enumerate(registration.data["accounts"]):
        utility, operator = WORDS.get(told["utility"]), told.get("operator")
        if utility is None or (operator is not None and known.operators.get(operator) != utility):
            found.unclear.add((registration.number, n))
            continue
        choice = Choice(utility, operator, told["account"], told["choice"])
        before = chosen.setdefault(choice[:3], choice)
        if before.choice != choice.choice:
            found.unclear.add((registration.number, n))
            chosen[choice[:3]] = choice._replace(choice=OPEN)
    return list(chosen.values())


def _unchosen(registration: Registration) -> list[Choice]:
    """At the counter each utility of which nothing is chosen yet is looked up, so that the parties can choose."""
    if registration.kind != "TRANSFER" or registration.status != "ACCEPTED":
        return []
    named = {WORDS.get(told["utility"]) for told in registration.data["accounts"]}
    return [Choice(utility, None, None, OPEN) for utility in UTILITIES if utility not in named]


def _inherited(registration: Registration, known: Known) -> list[Choice]:
    """Accounts of the units it was made from that came to it."""
    if registration.kind not in DIVIDED or registration.status != "REGISTERED":
        return []
    told = {account["account"] for account in registration.data["accounts"]}
    return [
        Choice(known.operators[link.operator], link.operator, link.account, MOVE)
        for link in sorted(known.inherited)
        if link.account not in told and link.operator in known.operators
    ]


# -- split and merge ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Heirs:
    """`given`: account of a predecessor → the unit it goes to, None: to none. `ambiguous`: those a person must give."""

    given: Mapping[Link, str | None]
    ambiguous: frozenset[Link]


def heirs(family: Sequence[Registration], links: Iterable[Link], decided: Mapping[Link, str | None]) -> Heirs:
    """Where the accounts of divided or merged units go (分割、合并). `family`: every unit's registration of one correlation.

    One account of an operator and one unit that follows: it goes there. Otherwise a person gives each. Nothing is given
    before every unit of it is entered in the register. An account that its own unit's registration names is disposed of there.
    """
    entered = {r.subject: r for r in family if r.status == "REGISTERED" and r.kind in DIVIDED and r.live}
    successors = {unit for r in entered.values() for unit in r.data["successors"]}
    before = {unit for r in entered.values() for unit in r.data["predecessors"]} | {
        r.subject for r in entered.values() if r.data["successors"]
    }
    if not successors or not (successors | before) <= entered.keys():
        return Heirs({}, frozenset())
    named = {(r.subject, told["account"]) for r in entered.values() for told in r.data["accounts"]}
    old = [link for link in links if link.subject in before and (link.subject, link.account) not in named]
    by_operator: defaultdict[str, list[Link]] = defaultdict(list)
    for link in old:
        by_operator[link.operator].append(link)
    given: dict[Link, str | None] = {}
    for mine in by_operator.values():
        for link in mine:
            if link in decided and (decided[link] is None or decided[link] in successors):
                given[link] = decided[link]
            elif len(mine) == 1 and len(successors) == 1:
                (given[link],) = successors
    return Heirs(given, frozenset(link for link in old if link not in given))


# -- what to say -------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Transfer:
    """A transfer as it was last asked: `asked` holds (step, choice) of each round; `answer` what its operator said last, to
    which round, and when that was (ms)."""

    id: str
    operator: str
    registration: str
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    content: str = ""
    answer: str | None = None
    answered_round: int = 0
    told: Facts = field(default_factory=dict[str, Any])

    @property
    def round(self) -> int:
        return len(self.asked)

    @property
    def step(self) -> str | None:
        return self.asked[-1][0] if self.asked else None

    @property
    def current(self) -> str | None:
        """The answer to what was asked last; None: not yet."""
        return self.answer if self.answered_round == self.round else None

    @property
    def done(self) -> str | None:
        """The choice that was carried out, if one was."""
        if self.answer != DONE:
            return None
        executed = [choice for step, choice in self.asked[: self.answered_round] if step == EXECUTE]
        return executed[-1] if executed else None


def next_step(transfer: Transfer, want: Want | None, content: str) -> str | None:
    """What is to be said now; None: it stands where it should. `content` names what would be said."""
    if transfer.answer == DONE:
        return None
    if want is not None:
        return want.step if content != transfer.content else None
    return None if transfer.step in (None, STOP) else STOP


def content(said: Facts, decided: tuple[str | None, int]) -> str:
    """Names what a request says. `decided`: the account a person matched, and how often someone saw it paid; each is something
    new to say. An account that is only remembered is not: often this operator told us itself. Of a sealed value only whose
    it is: sealing the same anew changes its bytes."""
    plain = {name: _bare(value) for name, value in said.items() if name != "account"}
    return hashlib.sha256(repr((decided, sorted(plain.items()))).encode()).hexdigest()[:32]


def _bare(value: Any) -> str:
    return str(value["key"]) if isinstance(value, Mapping) else repr(value)  # pyright: ignore[reportUnknownArgumentType]


def refusal(transfer: Transfer | None, data: Facts, operator: str) -> str | None:
    """Why an answer cannot be taken; None: it holds. `operator`: whose system it came from."""
    if transfer is None:
        return "it answers a transfer that nobody asked for"
    if not operator == data["operator"] == transfer.operator or data["registration"] != transfer.registration:
        return "the transfer is another operator's, or of another registration"
    status, round = data["status"], data["answers_round"]
    if not 1 <= round <= transfer.round:
        return "it answers a request that was not made"
    asked = [step for step, _ in transfer.asked[:round]]
    if status not in ANSWERS[asked[-1]] or (status == DONE and EXECUTE not in asked):
        return f"{status} is no answer to {asked[-1]}"
    if round < transfer.answered_round:
        return "a newer request was answered before"
    return None if transfer.answer is None else _contradiction(transfer, data, round)


def _contradiction(transfer: Transfer, data: Facts, round: int) -> str | None:
    before, status = transfer.answer, data["status"]
    if before == DONE:
        same = status == DONE and all(data[name] == transfer.told.get(name) for name in ("account", "new_account"))
        return None if same else "it contradicts what was done"
    if before in FINAL and round == transfer.answered_round and status != before:
        return f"it contradicts {before}, which was final"
    return None


def tasks(wants: Wanted, transfers: Mapping[str, Transfer], told_of: Collection[str]) -> dict[tuple[str, str], str]:
    """(kind, about) → what a person is asked, as far as it follows from the facts. `told_of`: transfers whose remaining
    arrears were told to whom they concern."""
    due: dict[tuple[str, str], str] = {}
    for number, utility in wants.uncovered:
        due["uncovered", f"{number}/{utility}"] = f"nobody serves {utility} there: find the operator"
    for number, n in wants.unclear:
        due["unclear", f"{number}/{n}"] = (
            f"choice {n + 1} names no utility or operator of this city, or contradicts another"
        )
    groups: defaultdict[str, list[str | None]] = defaultdict(list)
    for id, want in wants.live.items():
        if want.choice != OPEN and id in transfers:
            groups[want.group].append(transfers[id].current)
    for group, answers in groups.items():
        if all(answer == UNMATCHED for answer in answers):
            due["unmatched", group] = "no operator finds this account: match it by hand"
    for id, transfer in transfers.items():
        due |= {(kind, id): text for kind, text in _of(transfer, wants.live.get(id), id in told_of)}
    return due


def _of(transfer: Transfer, want: Want | None, told: bool) -> Iterator[tuple[str, str]]:
    if want and want.step == EXECUTE and transfer.current == DECLINED:
        yield "declined", f"{transfer.operator} declined to {want.choice.lower()} the account"
    if transfer.done and (want is None or (want.step, want.choice) != (EXECUTE, transfer.done)):
        yield (
            "done-otherwise",
            f"{transfer.operator}: {transfer.done.lower()} was done, and is not what is wanted now; decide",
        )
    if transfer.done and transfer.told.get("arrears_stay") and transfer.told.get("arrears") and not told:
        yield "arrears-stay", f"{transfer.operator}: arrears stay with the former owner: tell the estate or the buyer"


LEVEL = ("uncovered", "unclear", "unmatched", "declined", "done-otherwise", "arrears-stay", "successor")
"""Tasks that open and close with the facts."""
