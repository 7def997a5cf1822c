"""Which fault cases have passed in full, with which code and with what numbers: a line each in `var/faults.ndjson`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "var/faults.ndjson"


def passed() -> set[str]:
    """With the code as it is now."""
    lines = FILE.read_text("utf-8").splitlines() if FILE.exists() else []
    return {entry["case"] for entry in map(json.loads, lines) if entry["code"] == code()}


def note(case: str, seconds: float, exercised: Sequence[str]) -> None:
    FILE.parent.mkdir(exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"case": case, "when": when, "code": code(), "seconds": round(seconds, 1), "exercised": list(exercised)}
    with FILE.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(entry, ensure_ascii=False)}\n")


@cache
def code() -> str:
    """The commit, and what was changed since."""
    commit, changes = (_git("rev-parse", "--short", "HEAD").strip(), _git("diff", "HEAD"))
    return f"{commit}+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else commit


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout
