"""How soon a lead is there on real servers: approval committed → row in the operator's own table, every program a process.

On a quiet city beside one bare hop of Kafka; then while the timeline works off a backlog of another type and one operator hangs.
A platform's commit is when it had its answer; an operator's row has the time at which its system began to write it.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from statistics import quantiles

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.structs import TopicPartition

from benchmarks.city import BATCH, ROOT, Bench, Way, approvals, behind, until
from benchmarks.table import Line
from connectors.utility.connector import REQUESTED
from connectors.utility.platform import Platform
from jietong.engine import now_millis
from jietong.event import Draft
from jietong.identifiers import ProjectCode
from jietong.store import Store
from jietong.up import PROGRAMS
from simulation.supervise import Programs

RATE, QUIET_RATE = 50.0, 10.0
"""Approvals a second."""
HOPS = 500
SEATS = 4
"""Sessions of the platform: one that waits for the disk keeps no other back."""
TARGET, IN_HOPS = 1_000.0, 3.5
HANGING, HANGS = "jm-power", 3_600_000
"""An operator that both a construction permit's business is for, and the milliseconds it takes over a message."""
PATIENCE = {"JIETONG_WATCHDOG": "3600"}
"""Who hangs longer than the watchdog's five minutes would be ended, and with it, for a moment, its neighbours."""
READER, MOVED = "services.timeline", "engineering.item.progressed.v1"
LEADS = "SELECT subject, triggered_at, received_at, request_id FROM case_"
ASKED = "SELECT id, recorded FROM outbox WHERE type = :type"


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds from commit to each lead, and to hookup's request for it."""

    lead: list[float]
    asked: list[float]


@dataclass(slots=True)
class Desk:
    """Whoever approves. `committed`: (subject, time of the approval in ms) → ns at which the platform knew it was kept."""

    way: Way
    coming: Iterator[Draft]
    committed: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])

    def approve(self, draft: Draft) -> None:
        at = now_millis()
        self.way.add([replace(draft, time=datetime.fromtimestamp(at / 1000, UTC))])
        self.committed[draft.subject, at] = time.time_ns()

    def paced(self, count: int, rate: float, look: Callable[[], None] = lambda: None) -> float:
        """So many, at their times whether those before are through or not; looks once a second. The rate that was kept."""
        began = time.monotonic()
        with ThreadPoolExecutor(SEATS) as seats:
            given: list[Future[None]] = []
            for n, draft in enumerate(itertools.islice(self.coming, count)):
                time.sleep(max(0.0, began + n / rate - time.monotonic()))
                given.append(seats.submit(self.approve, draft))
                if n % int(rate) == 0:
                    look()
            for one in given:
                one.result()
        return count / (time.monotonic() - began)

    def delays(self, *but: str) -> Delays:
        """Of the approvals since the last time, once every operator has its leads."""
        until(lambda: self.way.over(*but), "the leads of all approvals")
        with self.way.hookup.snapshot() as tx:
            asked: dict[str, int] = dict(tx.execute(ASKED, {"type": REQUESTED}).all())  # pyright: ignore[reportArgumentType] — two columns
        found = Delays([], [])
        for subject, triggered, at, request in self.way.rows(LEADS, {}, *but):
            if committed := self.committed.get((subject, triggered)):
                found.lead.append(at - committed / 1e6)
                found.asked.append(asked[request] - committed / 1e6)
        self.committed.clear()
        return found


def latency(b: Bench, count: int = 10_000, backlog: int = 100_000, quiet: int = 1_000, rounds: int = 3) -> list[Line]:
    with b.running(*PROGRAMS, env=PATIENCE) as running:
        desk = Desk(Way(b.engine), approvals(7))
        return [*_quiet(b, desk, quiet, rounds), *_loaded(b, desk, running, count, backlog)]


def _quiet(b: Bench, desk: Desk, count: int, rounds: int) -> list[Line]:
    """The hops before and after each round's approvals; the first approvals of all warm the programs up."""
    topic = _hop_topic(b.city.kafka.bootstrap)
    desk.paced(count // 2, QUIET_RATE)
    desk.delays()
    hops: list[tuple[float, float]] = []
    leads: list[tuple[float, float]] = []
    asked: list[float] = []
    for _ in range(rounds):
        before = bare_hops(b.city.kafka.bootstrap, topic)
        desk.paced(count, QUIET_RATE)
        found = desk.delays()
        leads.append(_shares(found.lead))
        asked.append(_shares(found.asked)[0])
        hops.append(_shares(before + bare_hops(b.city.kafka.bootstrap, topic)))
    ratios = [lead / hop for (_, lead), (_, hop) in zip(leads, hops, strict=True)]
    return [
        Line("commit → lead on a quiet city, p99 / a bare Kafka hop's p99", ratios, target=IN_HOPS),
        Line("  bare Kafka hop, p50", [p50 for p50, _ in hops], "ms"),
        Line("  bare Kafka hop, p99", [p99 for _, p99 in hops], "ms"),
        Line("  commit → hookup's request, p50", asked, "ms"),
        Line("  commit → lead, p50", [p50 for p50, _ in leads], "ms"),
        Line("  commit → lead, p99", [p99 for _, p99 in leads], "ms"),
    ]


def _loaded(b: Bench, desk: Desk, running: Programs, count: int, backlog: int) -> list[Line]:
    timeline, [reader] = b.engine.store("timeline"), running.of(READER)
    running.end(reader)
    _moved(desk.way, backlog)
    until(lambda: not desk.way.unsent(), "the backlog in the log")
    _hang(b, HANGING)
    running.begin(reader)
    until(running.ready, "the timeline ready")
    left: list[int] = []
    rate = desk.paced(count, RATE, lambda: left.append(behind(b.engine, timeline, MOVED)))
    found = desk.delays(HANGING)
    p50, p99 = _shares(found.lead)
    soon = sum(delay <= TARGET for delay in found.lead) / len(found.lead)
    return [
        Line(f"commit → lead, {count:,} approvals at {RATE:.0f}/s, a backlog draining, an operator hanging, p99", [p99], "ms", target=TARGET),
        Line("  p50", [p50], "ms"),
        Line("  commit → hookup's request, p50", [_shares(found.asked)[0]], "ms"),
        Line("  the latest of all", [max(found.lead)], "ms"),
        Line("  share of leads within a second", [100 * soon], "%"),
        Line("  leads", [len(found.lead)], ""),
        Line("  approvals a second, as committed", [rate], "per s"),
        Line(f"  share of the time in which the backlog of {backlog:,} was draining", [100 * _share(left)], "%"),
    ]  # fmt: skip


def _moved(way: Way, count: int) -> None:
    """So many steps of items (审批事项办理进度) of other projects, which only the timeline reads."""
    subjects = [ProjectCode.make(month=date(2025, 6, 1), region="440703", serial=n) for n in range(1000)]
    data = json.loads((ROOT / "schemas/examples" / f"{MOVED}.json").read_text("utf-8"))["data"]
    at = datetime.now(UTC)
    for start in range(0, count, BATCH):
        way.add([
            Draft(type=MOVED, subject=subjects[n % 1000], time=at,
                  data=data | {"work": f"{subjects[n % 1000]}-001", "item_instance": f"SX{n:010}"})
            for n in range(start, min(start + BATCH, count))
        ])  # fmt: skip


def _hang(b: Bench, operator: str) -> None:
    store: Store = b.engine.stores[f"platform-{operator}"]
    Platform(store).turn(slow_ms=HANGS)


def bare_hops(bootstrap: str, topic: str, count: int = HOPS) -> list[float]:
    """Milliseconds from handing a record to a producer that waits for all acknowledgements until a waiting consumer has it."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest")
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_end()
    consumer.position(TopicPartition(topic, 0))
    arrivals: list[int] = []

    def read() -> None:
        while len(arrivals) < count:
            for records in consumer.poll(timeout_ms=1000).values():
                arrivals.extend(itertools.repeat(time.perf_counter_ns(), len(records)))

    thread = threading.Thread(target=read)
    thread.start()
    starts: list[int] = []
    for n in range(count):
        time.sleep(1 / RATE)
        starts.append(time.perf_counter_ns())
        producer.send(topic, key=f"{n}".encode(), value=bytes(500))
    thread.join()
    producer.close()
    consumer.close()
    return [(end - start) / 1e6 for start, end in zip(starts, arrivals, strict=True)]


def _hop_topic(bootstrap: str) -> str:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic("benchmark.hop", 1, 1)])
    admin.close()
    return "benchmark.hop"


def _share(left: Sequence[int]) -> float:
    return sum(map(bool, left)) / len(left)


def _shares(values: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(values, n=100)
    return cuts[49], cuts[98]
