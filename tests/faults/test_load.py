"""FAULTS.md, E: one utility that is slow or away. Compared by counts within one run; nothing is timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults.harness import City, judged, rows, told, until

OTHERS = ("jm-power", "jm-water")


def addressed(folder: Path, operator: str) -> int:
    return len(rows(folder / "hookup.db", "SELECT 1 FROM outbox WHERE operator = ?", operator))


def taken(folder: Path, operator: str) -> int:
    return len(rows(folder / f"platform-{operator}.db", "SELECT 1 FROM receipt"))


def drawn(folder: Path) -> bool:
    """Whether hookup has everything that the platforms have committed."""
    sent = sum(
        len(rows(folder / f"{name}.db", "SELECT 1 FROM outbox WHERE type LIKE '%registered%' OR type LIKE '%decided%'"))
        for name in ("investment", "engineering")
    )
    permits = rows(folder / "platform-engineering.db", "SELECT 1 FROM SPGL_XMSPSXBLXXXXB WHERE BLZT IN (11, 15)")
    told = rows(folder / "engineering.db", "SELECT 1 FROM outbox WHERE type LIKE '%approval%'")
    seen = rows(folder / "hookup.db", "SELECT 1 FROM inbox WHERE fate = 'applied' AND type NOT LIKE 'utility%'")
    return len(permits) == len(told) and sent == len(seen)


def test_f33_while_one_utility_never_answers_the_others_get_all_that_is_theirs(
    start: Callable[..., City], tmp_path: Path
) -> None:
    folder = tmp_path / "city"
    city = start("--seed", "away", "--operators", "jm-gas,jm-power,jm-water")
    city.line("ready")
    city.say("work 40")
    city.line("worked")
    judged(folder)
    before = taken(folder, "jm-gas")
    city.say("away jm-gas")
    city.say("work 80")
    city.line("worked")
    until(lambda: drawn(folder) and all(taken(folder, o) == addressed(folder, o) for o in OTHERS))
    missed = addressed(folder, "jm-gas") - before
    assert missed > 10, "nothing was asked of the one that is away"
    assert taken(folder, "jm-gas") == before, "it was not away"
    held = rows(folder / "utility-jm-gas.db", "SELECT 1 FROM inbox WHERE fate IN ('parked', 'dead')")
    assert not held, "a whole target that is away holds nothing"
    city.say("back jm-gas")
    judged(folder)
    assert taken(folder, "jm-gas") == before + missed
    city.stop()
    told(missed_meanwhile=missed, others={o: taken(folder, o) for o in OTHERS})


def test_f33_a_utility_that_is_a_hundred_times_slower_delays_no_other(
    start: Callable[..., City], tmp_path: Path
) -> None:
    folder = tmp_path / "city"
    city = start("--seed", "slow", "--operators", "jm-gas,jm-power,jm-water")
    city.line("ready")
    city.say("slow jm-gas 400")
    city.say("work 60")
    city.line("worked")
    until(lambda: drawn(folder) and all(taken(folder, o) == addressed(folder, o) for o in OTHERS))
    left = addressed(folder, "jm-gas") - taken(folder, "jm-gas")
    assert left > 0, "the slow one was as quick as the others"
    city.say("slow jm-gas 0")
    judged(folder)
    city.stop()
    told(others={o: taken(folder, o) for o in OTHERS}, slow_one_had_left=left)
