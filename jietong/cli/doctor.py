"""`jietong doctor`: what this machine and this folder lack for a city to run."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from jietong import catalog, city, compatibility, settings
from jietong.adapters.sqlite import refuse_network_mount
from jietong.cli import screen
from jietong.cli.folder import Folder
from jietong.cli.options import AsJson, CityPack, Data
from jietong.delivery import alarms
from jietong.errors import UsageError
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
    """Look at Python, SQLite, disk, clock, port, contracts, pack, databases, lock, alarms. Exit code 1 if one fails."""
    wanted = settings.load(data=data, city=pack)
    found = [check for look in LOOKS for check in _looked(look, wanted)]
    screen.records([check._asdict() for check in found], Check._fields, as_json, "")
    raise typer.Exit(1 if any(check.state == FAIL for check in found) else 0)


def _looked(look: Callable[[Settings], Iterator[Check]], wanted: Settings) -> Iterator[Check]:
    try:
        yield from look(wanted)
    except UsageError as error:
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
    state = FAIL if free < LEAST_DISK else WARN if free < wanted.log_cap else OK
    detail = f"{free // MIB} MiB free; the log may take {wanted.log_cap // MIB} MiB (JIETONG_LOG_CAP)"
    yield Check("disk", state, detail)


def _clock(wanted: Settings) -> Iterator[Check]:
    try:
        ZoneInfo("Asia/Shanghai")
    except ZoneInfoNotFoundError:
        yield Check("zone", FAIL, "Asia/Shanghai is not known here; install the tzdata package")
    now, newest = datetime.now(UTC), _newest(wanted.data)
    behind = (newest - now).total_seconds() if newest else 0.0
    lag = f"; {behind:.0f} s behind its own databases" if behind > 0 else ""
    yield _must("clock", behind < CLOCK_SLACK, f"{now:%Y-%m-%d %H:%M:%S} UTC{lag}")


def _port(wanted: Settings) -> Iterator[Check]:
    if wanted.data.is_dir() and (pid := Folder(wanted.data).pid()):
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
    if not wanted.data.is_dir():
        yield Check("databases", OK, f"{wanted.data}: none yet")
        return
    folder = Folder(wanted.data)
    programs = folder.programs  # UsageError for one that cannot be read, or of a newer version
    yield Check("databases", OK, f"{len(programs)} programs")
    pid = folder.pid()
    yield Check("lock", OK, f"held by process {pid}" if pid else "free")
    uncleanly = [] if pid else [name for name, store in programs.items() if _marked(store)]
    if uncleanly:
        detail = f"not clean: {', '.join(uncleanly)}; the next `jietong up` begins one event at a time"
        yield Check("last end", WARN, detail)
    for name, store in programs.items():
        with store.snapshot() as tx:
            for alarm in alarms.standing(tx):
                yield Check("alarm", FAIL, f"{name}: {alarm.name} {alarm.about}: {alarm.detail}")


LOOKS = (_machine, _disk, _clock, _port, _schemas, _pack, _databases)


def _must(name: str, good: bool, detail: str) -> Check:
    return Check(name, OK if good else FAIL, detail)


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())


def _marked(store: Store) -> bool:
    with store.snapshot() as tx:
        return tx.execute("SELECT 1 FROM mark WHERE name = 'running'").one() is not None


def _newest(data: Path) -> datetime | None:
    """The newest time this machine's clock has written into the outboxes."""
    times: list[int] = [0]
    if data.is_dir():
        for store in Folder(data).programs.values():
            with store.snapshot() as tx:
                times += [row[0] for row in tx.execute("SELECT recorded FROM outbox ORDER BY n DESC LIMIT 1").all()]
    return screen.moment(max(times))
