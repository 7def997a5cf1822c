"""A season of a simulated city on an injected clock: it comes to rest every day, nothing is lost or done twice, and two city
packs run with no code between them. `make year` runs a whole year of 2,000 projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import rest
from simulation.year import Year


@pytest.mark.parametrize(("city", "projects", "days"), [("jiangmen", 12, 75), ("dongguan", 8, 60)])
def test_a_season_ends_with_the_checker_clean_and_everything_exercised(
    tmp_path: Path, city: str, projects: int, days: int
) -> None:
    year = Year(tmp_path / "data", projects, 7, days, city)
    try:
        year.run()
        counts = year.counts()
    finally:
        year.close()
    verdict = rest.judged(tmp_path / "data")
    assert verdict["clean"], verdict["faults"]
    assert counts["cases"]["CONNECTED"] > 5
    assert {"NO_CONTACT", "NO_PLAN", "NO_PROTECTION_ANSWER"} <= counts["absences"].keys()
    assert counts["permits"]["APPROVED"] > 3
    assert counts["breaches"]["LATE_CONTACT"] > 3
