"""Our side of the comparison with the peers: the hookup service's consumer in a process of its own, told and heard as a peer is."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import threading
import time
from typing import Any

from jietong import backends, catalog, city, settings
from jietong.delivery.consumer import Consumer
from jietong.engine import Engine
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup


class Named(Hookup):
    """Hookup on the topics that a peer reads, in a group and a store of this run's own."""

    def __init__(self, name: str, topics: list[str], pack: Any, now: int) -> None:
        super().__init__(pack, lambda: now)
        self.name, self.types = name, tuple(topics)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours")
    parser.add_argument("--name", required=True, help="the consumer group, and the schema of its tables")
    parser.add_argument("--topics", nargs="+", required=True)
    parser.add_argument("--now", type=int, default=0, help="a clock that stands still: milliseconds")
    chosen = parser.parse_args(arguments)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    known = catalog.load()
    engine = Engine(backends.of(settings.load(), known), "440700", known)
    store = engine.store(chosen.name, hookup)
    service = Named(chosen.name, chosen.topics, city.load("jiangmen", known), chosen.now)
    consumer = Consumer(service, store, engine.log, engine.outbox(store))
    consumer.start()
    gc.collect()
    gc.freeze()  # as `jietong.up` does
    events, first, last, cpu = 0, 0.0, 0.0, (0.0, 0.0)
    while not told.is_set():
        begun, used = time.monotonic(), time.process_time()
        if taken := consumer.step(0.2):
            first, last = first or begun, time.monotonic()
            cpu = (cpu[0] or used, time.process_time())
            events += taken
    consumer.stop()
    engine.close()
    print(json.dumps({"events": events, "seconds": last - first, "cpu": cpu[1] - cpu[0]}))


if __name__ == "__main__":
    main(sys.argv[1:])
