"""Database transactions an event costs at saturation: hookup drains a full log, its relay sends what it wrote."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.table import Line, markdown
from benchmarks.workload import CITY, fill
from jietong import catalog
from jietong.city import load
from jietong.delivery.consumer import Consumer
from jietong.delivery.relay import Relay
from jietong.engine import embedded
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

EVENTS = 10_000
A_BATCH, AN_EVENT = 1.0, 0.01


def measure(events: int = EVENTS) -> list[Line]:
    """Counts, not times: the same on every machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), events)
        known = catalog.load()
        engine = embedded(folder, CITY, known)
        store = engine.store("hookup", hookup)
        outbox = engine.outbox(store)
        consumer = Consumer(Hookup(load("jiangmen", known), lambda: 0), store, engine.log, outbox)
        relay = Relay(outbox.source, store, engine.log, engine.contract, engine.clock)
        consumer.start()
        relay.start()
        before = store.commits
        while consumer.step(0):
            pass
        consumed, before, logged = store.commits - before, store.commits, engine.log.commits
        sent = 0
        while rows := relay.step().rows:
            sent += rows
        marked, logged = store.commits - before, engine.log.commits - logged
        engine.close()
    return [
        Line("consumer, transactions per polled batch", [consumed / consumer.counts.batches], "", A_BATCH),
        Line("consumer, commits per event", [consumed / consumer.counts.events], "", AN_EVENT),
        Line("relay, its database's commits per event", [marked / sent], "", AN_EVENT),
        Line("relay, the log's commits per event", [logged / sent], "", AN_EVENT),
    ]


if __name__ == "__main__":
    print(markdown(measure(*(int(text) for text in sys.argv[1:]))))
