"""The registry's window: transfers, splits and merges come in, and what operators answer comes back to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from connectors.realestate import tables
from connectors.realestate.platform import Platform, Unit
from connectors.realestate.window import TRANSFER_ANSWERED, TRANSFER_REQUESTED, Choice, Party, ResultSink, Window
from jietong import catalog, compatibility
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.event import Event
from jietong.identifiers import ProjectCode
from jietong.keys import MemoryKeys

NOW = datetime(2027, 12, 31, 16, 30, tzinfo=UTC)  # already 2028 in Jiangmen
CONTRACT = Contract(catalog.load())
PROJECT = ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=1)
KEYS = MemoryKeys()
BUYER = Party(name="王五", identity="440703199001011234", phone="13800000000", co_owners=2, shares="1/2 1/2")


class Desk:
    """The register with three flats, its window, and what its outbox holds."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "realestate.db", delivery, tables.realestate)
        outbox = Outbox("urn:jietong:440700:realestate", CONTRACT, lambda: 0, self.store.bell)
        units = [Unit(n, "住宅", Decimal("118.36")) for n in (1, 2, 3)]
        self.flats = Platform(self.store, outbox).register_first(PROJECT, "440703", 1, units, now=NOW)
        self.window = Window(self.store, outbox, KEYS)
        self.sink = ResultSink(self.window)

    def events(self) -> list[Event]:
        with self.store.snapshot() as tx:
            found = [CONTRACT.decode(envelope) for _, envelope in pending(tx, 1000)]
        return [event for event in found if event.data["registration_kind"] != "FIRST"]

    def back(self, type: str, sequence: int, source: str = "", **data: Any) -> Event:
        """A request or an answer as it comes back, from its example."""
        whole = dict(compatibility.example(type).data) | {"operator": "jm-water", "transfer": "t"} | data
        name = source or ("transfer" if type == TRANSFER_REQUESTED else "utility:jm-water")
        return Event(type=type, subject=self.flats[0], time=NOW, data=whole, id=uuid5(NAMESPACE_URL, f"{name} {sequence}"),
                     source=f"urn:jietong:440700:{name}", sequence=sequence, recorded=NOW)  # fmt: skip

    def register(self) -> list[str]:
        with self.store.snapshot() as tx:
            return [
                row[0]
                for row in tx.execute(
                    "SELECT code FROM unit WHERE code NOT IN (SELECT unit FROM ended) ORDER BY code"
                ).all()
            ]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def test_a_transfer_is_accepted_chosen_for_and_entered_and_each_is_an_event_of_its_unit(desk: Desk) -> None:
    number = desk.window.accept(desk.flats[0], BUYER, basis="GIFT", now=NOW)
    desk.window.choose(number, [Choice("供水", "MOVE", "0750123456")], now=NOW)
    desk.window.register(number, now=NOW)
    events = desk.events()
    assert [(e.subject, e.data["status"], len(e.data["accounts"])) for e in events] == [
        (desk.flats[0], "ACCEPTED", 0), (desk.flats[0], "ACCEPTED", 1), (desk.flats[0], "REGISTERED", 1),
    ]  # fmt: skip
    last = events[-1].data
    assert (last["registration"], last["transfer_basis"], last["registered_on"], last["co_owners"]) == (
        number,
        "GIFT",
        date(2028, 1, 1),
        2,
    )
    assert number == "20280101-00002"
    assert last["accounts"] == [{"utility": "供水", "account": "0750123456", "choice": "MOVE", "operator": None}]


def test_the_buyer_of_one_transfer_is_the_former_owner_of_the_next_and_no_name_lies_in_clear(desk: Desk) -> None:
    first = desk.window.accept(desk.flats[0], BUYER, now=NOW)
    desk.window.register(first, now=NOW)
    desk.window.accept(desk.flats[0], Party(name="赵六"), now=NOW)
    told = desk.events()[-1].data
    assert (KEYS.open(told["owner_name"]), KEYS.open(told["to_name"])) == ("王五", "赵六")
    assert desk.events()[0].data["owner_name"] is None
    with desk.store.snapshot() as tx:
        kept = repr([tx.execute(f"SELECT * FROM {table.name}").all() for table in tables.realestate.sorted_tables])
        kept += repr(tx.execute("SELECT payload FROM outbox").all())
    for text in ("王五", "赵六", BUYER.identity or "", BUYER.phone or ""):
        assert text not in kept
        assert text.encode() not in kept.encode()


def test_a_split_and_a_merge_are_one_event_per_unit_with_one_correlation(desk: Desk) -> None:
    number = desk.window.divide(
        desk.flats[:1], [Unit(11, "住宅", Decimal("50.00")), Unit(12, "住宅", Decimal("68.36"))], now=NOW
    )
    desk.window.register(number, now=NOW)
    entered = [e for e in desk.events() if e.data["status"] == "REGISTERED"]
    old, one, two = (next(e for e in entered if e.subject.endswith(end)) for end in ("0001", "0011", "0012"))
    assert {e.data["correlation"] for e in entered} == {number}
    assert (old.data["successors"], old.data["predecessors"]) == ([one.subject, two.subject], [])
    assert one.data["predecessors"] == two.data["predecessors"] == [old.subject]
    assert desk.register() == sorted([*desk.flats[1:], one.subject, two.subject])
    merged = desk.window.divide([one.subject, two.subject], [Unit(13, "住宅", Decimal("118.36"))], now=NOW)
    desk.window.register(merged, now=NOW)
    assert len(desk.register()) == 3
    assert {e.data["project_code"] for e in desk.events()} == {PROJECT}


def test_what_the_register_forbids_is_refused_in_words_and_leaves_nothing(desk: Desk) -> None:
    number = desk.window.accept(desk.flats[0], BUYER, now=NOW)
    desk.window.withdraw(number, now=NOW)
    before = len(desk.events())
    two = [Unit(1, "住宅", Decimal("1.00")), Unit(14, "住宅", Decimal("1.00"))]
    for refused, why in (
        (lambda: desk.window.accept("440703001001GB00123F00019999", BUYER, now=NOW), "not in the register"),
        (lambda: desk.window.register(number, now=NOW), "is WITHDRAWN"),
        (lambda: desk.window.choose("x", [], now=NOW), "not accepted here"),
        (lambda: desk.window.divide(desk.flats[:2], two, now=NOW), "one unit is split"),
        (lambda: desk.window.divide(desk.flats[:1], two, now=NOW), "is in the register already"),
    ):
        with pytest.raises(UsageError, match=why):
            refused()
    other = desk.window.accept(desk.flats[1], BUYER, now=NOW)
    with pytest.raises(UsageError, match="not about that unit"):
        desk.window.choose(other, [], unit=desk.flats[0], now=NOW)
    assert len(desk.events()) == before + 1


def test_a_repeated_command_does_nothing_and_answers_as_before(desk: Desk) -> None:
    numbers = {desk.window.accept(desk.flats[0], BUYER, now=NOW, command="a") for _ in range(2)}
    [number] = numbers
    for _ in range(2):
        desk.window.choose(number, [Choice("供水", "MOVE")], now=NOW, command="c")
    for _ in range(2):
        desk.window.register(number, now=NOW, command="r")
    assert len(desk.events()) == 3


# -- what comes back -------------------------------------------------------------------------------------------------------
def test_what_operators_are_asked_and_answer_is_on_the_screen_in_whatever_order_it_comes(desk: Desk) -> None:
    number = desk.window.accept(desk.flats[0], BUYER, now=NOW)
    ask = desk.back(TRANSFER_REQUESTED, 1, registration=number, step="PRECHECK", choice="UNKNOWN", round=1)
    answer = desk.back(
        TRANSFER_ANSWERED,
        1,
        registration=number,
        status="PRECHECKED",
        answers_round=1,
        account="W1",
        arrears=Decimal("3.00"),
    )
    for first, second in ((ask, answer), (answer, ask)):
        with desk.store.transaction() as tx:
            tx.execute("DELETE FROM result")
        assert not desk.sink.delivered(first)
        desk.sink.deliver(first)
        shown = desk.window.results(number)
        assert [result.status for result in shown] == (["PENDING"] if first is ask else [])
        for event in (second, second, first):
            desk.sink.deliver(event)
        assert [(r.operator, r.status, r.account, r.arrears) for r in desk.window.results(number)] == [
            ("jm-water", "PRECHECKED", "W1", Decimal("3.00"))
        ]
        assert desk.sink.delivered(ask)
        assert desk.sink.delivered(answer)
    desk.sink.deliver(desk.back(TRANSFER_REQUESTED, 2, registration=number, step="EXECUTE", choice="MOVE", round=2))
    assert [(r.step, r.status, r.account) for r in desk.window.results(number)] == [("EXECUTE", "PENDING", "W1")]


def test_what_is_done_stays_done_and_anothers_answer_and_registration_are_not_taken(desk: Desk) -> None:
    number = desk.window.accept(desk.flats[0], BUYER, now=NOW)
    desk.sink.deliver(desk.back(TRANSFER_REQUESTED, 1, registration=number, step="EXECUTE", choice="MOVE", round=1))
    more: dict[str, Any] = {"registration": number, "answers_round": 1}
    desk.sink.deliver(desk.back(TRANSFER_ANSWERED, 1, "utility:jm-power", **more, status="DONE"))
    desk.sink.deliver(desk.back(TRANSFER_ANSWERED, 1, "utility:jm-power", **more, status="DONE", operator="jm-power"))
    assert [r.status for r in desk.window.results(number)] == ["PENDING"]
    desk.sink.deliver(desk.back(TRANSFER_ANSWERED, 1, **more, status="DONE"))
    desk.sink.deliver(desk.back(TRANSFER_ANSWERED, 2, **more, status="DECLINED"))
    assert [r.status for r in desk.window.results(number)] == ["DONE"]
    desk.sink.deliver(desk.back(TRANSFER_ANSWERED, 1, registration="elsewhere", transfer="u"))
    assert desk.window.results("elsewhere") == []


def test_a_seeded_clerk_brings_transfers_in_and_to_an_end_and_twice_the_same(tmp_path: Path) -> None:
    told: list[Any] = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        desk, chance = Desk(tmp_path / run), random.Random(3)
        for _ in range(40):
            assert desk.window.act(chance, now=NOW)
        told.append(
            [(e.subject, e.data["registration"], e.data["status"], e.data["transfer_basis"]) for e in desk.events()]
        )
        desk.store.close()
    assert told[0] == told[1]
    assert {status for _, _, status, _ in told[0]} == {"ACCEPTED", "REGISTERED", "WITHDRAWN"}
