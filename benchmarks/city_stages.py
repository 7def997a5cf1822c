"""What it costs to do everything at once: relay, hookup and the operators' program together, beside the slowest of them alone.

The same kind of approvals each time, slices of one city's life, through the real programs, each a process of its own. A stage's
pace is in approvals a second, whatever they make of them: so stages can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from benchmarks.city import Bench, Way, approvals, until
from benchmarks.table import Line
from jietong.engine import now_millis
from jietong.event import Draft

RELAY, HOOKUP, POUR = "connectors.engineering", "services.hookup", "connectors.utility"
LEAST = 0.65
LOOK = 0.05
"""Seconds between two looks at what is left, where no row says when it was the last."""
SETTLED = "SELECT settled, count(*) FROM inbox WHERE settled > :since GROUP BY settled ORDER BY settled"
RECEIVED = "SELECT received_at FROM receipt WHERE received_at > :since"


def stages(b: Bench, events: int = 10_000, rounds: int = 3) -> list[Line]:
    way, coming = Way(b.engine), approvals(11)
    with b.running(RELAY, HOOKUP, POUR):  # where every reader begins is laid down
        way.add(list(islice(coming, 100)))
        until(way.over, "what comes before the first round")
    alone: list[tuple[float, float, float]] = []
    together: list[float] = []
    for _ in range(rounds):
        alone.append((_relayed(b, way, coming, events), _learned(b, way, events), _delivered(b, way, events)))
        with b.running(RELAY, HOOKUP, POUR):
            together.append(_pace(way, coming, events, way.over))
    ratios = [at_once / min(each) for at_once, each in zip(together, alone, strict=True)]
    return [
        Line("all stages at once / the slowest alone", ratios, least=LEAST),
        *(
            Line(f"  {name} alone, approvals", [each[n] for each in alone], "per s")
            for n, name in enumerate(("relay", "hookup", "operators' program"))
        ),
        Line("  all at once, approvals", together, "per s"),
    ]


def _relayed(b: Bench, way: Way, coming: Iterator[Draft], events: int) -> float:
    """From the commit of all until the last is marked as sent."""
    with b.running(RELAY):
        return _pace(way, coming, events, lambda: not way.unsent())


def _pace(way: Way, coming: Iterator[Draft], events: int, over: Callable[[], bool]) -> float:
    """Programs stand ready: from when so many approvals are committed at once until it is over."""
    way.add(list(islice(coming, events)))
    began = now_millis()
    until(over, "the approvals of this round", LOOK)
    return events / (now_millis() - began) * 1000


def _learned(b: Bench, way: Way, events: int) -> float:
    """From its first batch, which it has as soon as it is up, until all is read and all it asks is in the log."""
    since = now_millis()
    with b.running(HOOKUP):
        until(lambda: not (way.unread() or way.unasked()), "what lay before hookup", LOOK)
        end = now_millis()
    with way.hookup.snapshot() as tx:
        (first, first_count), *_ = tx.execute(SETTLED, {"since": since}).all()
    return (events - first_count) / (end - first) * 1000


def _delivered(b: Bench, way: Way, events: int) -> float:
    """From the first row of an operator to the last."""
    since = now_millis()
    with b.running(POUR):
        until(lambda: not way.undelivered(), "what lay before the operators", LOOK)
    rows = sorted(row[0] for row in way.rows(RECEIVED, {"since": since}))
    return events * (len(rows) - 1) / len(rows) / (rows[-1] - rows[0]) * 1000
