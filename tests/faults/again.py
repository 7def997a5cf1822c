"""The relay of the investment platform, started and stopped so many times in one process, each time with connections and
locks of its own; a line a time: descriptors and threads that are left, and whether it got its lock."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import connectors.investment.__main__ as investment
from jietong import settings, up


def once() -> bool:
    engine, _ = up.open_engine(settings.load())
    try:
        [relay] = investment.build(engine)[1].movements
        relay.start()
        relay.step(0)
        relay.beat()
        relay.stop()
        return bool(getattr(relay, "started", False))
    finally:
        engine.close()


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        mine = once()
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        sys.stdout.write(f"again {descriptors} {threading.active_count()} {int(mine)}\n")
        sys.stdout.flush()
