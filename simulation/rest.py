"""How a simulated city comes to rest, and what the outside checker then says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from jietong.backends import PLATFORM
from jietong.engine import Engine
from jietong.errors import JietongError, RetriableError
from jietong.settings import Settings
from jietong.up import City

CHECKER = "tests.outside.checker"
QUIET = 120.0
"""Seconds the city may take to come to rest."""
WAITING = """SELECT 1 FROM inbox i WHERE fate = 'waiting' AND NOT EXISTS (SELECT 1 FROM inbox h WHERE h.source = i.source AND h.type = i.type
AND h.subject = i.subject AND h.sequence < i.sequence AND h.fate IN ('parked', 'dead')) LIMIT 1"""


class Watched(Protocol):
    """The programs of a city, in this process or others."""

    @property
    def address(self) -> str: ...
    def check(self) -> None:
        """Raises JietongError if one of them cannot go on."""
        ...

    def duplicates(self) -> int:
        """Events that readers had already, since they started."""
        ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Here:
    """All in this process."""

    city: City

    @property
    def address(self) -> str:
        return self.city.address

    def check(self) -> None:
        if self.city.running.failed.is_set():
            raise JietongError(f"a movement ended by a bug: {self.city.running.bug()!r}")

    def duplicates(self) -> int:
        return sum(consumer.counts.duplicates for consumer in self.city.running.consumers())

    def stop(self) -> None:
        self.city.stop()


def at_rest(engine: Engine) -> bool:
    """Whether nothing is unsent, unread, or waiting, but behind what is held."""
    for name, store in engine.stores.items():
        if not name.startswith(PLATFORM):
            with store.snapshot() as tx:
                if tx.execute("SELECT 1 FROM unsent LIMIT 1").one() or tx.execute(WAITING).one():
                    return False
                at = tx.execute('SELECT topic, partition, "offset" FROM position').all()
            topics = engine.log.topics({topic for topic, _, _ in at})
            if any(offset < topics[topic].bounds[partition].end for topic, partition, offset in at):
                return False
    return True


def until(so: Callable[[], bool], watched: Watched, seconds: float = QUIET) -> None:
    """Wait, looking ten times a second. Raises JietongError if it does not come to be so."""
    pause = threading.Event()
    for _ in range(int(seconds * 10)):
        watched.check()
        with suppress(RetriableError):
            if so():
                return
        pause.wait(0.1)
    raise JietongError(f"the city did not come to rest within {seconds:.0f} s")


def judged(settings: Settings, history: bool = True) -> dict[str, Any]:
    """The verdict of the outside checker, a process that imports nothing of ours. Raises JietongError if it gives none."""
    told = ["--history", str(settings.data / "history.ndjson")] if history else []
    where = [str(settings.data)]
    if settings.engine == "city":
        where = ["--database", settings.needed("database_url"), "--bootstrap", settings.needed("kafka_bootstrap_servers"),
                 "--registry", settings.needed("schema_registry_url")]  # fmt: skip
    command = [sys.executable, "-m", CHECKER, *where, *told, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise JietongError(f"the outside checker gave no verdict: {done.stderr.strip()[-300:]}") from None
