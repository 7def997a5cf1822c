"""The story, as data walks it. Read this first.

A company's project is decided on the investment platform. Within the same moment water, drainage, power, gas, telecom and
cable TV each have a lead; the construction permit follows on the engineering platform, and with it temporary supply and the
question what pipes lie there. The utilities answer; one map shows the whole way; and when the permit is revoked, nobody
goes on digging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from connectors.engineering.platform import Work
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.engine import Engine, Running, embedded

MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


class TinyCity:
    """Every platform, connector and service of 江门, in one process."""

    def __init__(self, engine: Engine) -> None:
        self.pack, self.engine = city.load("jiangmen", catalog.load()), engine
        self.investment, investing = investment.build(self.engine)
        self.engineering, engineers = engineering.build(self.engine, self.pack)
        utilities = utility.build_all(self.engine, self.pack)
        self.operators = {name: platform for name, (platform, _) in utilities.items()}
        page, mapping = timeline.build(self.engine, self.pack, "127.0.0.1", None)
        self.page = TestClient(page, base_url="http://127.0.0.1")
        programs = [
            investing,
            engineers,
            hookup.build(self.engine, self.pack),
            mapping,
            *(program for _, program in utilities.values()),
        ]
        self.running = Running(self.engine, programs, beat=0.5).start()

    def until(self, what: Callable[[], object], seconds: float = 60) -> None:
        """Wait until it is so; each commit anywhere wakes someone, this only looks."""
        wait = self.engine.stopping.wait
        for _ in range(int(seconds / 0.02)):
            if self.running.failed.is_set():
                raise AssertionError(self.running.bug())
            if what():
                return
            wait(0.02)
        raise AssertionError(f"not within {seconds} s: {self.running.health}")

    def leads(self, code: str, kind: str) -> dict[str, str]:
        """operator → status of its case, in the operators' own tables."""
        return {
            name: case.status
            for name, platform in self.operators.items()
            for case in platform.cases()
            if (case.subject, case.business_kind) == (code, kind)
        }

    def fates(self, consumer: str) -> set[str]:
        with self.engine.stores[consumer].snapshot() as tx:
            return {row[0] for row in tx.execute("SELECT DISTINCT fate FROM inbox").all()}

    def close(self) -> None:
        self.running.stop()
        self.engine.close()


@pytest.fixture(params=["embedded", pytest.param("city", marks=[pytest.mark.city, pytest.mark.timeout(300)])])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TinyCity]:
    """On one folder; and on Apache Kafka, PostgreSQL and a registry."""

    def engine() -> Engine:
        return embedded(tmp_path, "440700", catalog.load())

    made = TinyCity(request.getfixturevalue("on_servers")() if request.param == "city" else engine())
    yield made
    made.close()


def test_when_an_approval_commits_everyone_entitled_to_know_learns_of_it(tiny: TinyCity) -> None:
    # 1. A company registers its project, and the investment platform decides it: 立项.
    code = tiny.investment.register(Application(
        name="蓬江智造园", site_regions=("440703",), authority_region="440703", address="江门市蓬江区建设路 1 号", floor_area=Decimal("52000.00"),
        total_investment=Decimal("30000.000000"), planned_start=date(2026, 6, 1),
    ), now=MORNING)  # fmt: skip
    tiny.investment.decide(code, "FILED", "江备〔2026〕1 号", now=MORNING)

    # 2. Before the company has asked anyone, every utility that serves 蓬江 has a lead in its own system.
    serving = {
        o.id for o in tiny.pack.operators.values() if any(area.covers(["440703"], MORNING.date()) for area in o.areas)
    }
    tiny.until(lambda: tiny.leads(code, "PERMANENT").keys() == serving)
    assert set(tiny.leads(code, "PERMANENT").values()) == {"LEAD"}
    [power] = tiny.operators["jm-power"].cases()

    # 3. The power company calls first, and its answer flows back to the map.
    tiny.operators["jm-power"].contact(power.case_id, now=datetime.now(UTC))
    tiny.until(lambda: "CONTACTED" in str(tiny.page.get(f"/api/projects/{code}").json()))

    # 4. The construction permit: water and power for the site, and every owner of pipes is asked before anyone digs.
    platform = tiny.engineering
    work = f"{code}-01"
    platform.register(Work(project=code, code=work, name="蓬江智造园一期", developer="91440703MA4UQ0000X", developer_name="蓬江智造有限公司",
                           site_regions=["440703"], address="江门市蓬江区建设路 1 号"), datetime.now(UTC))  # fmt: skip
    platform.open_item(work, "JM-0301", "SX-1", datetime.now(UTC))
    for status in (1, 3, 8, 11):
        platform.progress(work, "SX-1", status, datetime.now(UTC))
    tiny.until(lambda: tiny.leads(code, "TEMPORARY").keys() == {"jm-water", "jm-power"})
    tiny.until(lambda: {"jm-gas", "jm-drainage"} <= tiny.leads(code, "PROTECT").keys())

    # 5. Water accepts; power does not yet. Then the permit is revoked (许可法 69).
    [site_water] = [case for case in tiny.operators["jm-water"].cases() if case.business_kind == "TEMPORARY"]
    tiny.operators["jm-water"].contact(site_water.case_id, now=datetime.now(UTC))
    tiny.operators["jm-water"].accept(site_water.case_id, now=datetime.now(UTC))
    tiny.until(lambda: "ACCEPTED" in str(tiny.page.get(f"/api/projects/{code}").json()))
    platform.progress(work, "SX-1", 15, datetime.now(UTC))

    # 6. The lead is cancelled; what was accepted is suspended, and a person is asked. The permanent supply stands.
    tiny.until(lambda: tiny.leads(code, "TEMPORARY") == {"jm-power": "CANCELLED", "jm-water": "SUSPENDED"})
    assert "CANCELLED" not in tiny.leads(code, "PERMANENT").values()
    with tiny.engine.stores["hookup"].snapshot() as tx:
        assert [
            row[0]
            for row in tx.execute("SELECT kind FROM task WHERE subject = :code AND done IS NULL", {"code": code}).all()
        ] == ["suspended"]

    # 7. Each event was taken by each reader once, and nothing waits.
    for name in ("hookup", "timeline", "utility:jm-water"):
        tiny.until(lambda name=name: tiny.fates(name) <= {"applied", "filtered"})
