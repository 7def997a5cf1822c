"""`jietong status`, `jietong topics`: how the city stands."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jietong import catalog
from jietong.broker import Topic
from jietong.catalog import TopicSpec
from jietong.cli import screen
from jietong.cli.folder import Folder, now
from jietong.cli.options import AsJson, Data
from jietong.delivery import alarms, outbox
from jietong.errors import UsageError
from jietong.event import Fate
from jietong.store import Store, Transaction

UNSETTLED = (Fate.WAITING, Fate.PARKED, Fate.DEAD)
PROGRAM = ("program", "unsent", "oldest_seconds", "settled", *UNSETTLED, "source_held", "strays", "alarms")
TOPIC = ("type", "zh", "partitions", "records", "from", "to", "owner", "readers", "state")


def status(data: Data = None, as_json: AsJson = False) -> None:
    """Whether a city runs; per program what waits to be sent, what became of what it read, and its alarms."""
    folder = Folder(data)
    processes = folder.kept.processes()
    programs = [_program(name, store) for name, store in folder.programs.items()]
    standing = [{"program": name, **alarm} for name, store in folder.programs.items() for alarm in _alarms(store)]
    if as_json:
        screen.emit({
            "folder": folder.name, "pid": next(iter(processes), None), "processes": len(processes), "programs": programs, "alarms": standing,
        })  # fmt: skip
        return
    print(f"{folder.name}: {_running(folder, processes)}")
    screen.records(programs, PROGRAM, False, "no programs yet: `jietong up` makes them")
    for alarm in standing:
        print(f"alarm: {alarm['program']}: {alarm['name']} {alarm['about']}: {alarm['detail']}")


def topics(data: Data = None, as_json: AsJson = False) -> None:
    """Every event type: what it says, who writes and reads it, and what the log has of it."""
    known = catalog.load().topics
    inside: dict[str, Topic] = {}
    with suppress(UsageError):  # the catalogue can be read without a city
        log = Folder(data).log
        for name in known:
            with suppress(UsageError):  # made when the city starts, or by `jietong topics apply`
                inside[name] = log.topic(name)
    rows = [_topic(spec, inside.get(name)) for name, spec in sorted(known.items())]
    screen.records(rows, TOPIC, as_json, "no topics")


def _running(folder: Folder, processes: Sequence[int]) -> str:
    """Of a folder the one process, of a database how many."""
    if not processes:
        return "not running"
    return (
        f"running, {len(processes)} processes"
        if folder.settings.engine == "city"
        else f"running, process {processes[0]}"
    )


def _program(name: str, store: Store) -> dict[str, Any]:
    with store.snapshot() as tx:
        unsent, oldest = outbox.depth(tx)
        held = dict.fromkeys(UNSETTLED, 0) | _held(tx)
        settled = tx.execute("SELECT coalesce(sum(last), 0) FROM stream").all()[0][0]
        in_source, strays, standing = (
            tx.execute(f"SELECT count(*) FROM {name}").all()[0][0] for name in ("source_held", "stray", "alarm")
        )
    age = None if oldest is None else round(max(0, now() - oldest) / 1000, 1)
    return {"program": name, "unsent": unsent, "oldest_seconds": age, "settled": settled, **held,
            "source_held": in_source, "strays": strays, "alarms": standing}  # fmt: skip


def _held(tx: Transaction) -> dict[Fate, int]:
    """The partial index knows them: no look at what is settled."""
    sql = "SELECT fate, count(*) FROM inbox WHERE fate IN ('waiting', 'parked', 'dead') GROUP BY fate"
    return {Fate(row[0]): row[1] for row in tx.execute(sql).all()}


def _alarms(store: Store) -> list[dict[str, Any]]:
    with store.snapshot() as tx:
        return [{**alarm._asdict(), "since": screen.moment(alarm.since)} for alarm in alarms.standing(tx)]


def _topic(spec: TopicSpec, topic: Topic | None) -> dict[str, Any]:
    bounds = list(topic.bounds.values()) if topic else []
    return {
        "type": spec.topic, "zh": spec.title.get("zh", ""), "partitions": spec.partitions,
        "records": sum(b.end - b.start for b in bounds), "from": [b.start for b in bounds],
        "to": [b.end for b in bounds], "owner": spec.owner, "readers": list(spec.readers),
        "state": "draft" if spec.draft else f"frozen {spec.frozen}" if spec.frozen else "open",
    }  # fmt: skip
