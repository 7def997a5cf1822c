"""How soon a lead is there: platform's commit → row in the operator's table, ten events a second through a whole city.

Beside it one bare hop of the embedded log on the same disk, and how much goes through the city when it is flooded.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.realestate.__main__ as realestate
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from benchmarks.table import Line, markdown
from benchmarks.workload import APPROVAL, COUNTIES
from connectors.engineering.platform import EngineeringPlatform, Work
from connectors.investment.platform import Application
from connectors.investment.platform import Platform as Investment
from jietong import catalog
from jietong.adapters.embedded import EmbeddedLog
from jietong.broker import Message
from jietong.catalog import HEADS
from jietong.city import City, load
from jietong.engine import Engine, Running, embedded
from simulation import rest

RATE, PAIRS, FLOOD = 10.0, 150, 200
"""Events a second; decisions and permits timed; projects at once."""
HOPS = 100
"""Before the city runs, and as many after: a disk has its moments."""
QUIET = 300.0
"""Seconds the flooded city may take to come to rest."""
PERMIT = "JM-0301"


@dataclass(slots=True)
class Town:
    """The whole city in this process, every movement a thread; `committed`: subject → ms, as its platform saw it."""

    engine: Engine
    city: City
    invest: Investment
    build: EngineeringPlatform
    running: Running
    decided: dict[str, int] = field(default_factory=dict[str, int])
    permitted: dict[str, int] = field(default_factory=dict[str, int])

    def register(self, number: int) -> str:
        county = COUNTIES[number % len(COUNTIES)]
        told = Application(
            name=f"产业园{number}号", site_regions=(county,), authority_region=county, address="新昌路1号"
        )
        return self.invest.register(told, now=now())

    def apply(self, code: str) -> None:
        """A 工程 of the project, with a construction permit applied for."""
        work = Work(
            project=code, code=f"{code}-001", name="一期", developer="91440703MA4WQ7K28M", developer_name="建设公司",
            site_regions=[code.split("-")[1]], address="新昌路1号",
        )  # fmt: skip
        self.build.register(work, now())
        self.build.open_item(work.code, PERMIT, f"SX-{code}", now())
        self.build.progress(work.code, f"SX-{code}", 3, now())

    def decide(self, code: str) -> None:
        self.invest.decide(code, "FILED", f"备〔2026〕{code[-6:]}", now=now())
        self.decided[code] = time.time_ns()

    def permit(self, code: str) -> None:
        self.build.progress(f"{code}-001", f"SX-{code}", 11, now())
        self.permitted[code] = time.time_ns()

    def leads(self, business_kind: str) -> Iterator[tuple[str, int]]:
        """(subject, ms when its row was written) of every lead there is."""
        for operator in self.city.operators:
            with self.engine.stores[f"platform-{operator}"].snapshot() as tx:
                yield from tx.execute(LEADS, {"kind": business_kind}).all()  # pyright: ignore[reportReturnType]  # two columns

    def wanted(self, business_kind: str, subjects: Sequence[str]) -> int:
        on = now().date()
        rows = [row for row in self.city.triggers if row.business_kind == business_kind]
        return sum(
            len(self.city.serving(utility_, [code.split("-")[1]], on))
            for code in subjects for row in rows for utility_ in row.utilities
        )  # fmt: skip

    def until(self, business_kind: str, subjects: Sequence[str]) -> None:
        """Wait for all of their leads. Raises SystemExit if they do not come."""
        wanted, end = self.wanted(business_kind, subjects), time.monotonic() + QUIET
        while (here := sum(1 for _ in self.leads(business_kind))) < wanted:
            if time.monotonic() > end:
                sys.exit(f"only {here} of {wanted} {business_kind} leads came within {QUIET:.0f} s")
            time.sleep(0.05)

    def events(self) -> int:
        """In the log by now, heads apart."""
        topics = self.engine.log.topics(self.engine.catalog.topics)
        return sum(bounds.end for topic in topics.values() if topic.name != HEADS for bounds in topic.bounds.values())


LEADS = "SELECT subject, received_at FROM case_ WHERE business_kind = :kind"


@contextmanager
def town(folder: Path) -> Generator[Town]:
    known = catalog.load()
    city = load("jiangmen", known)
    engine = embedded(folder, city.code, known)
    invest, investing = investment.build(engine)
    build, building = engineering.build(engine, city)
    more = [program for wiring in (realestate, utility, hookup, timeline) for program in wiring.programs(engine, city)]
    running = Running(engine, [investing, building, *more]).start()
    try:
        yield Town(engine, city, invest, build, running)
        if bug := running.bug():
            raise bug
    finally:
        running.stop()
        engine.close()


def measure(pairs: int = PAIRS, flood: int = FLOOD) -> list[Line]:
    """A project is decided, later its permit; both kinds take turns, so that together they come at `RATE`."""
    with tempfile.TemporaryDirectory() as name:
        hops = bare_hops(Path(name, "before"))
        with town(Path(name, "paced")) as here:
            decided, permitted = paced(here, pairs)
        with town(Path(name, "flooded")) as there:
            rate = flooded(there, flood)
        hops += bare_hops(Path(name, "after"))
    (hop50, hop99), (lead50, lead99) = _shares(hops), _shares(decided)
    return [
        Line("one bare hop of the log, p50", [hop50], "ms"),
        Line("one bare hop of the log, p99", [hop99], "ms"),
        Line("commit → lead (project decided: its platform joined fully), p50", [lead50], "ms"),
        Line("commit → lead (project decided: its platform joined fully), p99", [lead99], "ms"),
        Line("  the same in bare hops, p50", [lead50 / hop50]),
        *(
            Line(f"commit → lead (permit: tables read every 200 ms), {share}", [value], "ms")
            for share, value in zip(("p50", "p99"), _shares(permitted), strict=True)
        ),
        Line("events through the whole city, flooded", [rate], "per s"),
    ]


def paced(here: Town, pairs: int) -> tuple[list[float], list[float]]:
    """Milliseconds from commit to each lead, of decisions and of permits."""
    codes = [here.register(n) for n in range(2 * pairs)]
    undecided, permits = codes[:pairs], codes[pairs:]
    for code in permits:
        here.apply(code)
    rest.until(lambda: rest.at_rest(here.running), here.running)  # what was prepared has been read
    turns: list[Callable[[], None]] = []
    for one, other in zip(undecided, permits, strict=True):
        turns += [lambda code=one: here.decide(code), lambda code=other: here.permit(code)]
    began = time.monotonic()
    for n, turn in enumerate(turns):
        time.sleep(max(0.0, began + n / RATE - time.monotonic()))
        turn()
    here.until("PERMANENT", undecided)
    here.until("PROTECT", permits)
    return _delays(here.decided, here.leads("PERMANENT")), _delays(here.permitted, here.leads("PROTECT"))


def flooded(there: Town, projects: int) -> float:
    """Events a second from the first registration to the last lead."""
    began = time.monotonic()
    codes = [there.register(n) for n in range(projects)]
    for code in codes:
        there.apply(code)
        there.decide(code)
        there.permit(code)
    there.until("PERMANENT", codes)
    there.until("PROTECT", codes)
    return there.events() / (time.monotonic() - began)


def bare_hops(folder: Path, count: int = HOPS) -> list[float]:
    """Milliseconds from handing a record to the log until a waiting reader has it, ten a second."""
    folder.mkdir()
    log = EmbeddedLog(folder, catalog.load().topics)
    reader, arrivals, ready = log.reader("hop", [APPROVAL]), list[int](), threading.Event()
    for place in reader.assigned().places:
        reader.seek(place, 0)

    def read() -> None:
        while len(arrivals) < count:
            if reader.poll(1.0, 500):
                arrivals.append(time.perf_counter_ns())
            ready.set()

    thread = threading.Thread(target=read)
    thread.start()
    ready.wait()
    starts: list[int] = []
    for n in range(count):
        time.sleep(1 / RATE)
        starts.append(time.perf_counter_ns())
        log.append([Message(APPROVAL, f"{n}".encode(), bytes(500))])
    thread.join()
    log.close()
    return [(end - start) / 1e6 for start, end in zip(starts, arrivals, strict=True)]


def now() -> datetime:
    return datetime.now(UTC)


def _delays(commits: Mapping[str, int], leads: Iterator[tuple[str, int]]) -> list[float]:
    return [at - commits[subject] / 1e6 for subject, at in leads if subject in commits]


def _shares(values: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(values, n=100)
    return cuts[49], cuts[98]


if __name__ == "__main__":
    print(markdown(measure(*(int(text) for text in sys.argv[1:]))))
