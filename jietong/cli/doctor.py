"""`jietong doctor`: what this machine, and this folder or these servers, lack for a city to run."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from jietong import backends, catalog, city, compatibility, settings
from jietong.adapters.sqlite import refuse_network_mount
from jietong.cli import db, screen, topics
from jietong.cli.folder import Folder, Servers
from jietong.cli.options import AsJson, CityPack, Data
from jietong.delivery import alarms
from jietong.errors import RetriableError, UsageError
from jietong.settings import Settings
from jietong.store import Store

OK, WARN, FAIL = "ok", "warning", "failed"
LEAST_DISK = 256 * 1024 * 1024
MIB = 1024 * 1024
CLOCK_SLACK = 60.0


class Check(NamedTuple):
    """One thing looked at, how it stands, and what to do about it."""

    check: str
    state: str
    detail: str


def doctor(data: Data = None, pack: CityPack = None, as_json: AsJson = False) -> None:
    """Look at Python, SQLite, disk, clock, port, contracts, pack, databases (a city's servers), alarms. Exit code 1 if one fails."""
    wanted = settings.load(data=data, city=pack)
    looks = (*LOOKS, *ON_SERVERS) if wanted.engine == "city" else (*LOOKS, _lock)
    found = [check for look in looks for check in _looked(look, wanted)]
    screen.records([check._asdict() for check in found], Check._fields, as_json, "")
    raise typer.Exit(1 if any(check.state == FAIL for check in found) else 0)


def _looked(look: Callable[[Settings], Iterator[Check]], wanted: Settings) -> Iterator[Check]:
    try:
        yield from look(wanted)
    except (UsageError, RetriableError) as error:
        yield Check(look.__name__.strip("_"), FAIL, str(error))


def _machine(_: Settings) -> Iterator[Check]:
    python, sqlite = sys.version_info[:3], sqlite3.sqlite_version_info
    yield _must("python", python >= (3, 11), f"{'.'.join(map(str, python))}; 3.11 or newer")
    yield _must("sqlite", sqlite >= (3, 35), f"{sqlite3.sqlite_version}; 3.35 or newer")


def _disk(wanted: Settings) -> Iterator[Check]:
    place = _existing(wanted.data)
    refuse_network_mount(place)
    yield _must("folder", os.access(place, os.W_OK | os.X_OK), f"{wanted.data}: must be writable by this user")
    free = shutil.disk_usage(place).free
    if wanted.engine == "city":
        yield _must("disk", free >= LEAST_DISK, f"{free // MIB} MiB free for the keys")
        return
    state = FAIL if free < LEAST_DISK else WARN if free < wanted.log_cap else OK
    detail = f"{free // MIB} MiB free; the log may take {wanted.log_cap // MIB} MiB (JIETONG_LOG_CAP)"
    yield Check("disk", state, detail)


def _clock(wanted: Settings) -> Iterator[Check]:
    try:
        ZoneInfo("Asia/Shanghai")
    except ZoneInfoNotFoundError:
        yield Check("zone", FAIL, "Asia/Shanghai is not known here; install the tzdata package")
    now, newest = datetime.now(UTC), _newest(wanted)
    behind = (newest - now).total_seconds() if newest else 0.0
    lag = f"; {behind:.0f} s behind its own databases" if behind > 0 else ""
    yield _must("clock", behind < CLOCK_SLACK, f"{now:%Y-%m-%d %H:%M:%S} UTC{lag}")


def _port(wanted: Settings) -> Iterator[Check]:
    if wanted.engine != "city" and wanted.data.is_dir() and (pid := Folder(wanted.data).pid()):
        yield Check("port", OK, f"a city runs, process {pid}")
        return
    try:
        socket.create_server((wanted.host, wanted.port)).close()
    except OSError as error:
        yield Check("port", FAIL, f"{wanted.host}:{wanted.port}: {error.strerror}; choose another, JIETONG_PORT")
    else:
        yield Check("port", OK, f"{wanted.host}:{wanted.port} is free")


def _schemas(_: Settings) -> Iterator[Check]:
    broken, topics = compatibility.check(), catalog.load().topics
    yield _must("schemas", not broken, f"{len(topics)} topics, {len(broken)} rules broken (`jietong schema check`)")


def _pack(wanted: Settings) -> Iterator[Check]:
    found = city.check(wanted.city, catalog.load())
    wrong = sum(not refusal.warning for refusal in found)
    state = FAIL if wrong else WARN if found else OK
    detail = f"{wanted.city}: {wrong} rules broken, {len(found) - wrong} warnings (`jietong city check`)"
    yield Check("city", state, detail)


def _databases(wanted: Settings) -> Iterator[Check]:
    """UsageError for one that cannot be read, or is of a newer version."""
    if wanted.engine != "city" and not wanted.data.is_dir():
        yield Check("databases", OK, f"{wanted.data}: none yet")
        return
    folder = Folder(wanted.data)
    yield Check("databases", OK, f"{len(folder.programs)} programs")
    for name, store in folder.programs.items():
        with store.snapshot() as tx:
            for alarm in alarms.standing(tx):
                yield Check("alarm", FAIL, f"{name}: {alarm.name} {alarm.about}: {alarm.detail}")


# -- of a folder -------------------------------------------------------------------------------------------------------------
def _lock(wanted: Settings) -> Iterator[Check]:
    if not wanted.data.is_dir():
        return
    folder = Folder(wanted.data)
    pid = folder.pid()
    yield Check("lock", OK, f"held by process {pid}" if pid else "free")
    uncleanly = [] if pid else [name for name, store in folder.programs.items() if _marked(store)]
    if uncleanly:
        detail = f"not clean: {', '.join(uncleanly)}; the next `jietong up` begins one event at a time"
        yield Check("last end", WARN, detail)


# -- of servers --------------------------------------------------------------------------------------------------------------
def _tables(wanted: Settings) -> Iterator[Check]:
    """As `jietong db check` has it."""
    servers, pack = Servers(wanted), city.load(wanted.city, catalog.load())
    wrong = {
        name: said
        for name in {*db.stores(pack), *servers.programs()}
        if (said := servers.standing(name, *db.tables(name)).wrong)
    }
    named = ", ".join(f"{name}: {wrong[name]}" for name in sorted(wrong)[:3])
    yield _must(
        "tables",
        not wrong,
        f"{named}{' …' if len(wrong) > 3 else ''} (`jietong db check`)" if wrong else "as this release needs them",
    )


def _log(wanted: Settings) -> Iterator[Check]:
    """As `jietong topics plan` has it."""
    with closing(backends.log(wanted, "jietong doctor")) as log:
        steps = topics.planned(catalog.load().topics, log.described(), log.brokers())
    wrong = [f"{step.topic}: {step.says}" for step in steps if step.create or step.configs or step.refused]
    detail = (
        f"{'; '.join(wrong[:3])}{' …' if wrong[3:] else ''} (`jietong topics plan`)"
        if wrong
        else f"{len(steps)} topics, as their files say"
    )
    yield _must("topics", not wrong, detail)


def _registry(wanted: Settings) -> Iterator[Check]:
    Servers(wanted).registry().check()
    yield Check("registry", OK, "has every schema")


LOOKS = (_machine, _disk, _clock, _port, _schemas, _pack, _databases)
ON_SERVERS = (_tables, _log, _registry)


def _must(name: str, good: bool, detail: str) -> Check:
    return Check(name, OK if good else FAIL, detail)


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())


def _marked(store: Store) -> bool:
    with store.snapshot() as tx:
        return tx.execute("SELECT 1 FROM mark WHERE name = 'running'").one() is not None


def _newest(wanted: Settings) -> datetime | None:
    """The newest time this machine's clock has written into the outboxes."""
    times: list[int] = [0]
    if wanted.engine == "city" or wanted.data.is_dir():
        for store in Folder(wanted.data).programs.values():
            with store.snapshot() as tx:
                times += [row[0] for row in tx.execute("SELECT recorded FROM outbox ORDER BY n DESC LIMIT 1").all()]
    return screen.moment(max(times))
