"""The company's own word: one call is all its events or none, nothing outside its range comes in, and withdrawn is unreadable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong.adapters.sqlite import SqliteStore
from jietong.delivery.outbox import Outbox
from jietong.delivery.outbox import pending as unsent
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.event import Draft, Event
from jietong.identifiers import ProjectCode
from jietong.keys import MemoryKeys
from jietong.store import Transaction
from jietong.testing import MemoryStore
from services.hookup.door import FIELDS, Door, is_personal, purpose
from services.hookup.form import FormError, fields_of, forms, parsed, read, wrong
from services.hookup.knowing import Known
from services.hookup.learning import DEMAND
from services.hookup.names import Names
from services.hookup.progress import progress
from services.hookup.tables import hookup
from services.hookup.word import own, said
from tests.unit.office import CATALOG, CITY, CONTRACT, Office, approval, project, survey

CODE = str(ProjectCode.make(month=date(2026, 1, 1), region="440703", serial=7))
OTHER = str(ProjectCode.make(month=date(2026, 1, 1), region="441900", serial=8))
FIRM = "91440703MA4WQ7K28M"
SOURCE = "urn:jietong:440700:hookup"
NAMES, ALL_FIELDS = Names(CATALOG, CITY), fields_of(CATALOG)


class Counter(Office):
    """An office with a door: what is said there is kept in its outbox, and `learn` takes it in as the log would bring it."""

    def __init__(self, store: MemoryStore | SqliteStore | None = None) -> None:
        super().__init__()
        self.store: Any = store or MemoryStore("hookup", delivery, hookup)
        self.outbox = Outbox(SOURCE, CONTRACT, lambda: round(self.now.timestamp() * 1000), self.store.bell)
        self.keys = MemoryKeys()
        self.door = Door(self.store, self.outbox, CITY, self.keys)
        self.learned: set[UUID] = set()

    def tell(
        self,
        type: str,
        data: Mapping[str, Any],
        subject: str = CODE,
        source: str | None = None,
        at: datetime | None = None,
    ) -> list[Draft]:
        return super().tell(type, data, subject, source, at)

    def events(self, subject: str = CODE) -> list[Event]:
        with self.store.snapshot() as tx:
            return own(tx, CONTRACT, SOURCE, DEMAND, subject)

    def actions(self, subject: str = CODE) -> list[str]:
        return [event.data["action"] for event in self.events(subject)]

    def learn(self, subject: str = CODE) -> list[Draft]:
        """What hookup says to what was said since the last time; kept in its outbox too."""
        drafts: list[Draft] = []
        with self.store.transaction() as tx:
            for event in (e for e in own(tx, CONTRACT, SOURCE, DEMAND, subject) if e.id not in self.learned):
                self.learned.add(event.id)
                self.service.learn(tx, event)
                mine = list(self.service.due(tx, subject, event))
                self.outbox.add(tx, *mine, cause=event)
                drafts += mine
        return self._heard(drafts)

    def forms(self, subject: str = CODE) -> list[Any]:
        with self.store.snapshot() as tx:
            word = said(tx, CONTRACT, SOURCE, subject)
            stated = {slot: each.demand for slot, each in word.stated.items()}
            return forms(tx, Known(tx, subject, self.service.zone), NAMES, ALL_FIELDS, stated, self.now.date())

    def progress(self, subject: str = CODE) -> Mapping[str, Any]:
        with self.store.snapshot() as tx:
            return progress(
                tx, Known(tx, subject, self.service.zone), said(tx, CONTRACT, SOURCE, subject), CONTRACT, SOURCE
            )


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    made.tell(*project("DECIDED", name="甲厂", address="会城街道 1 号", floor_area=Decimal("1200.00")))
    yield made
    made.store.close()


def refused(call: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(FormError) as caught:
        call()
    return {field: why.en for field, why in caught.value.errors.items()}


# -- demand ----------------------------------------------------------------------------------------------------------------
def test_a_confirmation_turns_the_leads_of_a_project_into_requests(counter: Counter) -> None:
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(800)}, key="k", now=counter.now)
    assert counter.actions() == ["CONFIRMED"]
    drafts = counter.learn()
    assert {draft.data["status"] for draft in drafts} == {"REQUESTED"}
    assert {draft.data["demand"]["power_kva_permanent"] for draft in drafts} == {Decimal("800.00")}


def test_a_correction_says_again_what_it_does_not_change(counter: Counter) -> None:
    counter.door.confirm(
        CODE,
        {"power_kva_permanent": Decimal(800), "voltage": "10kV"},
        key="a",
        now=counter.now,
        operators=["jm-telecom-a"],
    )
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(630)}, key="b", now=counter.now)
    counter.door.confirm(CODE, {"voltage": None}, key="c", now=counter.now)
    assert counter.actions() == ["CONFIRMED", "CORRECTED", "CORRECTED"]
    before, last = counter.events()[1].data, counter.events()[2].data
    assert (before["demand"]["voltage"], before["operators_chosen"]) == ("10kV", ["jm-telecom-a"])
    assert (last["demand"]["power_kva_permanent"], last["demand"]["voltage"]) == (Decimal("630.00"), None)


def test_the_same_call_sent_twice_is_one_event(counter: Counter) -> None:
    first = counter.door.confirm(CODE, {"telecom_cores": 24}, key="once", now=counter.now)
    again = counter.door.confirm(CODE, {"telecom_cores": 24}, key="once", now=counter.now + timedelta(seconds=9))
    assert first == again
    assert counter.actions() == ["CONFIRMED"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("power_kva_permanent", Decimal(-1)), ("power_kva_permanent", Decimal("1.005")), ("power_kva_permanent", Decimal("1e10")),
        ("power_kva_permanent", Decimal("NaN")), ("power_kva_permanent", "many"), ("telecom_cores", -1), ("telecom_cores", True),
        ("telecom_cores", 1_000_001), ("voltage", "high"), ("fire_supply", "yes"), ("colour", 1),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_with_the_range_in_words_and_nothing_is_written(
    counter: Counter, field: str, value: Any
) -> None:
    errors = refused(
        lambda: counter.door.confirm(CODE, {field: value, "water_m3_per_day": Decimal(5)}, key="k", now=counter.now)
    )
    assert errors.keys() == {f"demand.{field}"}
    assert "must be" in errors[f"demand.{field}"] or "no field" in errors[f"demand.{field}"]
    assert counter.events() == []


def test_every_field_that_is_wrong_is_named_at_once(counter: Counter) -> None:
    errors = refused(lambda: counter.door.confirm(
        CODE, {"power_kva_permanent": Decimal(-1), "voltage": "?"}, key="k", now=counter.now, operators=["nobody"], work="W9", phase=0,
        facts={"project.buildings": ""},
    ))  # fmt: skip
    assert errors.keys() == {
        "demand.power_kva_permanent",
        "demand.voltage",
        "operators",
        "work",
        "phase",
        "project.buildings",
    }


VALUES = {
    "amount": st.decimals(0, Decimal("9999999999.99"), places=2), "count": st.integers(0, 1_000_000), "yes-no": st.booleans(),
    "voltage": st.sampled_from(["220V", "380V", "10kV", "0.4 kV"]),
}  # fmt: skip
DEMANDS = st.fixed_dictionaries({}, optional={name: VALUES[ALL_FIELDS[f"demand.{name}"].kind] for name in FIELDS})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(DEMANDS)
def test_whatever_a_form_takes_an_event_can_carry_and_brings_back(demand: dict[str, Any]) -> None:
    counter = Counter()
    counter.door.confirm(CODE, demand, key="k", now=counter.now)
    [event] = counter.events()
    assert {name: value for name, value in event.data["demand"].items() if value is not None} == demand
    counter.store.close()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(ALL_FIELDS)), st.text(max_size=30))
def test_whatever_a_person_writes_is_read_or_refused_as_that_field(name: str, text: str) -> None:
    field = ALL_FIELDS[name]
    if wrong(field, parsed(field, text)):
        assert refused(lambda: read(field, text)).keys() == {name}
    else:
        assert read(field, text) == parsed(field, text)


@pytest.mark.parametrize(("text", "value"), [
    ("1,250.5", Decimal("1250.5")), ("1,000,000", Decimal(1_000_000)), ("800", Decimal(800)), ("８００", Decimal(800)), ("3,5", None),
    ("1_000", None), ("10,00", None), ("1,0000", None), (",5", None), ("1,000,", None), ("1e3", None), ("NaN", None), ("٣", None), ("1 000", None),
])  # fmt: skip
def test_a_comma_parts_thousands_and_is_never_taken_for_a_decimal_point(text: str, value: Decimal | None) -> None:
    field = ALL_FIELDS["demand.power_kva_permanent"]
    if value is None:
        assert "1,250.5" in refused(lambda: read(field, text))[field.name], "it says how to write it"
    else:
        assert read(field, text) == value


def test_a_count_is_read_with_its_commas() -> None:
    field = ALL_FIELDS["demand.telecom_cores"]
    assert read(field, "1,024") == 1024
    assert refused(lambda: read(field, "1,5")).keys() == refused(lambda: read(field, "1.0")).keys() == {field.name}


# -- operators -------------------------------------------------------------------------------------------------------------
def test_a_choice_of_telecom_cancels_the_leads_of_the_others_and_can_be_changed(counter: Counter) -> None:
    counter.door.confirm(CODE, {"telecom_cores": 24}, key="a", now=counter.now)
    counter.door.choose(CODE, ["jm-telecom-a"], key="b", now=counter.now)
    counter.learn()
    open_ = {operator for _, operator, kind, _ in counter.cases() if kind == "PERMANENT"}
    assert "jm-telecom-a" in open_
    assert "jm-telecom-b" not in open_
    assert "jm-power" in open_, "a choice is among the operators of one utility"
    [form] = counter.forms()
    assert "jm-telecom-b" in form.offers["TELECOM"], "who was not chosen stays on offer"
    counter.door.choose(CODE, ["jm-telecom-b"], key="c", now=counter.now)
    assert counter.events()[-1].data["operators_chosen"] == ["jm-telecom-b"]
    assert counter.events()[-1].data["demand"]["telecom_cores"] == 24
    counter.door.choose(CODE, [], key="d", now=counter.now)
    assert counter.events()[-1].data["operators_chosen"] == []


def test_a_choice_holds_for_every_demand_that_was_stated(counter: Counter) -> None:
    for work in ("W1", "W2"):
        counter.tell(*approval("APPROVED", work, f"I-{work}"))
    counter.door.confirm(CODE, {"telecom_cores": 24}, key="a", now=counter.now, work="W1", operators=["jm-telecom-a"])
    counter.door.confirm(CODE, {"telecom_cores": 12}, key="b", now=counter.now, work="W2", operators=["jm-telecom-b"])
    with counter.store.snapshot() as tx:
        word = said(tx, CONTRACT, SOURCE, CODE)
    assert word.chosen == ("jm-telecom-b",)
    assert {slot: stated.demand["telecom_cores"] for slot, stated in word.stated.items()} == {
        ("", 1): 24,
        ("W2", 1): 12,
    }


def test_a_choice_before_any_demand_is_refused_since_it_would_confirm_nothing(counter: Counter) -> None:
    assert (
        "first" in refused(lambda: counter.door.choose(CODE, ["jm-telecom-a"], key="k", now=counter.now))["operators"]
    )


@pytest.mark.parametrize("call", ["confirm", "choose", "consent", "apply"])
def test_an_operator_that_is_unknown_or_does_not_serve_the_site_is_refused(counter: Counter, call: str) -> None:
    elsewhere = ["dg-power"]
    say: dict[str, Callable[[Sequence[str]], object]] = {
        "confirm": lambda o: counter.door.confirm(CODE, {}, key="k", now=counter.now, operators=o),
        "choose": lambda o: counter.door.choose(CODE, o, key="k", now=counter.now),
        "consent": lambda o: counter.door.consent(CODE, o, "张三", "0750-3333333", key="k", now=counter.now),
        "apply": lambda o: counter.door.apply(CODE, "POWER", "INCREASE", key="k", now=counter.now, operators=o),
    }
    assert "no such operator" in refused(lambda: say[call](elsewhere))["operators"]
    assert counter.events() == []


def test_an_operator_of_this_city_that_does_not_serve_the_site_is_refused(counter: Counter) -> None:
    counter.tell(*project("REGISTERED", site_regions=["441900"]), subject=OTHER)
    errors = refused(
        lambda: counter.door.consent(OTHER, ["jm-power"], "张三", "0750-3333333", key="k", now=counter.now)
    )
    assert "does not serve" in errors["operators"]


# -- contact data ----------------------------------------------------------------------------------------------------------
def test_consent_opens_contact_data_to_each_operator_under_a_key_of_its_own(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power", "jm-water"], "张三", "13800138000", key="k", now=counter.now)
    assert [e.data["operators_chosen"] for e in counter.events()] == [["jm-power"], ["jm-water"]]
    assert all(set(e.data["demand"].values()) == {None} for e in counter.events())
    power, water = (e.data["contact_phone"] for e in counter.events())
    assert power["key"] != water["key"]
    assert counter.keys.open_for(power, CODE, purpose("jm-power")) == "13800138000"
    assert counter.keys.open_for(power, CODE, purpose("jm-water")) is None
    sent = [d for d in counter.learn() if d.operator in ("jm-power", "jm-water")]
    assert sent
    assert all(d.data["authorised"] == ["contact_name", "contact_phone"] for d in sent)


def test_no_byte_of_a_contact_lies_in_the_database(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power"], "张三", "13800138000", key="k", now=counter.now)
    counter.learn()
    kept = counter.store.copy().serialize()
    assert "张三".encode() not in kept
    assert b"13800138000" not in kept


@pytest.mark.parametrize(("name", "phone", "field"), [("", "13800138000", "contact_name"), ("甲" * 51, "13800138000", "contact_name"),
                                                     ("张三", "call me", "contact_phone"), ("张三", "", "contact_phone")])  # fmt: skip
def test_contact_data_that_is_refused_is_not_said_back(counter: Counter, name: str, phone: str, field: str) -> None:
    with pytest.raises(FormError) as caught:
        counter.door.consent(CODE, ["jm-power"], name, phone, key="k", now=counter.now)
    assert caught.value.errors.keys() == {field}
    assert not any(text and text in str(caught.value) for text in (name, phone))


def test_withdrawing_from_one_operator_leaves_the_others_and_is_said_to_it(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power", "jm-water"], "张三", "13800138000", key="k", now=counter.now)
    counter.learn()
    counter.door.withdraw(CODE, ["jm-power"], key="w", now=counter.now)
    power, water, _ = (e.data["contact_name"] for e in counter.events())
    assert counter.keys.open(power) is None
    assert counter.keys.open(water) == "张三"
    [told] = [d for d in counter.learn() if d.operator == "jm-power"]
    assert told.data["authorised"] is None
    assert told.data["project"].get("contact_name") is None


class Dying(Outbox):
    """An outbox whose database goes away as it is written."""

    def once(self, tx: Transaction, key: str, *drafts: Draft) -> list[UUID]:
        super().once(tx, key, *drafts)
        raise OSError("the process ended here")


def test_what_was_withdrawn_is_unreadable_even_if_we_end_before_it_is_said_and_is_said_at_the_next_start(
    counter: Counter,
) -> None:
    counter.door.consent(CODE, ["jm-power"], "张三", "13800138000", key="k", now=counter.now)
    counter.learn()
    [consented] = counter.events()
    dying = Dying(SOURCE, CONTRACT, lambda: 0, counter.store.bell)
    with pytest.raises(OSError, match="ended here"):
        Door(counter.store, dying, CITY, counter.keys).withdraw(CODE, ["jm-power"], key="w", now=counter.now)
    assert counter.keys.open(consented.data["contact_phone"]) is None
    assert counter.actions() == ["CONSENTED"], "and not said yet"
    assert counter.door.settle(counter.now) == 1
    assert counter.actions() == ["CONSENTED", "CONSENT_WITHDRAWN"]
    assert counter.events()[-1].data["operators_chosen"] == ["jm-power"]
    assert counter.door.settle(counter.now) == 0
    assert [d.data["authorised"] for d in counter.learn() if d.operator == "jm-power"] == [None]


def test_after_a_withdrawal_consent_may_be_given_again_and_only_the_new_contact_opens(counter: Counter) -> None:
    for n, phone in enumerate(("13800138000", "13900139000")):
        counter.door.consent(CODE, ["jm-power"], "张三", phone, key=f"c{n}", now=counter.now)
        if n == 0:
            counter.door.withdraw(CODE, ["jm-power"], key="w", now=counter.now)
    old, _, new = (e.data["contact_phone"] for e in counter.events())
    assert (counter.keys.open(old), counter.keys.open(new)) == (None, "13900139000")
    counter.learn()
    assert counter.door.settle(counter.now) == 0


def test_a_restart_judges_by_what_was_said_last_though_nothing_of_it_was_learned(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power"], "张三", "13800138000", key="c1", now=counter.now)
    counter.learn()
    counter.door.withdraw(CODE, ["jm-power"], key="w1", now=counter.now)
    counter.door.consent(CODE, ["jm-power"], "张三", "13900139000", key="c2", now=counter.now)
    assert counter.door.settle(counter.now) == 0, "the newest consent stands, whatever hookup has learned of it"
    assert counter.actions() == ["CONSENTED", "CONSENT_WITHDRAWN", "CONSENTED"]
    assert counter.keys.open(counter.events()[-1].data["contact_phone"]) == "13900139000"


def test_a_withdrawal_that_was_cut_short_is_said_though_the_consent_was_never_learned(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power", "jm-water"], "张三", "13800138000", key="c", now=counter.now)
    dying = Dying(SOURCE, CONTRACT, lambda: 0, counter.store.bell)
    with pytest.raises(OSError, match="ended here"):
        Door(counter.store, dying, CITY, counter.keys).withdraw(CODE, ["jm-water"], key="w", now=counter.now)
    assert counter.door.settle(counter.now) == 1
    assert (counter.actions()[-1], counter.events()[-1].data["operators_chosen"]) == ("CONSENT_WITHDRAWN", ["jm-water"])
    assert counter.door.settle(counter.now) == 0


class Watched(MemoryKeys):
    """Keys that tell whether another could write to a database just as one of them was destroyed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.alone: list[bool] = []

    def erase(self, person: str, purpose: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                self.alone.append(False)
            except sqlite3.OperationalError:
                self.alone.append(True)
        super().erase(person, purpose)


def test_no_consent_is_given_between_the_end_of_a_key_and_its_withdrawal(tmp_path: Path) -> None:
    counter = Counter(SqliteStore(tmp_path / "hookup.db", delivery, hookup))
    counter.tell(*project("DECIDED"))
    keys = Watched(tmp_path / "hookup.db")
    door = Door(counter.store, counter.outbox, CITY, keys)
    door.consent(CODE, ["jm-power"], "张三", "13800138000", key="c", now=counter.now)
    door.withdraw(CODE, ["jm-power"], key="w", now=counter.now)
    assert keys.alone == [True], "whoever would give consent now waits until the withdrawal is kept"
    counter.store.close()


def test_a_withdrawal_that_is_sent_again_destroys_no_consent_that_followed_it(counter: Counter) -> None:
    counter.door.consent(CODE, ["jm-power"], "张三", "13800138000", key="c1", now=counter.now)
    first = counter.door.withdraw(CODE, ["jm-power"], key="w", now=counter.now)
    counter.door.consent(CODE, ["jm-power"], "张三", "13900139000", key="c2", now=counter.now)
    assert counter.door.withdraw(CODE, ["jm-power"], key="w", now=counter.now) == first
    assert counter.keys.open(counter.events()[-1].data["contact_phone"]) == "13900139000"
    assert counter.actions() == ["CONSENTED", "CONSENT_WITHDRAWN", "CONSENTED"]


def test_a_door_without_keys_takes_no_contact_data(counter: Counter) -> None:
    with pytest.raises(UsageError, match="keys"):
        Door(counter.store, counter.outbox, CITY).consent(
            CODE, ["jm-power"], "张三", "13800138000", key="k", now=counter.now
        )


# -- applications ----------------------------------------------------------------------------------------------------------
def test_a_small_user_without_a_project_applies_and_takes_it_back(counter: Counter) -> None:
    number = counter.door.apply(FIRM, "POWER", "PERMANENT", key="k", now=counter.now, site_regions=["440703"], address="建设路 1 号",
                                demand={"power_kva_permanent": Decimal(60)})  # fmt: skip
    [event] = counter.events(FIRM)
    assert (event.data["application"], event.data["authority_region"], event.data["customer_role"]) == (
        number,
        "440703",
        "OCCUPANT",
    )
    [asked] = counter.learn(FIRM)
    assert (asked.operator, asked.data["status"], asked.data["project"]["address"]) == (
        "jm-power",
        "REQUESTED",
        "建设路 1 号",
    )
    counter.door.withdraw_application(FIRM, number, key="w", now=counter.now)
    [told] = counter.learn(FIRM)
    assert told.data["status"] == "CANCELLED"
    assert (
        "no such application"
        in refused(lambda: counter.door.withdraw_application(FIRM, "1", key="x", now=counter.now))["application"]
    )


def test_the_same_application_sent_twice_has_one_number(counter: Counter) -> None:
    numbers = {counter.door.apply(CODE, "POWER", "INCREASE", key="k", now=counter.now) for _ in range(2)}
    assert len(numbers) == len(counter.events()) == 1
    assert counter.events()[0].data["site_regions"] == ["440703"], "a platform has said where the project is"


def test_an_application_that_cannot_be_understood_names_each_field(counter: Counter) -> None:
    errors = refused(lambda: counter.door.apply(FIRM, "STEAM", "PROTECT", key="k", now=counter.now, customer_role="KING", site_regions=["12"],
                                                demand={"telecom_cores": -1}))  # fmt: skip
    assert errors.keys() == {
        "utility",
        "business_kind",
        "customer_role",
        "address",
        "site_regions",
        "authority_region",
        "demand.telecom_cores",
    }
    other = refused(
        lambda: counter.door.apply(CODE, "POWER", "INCREASE", key="k", now=counter.now, operators=["jm-telecom-a"])
    )
    assert other.keys() == {"operators"}, "an operator of another utility"
    assert counter.events(FIRM) == []


def test_a_subject_of_no_known_kind_is_refused(counter: Counter) -> None:
    calls: list[Callable[[], object]] = [
        lambda: counter.door.confirm("who", {}, key="k", now=counter.now),
        lambda: counter.door.object("who", "不对", key="k", now=counter.now),
        lambda: counter.door.withdraw("who", ["jm-power"], key="k", now=counter.now),
        lambda: counter.door.begun("who", date(2026, 3, 2), key="k", now=counter.now),
    ]
    assert [refused(call).keys() for call in calls] == [{"subject"}] * 4


def test_an_application_names_divisions_where_its_utility_is_supplied_each_once_and_not_many(counter: Counter) -> None:
    def apply(*regions: str) -> object:
        return counter.door.apply(
            FIRM, "POWER", "PERMANENT", key="k", now=counter.now, site_regions=regions, address="建设路 1 号"
        )

    assert "where an operator" in refused(lambda: apply("440703", "441900"))["site_regions"]
    many = [f"440703{street:03}{village:03}" for street in (1, 2, 3) for village in range(200, 207)]
    assert "at most 20" in refused(lambda: apply(*many))["site_regions"]
    apply(*["440703"] * 5000, *many[:19])
    assert counter.events(FIRM)[0].data["site_regions"] == ["440703", *many[:19]]


def test_white_space_of_every_kind_is_one_space_and_no_reason_to_refuse(counter: Counter) -> None:
    counter.door.apply(
        FIRM,
        "POWER",
        "PERMANENT",
        key="a",
        now=counter.now,
        site_regions=["440703"],
        address="建设路\u30001\u00a0号\r\n二楼 ",
    )
    assert counter.events(FIRM)[0].data["address"] == "建设路 1 号 二楼"
    counter.door.object(CODE, "面积不对\r\n\u3000应为\u00a01300", key="o", now=counter.now)
    counter.door.confirm(CODE, {}, key="f", now=counter.now, facts={"project.content": "两栋\u3000厂房"})
    counter.door.consent(CODE, ["jm-power"], "张\u3000三", "138\u00a00013 8000", key="c", now=counter.now)
    said_ = {event.data["objection"] for event in counter.events()}
    assert {"面积不对 应为 1300", "两栋 厂房"} <= said_
    assert counter.keys.open(counter.events()[-1].data["contact_name"]) == "张 三"


def test_an_address_holds_nothing_personal(counter: Counter) -> None:
    errors = refused(lambda: counter.door.apply(
        FIRM, "POWER", "PERMANENT", key="a", now=counter.now, site_regions=["440703"], address="建设路 1 号 13800138000"
    ))  # fmt: skip
    assert "personal" in errors["address"]


# -- the rest of its word --------------------------------------------------------------------------------------------------
def test_works_that_begin_are_noted_and_not_before_they_did(counter: Counter) -> None:
    counter.door.begun(CODE, date(2026, 3, 2), key="k", now=counter.now)
    counter.learn()
    assert counter.rows("SELECT on_ FROM begun") == [("2026-03-02",)]
    late = datetime(2026, 3, 2, 15, 59, tzinfo=UTC)  # 23:59 in the city
    assert refused(lambda: counter.door.begun(CODE, date(2026, 3, 3), key="x", now=late)).keys() == {"day"}
    counter.door.begun(CODE, date(2026, 3, 3), key="y", now=late + timedelta(minutes=1))
    assert refused(lambda: counter.door.begun(FIRM, date(2026, 3, 2), key="z", now=counter.now)).keys() == {"subject"}


def test_an_objection_waits_for_a_person_and_holds_nothing_personal(counter: Counter) -> None:
    counter.door.object(CODE, "建筑面积应为 1300 平方米", key="k", now=counter.now, field="project.floor_area")
    counter.learn()
    assert {kind for kind, _ in counter.tasks()} == {"objection"}
    [shown] = counter.progress()["objections"]
    assert (shown["field"], shown["answered"]) == ("project.floor_area", None)
    for text in ("请打 13800138000", "身份证 440703198801011234", "", "甲" * 1001, "a\x00b", "a\u200bb"):
        assert refused(lambda text=text: counter.door.object(CODE, text, key="x", now=counter.now)).keys() == {"text"}
    assert refused(lambda: counter.door.object(CODE, "x", key="x", now=counter.now, field="project.colour")).keys() == {
        "field"
    }


@pytest.mark.parametrize("text", [
    "+8613800138000", "电话008613800138000。", "86-138-0013-8000", "+86 138 0013 8000", "(+86)13800138000", "013800138000",
    "138-0013-8000", "138 0013 8000", "１３８００１３８０００", "１３８－００１３－８０００", "138.0013.8000", "1380 013 8000",
    "440703 19880101 1234", "４４０７０３１９８８０１０１１２３４", "44070319880101123x",
])  # fmt: skip
def test_a_phone_or_identity_number_is_found_however_it_is_written(counter: Counter, text: str) -> None:
    assert "personal" in refused(lambda: counter.door.object(CODE, f"请打{text}谢谢", key="x", now=counter.now))["text"]


@pytest.mark.parametrize("text", [
    CODE, "2106-441900-04-01-190112", FIRM, "建字第440703202600123号", "0750-3333333", "由 1300 千伏安改为 1500 千伏安", "12345678901",
    "2026-03-01 至 2026-12-31", "管径 DN150，长 1200.50 米",
])  # fmt: skip
def test_a_code_a_day_or_an_amount_is_no_personal_data(text: str) -> None:
    assert not is_personal(text)


# -- what is seen ----------------------------------------------------------------------------------------------------------
def test_the_form_asks_every_field_of_the_city_and_nothing_that_is_known(counter: Counter) -> None:
    counter.tell(*approval("APPROVED", project={"floors": 6, "name": "乙厂"}, document_number="建字 7"))
    counter.tell(*survey("S1", land_area=Decimal("900.00"), floor_area=Decimal("1201.00")))
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(800)}, key="k", now=counter.now)
    counter.learn()
    [form] = counter.forms()
    cases = counter.rows("SELECT utility, business_kind FROM case_ WHERE subject = :s", s=CODE)
    assert {e.field.name for e in form.entries} == {f for utility, kind in cases for f in CITY.fields(utility, kind)}
    known = {e.field.name: (e.value, e.source.en) for e in form.entries if e.source}
    assert known["project.name"] == ("甲厂", "the investment platform")
    assert known["project.floors"] == (6, "Construction 建字 7")
    assert known["project.floor_area"] == (Decimal("1201.00"), "survey S1")
    assert known["demand.power_kva_permanent"] == (Decimal("800.00"), "the company itself")
    assert {e.field.name for e in form.asked} == {e.field.name for e in form.entries} - known.keys()
    assert "project.contact_phone" in {e.field.name for e in form.asked}


def test_what_the_form_shows_as_known_is_what_the_request_says_is_known(counter: Counter) -> None:
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(800)}, key="k", now=counter.now)
    drafts = counter.learn()
    [form] = counter.forms()
    known = {e.field.name for e in form.entries if e.source}
    assert set().union(*(d.data["fields_known"] for d in drafts)) == known
    assert set().union(*(d.data["fields_to_ask"] for d in drafts)) == {e.field.name for e in form.asked}


def test_contact_data_cannot_slip_in_as_a_fact_of_the_project(counter: Counter) -> None:
    facts = {"project.contact_phone": "0750-3333333", "project.contact_name": "张三", "project.buildings": "three"}
    assert refused(lambda: counter.door.confirm(CODE, {}, key="k", now=counter.now, facts=facts)).keys() == facts.keys()
    for field in ("project.contact_name", "project.contact_phone"):
        errors = refused(lambda field=field: counter.door.object(CODE, "张三", key="k", now=counter.now, field=field))
        assert "consent only" in errors["field"]
    assert counter.events() == []


def test_a_fact_that_no_platform_knows_goes_to_the_office_with_the_form(counter: Counter) -> None:
    counter.door.confirm(CODE, {}, key="k", now=counter.now, facts={"project.buildings": "3"})
    assert counter.actions() == ["CONFIRMED", "OBJECTED"]
    assert (counter.events()[1].data["objects_to"], counter.events()[1].data["objection"]) == ("project.buildings", "3")


def test_the_company_sees_steps_promises_and_who_got_what(counter: Counter) -> None:
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(800)}, key="k", now=counter.now)
    counter.door.consent(CODE, ["jm-power"], "张三", "13800138000", key="c", now=counter.now)
    counter.learn()
    counter.walk("jm-power", "PERMANENT", "CONTACTED", "ACCEPTED", subject=CODE)
    seen = counter.progress()
    [case] = [c for c in seen["cases"] if c["operator"] == "jm-power"]
    assert (case["state"], [s["status"] for s in case["steps"]]) == ("ACCEPTED", ["CONTACTED", "ACCEPTED"])
    assert case["promise"]["connect_days"] == CITY.promise("jm-power").connect_days  # pyright: ignore[reportOptionalMemberAccess]
    got = [(s["operator"], s["authorised"]) for s in seen["sent"] if s["authorised"]]
    assert got == [("jm-power", ["contact_name", "contact_phone"])]
    assert "demand.power_kva_permanent" in seen["sent"][0]["fields"]
    assert "800" not in str([s["fields"] for s in seen["sent"]])


def test_a_word_is_seen_before_hookup_has_learned_it(counter: Counter) -> None:
    """The company's word is folded from the outbox: a second call never builds on what is older than the first."""
    counter.door.confirm(CODE, {"power_kva_permanent": Decimal(800)}, key="a", now=counter.now)
    counter.door.confirm(CODE, {"telecom_cores": 24}, key="b", now=counter.now)
    counter.door.choose(CODE, ["jm-telecom-a"], key="c", now=counter.now)
    last = counter.events()[-1].data
    assert (last["demand"]["power_kva_permanent"], last["demand"]["telecom_cores"]) == (Decimal("800.00"), 24)
    with counter.store.snapshot() as tx:
        assert len(unsent(tx, 10)) == 3
