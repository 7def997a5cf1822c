from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.investment import tables
from connectors.investment.platform import Application, Platform
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.errors import InvalidEventError, UsageError
from jietong.event import Event
from jietong.identifiers import ProjectCode
from jietong.keys import MemoryKeys

NOW = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)  # already April in Jiangmen
CONTRACT = Contract(catalog.load())
TOLD = Application(
    name="滨江新区智能制造产业园一期", kind="C3829", address="滨江新区新昌路88号", site_regions=("440703", "440704001"),
    authority_region="440703", functional_zone="高新区", longitude=Decimal("113.078125"), latitude=Decimal("22.590431"),
    total_investment=Decimal("56800.5"), land_area=Decimal("41250.36"), floor_area=Decimal(98640),
    planned_start=date(2026, 5, 10), planned_finish=date(2028, 6, 30), buildings=6, households=320,
    height=Decimal("54.6"), floors=17, applicant_uscc="91440703MA4WQ7K28M",
    applicant_name="江门滨江产业园建设有限公司", content="新建厂房4栋",
    contact_name="张三", contact_phone="13800000000", contact_consent=True,
)  # fmt: skip


class Desk:
    """The platform with its database, and what its outbox holds."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "investment.db", delivery, tables.investment)
        outbox = Outbox("urn:jietong:440700:investment", CONTRACT, lambda: 0, self.store.bell)
        self.keys = MemoryKeys()
        self.platform = Platform(self.store, outbox, self.keys)

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


def test_a_project_is_registered_decided_changed_and_cancelled_and_each_is_an_event_in_order(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW)
    desk.platform.decide(code, "FILED", "江蓬发改备〔2026〕117号", now=NOW + timedelta(days=1))
    desk.platform.change(code, {"floors": 18, "height": Decimal("57.10")}, now=NOW + timedelta(days=2))
    desk.platform.cancel(code, now=NOW + timedelta(days=3))
    events = desk.events()
    assert [(e.subject, e.sequence, e.data["status"]) for e in events] == [
        (code, 1, "REGISTERED"), (code, 2, "DECIDED"), (code, 3, "CHANGED"), (code, 4, "CANCELLED"),
    ]  # fmt: skip
    assert [e.data["decision_form"] for e in events] == ["UNDECIDED", "FILED", "FILED", "FILED"]
    assert [e.data["project"]["floors"] for e in events] == [17, 17, 18, 18]
    assert events[1].time == NOW + timedelta(days=1)
    assert events[1].data["document_number"] == "江蓬发改备〔2026〕117号"


def test_the_facts_arrive_as_they_were_told_also_after_a_round_through_the_table(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW)
    desk.platform.decide(code, "VERIFIED", "x", now=NOW)
    first, second = ({k: v for k, v in e.data["project"].items() if not k.startswith("contact")} for e in desk.events())
    assert first == second
    assert (first["total_investment"], first["planned_start"]) == (Decimal("56800.5"), date(2026, 5, 10))
    assert desk.events()[1].data["site_regions"] == ["440703", "440704001"]


def test_codes_are_valid_and_count_within_the_month_of_the_city_and_the_region(desk: Desk) -> None:
    codes = [desk.platform.register(TOLD, now=NOW) for _ in range(3)]
    codes.append(desk.platform.register(replace(TOLD, authority_region="440705"), now=NOW))
    assert [ProjectCode.parse(code)[:22] for code in codes] == [
        "2604-440703-04-01-0000", "2604-440703-04-01-0000", "2604-440703-04-01-0000", "2604-440705-04-01-0000",
    ]  # fmt: skip
    assert [code[22] for code in codes] == ["1", "2", "3", "1"]


def test_a_repeated_command_does_nothing_and_answers_as_before(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW, command="r-1")
    assert desk.platform.register(TOLD, now=NOW, command="r-1") == code
    for _ in range(2):
        desk.platform.decide(code, "FILED", "x", now=NOW, command="d-1")
    for _ in range(2):
        desk.platform.change(code, {"floors": 18}, now=NOW, command="c-1")
    for _ in range(2):
        desk.platform.cancel(code, now=NOW, command="x-1")
    assert [e.data["status"] for e in desk.events()] == ["REGISTERED", "DECIDED", "CHANGED", "CANCELLED"]
    assert desk.rows("SELECT status, command FROM handling ORDER BY n") == [
        ("REGISTERED", "r-1"), ("DECIDED", "d-1"), ("CHANGED", "c-1"), ("CANCELLED", "x-1"),
    ]  # fmt: skip


def test_a_command_retried_late_does_not_undo_what_came_after(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW)
    desk.platform.change(code, {"floors": 18}, now=NOW, command="c-1")
    desk.platform.change(code, {"floors": 19}, now=NOW, command="c-2")
    desk.platform.change(code, {"floors": 18}, now=NOW, command="c-1")
    assert desk.rows("SELECT floors FROM project") == [(19,)]
    assert [e.data["project"]["floors"] for e in desk.events()] == [17, 18, 19]


def test_a_change_that_changes_nothing_is_no_event(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW)
    desk.platform.change(code, {"floors": 17}, now=NOW)
    assert len(desk.events()) == 1


def test_the_contact_leaves_sealed_and_only_with_consent_while_the_platform_keeps_it_plain(desk: Desk) -> None:
    consented = desk.platform.register(TOLD, now=NOW)
    desk.platform.register(replace(TOLD, contact_consent=False), now=NOW)
    with_consent, without = desk.events()
    assert desk.keys.open(with_consent.data["project"]["contact_phone"]) == "13800000000"
    assert desk.keys.open(with_consent.data["project"]["contact_name"]) == "张三"
    assert without.data["project"]["contact_name"] is without.data["project"]["contact_phone"] is None
    bodies = b"".join(row[0] for row in desk.rows("SELECT payload FROM outbox"))
    assert b"13800000000" not in bodies
    assert "张三".encode() not in bodies
    assert desk.rows(f"SELECT contact_phone FROM project WHERE code = '{consented}'") == [("13800000000",)]


def test_an_approval_that_cannot_be_an_event_is_not_made_at_all(desk: Desk) -> None:
    with pytest.raises(InvalidEventError, match="total_investment"):
        desk.platform.register(replace(TOLD, total_investment=Decimal("1.1234567")), now=NOW)
    assert desk.rows("SELECT count(*) FROM project") == [(0,)]
    assert desk.rows("SELECT count(*) FROM handling") == [(0,)]
    assert desk.events() == []


def test_what_a_projects_state_forbids_is_refused_in_words_and_leaves_nothing(desk: Desk) -> None:
    code = desk.platform.register(TOLD, now=NOW)
    desk.platform.decide(code, "FILED", "x", now=NOW)
    with pytest.raises(UsageError, match="decided already"):
        desk.platform.decide(code, "FILED", "y", now=NOW)
    with pytest.raises(UsageError, match="nmae: no such fact"):
        desk.platform.change(code, {"nmae": "x"}, now=NOW)
    with pytest.raises(UsageError, match="not registered here"):
        desk.platform.cancel("2604-440703-04-01-999990", now=NOW)
    desk.platform.cancel(code, now=NOW)
    for again in (lambda: desk.platform.cancel(code, now=NOW), lambda: desk.platform.change(code, {}, now=NOW)):
        with pytest.raises(UsageError, match="is cancelled"):
            again()
    assert [e.data["status"] for e in desk.events()] == ["REGISTERED", "DECIDED", "CANCELLED"]
