"""FAULTS.md, A: processes that die, restart and meet each other. Judged by the outside checker."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.bench import Bench, draft
from tests.faults.city import POISON, REGISTERED
from tests.faults.harness import FULL, City, Process, judged, rows, told, until
from tests.outside.checker import Caps

RELAY = ("relay.after_head", "relay.before_send", "relay.after_ack", "relay.before_mark_commit", "relay.after_mark")
OTHERS = (
    "consumer.before_batch", "consumer.before_commit", "consumer.after_commit", "draw.before_commit",
    "draw.after_commit", "pour.before_deliver", "pour.after_deliver",
)  # fmt: skip
Start = Callable[..., City]
KILLED = -signal.SIGKILL


def healed(start: Start, tmp_path: Path, **options: str) -> None:
    """Start once more without any fault, and let the outside checker judge while it runs."""
    city = start("--seed", "healed", "--operations", "10", **options)
    city.line("worked")
    verdict = judged(tmp_path / "city", Caps(pid=city.pid))
    city.stop()
    told(operations=verdict.numbers["operations"], duplicates=verdict.numbers["duplicates in the log"])


def died_at(start: Start, point: str, nth: int, *options: str) -> None:
    city = start("--seed", "dies", "--operations", "200", "--pace", "0.01", *options, failpoint=f"{point}:kill:{nth}")
    assert city.ended() == KILLED, (point, city.errors)


def test_f01_a_relay_that_dies_after_the_ack_repeats_and_nothing_is_done_twice(start: Start, tmp_path: Path) -> None:
    died_at(start, "relay.after_ack", 5)
    healed(start, tmp_path)
    assert judged(tmp_path / "city").numbers["duplicates in the log"] >= 1


def test_f04_a_consumer_that_dies_after_its_commit_does_nothing_twice(start: Start, tmp_path: Path) -> None:
    died_at(start, "consumer.after_commit", 20)
    before = effects(tmp_path)
    healed(start, tmp_path)
    assert before > 0, "nothing was committed before it died"


def test_f05_a_consumer_that_dies_inside_its_transaction_leaves_no_half_effect(start: Start, tmp_path: Path) -> None:
    died_at(start, "consumer.before_commit", 20)
    for name, table in (("recorder", "done"), ("hookup", "case_")):
        settled = len(rows(tmp_path / "city" / f"{name}.db", "SELECT 1 FROM inbox WHERE fate = 'applied'"))
        assert settled or not rows(tmp_path / "city" / f"{name}.db", f"SELECT 1 FROM {table}"), (name, "half an effect")
    healed(start, tmp_path)


def effects(tmp_path: Path) -> int:
    files = ("recorder", "hookup")
    return sum(
        len(rows(tmp_path / "city" / f"{name}.db", "SELECT 1 FROM inbox WHERE fate = 'applied'")) for name in files
    )


# -- F02: at random ----------------------------------------------------------------------------------------------------
def plan(part: int, parts: int, *, windows: dict[str, int], at_random: int) -> list[str]:
    """Where each kill of this part falls: a failpoint's window, or anywhere (an empty name)."""
    kills = [name for name, count in windows.items() for _ in range(count)] + [""] * at_random
    random.Random("F02").shuffle(kills)
    return kills[part::parts]


def killed_again_and_again(start: Start, tmp_path: Path, kills: list[str], seed: str) -> Counter[str]:
    chance, fell = random.Random(seed), Counter[str]()
    for n, point in enumerate(kills):
        at = f"{point}:kill:{chance.randint(1, 4)}" if point else ""
        city = start("--seed", f"{seed}-{n}", "--operations", "400", "--pace", "0.01", failpoint=at)
        if point:
            assert city.ended() == KILLED, (point, city.errors)
        else:
            city.line("ready")
            try:
                city.ended(chance.uniform(0.010, 0.500))
            except subprocess.TimeoutExpired:
                city.kill()
        fell[point or "at random"] += 1
        city.kill()
    return fell


@pytest.mark.parametrize("part", range(4))
def test_f02_kills_at_random_and_in_every_window_lose_nothing(start: Start, tmp_path: Path, part: int) -> None:
    kills = plan(part, 4, windows=dict.fromkeys(RELAY + OTHERS, 1), at_random=8)
    fell = killed_again_and_again(start, tmp_path, kills, f"f02-{part}")
    told(kills=len(kills), **{name.replace(".", "_").replace(" ", "_"): count for name, count in fell.items()})
    healed(start, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(10))
def test_f02_in_full_counts(start: Start, tmp_path: Path, part: int) -> None:
    assert FULL or part == 0, "JIETONG_FAULTS=full for all ten parts"
    kills = plan(part, 10, windows=dict.fromkeys(RELAY, 30) | dict.fromkeys(OTHERS, 10), at_random=50)
    fell = killed_again_and_again(start, tmp_path, kills, f"f02-full-{part}")
    told(kills=len(kills), **{name.replace(".", "_").replace(" ", "_"): count for name, count in fell.items()})
    healed(start, tmp_path)


def test_everything_killed_at_once_loses_nothing(start: Start, tmp_path: Path) -> None:
    """The city, and what runs beside it on the same folder."""
    command = (sys.executable, "-m", "tests.outside.checker", str(tmp_path / "city"), "--within", "60")
    for n in range(3):
        city = start("--seed", f"all-{n}", "--operations", "400", "--pace", "0.005")
        city.line("ready")
        beside = [Process(*command) for _ in range(2)]
        before = operations(tmp_path)
        until(lambda before=before: operations(tmp_path) >= before + 40)
        for process in (city, *beside):
            process.kill()
    healed(start, tmp_path)


def operations(tmp_path: Path) -> int:
    history = tmp_path / "city" / "history.ndjson"
    return history.read_text("utf-8").count('"begin"') if history.exists() else 0


# -- F12: one record kills ---------------------------------------------------------------------------------------------
def test_f12_a_record_that_kills_is_parked_after_two_deaths_and_others_go_on(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "city"
    city = start("--seed", "first", "--operations", "30", "--poison", "10", "--pace", "0.02")
    deaths = 0
    for n in range(6):
        until(lambda city=city: not city.alive() or parked(folder))
        if city.alive():
            break
        deaths += 1
        city = start("--seed", f"again-{n}", "--operations", "10")
    city.line("worked")
    assert deaths == 3, "one in a batch, two while it was attempted alone"
    [(code,)] = rows(folder / "investment.db", "SELECT code FROM project WHERE name = ?", POISON)
    count = len(rows(folder / "investment.db", "SELECT 1 FROM handling WHERE code = ?", code))
    predict(folder, code, count)
    verdict = judged(folder)
    city.stop()
    told(deaths=deaths, applied=verdict.numbers["fates"]["applied"], behind_it=count - 1)


def parked(folder: Path) -> list[object]:
    return rows(folder / "recorder.db", "SELECT 1 FROM inbox WHERE fate = 'parked' AND reason LIKE 'died here%'")


def predict(folder: Path, code: str, count: int) -> None:
    """The record that kills is parked; whatever its project does later waits behind it. Nothing else does."""
    stream = {"consumer": "recorder", "source": "urn:jietong:440700:investment", "type": REGISTERED, "subject": code}
    with (folder / "history.ndjson").open("a", encoding="utf-8") as history:
        for n in range(1, count + 1):
            held = {**stream, "sequence": n, "fate": "parked" if n == 1 else "waiting"}
            history.write(f"{json.dumps({'held': held})}\n")


# -- F15: two of one ---------------------------------------------------------------------------------------------------
def test_f15_a_second_process_on_the_same_folder_is_told_who_has_it(start: Start, tmp_path: Path) -> None:
    first = start("--seed", "first", "--operations", "50")
    first.line("ready")
    second = start("--seed", "second", "--operations", "50")
    assert second.ended() == 2
    assert len(second.errors) == 1, second.errors
    assert f"process {first.pid} " in second.errors[0]
    first.line("worked")
    judged(tmp_path / "city")
    first.stop()
    assert not [line for line in (tmp_path / "city/history.ndjson").read_text().splitlines() if "second-" in line]


def test_f15_of_two_relays_on_one_outbox_one_stands_by(bench: Bench) -> None:
    second = bench.engine.relay(bench.platform, bench.outbox)
    bench.flow()
    bench.commit(*(draft(n) for n in range(20)))
    second.step(0)
    assert len(bench.records()) == 0, "the second one sent"
    bench.flow()
    assert len(bench.records()) == 20
    bench.engine.backend._locks[0].release()
    bench.commit(*(draft(n) for n in range(20)))
    second.step(0)
    while bench.reader.step(0):
        pass
    verdict = bench.judged()
    assert verdict.numbers["duplicates in the log"] == 0
    assert len(bench.done()) == 40
