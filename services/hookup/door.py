"""The company's door (企业之门): what a company says of its hookups enters as events of hookup's own outbox.

A call is one transaction: all its events or, if anything of it was refused, none. `key` is the company's idempotency key:
a retry after an unknown outcome is one call. What is said here takes effect when hookup learns it from the log.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

from jietong.city import City, Name
from jietong.contract import Contract
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.identifiers import DivisionCode, InvalidIdentifierError, kind_of
from jietong.keys import Keys
from jietong.store import Store, Transaction
from services.hookup.form import NEEDS, SEALED, UNKNOWN_FIELD, FormError, fields_of, folded, parsed, wrong
from services.hookup.knowing import Known
from services.hookup.learning import DEMAND
from services.hookup.machine import KINDS
from services.hookup.word import Said, said, speakers

FIELDS = (
    "water_m3_per_day", "water_pipe_dn_mm", "fire_supply", "drainage_m3_per_day", "power_kva_temporary", "power_kva_permanent", "voltage",
    "dual_supply", "gas_m3_per_hour", "telecom_cores", "cable_terminals",
)  # fmt: skip
NOTHING: Mapping[str, Any] = {
    "work": None, "phase": 1, "operators_chosen": [], "demand": dict.fromkeys(FIELDS), "demand_basis": "UNKNOWN",
    "confirmed_by_uscc": None, "contact_name": None, "contact_phone": None,
}  # fmt: skip
APPLICABLE = tuple(kind for kind in KINDS if kind != "PROTECT")
"""What a customer may apply for; protection is asked by the works of others."""
PROJECTS = ("project", "local")
"""Kinds of subject that are a project: one outside China has a local code."""
ROLES = ("DEVELOPER", "CONTRACTOR", "OCCUPANT")
PHONE = re.compile(r"\+?[0-9][0-9 -]{4,18}[0-9]", re.ASCII)
PERSONAL = re.compile(
    r"(?<!\d)(?:(?:00)?86~|0)?1[3-9](?:~\d){9}(?!\d)"
    r"|(?<!\d)(?:\d~){6}(?:1~9|2~0)(?:~\d){2}~[01]~\d~[0-3](?:~\d){4}~[\dXx](?!\d)".replace("~", r"[\s().·‐-―−-]?"), re.ASCII
)  # fmt: skip
"""A mobile phone number with or without its country, or an identity number (GB 11643), inside a text that is kept as it is;
written together or with a mark between digits."""
LONGEST_NAME, LONGEST_TEXT, LONGEST_ADDRESS, MOST_PHASES, MOST_REGIONS = 50, 1000, 500, 99, 20
EARLIEST = date(2000, 1, 1)

NO_OPERATOR = Name("没有这家公用企业", "no such operator in this city")
NOT_SERVING = Name("该企业不服务此地点", "this operator does not serve the site")
NONE_GIVEN = Name("请至少选择一家企业", "name at least one operator")
NOTHING_STATED = Name("请先确认用能需求，再选择企业", "confirm the demand first, then choose")
NO_WORK = Name("没有这个工程代码", "no 工程 of this project has that code")
BAD_PHASE = Name("须为 1 至 99 的整数", "must be a whole number from 1 to 99")
BAD_NAME = Name("须为 1 至 50 个字", "must be 1 to 50 characters")
BAD_PHONE = Name("须为 6 至 20 位电话号码", "must be a phone number of 6 to 20 digits, spaces and hyphens")
BAD_TEXT = Name("须为 1 至 1000 个字，不含控制字符", "must be 1 to 1000 characters, none of them a control character")
HAS_PERSONAL = Name(
    "请勿填写手机号、身份证号等个人信息", "must not hold personal data such as a phone or identity number"
)
BAD_DAY = Name("须为 2000 年以来、不晚于今天的日期", "must be a day since 2000 and not after today")
NOT_A_PROJECT = Name("只有项目可以报开工", "only the works of a project begin")
BAD_UTILITY = Name("本市没有这类公用事业", "no operator of this city supplies that")
BAD_KIND = Name("须为可申请的业务类型", f"must be one of {', '.join(APPLICABLE)}")
BAD_ROLE = Name("须为用户身份之一", f"must be one of {', '.join(ROLES)}")
BAD_ADDRESS = Name("须为 1 至 500 个字的用能地址", "must be the address to be supplied, 1 to 500 characters")
BAD_REGION = Name("须为 6、9 或 12 位行政区划代码", "must be a division code of 6, 9 or 12 digits (GB/T 2260)")
MANY_REGIONS = Name(f"至多 {MOST_REGIONS} 个行政区划代码", f"must be at most {MOST_REGIONS} division codes")
UNSERVED = Name("本市没有企业在该区划供应", "must lie where an operator of this utility serves")
BAD_AUTHORITY = Name("须为 6 位行政区划代码", "must be a division code of 6 digits (GB/T 2260)")
NO_APPLICATION = Name("没有这个申请", "the company made no such application")
NO_SUBJECT = Name(
    "须为项目代码、不动产单元代码或统一社会信用代码", "must be a project code, a unit code or a social credit code"
)


class Publishes(Protocol):
    """The outbox."""

    @property
    def source(self) -> str: ...
    @property
    def contract(self) -> Contract: ...
    def once(self, tx: Transaction, key: str, *drafts: Draft) -> list[UUID]: ...


class Door:
    """`city`: whose operators may be named (none: they are not checked). `keys`: what seals contact data (none: no
    contact data passes here). Every call raises FormError naming each field that is refused."""

    def __init__(self, store: Store, outbox: Publishes, city: City | None = None, keys: Keys | None = None) -> None:
        self.store, self.outbox, self.city = store, outbox, city
        self._keys = keys
        self._zone = ZoneInfo(city.working.zone if city else "Asia/Shanghai")
        self._fields = fields_of(outbox.contract.catalog)

    # -- the one form --------------------------------------------------------------------------------------------------
    def confirm(
        self, subject: str, demand: Mapping[str, Any], *, key: str, now: datetime, operators: Sequence[str] | None = None,
        work: str | None = None, phase: int = 1, facts: Mapping[str, str] | None = None,
    ) -> list[UUID]:  # fmt: skip
        """The demand of a project, or of one 工程 and phase of it, as its company confirms or corrects it.

        What is not named stays as it was said before, operators too (an empty list: all). `facts`: what no platform knows, by
        `project.<name>`, in the company's words; the office verifies it, since only a platform states facts.
        """
        with self.store.transaction() as tx:
            told, word = self._told(tx, subject), self._said(tx, subject)
            chosen = word.chosen if operators is None else tuple(sorted(set(operators)))
            self._refuse({
                **self._wrong_demand(demand), **self._wrong_facts(facts or {}), **_wrong_work(told, work, phase),
                **self._wrong_operators(told, operators or (), now),
            })  # fmt: skip
            slot = (told.works.slot(work) if work else "", phase)
            before = word.stated.get(slot)
            whole = {**(before.demand if before else {}), **demand}
            drafts = [
                self._draft(subject, now, "CORRECTED" if before else "CONFIRMED", **_stated(slot, whole, chosen)),
                *self._chosen(subject, now, word, chosen, slot),
                *(self._objection(subject, now, field, text) for field, text in sorted((facts or {}).items())),
            ]  # fmt: skip
            return self.outbox.once(tx, key, *drafts)

    def choose(self, subject: str, operators: Sequence[str], *, key: str, now: datetime) -> list[UUID]:
        """These operators and no other of their utilities (telecom is the customer's choice). None: all, of every utility."""
        with self.store.transaction() as tx:
            told, word = self._told(tx, subject), self._said(tx, subject)
            errors = self._wrong_operators(told, operators, now)
            self._refuse(errors or ({} if word.stated else {"operators": NOTHING_STATED}))
            utilities = {self._utility(operator) for operator in operators}
            kept = [o for o in word.chosen if self._utility(o) not in utilities] if operators else []
            chosen = tuple(sorted({*kept, *operators}))
            return self.outbox.once(tx, key, *self._chosen(subject, now, word, chosen))

    def begun(self, subject: str, day: date, *, key: str, now: datetime) -> list[UUID]:
        """The works of the project began on this day (建筑法 9)."""
        late = not EARLIEST <= day <= now.astimezone(self._zone).date()
        self._refuse(
            ({} if kind_of(subject) in PROJECTS else {"subject": NOT_A_PROJECT}) | ({"day": BAD_DAY} if late else {})
        )
        return self._publish(key, self._draft(subject, now, "WORKS_BEGUN", begun_on=day))

    def object(self, subject: str, text: str, *, key: str, now: datetime, field: str | None = None) -> list[UUID]:
        """What is wrong, with a field of the form or with anything; the office answers. Nothing personal."""
        self._refuse({
            **self._wrong_subject(subject), **self._wrong_about(field), **({"text": why} if (why := _wrong_text(text)) else {}),
        })  # fmt: skip
        return self._publish(key, self._objection(subject, now, field, text))

    # -- contact data --------------------------------------------------------------------------------------------------
    def consent(
        self, subject: str, operators: Sequence[str], name: str, phone: str, *, key: str, now: datetime
    ) -> list[UUID]:
        """Open contact data to these operators, to each under a key of its own.

        Raises UsageError where no keys are kept.
        """
        keys = self._kept()
        name, phone = folded(name), folded(phone)
        with self.store.transaction() as tx:
            self._refuse({
                **self._wrong_operators(self._told(tx, subject), operators, now),
                **({} if operators else {"operators": NONE_GIVEN}),
                **({} if 0 < len(name) <= LONGEST_NAME and name.isprintable() else {"contact_name": BAD_NAME}),
                **({} if PHONE.fullmatch(phone) else {"contact_phone": BAD_PHONE}),
            })  # fmt: skip
            drafts = [
                self._draft(subject, now, "CONSENTED", operators_chosen=[operator],
                            contact_name=keys.seal(subject, purpose(operator), name),
                            contact_phone=keys.seal(subject, purpose(operator), phone))
                for operator in sorted(set(operators))
            ]  # fmt: skip
            return self.outbox.once(tx, key, *drafts)

    def withdraw(self, subject: str, operators: Sequence[str], *, key: str, now: datetime) -> list[UUID]:
        """Take consent back, at once: the keys are destroyed first, so what was opened is unreadable in every copy even if we
        end before the events are kept; `settle` says them then. No consent is given meanwhile, and a call that was kept
        already destroys nothing: a consent may have followed it.

        Raises UsageError where no keys are kept.
        """
        keys = self._kept()
        unknown = {o for o in operators if self.city and o not in self.city.operators}
        named = {"operators": NO_OPERATOR if unknown else NONE_GIVEN} if unknown or not operators else {}
        self._refuse(self._wrong_subject(subject) | named)
        withdrawn = sorted(set(operators))
        with self.store.transaction() as tx:
            if not tx.execute("SELECT 1 FROM idempotency WHERE key = :key", {"key": key}).one():
                for operator in withdrawn:
                    keys.erase(subject, purpose(operator))
            return self.outbox.once(tx, key, *(self._withdrawal(subject, operator, now) for operator in withdrawn))

    def settle(self, now: datetime) -> int:
        """Say the withdrawals whose keys were destroyed but which were never said; returns how many. Before the first call
        of a process.

        Judged by the newest word in the outbox itself: what hookup has learned may be older.
        """
        with self.store.snapshot() as tx:
            cut_short = [subject for subject in speakers(tx, self.outbox.source) if self._gone(tx, subject)]
        return sum(self._settle(subject, now) for subject in cut_short)

    def _settle(self, subject: str, now: datetime) -> int:
        with self.store.transaction() as tx:
            gone = self._gone(tx, subject)
            for operator, name in gone.items():
                self.outbox.once(tx, f"gone/{name}", self._withdrawal(subject, operator, now))
        return len(gone)

    def _gone(self, tx: Transaction, subject: str) -> dict[str, str]:
        """By operator whose consent stands though its key was destroyed: the name of the key."""
        keys = self._kept()
        return {
            operator: sealed["key"]
            for operator, consent in sorted(self._said(tx, subject).consents.items())
            for sealed in consent.contact.values()
            if keys.open_for(sealed, subject, purpose(operator)) is None
        }

    # -- applications --------------------------------------------------------------------------------------------------
    def apply(
        self, subject: str, utility: str, business_kind: str, *, key: str, now: datetime, operators: Sequence[str] = (),
        demand: Mapping[str, Any] | None = None, site_regions: Sequence[str] = (), authority_region: str | None = None,
        address: str | None = None, customer_role: str = "OCCUPANT", phase: int = 1,
    ) -> str:  # fmt: skip
        """An application of the customer's own (电力供应与使用条例 23), with or without a project; returns its number.

        Where the subject's site is not known from a platform, `site_regions` (each once, where the utility serves) and
        `address` say it.
        """
        named, address = list(dict.fromkeys(site_regions)), None if address is None else folded(address)
        number = str(uuid5(NAMESPACE_URL, "\x1f".join(("application", subject, key))))
        with self.store.transaction() as tx:
            told = self._told(tx, subject)
            regions = named or list(told.where.site_regions)
            authority = (
                authority_region or (told.where.authority_region if not named else "") or "".join(regions[:1])[:6]
            )
            self._refuse({
                **({} if utility in self._utilities() else {"utility": BAD_UTILITY}),
                **({} if business_kind in APPLICABLE else {"business_kind": BAD_KIND}),
                **({} if customer_role in ROLES else {"customer_role": BAD_ROLE}),
                **self._wrong_regions(named, utility, now), **_wrong_place(regions, authority, address, told.where.site_regions),
                **self._wrong_demand(demand or {}), **_wrong_work(told, None, phase),
                **self._wrong_operators(told, operators, now, regions, utility),
            })  # fmt: skip
            self.outbox.once(tx, key, self._draft(
                subject, now, "APPLIED", phase=phase, operators_chosen=sorted(set(operators)), demand={**dict.fromkeys(FIELDS), **(demand or {})},
                demand_basis="DECLARED" if demand else "UNKNOWN", application=number, utility=utility, business_kind=business_kind,
                customer_role=customer_role, address=address, site_regions=regions, authority_region=authority,
            ))  # fmt: skip
        return number

    def withdraw_application(self, subject: str, application: str, *, key: str, now: datetime) -> list[UUID]:
        with self.store.transaction() as tx:
            self._refuse({} if application in self._said(tx, subject).applications else {"application": NO_APPLICATION})
            return self.outbox.once(
                tx, key, self._draft(subject, now, "APPLICATION_WITHDRAWN", application=application)
            )

    # -- what a call may say -------------------------------------------------------------------------------------------
    def _wrong_demand(self, demand: Mapping[str, Any]) -> dict[str, Name]:
        errors: dict[str, Name] = {}
        for name, value in demand.items():
            field = self._fields.get(f"demand.{name}")
            if why := UNKNOWN_FIELD if field is None else wrong(field, value):
                errors[f"demand.{name}"] = why
        return errors

    def _wrong_facts(self, facts: Mapping[str, str]) -> dict[str, Name]:
        errors: dict[str, Name] = {}
        for name, text in facts.items():
            field = self._fields.get(name)
            if field is None or field.own:
                errors[name] = UNKNOWN_FIELD
            elif why := wrong(field, parsed(field, text)) or _wrong_text(text):
                errors[name] = why
        return errors

    def _wrong_about(self, name: str | None) -> dict[str, Name]:
        """What an objection may be about: contact data would be told in it."""
        field = self._fields.get(name or "")
        if name and field is None:
            return {"field": UNKNOWN_FIELD}
        return {"field": NEEDS[SEALED]} if field and field.kind == SEALED else {}

    def _wrong_regions(self, regions: Sequence[str], utility: str, now: datetime) -> dict[str, Name]:
        """Where the company says it is; where a platform says it is, no operator is a task for a person."""
        if len(regions) > MOST_REGIONS:
            return {"site_regions": MANY_REGIONS}
        if self.city is None or utility not in self._utilities():
            return {}
        on = now.astimezone(self._zone).date()
        served = all(self.city.serving(utility, [region], on) for region in regions)
        return {} if served else {"site_regions": UNSERVED}

    def _wrong_subject(self, subject: str) -> dict[str, Name]:
        return {} if kind_of(subject) in self.outbox.contract.spec(DEMAND).subject else {"subject": NO_SUBJECT}

    def _wrong_operators(
        self, told: Known, operators: Iterable[str], now: datetime, regions: Sequence[str] | None = None, utility: str | None = None
    ) -> dict[str, Name]:  # fmt: skip
        """An operator may be named if it serves the site today, or has a case there already."""
        if self.city is None:
            return {}
        on, site = now.astimezone(self._zone).date(), told.where.site_regions if regions is None else regions
        has = {identity.operator for identity in told.cases}
        for operator in operators:
            known = self.city.operators.get(operator)
            if known is None:
                return {"operators": NO_OPERATOR}
            serving = self.city.serving(known.utility, site, on, told.red_line)
            if (utility and known.utility != utility) or (known not in serving and operator not in has):
                return {"operators": NOT_SERVING}
        return {}

    def _refuse(self, errors: Mapping[str, Name]) -> None:
        if errors:
            raise FormError(errors)

    # -- what it makes -------------------------------------------------------------------------------------------------
    def _chosen(
        self, subject: str, now: datetime, word: Said, chosen: tuple[str, ...], but: tuple[str, int] | None = None
    ) -> list[Draft]:
        """A choice is of the whole subject: whatever was stated with another one is said again with this."""
        others = (
            (slot, stated) for slot, stated in sorted(word.stated.items()) if slot != but and stated.operators != chosen
        )
        return [
            self._draft(subject, now, "CORRECTED", **_stated(slot, stated.demand, chosen)) for slot, stated in others
        ]

    def _objection(self, subject: str, now: datetime, field: str | None, text: str) -> Draft:
        return self._draft(subject, now, "OBJECTED", objects_to=field, objection=folded(text))

    def _withdrawal(self, subject: str, operator: str, now: datetime) -> Draft:
        return self._draft(subject, now, "CONSENT_WITHDRAWN", operators_chosen=[operator])

    def _draft(self, subject: str, now: datetime, action: str, **data: Any) -> Draft:
        return Draft(type=DEMAND, subject=subject, time=now, data={**NOTHING, "action": action, **data})

    def _publish(self, key: str, *drafts: Draft) -> list[UUID]:
        with self.store.transaction() as tx:
            return self.outbox.once(tx, key, *drafts)

    def _told(self, tx: Transaction, subject: str) -> Known:
        self._refuse(self._wrong_subject(subject))
        return Known(tx, subject, self._zone)

    def _said(self, tx: Transaction, subject: str) -> Said:
        return said(tx, self.outbox.contract, self.outbox.source, subject)

    def _kept(self) -> Keys:
        if self._keys is None:
            raise UsageError("this door keeps no keys: contact data cannot pass it")
        return self._keys

    def _utility(self, operator: str) -> str:
        known = self.city.operators.get(operator) if self.city else None
        return known.utility if known else operator

    def _utilities(self) -> set[str]:
        return {operator.utility for operator in self.city.operators.values()} if self.city else set()


def purpose(operator: str) -> str:
    """What contact data is sealed for."""
    return f"contact:{operator}"


def _stated(slot: tuple[str, int], demand: Mapping[str, Any], operators: Sequence[str]) -> dict[str, Any]:
    return {"work": slot[0] or None, "phase": slot[1], "demand": {name: demand.get(name) for name in FIELDS}, "demand_basis": "CONFIRMED",
            "operators_chosen": list(operators)}  # fmt: skip


def _wrong_work(told: Known, work: str | None, phase: int) -> dict[str, Name]:
    no_work = {"work": NO_WORK} if work and work not in told.works.all else {}
    return no_work | ({} if 1 <= phase <= MOST_PHASES else {"phase": BAD_PHASE})


def _wrong_text(text: str) -> Name | None:
    text = folded(text)
    if not 0 < len(text) <= LONGEST_TEXT or not text.isprintable():
        return BAD_TEXT
    return HAS_PERSONAL if is_personal(text) else None


def is_personal(text: str) -> bool:
    """Whether a text holds a mobile phone or identity number, however wide its digits are written."""
    return PERSONAL.search(unicodedata.normalize("NFKC", text)) is not None


def _wrong_place(regions: Sequence[str], authority: str, address: str | None, known: Sequence[str]) -> dict[str, Name]:
    """A place of the company's own words needs its divisions and an address; a platform's needs neither."""
    needed = not known
    fits = address is None or (0 < len(address) <= LONGEST_ADDRESS and address.isprintable())
    personal = {"address": HAS_PERSONAL} if address and is_personal(address) else {}
    return {
        **(personal if fits and (address or not needed) else {"address": BAD_ADDRESS}),
        **({} if regions and all(map(_is_division, regions)) else {"site_regions": BAD_REGION}),
        **({} if len(authority) == 6 and _is_division(authority) else {"authority_region": BAD_AUTHORITY}),
    }  # fmt: skip


def _is_division(code: str) -> bool:
    try:
        return bool(DivisionCode(code))
    except InvalidIdentifierError:
        return False
