"""`make demo`, small: a city runs, is verified from outside, and what Ctrl-C or a kill interrupts goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "simulation", "--projects", "12", "--seconds", "3", "--json"]
ROOT = Path(__file__).parents[2]


def test_a_small_city_ends_clean_with_everything_the_seed_predicted(tmp_path: Path) -> None:
    command = [*COMMAND, "--data", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["verdict"]["broken"] == []
    assert all(told["minima"].values())
    assert (told["projects"], told["held"]) == (12, 1)
    assert told["duplicates"] >= told["expected"]["duplicates"] > 0


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_what_was_interrupted_goes_on_from_there(tmp_path: Path, by: signal.Signals, code: int) -> None:
    data = tmp_path / "demo"
    with subprocess.Popen(
        [*COMMAND, "--data", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as first:
        for _ in range(600):
            if done(data) >= 20 or first.poll() is not None:
                break
            time.sleep(0.05)  # looks, with a deadline; nothing depends on how long it takes
        first.send_signal(by)
        said = first.communicate(timeout=60)[1]
    assert first.returncode == code, said
    before = done(data)
    assert before >= 20
    again = subprocess.run(
        [*COMMAND, "--data", str(data)], capture_output=True, text=True, cwd=ROOT, timeout=110, check=False
    )
    assert again.returncode == 0, again.stderr
    assert done(data) > before
    assert json.loads(again.stdout)["verdict"]["numbers"]["operations"]["ok"] > before


def done(data: Path) -> int:
    """Operations of the workload that were carried out."""
    history = data / "history.ndjson"
    return history.read_text("utf-8").count('"at": "ok"') if history.exists() else 0


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not yours")
    refused = subprocess.run(
        [*COMMAND, "--data", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "holds something else" in refused.stderr


def test_a_program_runs_alone_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    environment = {**os.environ, "JIETONG_DATA": str(tmp_path / "data"), "JIETONG_CITY": "nowhere", "JIETONG_PORT": "0"}
    command = [sys.executable, "-m", "services.hookup"]
    wrong = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    environment["JIETONG_CITY"] = "jiangmen"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("ready: ")
        program.terminate()
        program.communicate(timeout=30)
    assert program.returncode == 0
    environment["JIETONG_CITY"] = "dongguan"
    wrong = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "the log is city 440700's, and this is 441900" in wrong.stderr
