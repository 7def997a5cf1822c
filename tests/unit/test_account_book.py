"""An operator's account book and its connector: it answers what it can tell, and never guesses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from connectors.utility import connector, tables
from connectors.utility.accounts import Account, AccountBook
from connectors.utility.handover import TRANSFER_REQUESTED, BothSinks, BothSources, TransferSink, TransferSource
from connectors.utility.platform import Platform
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.draw import Draw
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.errors import InvalidEventError, RejectedError, RetriableError, UsageError
from jietong.event import Event
from jietong.keys import MemoryKeys

CONTRACT = Contract(catalog.load())
NOW = datetime(2026, 4, 21, 8, 40, 7, tzinfo=UTC)
UNIT, OTHER = "440703001001GB00123F00010001", "440703001001GB00123F00010002"
KEYS = MemoryKeys()
WATER = Account(account="W1", utility="WATER", unit=UNIT, meter=Decimal("100.5"), meter_unit="m³", smart=True, auto_debit=True,
                holder=KEYS.seal("s", "x", "李四"))  # fmt: skip
GAS = Account(account="G1", utility="GAS", unit=UNIT, meter=Decimal(30), meter_unit="m³")
TELECOM = Account(account="T1", utility="TELECOM", unit=UNIT)


class Book:
    """The book with its database, and requests as a reader of their topic has them."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "platform-jm-x.db", tables.utility)
        self.book = AccountBook(self.store)
        self.rounds: dict[str, int] = {}
        self.sink = TransferSink("jm-x", self.book, lambda: NOW)
        self.source = TransferSource("jm-x", self.store)

    def request(self, step: str, choice: str = "MOVE", transfer: str = "t", **more: Any) -> Event:
        n = self.rounds[transfer] = self.rounds.get(transfer, 0) + 1
        data = {
            "transfer": transfer, "registration": "R1", "operator": "jm-x", "utility": "WATER", "step": step, "choice": choice, "round": n,
            "transfer_basis": "SALE", "settlement_seen": False, "account": None, "address": None, "usage": None, "area": None, "predecessors": [],
            "correlation": None, "from_name": None, "to_name": KEYS.seal("b", "x", "王五"), "to_identity": None, "to_phone": None, "to_uscc": None,
            "co_owners": None, "shares": None, "registered_on": None, "site_regions": ["440703"], "authority_region": "440703",
            "functional_zone": None, "historical": False, **more,
        }  # fmt: skip
        event = Event(type=TRANSFER_REQUESTED, subject=UNIT, time=NOW, data=data, id=uuid5(NAMESPACE_URL, f"{transfer} {n}"),
                      source="urn:jietong:440700:transfer", sequence=n, recorded=NOW, operator="jm-x")  # fmt: skip
        CONTRACT.encode(event)
        return event

    def ask(self, step: str, choice: str = "MOVE", **more: Any) -> None:
        self.sink.deliver(self.request(step, choice, **more))

    def answers(self) -> list[dict[str, Any]]:
        drafts = [draft for reading in self.source.read(None) for draft in reading.drafts]
        for draft in drafts:
            CONTRACT.encode(draft)
        return [dict(draft.data) for draft in drafts]

    def words(self) -> list[tuple[str, int]]:
        return [(answer["status"], answer["answers_round"]) for answer in self.answers()]

    def everything(self) -> list[list[Any]]:
        with self.store.snapshot() as tx:
            return [
                tx.execute(f"SELECT * FROM {t} ORDER BY 1").all()
                for t in ("account", "account_case", "account_answer", "account_receipt")
            ]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.store.close()


# -- the pre-check -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accounts", "asked", "status"),
    [
        ([], None, "UNMATCHED"),
        ([WATER], None, "PRECHECKED"),
        ([WATER], "W1", "PRECHECKED"),
        ([WATER], "W2", "UNMATCHED"),
        ([WATER, replace(WATER, account="W2")], None, "PENDING"),
        ([WATER, replace(WATER, account="W2")], "W2", "PRECHECKED"),
        ([replace(WATER, unit=OTHER)], "W1", "PENDING"),
        ([replace(WATER, unit=OTHER)], None, "UNMATCHED"),
        ([replace(WATER, unit=None)], "W1", "PRECHECKED"),
        ([replace(WATER, status="CLOSED")], "W1", "UNMATCHED"),
        ([replace(WATER, arrears=Decimal("12.50"))], None, "PENDING_SETTLEMENT"),
    ],
)  # fmt: skip
def test_a_pre_check_says_what_the_book_knows_and_leaves_to_a_clerk_what_it_cannot_tell(
    book: Book, accounts: list[Account], asked: str | None, status: str
) -> None:
    book.book.open(*accounts)
    book.ask("PRECHECK", account=asked)
    [answer] = book.answers()
    assert answer["status"] == status
    assert answer["account"] == (asked or "W1" if status in ("PRECHECKED", "PENDING_SETTLEMENT") else None)
    assert book.book.accounts() == sorted(accounts, key=lambda a: a.account)


def test_a_clerk_finds_the_account_or_that_it_is_none_of_ours(book: Book) -> None:
    book.book.open(WATER, replace(WATER, account="W2"))
    book.ask("PRECHECK")
    assert len(book.book.cases(waiting=True)) == 1
    book.book.bind("t", "W2", now=NOW)
    book.ask("PRECHECK", transfer="u")
    book.book.not_ours("u", now=NOW)
    assert [(a["transfer"], a["status"], a["account"]) for a in book.answers()] == [
        ("t", "PENDING", None), ("t", "PRECHECKED", "W2"), ("u", "PENDING", None), ("u", "UNMATCHED", None),
    ]  # fmt: skip


# -- executed --------------------------------------------------------------------------------------------------------------
def test_a_move_stops_the_old_debit_reads_the_meter_and_changes_the_holder_once_the_contract_is_signed(
    book: Book,
) -> None:
    book.book.open(WATER)
    book.ask("EXECUTE")
    book.book.sign("t", now=NOW)
    assert [a["reason"] for a in book.answers()] == ["待签约", None]
    done = book.answers()[-1]
    assert (done["status"], done["meter_reading"], done["meter_unit"], done["auto_debit_stopped"]) == (
        "DONE",
        Decimal("100.5"),
        "m³",
        True,
    )
    [account] = book.book.accounts(UNIT)
    assert (account.auto_debit, KEYS.open(account.holder or {})) == (False, "王五")
    assert "王五" not in repr(book.everything())


def test_arrears_keep_it_back_until_they_are_paid_and_then_it_goes_on_by_itself(book: Book) -> None:
    book.book.open(replace(WATER, arrears=Decimal("12.50")))
    book.ask("EXECUTE")
    book.book.sign("t", now=NOW)
    assert [(a["status"], a["arrears"]) for a in book.answers()] == [("PENDING_SETTLEMENT", Decimal("12.50"))]
    book.book.pay("W1", now=NOW)
    assert book.words() == [("PENDING_SETTLEMENT", 1), ("DONE", 1)]


@pytest.mark.parametrize("basis", ["INHERITANCE", "COURT_SALE"])
def test_after_an_inheritance_or_a_court_sale_arrears_stay_and_the_new_owner_begins_with_a_new_account(
    book: Book, basis: str
) -> None:
    """民法典 465, 1161."""
    book.book.open(replace(WATER, arrears=Decimal("80.00")))
    book.ask("PRECHECK", transfer_basis=basis)
    book.ask("EXECUTE", transfer_basis=basis)
    book.book.sign("t", now=NOW)
    checked, _, done = book.answers()
    assert (checked["status"], checked["arrears"], checked["arrears_stay"]) == ("PRECHECKED", Decimal("80.00"), True)
    assert (done["status"], done["arrears"], done["arrears_stay"], done["new_account"]) == (
        "DONE",
        Decimal("80.00"),
        True,
        "W1-2",
    )
    old, new = book.book.accounts(UNIT)
    assert (old.status, old.arrears, old.auto_debit, new.status, new.arrears, new.auto_debit) == (
        "CLOSED", Decimal("80.00"), False, "OPEN", Decimal("0.00"), False,
    )  # fmt: skip


def test_no_debit_of_an_owner_who_cannot_be_asked_goes_on_even_if_the_account_is_left(book: Book) -> None:
    book.book.open(WATER, replace(WATER, account="W2", unit=OTHER))
    book.ask("EXECUTE", "LEAVE", transfer_basis="COURT_SALE")
    assert [account.auto_debit for account in book.book.accounts()] == [False, True]
    book.ask("EXECUTE", "LEAVE", transfer="u", account="W2", predecessors=[OTHER])
    assert [account.auto_debit for account in book.book.accounts()] == [False, True]
    assert {account.unit for account in book.book.accounts()} == {UNIT, OTHER}


def test_gas_does_not_change_hands_without_a_safety_check_and_a_reading(book: Book) -> None:
    book.book.open(GAS)
    book.ask("EXECUTE", utility="GAS")
    book.book.sign("t", now=NOW)
    book.book.read_meter("t", Decimal("31.250"), now=NOW)
    assert "DONE" not in dict(book.words())
    book.book.check_safety("t", now=NOW)
    done = book.answers()[-1]
    assert (done["status"], done["safety_checked"], done["meter_reading"]) == ("DONE", True, Decimal("31.250"))


def test_broadband_moves_under_a_contract_in_the_real_name_or_closes_without_one(book: Book) -> None:
    book.book.open(TELECOM, replace(TELECOM, account="T2"))
    book.ask("EXECUTE", "MOVE", account="T1", utility="TELECOM")
    book.ask("EXECUTE", "CLOSE", account="T2", utility="TELECOM", transfer="u")
    assert [(a["account"], a["status"]) for a in book.answers()] == [("T1", "PENDING"), ("T2", "DONE")]
    assert [account.status for account in book.book.accounts()] == ["OPEN", "CLOSED"]


def test_an_account_of_a_divided_unit_moves_to_the_unit_that_follows_and_keeps_its_holder(book: Book) -> None:
    book.book.open(replace(WATER, unit=OTHER))
    book.ask("EXECUTE", account="W1", predecessors=[OTHER], to_name=None)
    book.book.sign("t", now=NOW)
    [account] = book.book.accounts(UNIT)
    assert account.holder == WATER.holder


def test_what_is_stopped_or_declined_is_over_and_what_is_done_stays_done(book: Book) -> None:
    book.book.open(WATER, TELECOM)
    book.ask("EXECUTE", account="W1")
    book.ask("STOP", account="W1")
    with pytest.raises(UsageError, match="is over"):
        book.book.sign("t", now=NOW)
    book.ask("EXECUTE", account="W1", transfer="u")
    book.book.decline("u", "不符合条件", now=NOW)
    book.ask("EXECUTE", "CLOSE", account="T1", transfer="v", utility="TELECOM")
    book.ask("STOP", "CLOSE", account="T1", transfer="v", utility="TELECOM")
    assert [(a["transfer"], a["status"], a["answers_round"]) for a in book.answers()] == [
        ("t", "PENDING", 1), ("t", "STOPPED", 2), ("u", "PENDING", 1), ("u", "DECLINED", 1), ("v", "DONE", 1), ("v", "DONE", 2),
    ]  # fmt: skip
    assert book.book.accounts(UNIT)[1] == WATER


# -- delivery --------------------------------------------------------------------------------------------------------------
def test_a_request_delivered_again_or_late_does_nothing(book: Book) -> None:
    book.book.open(WATER)
    check, execute = book.request("PRECHECK"), book.request("EXECUTE")
    book.sink.deliver(execute)
    before = book.everything()[:3]
    assert (book.sink.delivered(execute), book.sink.delivered(check)) == (True, False)
    book.sink.deliver(execute)
    book.sink.deliver(check)
    assert book.everything()[:3] == before
    assert book.sink.delivered(check)


def test_what_the_operator_refuses_or_cannot_know_or_while_away_is_said(book: Book) -> None:
    platform = Platform(book.store)
    platform.block(UNIT)
    with pytest.raises(RejectedError, match="refuses this subject"):
        book.ask("PRECHECK")
    platform.unblock(UNIT)
    with pytest.raises(RejectedError, match="choice"):
        book.ask("EXECUTE", "UNKNOWN")
    with pytest.raises(InvalidEventError, match="another"):
        book.ask("PRECHECK", operator="jm-y")
    platform.turn(away=True)
    with pytest.raises(RetriableError):
        book.ask("PRECHECK")
    assert [len(table) for table in book.everything()] == [0, 0, 0, 0]


def test_a_step_that_cannot_be_taken_is_refused(book: Book) -> None:
    for refused in (
        lambda: book.book.pay("x", now=NOW),
        lambda: book.book.sign("x", now=NOW),
        lambda: book.book.bind("t", "x", now=NOW),
    ):
        with pytest.raises(UsageError):
            refused()


def test_a_seeded_clerk_brings_everything_to_an_end_and_twice_to_the_same(tmp_path: Path) -> None:
    ends: list[Any] = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        book, chance = Book(tmp_path / run), random.Random(7)
        book.book.open(
            replace(WATER, arrears=Decimal("5.00")), replace(GAS, account="G1"), replace(TELECOM, account="T1")
        )
        for n, (account, utility) in enumerate((("W1", "WATER"), ("G1", "GAS"), ("T1", "TELECOM"), (None, "WATER"))):
            book.ask("EXECUTE", account=account, utility=utility, transfer=f"t{n}")
        days = 0
        while book.book.cases(waiting=True):
            days += 1
            book.book.tend(chance, now=NOW + timedelta(days=days))
            assert days < 60
        ends.append([(a["transfer"], a["status"], a["account"], a["meter_reading"]) for a in book.answers()])
        book.store.close()
    assert ends[0] == ends[1]
    assert {a[1] for a in ends[0] if a[1] not in ("PENDING", "PENDING_SETTLEMENT")} == {"DONE"}


# -- both sides ------------------------------------------------------------------------------------------------------------
def test_steps_and_answers_of_one_operator_fill_one_outbox_and_a_position_of_before_the_book_still_holds(
    book: Book, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "connector.db", delivery)
    outbox = Outbox("urn:jietong:440700:utility:jm-x", CONTRACT, lambda: 0, store.bell)
    with store.transaction() as tx:
        tx.execute("INSERT INTO source_position (source, position) VALUES (:source, '0')", {"source": outbox.source})
    source = BothSources(connector.OperatorSource("jm-x", book.store), book.source)
    draw = Draw(source, store, outbox)
    sink = BothSinks(connector.OperatorSink("jm-x", Platform(book.store), lambda: NOW), book.sink)
    book.book.open(WATER)
    check = book.request("PRECHECK")
    sink.deliver(check)
    assert sink.delivered(check)
    assert [draw.step().events, draw.step().events, draw.full().events] == [1, 0, 0]
    sink.deliver(book.request("EXECUTE"))
    book.book.sign("t", now=NOW)
    assert draw.step().events == 2
    with store.snapshot() as tx:
        assert [e.key.type for _, e in pending(tx, 10)] == ["utility.account.transfer.answered.v1"] * 3
        assert (
            tx.execute("SELECT position FROM source_position").all()[0][0].endswith(f" {round(NOW.timestamp() * 1000)}")
        )
    assert [reading.row for reading in source.again(["account/1"])] == ["account/1"]
    assert source.gone("account/1", None).drafts == source.gone("progress/1", None).drafts == ()
    store.close()
