from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.realestate import tables
from connectors.realestate.platform import Platform, Presale, Unit
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.errors import InvalidEventError, UsageError
from jietong.event import Event
from jietong.identifiers import ProjectCode, UnitCode

NOW = datetime(2027, 12, 31, 16, 30, tzinfo=UTC)  # already 2028 in Jiangmen
CONTRACT = Contract(catalog.load())
PROJECT = ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=1)
OTHER = ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=2)
ASKED = Presale(
    project_code=PROJECT, holder_uscc="91440703MA4WQ7K28M", holder_name="江门滨江产业园建设有限公司", scope="1、2号楼",
    units=120, authority_region="440703", valid_until=date(2029, 12, 31),
)  # fmt: skip
UNITS = [Unit(n, "住宅", Decimal("118.36")) for n in (1, 2, 3)]


class Desk:
    """The platform with its database, and what its outbox holds."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "realestate.db", delivery, tables.realestate)
        outbox = Outbox("urn:jietong:440700:realestate", CONTRACT, lambda: 0, self.store.bell)
        self.platform = Platform(self.store, outbox)

    def events(self) -> list[Event]:
        with self.store.snapshot() as tx:
            return [CONTRACT.decode(envelope) for _, envelope in pending(tx, 1000)]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.snapshot() as tx:
            return tx.execute(sql).all()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def test_a_licence_is_issued_extended_suspended_resumed_and_ended_and_each_is_an_event_of_its_project(
    desk: Desk,
) -> None:
    licence = desk.platform.issue(ASKED, now=NOW)
    desk.platform.change(licence, "EXTENDED", now=NOW + timedelta(days=1), valid_until=date(2030, 12, 31))
    desk.platform.change(licence, "SUSPENDED", now=NOW + timedelta(days=2))
    desk.platform.change(licence, "RESUMED", now=NOW + timedelta(days=3))
    desk.platform.change(licence, "REVOKED", now=NOW + timedelta(days=4))
    events = desk.events()
    assert [(e.subject, e.sequence) for e in events] == [(PROJECT, n) for n in range(1, 6)]
    assert [e.data["status"] for e in events] == ["ISSUED", "EXTENDED", "SUSPENDED", "RESUMED", "REVOKED"]
    assert {e.data["licence"] for e in events} == {licence}
    assert events[0].data["issued_on"] == date(2028, 1, 1)
    assert [e.data["valid_until"].year for e in events] == [2029, 2030, 2030, 2030, 2030]


def test_licence_numbers_run_within_the_year_of_the_city(desk: Desk) -> None:
    earlier = desk.platform.issue(ASKED, now=NOW - timedelta(days=1))
    desk.platform.change(earlier, "SUSPENDED", now=NOW)
    assert [desk.platform.issue(ASKED, now=NOW) for _ in range(2)] == [
        "江房预许字（2028）第00001号", "江房预许字（2028）第00002号",
    ]  # fmt: skip
    assert earlier == "江房预许字（2027）第00001号"


@pytest.mark.parametrize(
    ("before", "then"),
    [("REVOKED", "SUSPENDED"), ("REVOKED", "LAPSED"), ("SUSPENDED", "EXTENDED"), ("EXTENDED", "RESUMED")],
)
def test_what_a_licences_state_forbids_is_refused_in_words_and_leaves_nothing(
    desk: Desk, before: Any, then: Any
) -> None:
    licence = desk.platform.issue(ASKED, now=NOW)
    desk.platform.change(licence, before, now=NOW, valid_until=date(2030, 1, 1))
    with pytest.raises(UsageError, match=f"is {before}; it cannot become {then}"):
        desk.platform.change(licence, then, now=NOW, valid_until=date(2031, 1, 1))
    assert len(desk.events()) == 2
    assert desk.rows("SELECT count(*) FROM handling") == [(2,)]


def test_a_licence_nobody_issued_and_an_extension_without_a_day_are_refused(desk: Desk) -> None:
    with pytest.raises(UsageError, match="not issued here"):
        desk.platform.change("x", "REVOKED", now=NOW)
    licence = desk.platform.issue(ASKED, now=NOW)
    with pytest.raises(UsageError, match="new last day"):
        desk.platform.change(licence, "EXTENDED", now=NOW)


def test_a_buildings_units_are_registered_at_once_each_with_its_own_code_and_event(desk: Desk) -> None:
    codes = desk.platform.register_first(PROJECT, "440703", 2, UNITS, now=NOW)
    events = desk.events()
    assert [e.subject for e in events] == codes
    assert {(e.data["registration_kind"], e.data["status"], e.data["project_code"]) for e in events} == {
        ("FIRST", "REGISTERED", PROJECT)
    }
    assert {e.data["registration"] for e in events} == {"20280101-00001"}
    assert [UnitCode.parse(code)[-8:] for code in codes] == ["00020001", "00020002", "00020003"]
    assert events[0].data["registered_on"] == date(2028, 1, 1)


def test_the_buildings_of_a_project_share_its_parcel_and_projects_do_not(desk: Desk) -> None:
    first = desk.platform.register_first(PROJECT, "440703", 1, UNITS, now=NOW)
    second = desk.platform.register_first(PROJECT, "440703", 2, UNITS, now=NOW)
    other = desk.platform.register_first(OTHER, "440703", 1, UNITS, now=NOW)
    assert {code.parcel for code in first + second} == {first[0].parcel} != {other[0].parcel}


def test_a_unit_in_the_register_is_not_registered_again_and_none_of_its_building_is(desk: Desk) -> None:
    desk.platform.register_first(PROJECT, "440703", 1, UNITS[1:2], now=NOW)
    with pytest.raises(UsageError, match="is in the register already"):
        desk.platform.register_first(PROJECT, "440703", 1, UNITS, now=NOW)
    assert desk.rows("SELECT count(*) FROM unit") == [(1,)]
    assert len(desk.events()) == 1


def test_a_repeated_command_does_nothing_and_answers_as_before(desk: Desk) -> None:
    licences = {desk.platform.issue(ASKED, now=NOW, command="l-1") for _ in range(2)}
    for _ in range(2):
        desk.platform.change(*licences, "SUSPENDED", now=NOW, command="s-1")
    first, again = (desk.platform.register_first(PROJECT, "440703", 1, UNITS, now=NOW, command="r") for _ in range(2))
    assert first == again
    assert len(licences) == 1
    assert len(desk.events()) == 2 + 3


def test_a_registration_that_cannot_be_an_event_is_not_made_at_all(desk: Desk) -> None:
    with pytest.raises(InvalidEventError, match="area"):
        desk.platform.register_first(PROJECT, "440703", 1, [*UNITS, Unit(4, "住宅", Decimal("1.234"))], now=NOW)
    assert [desk.rows(f"SELECT count(*) FROM {table}") for table in ("unit", "handling", "parcel", "outbox")] == [
        [(0,)]
    ] * 4
