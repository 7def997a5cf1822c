"""`jietong status`, `jietong topics`: how the city stands."""

from __future__ import annotations

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
    programs = [_program(name, store) for name, store in folder.programs.items()]
    standing = [{"program": name, **alarm} for name, store in folder.programs.items() for alarm in _alarms(store)]
    pid = folder.pid()
    if as_json:
        screen.emit({"folder": str(folder.path), "pid": pid, "programs": programs, "alarms": standing})
        return
    print(f"{folder.path}: {f'running, process {pid}' if pid else 'not running'}")
    screen.records(programs, PROGRAM, False, "no programs yet: `jietong up` makes them")
    for alarm in standing:
        print(f"alarm: {alarm['program']}: {alarm['name']} {alarm['about']}: {alarm['detail']}")


def topics(data: Data = None, as_json: AsJson = False) -> None:
    """Every event type: what it says, who writes and reads it, and what the log has of it."""
    try:
        inside = {topic.name: topic for topic in Folder(data).log.every()}
    except UsageError:  # the catalogue can be read without a city
        inside = {}
    rows = [_topic(spec, inside.get(name)) for name, spec in sorted(catalog.load().topics.items())]
    screen.records(rows, TOPIC, as_json, "no topics")


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
