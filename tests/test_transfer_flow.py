"""一体化过户, as data walks it: a flat is sold, and its accounts move with it while the parties are still at the counter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

import connectors.realestate.__main__ as realestate
import connectors.utility.__main__ as utility
import services.transfer.__main__ as transfer
from connectors.realestate.platform import Unit
from connectors.realestate.window import Choice, Party
from connectors.utility.accounts import Account, AccountBook
from connectors.utility.tables import utility as utility_tables
from jietong import catalog, city
from jietong.cli import app
from jietong.engine import Running, embedded
from jietong.identifiers import ProjectCode

MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
OPERATORS = (
    "jm-water",
    "jm-power",
    "jm-gas",
    "jm-cable",
    "jm-telecom-a",
    "jm-telecom-b",
    "jm-telecom-c",
    "jm-telecom-d",
)


class Hall:
    """Registry, operators and the transfer service of 江门, in one process and one folder."""

    def __init__(self, folder: Path) -> None:
        pack = city.load("jiangmen", catalog.load())
        self.folder, self.engine = folder, embedded(folder, pack.code, catalog.load())
        self.registry, registering = realestate.build(self.engine)
        self.window = realestate.window(self.engine)
        self.counter, transferring = transfer.build(self.engine, pack)
        operators = [utility.build(self.engine, name)[1] for name in OPERATORS if name in pack.operators]
        self.running = Running(self.engine, [registering, transferring, *operators], beat=0.5).start()

    def book(self, operator: str) -> AccountBook:
        return AccountBook(self.engine.platform(operator, utility_tables))

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        for _ in range(int(seconds / 0.02)):
            if self.running.failed.is_set():
                raise AssertionError(self.running.bug())
            if what():
                return
            self.engine.stopping.wait(0.02)
        raise AssertionError(f"not within {seconds} s: {self.running.health}")

    def told(self, registration: str) -> dict[str, str]:
        """operator → what the counter is told."""
        return {result.operator: result.status for result in self.window.results(registration)}

    def everything(self) -> bytes:
        """The bytes of every event that was published."""
        found = b""
        for store in self.engine.stores.values():
            if not store.name.startswith("platform-"):
                with store.snapshot() as tx:
                    found += b"".join(row[0] for row in tx.execute("SELECT payload FROM outbox").all())
        return found

    def close(self) -> None:
        self.running.stop()
        self.engine.close()


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = Hall(tmp_path)
    yield made
    made.close()


def test_accounts_move_with_the_property_from_the_counter_to_the_register_and_back(hall: Hall) -> None:
    # 1. A flat with water, power and gas; the water bill of last month is not paid, and the seller pays by automatic debit.
    project = ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=1)
    [flat] = hall.registry.register_first(project, "440703", 1, [Unit(1, "住宅", Decimal("88.50"))], now=MORNING)
    hall.book("jm-water").open(Account(account="W1", utility="WATER", unit=flat, arrears=Decimal("12.50"), auto_debit=True, meter=Decimal(100),
                                       meter_unit="m³", smart=True))  # fmt: skip
    hall.book("jm-power").open(
        Account(account="P1", utility="POWER", unit=flat, meter=Decimal(2000), meter_unit="kWh", smart=True)
    )
    hall.book("jm-gas").open(Account(account="G1", utility="GAS", unit=flat, meter=Decimal(30), meter_unit="m³"))

    # 2. 受理. Every operator that serves there is asked; what it knows is on the counter's screen in seconds.
    buyer = Party(name="王五", identity="440703199001011234", phone="13800000000")
    number = hall.window.accept(flat, buyer, now=MORNING)
    hall.until(
        lambda: (
            "PENDING" not in (told := hall.told(number)).values()
            and told.keys() >= {"jm-water", "jm-power", "jm-gas", "jm-cable"}
        )
    )
    assert {name: status for name, status in hall.told(number).items() if status != "UNMATCHED"} == {
        "jm-water": "PENDING_SETTLEMENT", "jm-power": "PRECHECKED", "jm-gas": "PRECHECKED",
    }  # fmt: skip
    assert [r.arrears for r in hall.window.results(number) if r.operator == "jm-water"] == [Decimal("12.50")]
    assert {c.operator: c.status for c in hall.counter.checked(number)} == hall.told(number)
    assert hall.counter.tasks() == []

    # 3. The parties choose, and the entry is made (登簿): each chosen account is executed, what was not chosen is dropped.
    hall.window.choose(
        number, [Choice("供水", "MOVE"), Choice("供电", "MOVE", "P1"), Choice("供气", "MOVE", "G1")], now=MORNING
    )
    hall.window.register(number, now=MORNING)
    hall.until(
        lambda: (
            {"PENDING_SETTLEMENT"}
            == {r.status for r in hall.window.results(number) if (r.operator, r.step) == ("jm-water", "EXECUTE")}
        )
    )
    hall.until(
        lambda: len(hall.book("jm-gas").cases(waiting=True)) == 1 == len(hall.book("jm-power").cases(waiting=True))
    )

    # 4. The bill is paid and contracts are signed, and it goes on by itself; gas waits for its safety check and the meter.
    hall.book("jm-water").pay("W1", now=datetime.now(UTC))
    for name in ("jm-water", "jm-power", "jm-gas"):
        [case] = [case for case in hall.book(name).cases() if case.step == "EXECUTE"]
        hall.book(name).sign(case.transfer, now=datetime.now(UTC))
    hall.until(
        lambda: {"jm-water", "jm-power"} <= {r.operator for r in hall.window.results(number) if r.status == "DONE"}
    )
    assert "DONE" not in {r.status for r in hall.window.results(number) if r.operator == "jm-gas"}
    hall.book("jm-gas").check_safety(case.transfer, now=datetime.now(UTC))
    hall.book("jm-gas").read_meter(case.transfer, Decimal("31.250"), now=datetime.now(UTC))
    hall.until(lambda: "DONE" in {r.status for r in hall.window.results(number) if r.operator == "jm-gas"})

    # 5. The seller's debit is stopped, the buyer holds the account, and nobody's name was anywhere in clear.
    [water] = hall.book("jm-water").accounts(flat)
    assert (water.auto_debit, water.holder and hall.engine.keys.open(water.holder)) == (False, "王五")
    for text in ("王五", "440703199001011234", "13800000000"):
        assert text.encode() not in hall.everything()
    hall.until(lambda: {r.status for r in hall.window.results(number) if r.step == "STOP"} <= {"STOPPED"})
    assert hall.counter.tasks() == []
    assert hall.counter.wrong_answers() == 0


def test_an_account_that_nobody_finds_is_matched_by_hand_and_goes_on(
    hall: Hall, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=2)
    [flat] = hall.registry.register_first(project, "440703", 1, [Unit(1, "住宅", Decimal("88.50"))], now=MORNING)
    hall.book("jm-water").open(Account(account="W7", utility="WATER", smart=True))
    number = hall.window.accept(
        flat, Party(name="王五"), [Choice("供水", "CLOSE", "W1")], basis="COURT_SALE", now=MORNING
    )
    hall.window.register(number, now=MORNING)
    hall.until(lambda: [task.about for task in hall.counter.tasks("unmatched")] == [f"{number}/W1"])
    [water] = [checked for checked in hall.counter.checked(number) if checked.operator == "jm-water"]
    told = ["--data", str(hall.folder)]
    match = ["transfers", "match", water.transfer, "W7", "--by", "counter-3", *told]
    assert app.run(["transfers", "show", number, *told]) == 0
    assert "UNMATCHED" in capsys.readouterr().out
    assert app.run([*match, "--dry-run"]) == 0
    assert [task.about for task in hall.counter.tasks("unmatched")] == [f"{number}/W1"]
    assert app.run([*match[:2], "no-such", *match[3:]]) == 2
    assert app.run(match) == 0
    hall.until(lambda: ("DONE", "W7") in {(r.status, r.account) for r in hall.window.results(number)})
    hall.until(lambda: hall.counter.tasks() == [])
