"""A city on real servers, to be broken: every program a process under the supervisor, officers at work, and the outside
checker, a process too, as the judge. Nobody at work here goes through the fault proxies: only the programs do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import sql

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.realestate.__main__ as realestate
from jietong import settings as settings_
from jietong import up
from jietong.errors import JietongError, RetriableError
from jietong.up import PROGRAMS
from simulation import rest, servers
from simulation.actors import History, Officers
from simulation.city import set_up
from simulation.plan import Plan, plan
from simulation.servers import Proxy
from simulation.supervise import Copy, Programs, programs, settings
from tests.faults.harness import Process, told, until
from tests.outside.checker import INVARIANTS, Verdict

COMES_TO_REST = 200.0
"""Seconds, on two busy cores; a sum that falls short is asked for after two minutes."""
READY = 120.0
ASKED_AGAIN = 0.3
DRAWN: Mapping[str, tuple[str, ...]] = {"engineering": ("SPGL_XMSPSXBLXXXXB", "SPGL_XMSPSXPFWJXXB")}
"""Rows of the platforms that their connector makes events of."""
SHOWN = ("operations", "unknown but committed", "events", "fates", "records in the log", "duplicates in the log", "strays",
         "unreadable partitions", "alarms")  # fmt: skip


class Stoppable(Protocol):
    def stop(self) -> None: ...


S = TypeVar("S", bound=Stoppable)


class Town:
    """Servers, programs, a workload and its judge, in a folder; nothing runs before `with`.

    Args:
        folder: made if need be. Whoever wants the log on a disk of its own mounts it at `folder/servers/kafka` before.
        nodes: brokers, 1 or 3.
        names: the programs; without all of them not everything is read, but the checker knows who reads what.
        copies: program → how many of it, where there is more than one.
        env: more settings of every program.
        proxied: a fault proxy before every broker, the database and the registry: `ways`.
        kafka: broker settings on top of ours.
    """

    def __init__(
        self, folder: Path, *, nodes: int = 1, names: Sequence[str] = PROGRAMS, copies: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None, proxied: bool = False, kafka: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.data = folder, folder / "data"
        self.city: servers.City
        self.programs: Programs
        self.env: dict[str, str] = {}
        """What every program is told."""
        self.ways: dict[str, Proxy] = {}
        """`kafka-1` …, `database`, `registry` → the proxy before it, if there are any."""
        self.whole = False
        """Whether the last thing that happened was a clean verdict."""
        self.unknown = self.waited = 0
        """Commits whose outcome an officer could not know; how often one had to try again."""
        self._asked = (nodes, names, copies, dict(env or {}), proxied, dict(kafka or {}))
        self._verdicts: list[Verdict] = []
        self._open = ExitStack()
        self._worker: threading.Thread | None = None
        self._stopping = threading.Event()
        self._rounds, self._bug = 0, BaseException()
        self._last: tuple[int, int, float] = (1, 30, 10)

    # -- life ----------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        if lack := servers.missing():
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
        with ExitStack() as opening:
            self._open = opening
            self._build()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._open.close()

    def _build(self) -> None:
        nodes, names, copies, env, proxied, config = self._asked
        self.data.mkdir(parents=True, exist_ok=True)
        where = self.folder / "servers"
        way = servers.proxy if proxied else None
        log, names_, database = servers.together(
            lambda: self._kept(servers.kafka(where / "kafka", nodes, config, advertised=way)),
            lambda: self._kept(servers.registry(where / "registry")),
            lambda: self._kept(servers.postgres(where / "postgres")),
        )
        assert isinstance(log, servers.Kafka)
        self.city = servers.City(log, names_, database)  # pyright: ignore[reportArgumentType] — in that order
        direct = settings(self.city, self.data) | {"KAFKA_BOOTSTRAP_SERVERS": self.city.kafka.direct}
        set_up(direct)
        self._open_engine(direct)
        self.env = settings(self.city, self.data) | (self._proxied() if proxied else {}) | env
        self.programs = self._kept(
            programs(self.folder / "programs", self.city, self.data, names=names, copies=copies, env=self.env)
        )
        self.programs.start()

    def _proxied(self) -> dict[str, str]:
        self.ways = {f"kafka-{n}": way for n, way in enumerate(self.city.kafka.proxies, 1)}
        told = {
            "database": ("DATABASE_URL", self.city.postgres.url),
            "registry": ("SCHEMA_REGISTRY_URL", self.city.registry.url),
        }
        changed: dict[str, str] = {}
        for name, (variable, url) in told.items():
            at = urlsplit(url)
            self.ways[name] = servers.proxy((str(at.hostname), int(at.port or 0)))
            changed[variable] = url.replace(f":{at.port}/", f":{self.ways[name].address[1]}/")
        for way in self.ways.values():
            self._open.callback(way.close)
        return changed

    def _open_engine(self, direct: Mapping[str, str]) -> None:
        """As the programs have it, for the officers, and to see when everything is at rest."""
        given = {name.lower().removeprefix("jietong_"): value for name, value in direct.items()}
        self.engine, self.pack = up.open_engine(settings_.load(**given))
        self._open.callback(self.engine.close)
        for name in PROGRAMS:
            up.wiring(name).programs(self.engine, self.pack)
        platform = engineering.build(self.engine, self.pack)[0]
        self.platforms = investment.build(self.engine)[0], platform, realestate.build(self.engine)[0]
        self.history = History(self.data / "history.ndjson")
        self._open.callback(self.history.close)

    def _kept(self, started: S) -> S:
        self._open.callback(started.stop)
        return started

    # -- work ----------------------------------------------------------------------------------------------------------
    def work(self, seed: int = 1, projects: int = 30, seconds: float = 10) -> None:
        """Officers carry out the seed's plan, from now on in a thread. What they cannot know they try again."""
        self.finish()
        self.whole, self._last = False, (seed, projects, seconds)
        planned = _renamed(plan(seed, projects, seconds, self.pack), self._rounds)
        self._rounds += 1
        officers = Officers(self.engine, self.pack, self.platforms, self.history, planned)
        self._worker = threading.Thread(target=self._work, args=[officers], name="officers", daemon=True)
        self._worker.start()

    def _work(self, officers: Officers) -> None:
        done = False
        while not (done or self._stopping.wait(ASKED_AGAIN)):
            try:
                officers.work(self._stopping)
                done = True
            except RetriableError as error:
                self.unknown += "unknown" in str(error)
                self.waited += 1
            except BaseException as error:  # noqa: BLE001 — for whoever judges
                self._bug, done = error, True

    def working(self) -> bool:
        return self._worker is not None and self._worker.is_alive()

    def finish(self, within: float = 240.0) -> None:
        """Until the officers are done."""
        if self._worker:
            self._worker.join(within)
            assert not self.working(), f"the officers were not done within {within:.0f} s"
            if type(self._bug) is not BaseException:
                raise self._bug

    def through(self, seconds: float) -> None:
        """So long, with officers at work all the time: of who is done another takes over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.working():
                seed, projects, lasting = self._last
                self.work(seed + 1, projects, lasting)
            self._stopping.wait(min(left, ASKED_AGAIN))

    def works_until(self, so: Callable[[], object], seed: int, within: float = READY) -> None:
        """Officers at work, more of them when they run out of it, until it is so."""

        def looked() -> bool:
            if not self.working():
                self.work(seed + self._rounds, projects=10, seconds=4)
            return bool(so())

        until(looked, within)

    def operations(self) -> int:
        """That were ok so far."""
        return sum(entry.get("at") == "ok" for entry in list(self.history.states.values()))

    # -- programs ------------------------------------------------------------------------------------------------------
    def copy(self, program: str, number: int = 1) -> Copy:
        return self.programs.of(program)[number - 1]

    def ready(self, within: float = READY) -> None:
        until(self.programs.ready, within)

    def beside(self, program: str, *, failpoint: str = "", wrapper: Sequence[str] = (), **env: str) -> Process:
        """One more copy of a program, or any module that runs as one, not under the supervisor; the caller ends it."""
        own = {"JIETONG_PORT": "0", "JIETONG_MEMBER": "beside", "JIETONG_FAILPOINT": failpoint}
        process = Process(*wrapper, sys.executable, "-W", "ignore", "-m", program, env={**self.env, **own, **env})
        self._open.callback(process.kill)
        return process

    @contextmanager
    def dying(self, copy: Copy, failpoint: str, within: float = READY) -> Generator[Process]:
        """In the place of a copy the same program, which must end by SIGKILL at this failpoint (`relay.after_ack:kill:3`)
        of what happens inside; then the copy goes on."""
        self.programs.end(copy)
        process = self.beside(copy.program, failpoint=failpoint, JIETONG_MEMBER=f"{os.uname().nodename}-{copy.number}")
        process.line("ready", within)
        yield process
        try:
            code = process.ended(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{copy.name} never came to {failpoint}") from None
        assert code == -signal.SIGKILL, (failpoint, code, process.errors[-3:])
        self.programs.begin(copy)

    # -- what is to be seen --------------------------------------------------------------------------------------------
    def metric(self, name: str) -> float:
        """The sum over all copies that answer; counters of a process that died are gone."""
        return self.programs.metric(name)

    def duplicates(self) -> int:
        """Events that readers had already, since they started."""
        return int(self.metric("jietong_events_duplicate_total"))

    def waiting(self, copy: Copy) -> dict[str, str]:
        """What each movement of a copy waits for, or why it is halted."""
        try:
            with urlopen(f"{copy.address}/readyz", timeout=5) as answer:  # noqa: S310 — loopback
                return json.load(answer)["waiting"]
        except HTTPError as error:
            return json.load(error)["waiting"]
        except OSError:
            return {"process": "does not answer"}

    def sql(self, store: str, text: str, *values: Any) -> list[Any]:
        """In the schema of a store (`hookup`, `utility:jm-water`), as its administrator, at once committed."""
        with psycopg.connect(self.city.postgres.admin, autocommit=True) as session:
            session.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(store)))
            found = session.execute(text, values or None)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return found.fetchall() if found.description else []

    def alarms(self) -> set[tuple[str, str, str]]:
        """(store, name, about) of all that stand now."""
        return {(name, *row) for name in self.stores() for row in self.sql(name, "SELECT name, about FROM alarm")}

    def stores(self) -> list[str]:
        """Those with the tables of delivery."""
        return sorted(name for name in self.engine.stores if not name.startswith("platform-"))

    def forgot(self, topic: str) -> None:
        """The case takes records of this topic from the log: what an outbox sent need not be there any more."""
        with self.history.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'forgotten': topic})}\n")

    # -- the judge -----------------------------------------------------------------------------------------------------
    def judge(self, within: float = COMES_TO_REST) -> Verdict:
        """Let the officers end, wait for rest, and ask the outside checker, whose verdict must be clean."""
        self.finish()
        begun = time.monotonic()
        self._rest(within)
        rested = time.monotonic() - begun
        verdict = self._asked_outside()
        self._verdicts.append(verdict)
        shown = ", ".join(f"{name} {verdict.numbers[name]}" for name in SHOWN if verdict.numbers[name])
        holds = " ".join(f"{name}{'' if not verdict.faults[name] else ':BROKEN'}" for name in INVARIANTS)
        told(rested=f"{rested:.1f} s", verdict=f"{holds}; {shown}")
        assert verdict.clean, f"{verdict}\nleft alone: {self.programs.wrong()}"
        self.whole = True
        return verdict

    def more(self, number: str) -> int:
        """How much the last verdict's number is above the one before."""
        before = self._verdicts[-2].numbers[number] if len(self._verdicts) > 1 else 0
        return self._verdicts[-1].numbers[number] - before

    def _rest(self, within: float) -> None:
        """Not asserted here: what does not come to rest, the checker says better."""
        end, pause = time.monotonic() + within, threading.Event()
        while time.monotonic() < end:
            try:
                if rest.at_rest(self.engine) and not self._undrawn() and not self._asking():
                    return
            except JietongError:
                pass
            pause.wait(ASKED_AGAIN)

    def _undrawn(self) -> bool:
        """Whether a platform has rows that its connector has not read yet."""
        steps = dict.fromkeys(self.pack.operators, ("progress",))
        for name, tables in {**DRAWN, **steps}.items():
            reader = name if name in DRAWN else f"utility:{name}"
            if self._rows(f"platform-{name}", tables) > self._rows(reader, ("source_seen", "source_held")):
                return True
        return False

    def _asking(self) -> bool:
        """Whether a reader misses something that it has asked for, or will."""
        return any(self._rows(name, ("asked",)) for name in self.stores())

    def _rows(self, store: str, tables: Sequence[str]) -> int:
        with self.engine.stores[store].snapshot() as tx:
            return sum(tx.execute(f"SELECT count(*) FROM {table}").all()[0][0] for table in tables)

    def _asked_outside(self) -> Verdict:
        servers_ = [
            "--database",
            self.city.postgres.admin,
            "--bootstrap",
            self.city.kafka.direct,
            "--registry",
            self.city.registry.url,
        ]
        pids = [str(pid) for copy in self.programs.copies if (pid := self.programs.running(copy))]
        command = [
            sys.executable,
            "-m",
            rest.CHECKER,
            *servers_,
            "--history",
            str(self.history.path),
            "--within",
            "20",
            "--json",
        ]
        done = subprocess.run(
            [*command, *(["--pid", *pids] if pids else [])], capture_output=True, text=True, check=False, timeout=180
        )
        assert done.stdout, f"the outside checker gave no verdict: {done.stderr.strip()[-500:]}"
        said = json.loads(done.stdout)
        return Verdict(said["numbers"], said["faults"])


class Towns:
    """One town for many short cases: made at the first use, and anew after a case that did not leave it whole."""

    def __init__(self, make: Callable[[int], Town]) -> None:
        self._make, self._count, self._town = make, 0, None

    def get(self) -> Town:
        if self._town is not None and not self._town.whole:
            self.close()
        if self._town is None:
            self._count += 1
            self._town = self._make(self._count).__enter__()
            self._town.whole = True
        return self._town

    def close(self) -> None:
        town, self._town = self._town, None
        if town is not None:
            town.__exit__()


def proxied(folder: Path) -> Towns:
    """Every short case's town: one broker, all programs, a proxy before each server."""
    return Towns(partial(_proxied, folder))


def _proxied(folder: Path, number: int) -> Town:
    return Town(folder / f"town-{number}", proxied=True)


def _renamed(planned: Plan, round_: int) -> Plan:
    """Operations and projects of their own for each round of work; nothing is blocked."""
    first = 1000 * round_
    operations = [replace(op, key=f"{round_}:{op.key}", project=first + op.project) for op in planned.operations]
    regions = [*[""] * first, *planned.regions]
    return replace(planned, operations=operations, regions=regions, blocked=("", -1), repeated=-1)
