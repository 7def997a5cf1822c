"""`jietong topics`: the log's topics, and making them what `schemas/topics/` says. Nothing here deletes one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from jietong import backends, catalog, settings
from jietong.broker import Place
from jietong.catalog import TopicSpec
from jietong.cli import screen
from jietong.cli.options import AsJson, Data, DryRun
from jietong.delivery import positions
from jietong.delivery.tables import delivery
from jietong.errors import RetriableError, UsageError
from jietong.store import Store

DAY = 86_400_000
LARGEST = 1024 * 1024
REPLICAS = 3
PATIENCE = 120.0
"""Seconds that readers get to reach the log's end before partitions are raised."""

app = typer.Typer(invoke_without_command=True, help="The log's topics; and making them what their files say.")


@dataclass
class Step:
    """What is to do about one topic. `refused`: what no `apply` may do, and the way on."""

    topic: str
    create: bool = False
    configs: dict[str, str] = field(default_factory=dict[str, str])
    was: dict[str, str] = field(default_factory=dict[str, str])
    refused: str | None = None

    @property
    def says(self) -> str:
        if self.create:
            return "create"
        changes = ", ".join(
            f"{name}: {self.was.get(name, 'not set')} → {value}" for name, value in self.configs.items()
        )
        return "; ".join(part for part in (changes, self.refused) if part) or "as its file says"


def wanted(spec: TopicSpec, brokers: int) -> dict[str, str]:
    """A topic's settings. Stored uncompressed, so that the broker itself refuses what unpacks to more than it may hold."""
    return {
        "cleanup.policy": spec.cleanup,
        "retention.ms": str(spec.retention_days * DAY if spec.retention_days else -1),
        "compression.type": "uncompressed",
        "min.insync.replicas": str(2 if brokers >= REPLICAS else 1),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(LARGEST),
    }


def planned(topics: Mapping[str, TopicSpec], found: Mapping[str, Any], brokers: int) -> list[Step]:
    """Comparing partitions and settings, topic by topic."""
    steps: list[Step] = []
    for name, spec in sorted(topics.items()):
        if (there := found.get(name)) is None:
            steps.append(Step(name, create=True, configs=wanted(spec, brokers)))
            continue
        differs = {key: value for key, value in wanted(spec, brokers).items() if there.configs.get(key) != value}
        steps.append(
            Step(
                name,
                configs=differs,
                was={key: there.configs.get(key, "") for key in differs},
                refused=spec.misfit(there.partitions),
            )
        )
    return steps


@app.callback()
def topics(context: typer.Context, data: Data = None, as_json: AsJson = False) -> None:
    """Every topic: who writes it, who reads it, how many records it has."""
    if context.invoked_subcommand is None:
        from jietong.cli.status import topics as listed  # noqa: PLC0415 — the same table as ever

        listed(data, as_json)


@app.command()
def plan(as_json: AsJson = False) -> None:
    """What `apply` would do. Exit code 1 if there is something."""
    with closing(_log()) as log:
        steps = planned(catalog.load().topics, log.described(), log.brokers())
    _show(steps, as_json)
    raise typer.Exit(1 if any(step.create or step.configs or step.refused for step in steps) else 0)


@app.command()
def apply(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Create what is missing, set what differs; never delete, never change partitions. Safe to repeat. Exit code 1 if something
    is left that only a person may do."""
    known = catalog.load().topics
    with closing(_log()) as log:
        brokers = log.brokers()
        steps = planned(known, log.described(), brokers)
        for step in steps:
            if dry_run:
                continue
            if step.create:
                log.create(step.topic, known[step.topic].partitions, min(REPLICAS, brokers), step.configs)
            elif step.configs:
                log.configure(step.topic, step.configs)
    _show(steps, as_json)
    raise typer.Exit(1 if any(step.refused for step in steps) else 0)


@app.command("raise")
def raise_(
    topic: Annotated[str, typer.Argument(help="The topic whose file says more partitions than the log has.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """More partitions, as the topic's file says, the one way that keeps every subject's order: who writes it was stopped, readers
    reach the end, the log is changed, every reader gets its new positions and may go on running. Safe to repeat."""
    chosen, known = settings.load(), catalog.load()
    if chosen.engine != "city":
        raise UsageError(
            "an embedded log keeps its partitions; move the city to the city engine first (`jietong migrate`)"
        )
    spec = known.topic(topic)
    with closing(backends.OnServers(chosen, known, "jietong topics")) as city:
        there = len(city.broker.topic(topic).bounds)
        if there > spec.partitions:
            raise UsageError(
                f"{topic} has {there} partitions, its file says {spec.partitions}: a topic never gets fewer"
            )
        stores = {
            name: city.store(name, delivery)
            for name in city.database.schemas()
            if not name.startswith(backends.PLATFORM)
        }
        owners = sorted(name for name, store in stores.items() if _writes(store, topic))
        readers = {name: store for name, store in sorted(stores.items()) if _reads(store, topic)}
        if not dry_run:
            _raised(city, spec, owners, list(readers.values()))
    said = {"topic": topic, "partitions": f"{there} → {spec.partitions}", "writers": owners, "readers": list(readers)}
    screen.records([said], ("topic", "partitions", "writers", "readers"), as_json, "nothing to do")


def _raised(city: backends.OnServers, spec: TopicSpec, owners: Sequence[str], readers: Sequence[Store]) -> None:
    """Drain, then switch. A run that was cut short has at most left new partitions that nobody has a position in: again."""
    topic = spec.topic
    waiting = f"the relays of {', '.join(owners)} stand by: stop those programs"
    _until(waiting, lambda: all(city.single(f"{name} relay")() for name in owners))
    _until("every reader is at the log's end", lambda: not _behind(city, readers, topic))
    if len(city.broker.topic(topic).bounds) < spec.partitions:
        city.broker.grow(topic, spec.partitions)
    _until("the log has them", lambda: len(city.broker.topic(topic).bounds) == spec.partitions)
    for store in readers:
        with store.transaction() as tx:
            positions.begin(tx, positions.beginnings(city.broker, [topic], positions.load(tx, [topic])))


def _writes(store: Store, topic: str) -> bool:
    """Whether its outbox holds events of it."""
    with store.snapshot() as tx:
        return tx.execute("SELECT 1 FROM total WHERE type = :type", {"type": topic}).one() is not None


def _reads(store: Store, topic: str) -> bool:
    with store.snapshot() as tx:
        return bool(positions.load(tx, [topic]))


def _behind(city: backends.OnServers, readers: Sequence[Store], topic: str) -> bool:
    ends = {Place(topic, p): bounds.end for p, bounds in city.broker.topic(topic).bounds.items()}
    for store in readers:
        with store.snapshot() as tx:
            at = positions.load(tx, [topic])
        if any(end > (at[place].offset if place in at else 0) for place, end in ends.items()):
            return True
    return False


def _until(what: str, true: Callable[[], bool]) -> None:
    """Wait for it; what is away meanwhile may come back."""
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(RetriableError):
            if true():
                return
        if time.monotonic() > until:
            raise UsageError(f"not within {PATIENCE:.0f} s: {what}; nothing was changed")
        time.sleep(0.2)


def _log() -> Any:
    """The city's log alone: its topics are what is about to be made."""
    chosen = settings.load()
    if chosen.engine != "city":
        raise UsageError("an embedded log makes its topics itself; this is for JIETONG_ENGINE=city")
    return backends.log(chosen, "jietong topics")


def _show(steps: Sequence[Step], as_json: bool) -> None:
    screen.records(
        [{"topic": step.topic, "does": step.says} for step in steps], ("topic", "does"), as_json, "no topics"
    )
