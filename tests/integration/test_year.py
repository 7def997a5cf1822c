"""A season of a simulated city on an injected clock: it comes to rest every day, nothing is lost or done twice, and two city
packs run with no code between them. `make year` runs a whole year of 2,000 projects."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jietong import city as cities
from jietong import settings
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
    try:
        year.run()
        counts, now = year.counts(), year.engine.now()
        ours = {by: counted(year, by) for by in figures.BY}
    finally:
        year.close()
    verdict = rest.judged(settings.load(data=tmp_path / "data"))
    assert verdict["clean"], verdict["faults"]
    assert counts["cases"]["CONNECTED"] > 5
    assert {"NO_CONTACT", "NO_PLAN", "NO_PROTECTION_ANSWER"} <= counts["absences"].keys()
    assert counts["permits"]["APPROVED"] > 3
    assert counts["breaches"]["LATE_CONTACT"] > 3
    for figure, theirs in naive(tmp_path / "data", cities.find(city), FIRST, LAST, now)["figures"].items():
        for by, groups in theirs["groups"].items():
            found = {group: cell for group, cell in ours[by][figure].items() if cell["n"] + cell["left_out"]}
            assert found.pop(figures.TOTAL, theirs["total"]) == theirs["total"], figure
            assert found == groups, (figure, by)


def counted(year: Year, by: str) -> dict[str, dict[str, dict[str, Any]]]:
    """figure → group → as the naive figures have it."""
    window = figures.Window(FIRST, LAST, by, year.ms)
    with year.engine.stores["hookup"].snapshot() as tx:
        found = figures.figures(tx, year.pack, year.engine.contract, window)
    cells: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in found:
        cells[one.figure][one.group] = {"value": one.value, "n": one.n, "left_out": one.left_out}
    return cells
