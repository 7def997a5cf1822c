"""Which fault cases have passed in full, and with what numbers: a line each in `docs/faults.ndjson`, of one state of the code.

The file is kept with the project, so that a run that was cut short goes on elsewhere. What is only said of the code (documents,
other tests) may change meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/faults.ndjson"
DECIDES = (
    "jietong", "services", "connectors", "schemas", "cities", "mappings", "simulation", "tests/faults", "tests/outside",
    "requirements.lock",
)  # fmt: skip
"""What a case is about: the code, and what tries and judges it."""


def passed() -> set[str]:
    """With the code as it is now."""
    return {entry["case"] for entry in map(json.loads, _lines())}


def note(case: str, seconds: float, exercised: Sequence[str]) -> None:
    """A case that passed; lines of another state of the code go."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"case": case, "when": when, "code": code(), "seconds": round(seconds, 1), "exercised": list(exercised)}
    lines = [line for line in _lines() if json.loads(line)["case"] != case]
    FILE.write_text("".join(f"{line}\n" for line in [*lines, json.dumps(entry, ensure_ascii=False)]), "utf-8")


def _lines() -> list[str]:
    lines = FILE.read_text("utf-8").splitlines() if FILE.exists() else []
    return [line for line in lines if json.loads(line)["code"] == code()]


@cache
def code() -> str:
    """Names all that decides how a case ends, by its bytes."""
    known = hashlib.sha256()
    for name in sorted(_git("ls-files", "-z", "--", *DECIDES).split("\0")):
        if name and (ROOT / name).is_file():
            known.update(f"{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return known.hexdigest()[:12]


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout
