"""`jietong up`: every program of a city in this process; `jietong run`: one of them; with their pages, until told to stop."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jietong import backends, catalog, city
from jietong import settings as settings_
from jietong.around import logs, metrics
from jietong.delivery import outbox
from jietong.engine import Engine, Program, Running, now_millis
from jietong.errors import RetriableError, UsageError
from jietong.event import Fate
from jietong.settings import Settings
from jietong.store import Row, Store

PROGRAMS = (
    "connectors.investment",
    "connectors.engineering",
    "connectors.realestate",
    "connectors.utility",
    "connectors.feed",
    "services.hookup",
    "services.transfer",
    "services.timeline",
)
FEEDS = "connectors.feed"
PAGE = "services.timeline"
TASKED = ("hookup", "transfer")
"""Programs whose database has a table `task`."""
LOOP_STUCK = 30.0
"""Seconds without a step after which a movement's loop counts as stuck."""


@dataclass(frozen=True, slots=True)
class City:
    """A running city: its engine, its movements, and where its page is."""

    engine: Engine
    running: Running
    page: uvicorn.Server
    address: str

    def stop(self) -> None:
        self.page.should_exit = True
        self.running.stop()
        self.engine.close()


def open_engine(settings: Settings) -> tuple[Engine, city.City]:
    """The engine that the settings name, and the city pack it runs. Raises UsageError."""
    known = catalog.load()
    pack = city.load(settings.city, known)
    password = settings.password.get_secret_value() if settings.password else None
    return Engine(backends.of(settings, known), pack.code, known, host=settings.host, password=password), pack


def start(settings: Settings, engine: Engine, programs: Sequence[Program]) -> City:
    """Start these programs and their pages. Raises UsageError if the port is taken."""
    sock = _listen(settings.host, settings.port)
    pages = {path: page for program in programs for path, page in program.pages.items()}
    running = Running(engine, programs).start()
    # no access log: a company's link is its key
    server = uvicorn.Server(
        uvicorn.Config(
            _app(pages, running), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
    )
    threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="page", daemon=True).start()
    host, port = sock.getsockname()[:2]
    return City(engine, running, server, f"http://{host}:{port}/")


def up(settings: Settings, say: Callable[[str], None]) -> int:
    """Run until SIGTERM or Ctrl-C; returns the exit code: 0, or 70 if a movement ended by a bug."""
    return run(settings, PROGRAMS, say)


def run(settings: Settings, names: Sequence[str], say: Callable[[str], None], only: str | None = None) -> int:
    """These programs, with their pages and metrics, until told to stop. Of one that has several parts (operators, feeds),
    `only` this one."""
    told = _told_to_stop()
    engine, pack = open_engine(settings)
    try:
        refuse_a_log_that_does_not_fit(engine)
        programs = [program for name in names for program in wiring(name).programs(engine, pack)]
        city = start(settings, engine, _chosen(programs, only))
        gc.collect()
        gc.freeze()  # what a program is made of stays: its events alone are looked through for garbage
        say(f"ready: {pack.name.zh} at {city.address}")
        sys.stdout.flush()  # whoever waits for this line reads a pipe
        bug = _run(city.running, told, FEEDS in names and only is None, settings.watchdog)
        city.stop()
        return 70 if bug else 0
    finally:
        engine.close()


def refuse_a_log_that_does_not_fit(engine: Engine) -> None:
    """Raises UsageError for a log that another city writes to, or that has other partitions than the topics' files say. While it
    is away nothing is said: what another city wrote is a stray to every reader."""
    with suppress(RetriableError):
        engine.heads.read()
        if strangers := sorted(engine.heads.cities - {engine.city}):
            raise UsageError(
                f"the log is city {strangers[0]}'s, and this is {engine.city}: each has its own; see JIETONG_CITY and where the log is. "
                "One that another city wrote to by mistake is made anew: delete its topics, `jietong topics apply`, and outboxes fill it"
            )
        if engine.backend.servers:
            for name, topic in sorted(engine.log.topics(engine.catalog.topics).items()):
                if said := engine.catalog.topic(name).misfit(len(topic.bounds)):
                    raise UsageError(f"the log's topic {name} {said}")


def _chosen(programs: Sequence[Program], only: str | None) -> list[Program]:
    chosen = [program for program in programs if only is None or program.name.split()[-1] == only]
    if only is not None and not chosen:
        raise UsageError(
            f"no {only} here; there are {', '.join(program.name.split()[-1] for program in programs) or 'none'}"
        )
    return chosen


def one(name: str) -> int:
    """`python -m services.hookup`: one program alone. On the embedded engine no other may run on its folder."""
    try:
        return run(settings_.load(), [name], print)
    except UsageError as error:
        sys.stderr.write(f"jietong: {error}\n")
        return 2


def _told_to_stop() -> threading.Event:
    logs.set_up()
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told.set())
    return told


def _run(running: Running, told: threading.Event, feeds: bool, limit: float) -> bool:
    """Until told to stop, or until a movement ends by a bug: whether one did. Feeds that are imported meanwhile join in."""
    watch = Watch(running)
    while not told.wait(1.0) and not running.failed.is_set():
        watch.look()
        _bite(running, limit)
        with suppress(RetriableError):
            for feed in running.engine.feeds() if feeds else ():
                running.add(feed)
            running.engine.backend.tend()
    if bug := running.bug():
        at = traceback.extract_tb(bug.__traceback__)[-1]
        logs.log().error(
            "movement ended by a bug", kind=type(bug).__name__, at=f"{Path(at.filename).name}:{at.lineno} {at.name}"
        )
    return bug is not None


def _bite(running: Running, limit: float) -> None:
    """A loop that does not move and waits for nothing we know of will not end by itself: say where it is, and end."""
    now = time.monotonic()
    stuck = [
        h.name for h in running.health.values() if h.moved and not (h.waiting or h.halted) and now - h.moved > limit
    ]
    if stuck:
        logs.log().error("a loop does not move; ending this process", movements=stuck, seconds=limit)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        sys.stderr.flush()
        os._exit(os.EX_SOFTWARE)


class Watch:
    """Tells the log, once each, of what changed: what a movement waits for, why one stands still, alarms that come and go."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._said: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        now = {(health.name, "waits"): health.waiting for health in self._running.health.values() if health.waiting}
        now |= {
            (health.name, "stands still"): health.halted for health in self._running.health.values() if health.halted
        }
        now |= {(f"{name} {row[1]}", f"alarm {row[0]}"): row[2] for name, row in _alarms(self._running)}
        for (about, what), why in now.items():
            if self._said.get((about, what)) != why:
                logs.log().warning(what, about=about, why=why)
        for about, what in self._said.keys() - now.keys():
            logs.log().info(f"no longer: {what}", about=about)
        self._said = now


def wiring(name: str) -> ModuleType:
    """A program's `__main__`, by import name. Raises UsageError in one line if it is not there."""
    try:
        return importlib.import_module(f"{name}.__main__")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"no program {name} here ({error.name} cannot be imported): run this beside `services/` and `connectors/`"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}): is another city running? choose another with --port"
        ) from error


# -- what is seen from outside --------------------------------------------------------------------------------------------
def _app(pages: Mapping[str, Starlette], running: Running) -> Starlette:
    exposition = metrics.exposition(lambda: observed(running))

    def measured(_: Request) -> Response:
        return Response(exposition(), media_type=metrics.CONTENT_TYPE)

    def healthy(_: Request) -> Response:
        stuck = sorted(
            name for name, health in running.health.items() if _stuck(health.moved, health.waiting or health.halted)
        )
        return PlainTextResponse("ok\n" if not stuck else f"stuck: {', '.join(stuck)}\n", 200 if not stuck else 503)

    def ready(_: Request) -> Response:
        state = readiness(running)
        return JSONResponse(state, 200 if state["ready"] else 503)

    return Starlette(
        routes=[
            Route("/metrics", measured),
            Route("/healthz", healthy),
            Route("/readyz", ready),
            # of both pages; the login is only the map's
            *([Mount("/static", StaticFiles(packages=[(PAGE, "static")]))] if pages else []),
            *(Mount(path, pages[path]) for path in sorted(pages, key=len, reverse=True)),
        ]
    )


def readiness(running: Running) -> Mapping[str, Any]:
    """Whether every movement moves, what waits for what, and each standing alarm."""
    waiting = {c.service.name: "not in its group yet" for c in running.consumers() if not c.joined}
    waiting |= {h.name: h.waiting or h.halted or "" for h in running.health.values() if h.waiting or h.halted}
    alarms = [{"service": name, "alarm": row[0], "about": row[1], "detail": row[2]} for name, row in _alarms(running)]
    return {"ready": not waiting, "waiting": waiting, "alarms": alarms}


def observed(running: Running) -> Mapping[str, Iterable[metrics.Sample]]:
    """Every metric's samples now: counters from the movements, gauges from the tables (partial indexes, cheap)."""
    found: dict[str, list[metrics.Sample]] = {known.name: [] for known in metrics.METRICS}
    for health in running.health.values():
        found["jietong_movement_waiting"].append(([health.name], bool(health.waiting)))
        found["jietong_movement_halted"].append(([health.name], bool(health.halted)))
    for consumer in running.consumers():
        group, counts = consumer.service.name, consumer.counts
        found["jietong_events_consumed_total"].append(([group], counts.events))
        found["jietong_events_duplicate_total"].append(([group], counts.duplicates))
        found["jietong_events_stray_total"].append(([group], counts.strays))
        found["jietong_batches_total"].append(([group], counts.batches))
        found["jietong_inbox_events_total"] += [([group, *said], count) for said, count in list(counts.fates.items())]
        found["jietong_commit_to_applied_seconds"] += [
            ([group, topic], (list(ages), counts.age[topic] / 1000)) for topic, ages in list(counts.ages.items())
        ]
        with suppress(RetriableError, UsageError):  # the log is away: others say so
            lags = consumer.lag().items()
            found["kafka_consumergroup_lag"] += [([group, at.topic, str(at.partition)], lag) for at, lag in lags]
    for name, tx_rows in _tables(running):
        found["jietong_outbox_rows"].append(([name], tx_rows["depth"]))
        found["jietong_outbox_oldest_seconds"].append(([name], tx_rows["oldest"]))
        found["jietong_inbox_held_events"] += [
            ([name, fate], tx_rows[fate]) for fate in (Fate.WAITING, Fate.PARKED, Fate.DEAD)
        ]
        found["jietong_open_tasks"] += [([name, kind], count) for kind, count in _open_tasks(name, running)]
    standing = Counter((name, row[0]) for name, row in _alarms(running))
    found["jietong_alarms"] = [(labels, count) for labels, count in sorted(standing.items())]
    return found


def _open_tasks(name: str, running: Running) -> Iterable[tuple[str, int]]:
    """What waits for a person, by kind: refused steps of operators among them."""
    if name not in TASKED:
        return []
    sql = "SELECT kind, count(*) FROM task WHERE done IS NULL GROUP BY kind"
    return [(row[0], row[1]) for row in _asked(running.engine.stores[name], sql) or ()]


def _tables(running: Running) -> Iterable[tuple[str, dict[str, float]]]:
    held = "SELECT fate, count(*) FROM inbox WHERE fate IN ('waiting', 'parked', 'dead') GROUP BY fate"
    for name, store in _ours(running):
        unsent = _asked(store, outbox.DEPTH)
        if unsent is not None:
            [(depth, oldest)] = unsent
            fates = {str(row[0]): row[1] for row in _asked(store, held) or ()}
            age = (now_millis() - oldest) / 1000 if oldest else 0.0
            waits = {fate: fates.get(fate, 0) for fate in (Fate.WAITING, Fate.PARKED, Fate.DEAD)}
            yield name, {"depth": depth, "oldest": age, **waits}


def _alarms(running: Running) -> list[tuple[str, Any]]:
    sql = "SELECT name, about, detail FROM alarm ORDER BY since"
    return [(name, row) for name, store in _ours(running) for row in _asked(store, sql) or ()]


def _ours(running: Running) -> list[tuple[str, Store]]:
    """Stores with tables of delivery."""
    return [
        (name, store) for name, store in list(running.engine.stores.items()) if not name.startswith(backends.PLATFORM)
    ]


def _asked(store: Store, sql: str) -> list[Row] | None:
    """None while the database is away: its movements say so."""
    try:
        with store.snapshot() as tx:
            return tx.execute(sql).all()
    except RetriableError:
        return None


def _stuck(moved: float, waiting: str | None) -> bool:
    return not waiting and moved > 0 and time.monotonic() - moved > LOOP_STUCK
