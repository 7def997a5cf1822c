"""Processes of our own to be killed, and waiting with a deadline; nothing here sleeps for a result."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tests.outside import tables
from tests.outside.checker import Caps, Verdict, check

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("JIETONG_FAULTS") == "full"
"""`make faults`: the full counts."""
SECONDS = 60.0


class Process:
    """A program in a process group of its own."""

    def __init__(self, *command: str, env: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process: subprocess.Popen[str] = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes
        )
        self.pid = self._process.pid
        self.errors: list[str] = []
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._complain, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def line(self, word: str, seconds: float = SECONDS) -> str:
        """The next that it prints that begins so."""
        until = time.monotonic() + seconds
        try:
            while (line := self._lines.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                if line.startswith(word):
                    return line
        except Empty:
            pass
        raise AssertionError(f"process {self.pid} never said {word}: {self.errors[-5:]}")

    def say(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def ended(self, seconds: float = SECONDS) -> int:
        """Its exit code; negative: the signal that ended it."""
        code = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def stop(self) -> None:
        self.say("stop")
        assert self.ended() == 0, self.errors

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """The whole group, at once."""
        if self.alive():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _complain(self) -> None:
        assert self._process.stderr
        self.errors.extend(line.rstrip("\n") for line in self._process.stderr)


class City(Process):
    """`tests/faults/city.py` on a folder."""

    def __init__(self, folder: Path, *options: str, failpoint: str = "", wrapper: tuple[str, ...] = ()) -> None:
        self.folder = folder
        command = (*wrapper, sys.executable, "-m", "tests.faults.city", str(folder), *options)
        super().__init__(*command, env={"JIETONG_FAILPOINT": failpoint})


def judged(folder: Path, caps: Caps = Caps(), seconds: float = 90.0) -> Verdict:  # noqa: B008 — frozen
    """The outside checker's verdict; asserts that it is clean, at the latest after so many seconds: what several deaths
    hit by chance is parked for a minute, and tried again by itself."""
    history = folder / "history.ndjson"
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        verdict = check(folder, history if history.exists() else None, within=left, caps=caps)
        if verdict.clean or left <= 0:
            break
    assert verdict.clean, str(verdict)
    return verdict


def rows(file: Path, sql: str, *parameters: Any) -> list[Any]:
    """What a table says, read only; nothing if there is no such table yet."""
    if not file.exists():
        return []
    with closing(tables.opened(file)) as db:
        try:
            return db.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError:
            return []


def until(what: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until it is so, or fail at the deadline."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


said: list[str] = []
"""What the case under way has exercised; `ledger.py` takes it."""


def told(**exercised: object) -> None:
    """Say what a case exercised; `pytest -s` and `make faults` show it, the ledger keeps it."""
    line = ", ".join(f"{name} {value}" for name, value in exercised.items())
    said.append(line)
    sys.stdout.write(f"  exercised: {line}\n")
