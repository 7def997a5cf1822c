"""A season of a simulated city on an injected clock: it comes to rest every day, nothing is lost or done twice, and two city
packs run with no code between them. `make year` runs a whole year of 2,000 projects."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jietong import city as cities
from services.hookup import figures
from simulation import rest
from simulation.year import Year
from tests.outside.figures import naive

FIRST, LAST = date(2026, 3, 2), date(2026, 5, 31)


@pytest.mark.parametrize(("city", "projects", "days"), [("jiangmen", 12, 75), ("dongguan", 8, 60)])
def test_a_season_ends_with_the_checker_clean_and_everything_exercised(
    tmp_path: Path, city: str, projects: int, days: int
) -> None:
    year = Year(tmp_path / "data", projects, 7, days, city)
    year.slips = (
        0.0  # a step that the city refused stands in the operator's table, and the naive figures would count it
    )
    try:
        year.run()
        counts = year.counts()
        ours = {by: counted(year, by) for by in ("division", "operator")}
    finally:
        year.close()
    verdict = rest.judged(tmp_path / "data")
    assert verdict["clean"], verdict["faults"]
    assert counts["cases"]["CONNECTED"] > 5
    assert {"NO_CONTACT", "NO_PLAN", "NO_PROTECTION_ANSWER"} <= counts["absences"].keys()
    assert counts["permits"]["APPROVED"] > 3
    assert counts["breaches"]["LATE_CONTACT"] > 3
    for figure, groups in naive(tmp_path / "data", cities.find(city), FIRST, LAST).items():
        by = "operator" if figure.startswith(("connect", "permits")) else "division"
        assert {group: ours[by][figure, group] for group in groups} == groups, figure


def counted(year: Year, by: str) -> dict[tuple[str, str], tuple[Any, int]]:
    window = figures.Window(FIRST, LAST, by, year.ms)
    with year.engine.stores["hookup"].snapshot() as tx:
        found = figures.figures(tx, year.pack, year.engine.contract, window)
    return {(one.figure, one.group.replace("total", "")): (one.value, one.n) for one in found}
