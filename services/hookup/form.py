"""The one form (一张表单): what the city asks of a subject over all its cases, what is known of it and from whom, and what
is left to ask. What a field holds is read from the schema, so a form asks for nothing that an event cannot carry."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, cast

from jietong.catalog import Catalog
from jietong.city import City, Name
from jietong.errors import UsageError
from jietong.store import Row, Transaction
from services.hookup.cases import OPEN, SUSPENDED
from services.hookup.facts import loads
from services.hookup.knowing import Known
from services.hookup.learning import ACCEPTANCE, DEMAND, REQUESTED
from services.hookup.machine import LINES
from services.hookup.names import Names

AMOUNT, COUNT, YES_NO, VOLTAGE, DAY, TEXT, SEALED = "amount", "count", "yes-no", "voltage", "day", "text", "sealed"
MOST_COUNT = 1_000_000
NUMBER = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?", re.ASCII)
"""A comma parts thousands and nothing else: what may stand for a decimal point is refused, never guessed."""
IN_VOLTS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,2})? ?k?V", re.ASCII | re.IGNORECASE)
YES, NO = frozenset({"1", "true", "yes", "y", "是"}), frozenset({"0", "false", "no", "n", "否"})
LONGEST = 500
NEEDS: Mapping[str, Name] = {
    COUNT: Name("须为 0 至 1,000,000 的整数", "must be a whole number from 0 to 1,000,000"),
    YES_NO: Name("须为是或否", "must be yes or no"),
    DAY: Name("须为日期，如 2026-03-01", "must be a day such as 2026-03-01"),
    VOLTAGE: Name("须为数字加 V 或 kV，如 380V、10kV", "must be a number and V or kV, such as 380V or 10kV"),
    TEXT: Name("须为 1 至 500 个字，不含控制字符", "must be 1 to 500 characters, none of them a control character"),
    SEALED: Name("联系方式只经授权提供", "contact data is given by consent only"),
}  # fmt: skip
"""The range of each kind of field in words; an amount's depends on its digits."""
HINTS: Mapping[str, Name] = {
    COUNT: Name("整数", "a whole number"),
    VOLTAGE: Name("如 380V、10kV", "such as 380V or 10kV"),
}
"""A word beside an empty field."""
UNKNOWN_FIELD = Name("表单中没有此项", "no field of the form")
INVESTMENT = Name("投资项目平台", "the investment platform")
COMPANY = Name("企业本人", "the company itself")


class FormError(UsageError):
    """Fields that were refused, each with its range in words; nothing was written. A value never stands in it."""

    def __init__(self, errors: Mapping[str, Name]) -> None:
        super().__init__("; ".join(f"{field}: {why.en} ({why.zh})" for field, why in errors.items()))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form: `demand.<name>`, which the company decides, or `project.<name>`, which a platform knows.

    `most` and `scale`: of an amount, the largest and its decimals.
    """

    name: str
    title: Name
    kind: str
    most: Decimal = Decimal(0)
    scale: int = 0

    @property
    def own(self) -> bool:
        return self.name.startswith("demand.")

    @property
    def hint(self) -> Name | None:
        """A word on what it holds."""
        if self.kind == AMOUNT:
            return Name(f"数字，至多 {self.scale} 位小数", f"a number, at most {self.scale} decimals")
        return HINTS.get(self.kind)

    @property
    def range(self) -> Name:
        """What it may hold, in words."""
        if self.kind != AMOUNT:
            return NEEDS[self.kind]
        return Name(
            f"须为 0 至 {self.most:,} 的数，至多 {self.scale} 位小数，写作 1250.5 或 1,250.5",
            f"must be a number from 0 to {self.most:,} with at most {self.scale} decimals, written as 1250.5 or 1,250.5",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A field as the company finds it. `source`: from whom its value is; None: it is to be asked."""

    field: Field
    value: Any
    source: Name | None


@dataclass(frozen=True, slots=True)
class Form:
    """What is asked of one 工程 and phase. `offers`: by utility, the operators among whom the customer chooses."""

    work: str
    phase: int
    entries: tuple[Entry, ...]
    offers: Mapping[str, tuple[str, ...]]
    confirmed: bool

    @property
    def asked(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.source is None]


ORDER = ("WATER", "DRAINAGE", "POWER", "GAS", "TELECOM", "CABLE_TV", "HEAT")


def fields_of(catalog: Catalog) -> dict[str, Field]:
    """Every field that a request can carry of the project and of demand, as the newest schema has it."""
    records = {f["name"]: f["type"] for f in catalog.schemas[REQUESTED][-1].definition["fields"]}
    found: dict[str, Field] = {}
    for room in ("project", "demand"):
        for f in _plain(records[room])["fields"]:
            name = f"{room}.{f['name']}"
            found[name] = _field(name, f)
    return found


def read(field: Field, text: str) -> Any:
    """What a person wrote, as the value it stands for; None for nothing. Raises FormError."""
    value = parsed(field, text)
    if why := wrong(field, value):
        raise FormError({field.name: why})
    return value


def parsed(field: Field, text: str) -> Any:
    """What a person wrote, as the value it stands for, in its range or not."""
    return READ[field.kind](text.strip()) if text.strip() else None


def folded(text: str) -> str:
    """A text with every run of white space, line ends and the wide space (U+3000) of Chinese text too, as one space."""
    return " ".join(text.split())


def wrong(field: Field, value: Any) -> Name | None:
    """Why a value is not in its range; None: it is, or it is nothing."""
    if value is None:
        return None
    fits = _is_amount(field, value) if field.kind == AMOUNT else FITS[field.kind](value)
    return None if fits else field.range


def forms(
    tx: Transaction, told: Known, names: Names, fields: Mapping[str, Field], said: Mapping[tuple[str, int], Mapping[str, Any]], on: date
) -> list[Form]:  # fmt: skip
    """One for each 工程 and phase with an open case. `said`: the demand that the company stated, by 工程 and phase."""
    city = names.city
    open_ = [(identity, case) for identity, case in told.cases.items() if case.requested in (OPEN, SUSPENDED)]
    known = {**_known(tx, told.subject, names), **_consented(told)}
    made: list[Form] = []
    for slot in sorted({(identity.work, identity.phase) for identity, _ in open_}):
        mine = [(identity, case) for identity, case in open_ if (identity.work, identity.phase) == slot]
        mine.sort(key=lambda one: (ORDER.index(one[1].utility) if one[1].utility in ORDER else len(ORDER), one[0]))
        asked = dict.fromkeys(f for i, c in mine for f in city.fields(c.utility, i.business_kind) if f in fields)
        demand = said.get(slot) or said.get(("", slot[1])) or {}
        entries = tuple(_entry(fields[name], known, demand) for name in asked)
        supplied = dict.fromkeys(c.utility for i, c in mine if i.business_kind not in LINES)
        offers = {u: offered for u in supplied if len(offered := _offered(told, city, u, on)) > 1}
        made.append(Form(*slot, entries, offers, slot in said))
    return made


def _offered(told: Known, city: City, utility: str, on: date) -> tuple[str, ...]:
    """Who may be chosen: whoever serves the site, and whoever has a case there."""
    serving = {operator.id for operator in city.serving(utility, told.where.site_regions, on, told.red_line)}
    return tuple(
        sorted(serving | {identity.operator for identity, case in told.cases.items() if case.utility == utility})
    )


def _entry(field: Field, known: Mapping[str, tuple[Any, Name]], demand: Mapping[str, Any]) -> Entry:
    if field.own:
        value = demand.get(field.name.partition(".")[2])
        return Entry(field, value, None if value is None else COMPANY)
    value, source = known.get(field.name, (None, None))
    return Entry(field, value, source)


def _known(tx: Transaction, subject: str, names: Names) -> dict[str, tuple[Any, Name]]:
    """What the platforms know and which of them said so; the earlier in this order is believed (`knowing.Known`)."""
    found: dict[str, tuple[Any, Name]] = {}
    for source, text in _told(tx, subject, names):
        for name, value in loads(text).items():
            if value is not None:
                found.setdefault(f"project.{name}", (value, source))
    return found


def _told(tx: Transaction, subject: str, names: Names) -> Iterator[tuple[Name, str]]:
    by = {"subject": subject}
    surveys = "SELECT survey, facts FROM survey WHERE subject = :subject AND facts IS NOT NULL ORDER BY published DESC, survey"
    for number, facts in tx.execute(surveys, by).all():
        yield Name(f"多测合一成果 {number}", f"survey {number}"), facts
    for (facts,) in tx.execute("SELECT facts FROM project WHERE subject = :subject", by).all():
        yield INVESTMENT, facts
    supports = """SELECT type, decision_kind, document, item, facts FROM support
    WHERE subject = :subject AND facts IS NOT NULL ORDER BY decided, type, item"""
    for row in tx.execute(supports, by).all():
        yield _approval(row, names), row[4]


def _approval(row: Row, names: Names) -> Name:
    type, kind, document, item = row[:4]
    if type == DEMAND:
        return COMPANY
    called, number = names.of("AcceptanceKind" if type == ACCEPTANCE else "DecisionKind", kind or ""), document or item
    return Name(f"{called.zh} {number}", f"{called.en} {number}")


def _consented(told: Known) -> dict[str, tuple[Any, Name]]:
    """Contact data is known once it was opened to one operator; it is never shown."""
    return {f"project.{name}": ("", COMPANY) for contact in told.consents.values() for name in contact}


# -- kinds -----------------------------------------------------------------------------------------------------------------
def _field(name: str, f: Mapping[str, Any]) -> Field:
    type = _plain(f["type"])
    made = cast("Mapping[str, Any]", type) if isinstance(type, Mapping) else {"type": type}
    title = Name(f.get("zh", name), f.get("doc", f["name"]).rstrip(".").partition(";")[0])
    if made.get("logicalType") == "decimal":
        scale = made.get("scale", 0)
        return Field(name, title, AMOUNT, (10 ** Decimal(made["precision"]) - 1).scaleb(-scale), scale)
    word = "voltage" if f["name"] == "voltage" else made.get("logicalType") or made["type"]
    return Field(name, title, KINDS.get(word, TEXT))


def _plain(type: Any) -> Any:
    """A type without its null."""
    members: Iterable[Any] = cast("list[Any]", type) if isinstance(type, list) else [type]
    return next(member for member in members if member != "null")


def _amount(text: str) -> Any:
    digits = _digits(text)
    return text if digits is None else Decimal(digits)


def _count(text: str) -> Any:
    digits = _digits(text)
    return int(digits) if digits and digits.isdecimal() and len(digits) < 10 else text


def _digits(text: str) -> str | None:
    """A number without its commas; None: it is none. Wide digits are what a Chinese keyboard writes."""
    plain = unicodedata.normalize("NFKC", text)
    return plain.replace(",", "") if NUMBER.fullmatch(plain) else None


def _is_amount(field: Field, value: Any) -> bool:
    return (
        isinstance(value, Decimal)
        and value.is_finite()
        and 0 <= value <= field.most
        and value == round(value, field.scale)
    )


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(date.fromisoformat(value))
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


KINDS: Mapping[str, str] = {
    "int": COUNT,
    "long": COUNT,
    "boolean": YES_NO,
    "Sealed": SEALED,
    "record": SEALED,
    "date": DAY,
    "voltage": VOLTAGE,
}
READ: Mapping[str, Callable[[str], Any]] = {
    AMOUNT: _amount,
    COUNT: _count,
    YES_NO: lambda text: True if text.lower() in YES else False if text.lower() in NO else text,
    VOLTAGE: str,
    DAY: str,
    TEXT: folded,
    SEALED: str,
}
FITS: Mapping[str, Callable[[Any], bool]] = {
    COUNT: lambda value: type(value) is int and 0 <= value <= MOST_COUNT,
    YES_NO: lambda value: isinstance(value, bool),
    VOLTAGE: lambda value: isinstance(value, str) and IN_VOLTS.fullmatch(value) is not None,
    DAY: _is_day,
    TEXT: _is_text,
    SEALED: lambda _value: False,
}
