"""A day on both platforms, the same whatever zone this process is in: `python -m tests.faults.day FOLDER` leaves what
the log has of it in `said.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
from connectors.engineering.platform import Work
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.broker import Place
from jietong.engine import Engine, embedded

MIDNIGHT = datetime(2026, 3, 1, 16, 0, tzinfo=UTC)
"""Of 2 March in the city."""
RANDOM = ("ce_id", "ce_causationid")


def main(folder: Path) -> None:
    types = catalog.load()
    engine = embedded(folder, "440700", types, clock=lambda: 1_772_400_000_000)
    platform, program = investment.build(engine)
    told = Application(name="项目", site_regions=("440703",), authority_region="440703", planned_start=date(2026, 6, 1),
                       total_investment=Decimal("1.005000"))  # fmt: skip
    code = platform.register(told, now=MIDNIGHT - timedelta(minutes=1))
    platform.decide(code, "FILED", "备 1", now=MIDNIGHT)
    exchange, engineers = engineering.build(engine, city.load("jiangmen", types))
    work = Work(
        project=code,
        code=f"{code}-1",
        name="一期",
        developer="91440703MA4UQ0000X",
        developer_name="某公司",
        site_regions=["440703"],
        address="建设路 1 号",
        planned_start=date(2026, 6, 1),
    )
    exchange.register(work, MIDNIGHT)
    exchange.open_item(work.code, "JM-0301", "SX-1", MIDNIGHT)
    for minutes, status in enumerate((1, 3, 11)):
        exchange.progress(work.code, "SX-1", status, MIDNIGHT + timedelta(minutes=minutes))
    for movement in (*engineers.movements, *program.movements):
        movement.start()
        movement.step(0)
    (folder / "said.json").write_text(json.dumps(sorted(_said(engine), key=str)), "utf-8")
    engine.close()


def _said(engine: Engine) -> Iterator[dict[str, str]]:
    for topic in engine.log.topics(engine.catalog.topics).values():
        for partition in () if topic.name.startswith("jietong.") else topic.bounds:
            for record in engine.log.read(Place(topic.name, partition), 0, 1000):
                headers = {name: value.decode() for name, value in record.headers if name not in RANDOM}
                yield {"type": topic.name, "value": (record.value or b"").hex(), **headers}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
