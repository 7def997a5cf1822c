"""How a simulated city comes to rest, and what the outside checker then says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jietong.engine import Running
from jietong.errors import JietongError

CHECKER = "tests.outside.checker"
QUIET = 120.0
"""Seconds the city may take to come to rest."""
WAITING = """SELECT 1 FROM inbox i WHERE fate = 'waiting' AND NOT EXISTS (SELECT 1 FROM inbox h WHERE h.source = i.source AND h.type = i.type
AND h.subject = i.subject AND h.sequence < i.sequence AND h.fate IN ('parked', 'dead')) LIMIT 1"""


def at_rest(running: Running) -> bool:
    """Whether nothing is unsent, unread, or waiting, but behind what is held."""
    if any(sum(consumer.lag().values()) for consumer in running.consumers()):
        return False
    for name, store in running.engine.stores.items():
        if not name.startswith("platform-"):
            with store.snapshot() as tx:
                if tx.execute("SELECT 1 FROM outbox WHERE sent = 0 LIMIT 1").one() or tx.execute(WAITING).one():
                    return False
    return True


def check(running: Running) -> None:
    """Raises JietongError if a movement ended by a bug."""
    if running.failed.is_set():
        raise JietongError(f"a movement ended by a bug: {running.bug()!r}")


def until(so: Callable[[], bool], running: Running, seconds: float = QUIET) -> None:
    """Wait, looking ten times a second. Raises JietongError if it does not come to be so."""
    pause = threading.Event()
    for _ in range(int(seconds * 10)):
        check(running)
        if so():
            return
        pause.wait(0.1)
    raise JietongError(f"the city did not come to rest within {seconds:.0f} s")


def judged(data: Path, history: bool = True) -> dict[str, Any]:
    """The verdict of the outside checker, a process that imports nothing of ours. Raises JietongError if it gives none."""
    told = ["--history", str(data / "history.ndjson")] if history else []
    command = [sys.executable, "-m", CHECKER, str(data), *told, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise JietongError(f"the outside checker gave no verdict: {done.stderr.strip()[-300:]}") from None
