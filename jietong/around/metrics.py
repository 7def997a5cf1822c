"""Metrics, in one wrapper and one typed list. Labels are services, topics, fates: never a project, a person, a URL or a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Name:
    """A metric others depend on: its name, kind, labels and meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


METRICS: tuple[Name, ...] = (
    Name("jietong_outbox_rows", "gauge", ("service",), "rows of an outbox not yet acknowledged by the log"),
    Name("jietong_outbox_oldest_seconds", "gauge", ("service",), "age of the oldest such row; 0 when none waits"),
    Name("jietong_events_consumed_total", "counter", ("service",), "records a consumer has taken since it started"),
    Name("jietong_events_duplicate_total", "counter", ("service",), "events it already had"),
    Name("jietong_events_stray_total", "counter", ("service",), "records that say nothing about any stream"),
    Name(
        "jietong_inbox_events_total",
        "counter",
        ("service", "fate", "reason"),
        "fates that events got since it started; `reason` is the kind of it",
    ),
    Name(
        "jietong_commit_to_applied_seconds",
        "histogram",
        ("service", "topic"),
        "from an event's commit at its owner to its effect here, by two machines' clocks",
    ),
    Name("jietong_batches_total", "counter", ("service",), "polled batches, each one database transaction"),
    Name("jietong_inbox_held_events", "gauge", ("service", "fate"), "events that wait: waiting, parked, dead"),
    Name(
        "jietong_open_tasks",
        "gauge",
        ("service", "kind"),
        "tasks that wait for a person, refused steps of operators among them",
    ),
    Name("jietong_alarms", "gauge", ("service", "alarm"), "standing alarms"),
    Name("jietong_movement_waiting", "gauge", ("movement",), "1 while something it needs is away"),
    Name("jietong_movement_halted", "gauge", ("movement",), "1 while it stands still until a person's command"),
    Name(
        "kafka_consumergroup_lag",
        "gauge",
        ("consumergroup", "topic", "partition"),
        "records not yet taken, by kafka_exporter's name",
    ),
)

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, float("inf"))
"""Seconds: the upper bounds of a histogram's buckets."""
Histogram = tuple[Sequence[int], float]
"""How many fell into each bucket, and the sum of all."""
Sample = tuple[Sequence[str], float | Histogram]
Read = Callable[[], Mapping[str, Iterable[Sample]]]
"""Looks at the running city: metric name → (label values, value)."""


KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class _City(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        found = self._read()
        for known in METRICS:
            family: Any = KINDS[known.kind](known.name.removesuffix("_total"), known.meaning, labels=known.labels)
            for labels, value in found.get(known.name, ()):
                if isinstance(value, tuple):
                    counts = zip(BUCKETS, accumulate(value[0]), strict=True)
                    bounds = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in counts]
                    family.add_metric(list(labels), bounds, value[1])
                else:
                    family.add_metric(list(labels), value)
            yield family


def exposition(read: Read) -> Callable[[], bytes]:
    """What /metrics answers: the text format, read at each call."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_City(read))
    return lambda: generate_latest(registry)
