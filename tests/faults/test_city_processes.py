"""FAULTS.md, A, on real servers: programs, brokers and databases that die, hang and meet each other."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

import jietong
from jietong.delivery import outbox
from simulation.plan import plan
from simulation.servers import Server, together
from tests.faults.harness import FULL, ROOT, Process, told, until
from tests.faults.town import READY, Town

pytestmark = [pytest.mark.city, pytest.mark.timeout(600)]
SHARED = pytest.mark.xdist_group("town")
BROKERS = pytest.mark.xdist_group("brokers")
INVESTMENT, HOOKUP = "connectors.investment", "services.hookup"
REGISTERED = "investment.project.registered.v1"
WINDOWS = ("relay.after_head", "relay.before_send", "relay.after_ack", "relay.before_mark_commit", "relay.after_mark")
KILLED = -signal.SIGKILL


# -- a program dies ----------------------------------------------------------------------------------------------------
@SHARED
def test_f01_a_relay_that_dies_after_the_ack_repeats_and_nothing_is_done_twice(town: Town) -> None:
    with town.dying(town.copy(INVESTMENT), "relay.after_ack:kill:5"):
        town.work(seed=101, projects=20, seconds=8)
    town.judge()
    assert town.more("duplicates in the log") >= 1, "not exercised: no duplicate reached an inbox"


@SHARED
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_f02_kills_at_random_and_in_every_window_lose_nothing(town: Town) -> None:
    """In full 200: 30 in each of the relay's windows, 50 at random, 10–500 ms after it said that it is ready."""
    kills = [window for window in WINDOWS for _ in range(30 if FULL else 1)] + [""] * (50 if FULL else 3)
    chance, fell = random.Random("F02"), Counter[str]()
    chance.shuffle(kills)
    town.programs.end(town.copy(INVESTMENT))
    for window in kills:
        process = town.beside(INVESTMENT, failpoint=f"{window}:kill:{chance.randint(1, 3)}" if window else "")
        process.line("ready", READY)
        if window:
            town.works_until(lambda process=process: not process.alive(), seed=200)
            assert process.ended() == KILLED, process.errors[-3:]
        else:
            town.works_until(lambda: True, seed=200)
            threading.Event().wait(chance.uniform(0.010, 0.500))
            process.kill()
        fell[window or "at random"] += 1
    town.programs.begin(town.copy(INVESTMENT))
    told(kills=len(kills), **{name.replace(".", "_").replace(" ", "_"): count for name, count in fell.items()})
    town.judge()
    assert town.more("duplicates in the log") >= fell["relay.after_ack"], "not exercised: no duplicate reached an inbox"


@SHARED
@pytest.mark.slow
def test_f03_a_relay_that_dies_between_send_and_ack_repeats(town: Town) -> None:
    way, relay = town.ways["kafka-1"], town.copy(INVESTMENT)
    more = written(town) - marked(town)
    town.programs.end(relay)
    process = town.beside(INVESTMENT)
    process.line("ready", READY)
    had = written(town)
    town.work(seed=103, projects=60, seconds=30)
    until(lambda: written(town) > had)
    try:
        until(lambda: caught(town, more), READY)
        process.kill()
    finally:
        way.heal()
    told(held=way.held, written=written(town), marked=marked(town))
    town.programs.begin(relay)
    town.judge()
    assert town.more("duplicates in the log") >= 1, "not exercised: nothing was under way"


def caught(town: Town, more: int) -> bool:
    """Answers are held, and at that moment a record of it was in the log that its relay does not know of; else let go."""
    town.ways["kafka-1"].hold_answers = True
    for _ in range(3):
        town.through(0.3)
        if written(town) - marked(town) <= more:
            town.ways["kafka-1"].heal()
            return False
    return True


def marked(town: Town) -> int:
    """Rows that the relay knows to be in the log, of a type that it alone writes."""
    return town.sql("investment", f"SELECT count(*) FROM outbox WHERE {outbox.SENT} AND type = %s", REGISTERED)[0][0]


def written(town: Town) -> int:
    return sum(bounds.end for bounds in town.engine.log.topic(REGISTERED).bounds.values())


def unsent(town: Town) -> int:
    return town.sql("investment", "SELECT count(*) FROM unsent")[0][0]


@SHARED
def test_f04_a_consumer_that_dies_after_its_commit_does_nothing_twice(town: Town) -> None:
    had = applied(town)
    with town.dying(town.copy(HOOKUP), "consumer.after_commit:kill:4"):
        town.work(seed=104, projects=20, seconds=8)
        until(lambda: applied(town) > had, READY)
    town.judge()


@SHARED
def test_f05_a_consumer_that_dies_inside_its_transaction_leaves_no_half_effect(town: Town) -> None:
    with town.dying(town.copy(HOOKUP), "consumer.before_commit:kill:4"):
        town.work(seed=105, projects=20, seconds=8)
    halves = "SELECT count(*) FROM outbox WHERE cause IS NOT NULL AND cause NOT IN (SELECT id FROM inbox WHERE fate = 'applied')"
    assert town.sql("hookup", halves) == [(0,)], "half an effect"
    town.judge()


def applied(town: Town) -> int:
    return town.sql("hookup", "SELECT count(*) FROM inbox WHERE fate = 'applied'")[0][0]


# -- the broker hangs, dies --------------------------------------------------------------------------------------------
def hang(town: Town, seconds: float, seed: int) -> None:
    """Nobody is restarted meanwhile, and nobody is told afterwards: what waits goes on by itself."""
    pids = {copy.name: town.programs.running(copy) for copy in town.programs.copies}
    town.work(seed=seed, projects=30, seconds=seconds + 6)
    town.through(3)
    town.city.kafka.kill(signal.SIGSTOP)
    town.through(seconds)
    waiting = unsent(town)
    town.city.kafka.kill(signal.SIGCONT)
    told(hung=f"{seconds} s", unsent=waiting)
    town.judge()
    assert waiting > 0, "not exercised: nothing waited"
    assert pids == {copy.name: town.programs.running(copy) for copy in town.programs.copies}, "somebody was restarted"


@SHARED
def test_f06_a_broker_that_hangs_longer_than_a_request_is_waited_for(town: Town) -> None:
    hang(town, 15, seed=106)


@SHARED
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [30, 180])
def test_f06_a_broker_that_hangs_longer_than_any_time_out_is_waited_for(town: Town, seconds: int) -> None:
    hang(town, seconds, seed=1060 + seconds)


@SHARED
@pytest.mark.slow
def test_f07_a_broker_that_is_killed_again_and_again_loses_nothing(town: Town) -> None:
    times = 5 if FULL else 2
    town.work(seed=107, projects=40, seconds=30 * times)
    for _ in range(times):
        town.through(2)
        town.city.kafka.kill()
        town.city.kafka.start()
    told(kills=times)
    town.judge()


# -- three brokers -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("three"), nodes=3) as town:
        yield town


@BROKERS
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_f08_leaders_that_are_killed_under_load_lose_nothing(three: Town) -> None:
    times, fell = 5, Counter[int]()
    three.work(seed=108, projects=60, seconds=20 * times)
    for _ in range(times):
        three.through(3)
        node = leader(three, REGISTERED, 0)
        fell[node] += 1
        killed = three.city.kafka.nodes[node - 1]
        killed.kill()
        until(lambda node=node: leader(three, REGISTERED, 0) not in (-1, node), READY)
        three.through(1)
        killed.start()
    told(kills=dict(fell))
    three.judge()


def leader(town: Town, topic: str, partition: int) -> int:
    found = AdminClient({"bootstrap.servers": town.city.kafka.direct, "log_level": 0}).list_topics(topic, timeout=30)
    return found.topics[topic].partitions[partition].leader


@BROKERS
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_f09_brokers_killed_together_come_back_in_any_order(three: Town) -> None:
    chance = random.Random("F09")
    three.work(seed=109, projects=60, seconds=60)
    for _ in range(3):
        three.through(3)
        three.city.kafka.kill()
        order = three.city.kafka.nodes.copy()
        chance.shuffle(order)
        waits = [chance.uniform(0, 3) * n for n in range(len(order))]
        together(*(partial(later, wait, node) for wait, node in zip(waits, order, strict=True)))
        told(order=[node.name for node in order], waits=waits)
    three.judge()


def later(seconds: float, node: Server) -> None:
    threading.Event().wait(seconds)
    node.start()


# -- the database dies, everything dies --------------------------------------------------------------------------------
@SHARED
def test_f10_a_database_that_dies_during_commits_loses_nothing_and_makes_no_phantom(town: Town) -> None:
    """SIGKILL to all its processes, then SIGQUIT, its "immediate" end."""
    times = 3 if FULL else 1
    unknown, waited = town.unknown, town.waited
    for number in (signal.SIGKILL, signal.SIGQUIT):
        town.work(seed=110 + number, projects=40 * times, seconds=2)
        for _ in range(times):
            town.through(1)
            town.city.postgres.kill(number)
            until(lambda: not town.city.postgres.alive())
            town.city.postgres.start()
    told(kills=2 * times, waited=town.waited - waited, unknown=town.unknown - unknown)
    town.judge()
    assert town.waited > waited, "not exercised: nobody was at the database when it died"


@SHARED
def test_f11_everything_killed_at_once_loses_nothing(town: Town) -> None:
    times = 3 if FULL else 1
    waited = town.waited
    for n in range(times):
        town.work(seed=1110 + n, projects=30, seconds=10)
        town.through(4)
        servers = [*town.city.kafka.nodes, town.city.registry, town.city.postgres]
        programs = [lambda copy=copy: town.programs.signal(copy) for copy in town.programs.copies]
        pids = together(*programs, *(lambda server=server: server.kill() or 1 for server in servers))
        assert all(pids), "not exercised: somebody was not running"
        together(*(server.start for server in servers))
    town.ready()
    town.judge()
    assert town.waited > waited, "not exercised: nobody was at work"


# -- one record kills --------------------------------------------------------------------------------------------------
@SHARED
@pytest.mark.slow
def test_f12_a_record_that_ends_its_reader_is_parked_after_two_deaths_and_others_go_on(town: Town) -> None:
    """The reader has 256 MB, if a control group may be made here; when its code is mended the record is taken."""
    name = next(op.arguments["name"] for op in plan(112, 15, 5, town.pack).operations if op.verb == "register")
    deaths, others = 0, applied(town)
    town.programs.end(town.copy(HOOKUP))
    town.work(seed=112, projects=15, seconds=5)
    with memory(256 * 1024**2) as wrapper:
        while True:
            process = town.beside("tests.faults.heavy", wrapper=wrapper, HEAVY=name)
            until(lambda process=process: not process.alive() or parked(town), READY)
            if process.alive():
                break
            deaths += 1
            assert deaths <= 5, process.errors[-3:]
        town.finish()
        until(lambda: not town.sql("hookup", "SELECT 1 FROM inbox WHERE fate = 'waiting' AND (source, type, subject) NOT IN "
                                            "(SELECT source, type, subject FROM inbox WHERE fate = 'parked')"), READY)  # fmt: skip
        others = applied(town) - others
        process.kill()
    town.sql("hookup", "UPDATE retry SET next_at = 0")
    town.programs.begin(town.copy(HOOKUP))
    told(deaths=deaths, others=others, group="cgroup" if wrapper else "none")
    assert deaths >= 3, "one in a batch, two while it was attempted alone"
    assert others > 0, "nothing went on"
    town.judge()


def parked(town: Town) -> bool:
    return bool(town.sql("hookup", "SELECT 1 FROM inbox WHERE fate = 'parked' AND reason LIKE 'died here%%'"))


@contextmanager
def memory(most: int) -> Generator[tuple[str, ...]]:
    """What to put before a command so that it gets no more, of cgroup v1; nothing where that is not allowed."""
    group = Path("/sys/fs/cgroup/memory") / f"jietong-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(most))
    except OSError:
        yield ()
        return
    yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    until(lambda: not (group / "cgroup.procs").read_text().strip())
    group.rmdir()


# -- restarts, upgrades, doubles ---------------------------------------------------------------------------------------
@SHARED
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_f13_a_relay_that_is_restarted_again_and_again_leaves_nothing_behind(town: Town) -> None:
    """In one process, each time with connections and locks of its own: what leaks is seen there and at the database."""
    times, held = 1000 if FULL else 40, list[tuple[int, ...]]()
    town.programs.end(town.copy(INVESTMENT))
    process = Process(sys.executable, "-W", "ignore", "-m", "tests.faults.again", str(times), env=town.env)
    try:
        for _ in range(times):
            town.works_until(lambda: True, seed=1300)
            descriptors, threads, mine = map(int, process.line("again", READY).split()[1:])
            held.append((descriptors, threads, sessions(town)))
            assert mine, "the one before it still had the lock"
        assert process.ended() == 0, process.errors[-3:]
    finally:
        process.kill()
    town.programs.begin(town.copy(INVESTMENT))
    first, last = held[9], held[-1]
    told(restarts=times, first=first, last=last)
    town.judge()
    assert all(now <= then + 8 for then, now in zip(first, last, strict=True)), "something is left behind by each"


def sessions(town: Town) -> int:
    return town.sql("investment", "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'jietong%%'")[0][0]


@SHARED
@pytest.mark.slow
def test_f14_old_and_new_code_and_rows_go_side_by_side(town: Town, tmp_path: Path) -> None:
    """The next release adds a column to the outbox that the old code does not know: expand, both at once, and back again."""
    new = next_release(tmp_path / "new")
    try:
        town.work(seed=114, projects=20, seconds=8)
        run_new(town, new, "db", "upgrade")
        had = rows(town, "true")
        beside = [town.beside(name, wrapper=("env", "-C", str(new))) for name in (HOOKUP, INVESTMENT)]
        for process in beside:
            process.line("ready", READY)
        town.works_until(lambda: rows(town, "noted = 'new'") > 0 and rows(town, "noted IS NULL") > had, seed=1140)
        town.programs.end(town.copy(HOOKUP))
        town.programs.end(town.copy(INVESTMENT))
        new_rows = rows(town, "noted = 'new'")
        town.works_until(lambda: rows(town, "noted = 'new'") > new_rows, seed=1140)
        for copy in (town.copy(HOOKUP), town.copy(INVESTMENT)):
            town.programs.begin(copy)
        for process in beside:
            os.kill(process.pid, signal.SIGTERM)
            assert process.ended() == 0, process.errors[-3:]
        told(of_old_code=rows(town, "noted IS NULL") - had, of_new_code=rows(town, "noted = 'new'"))
        town.judge()
    finally:
        town.whole = False  # its tables are of a release that is none


def rows(town: Town, which: str) -> int:
    return town.sql("hookup", f"SELECT count(*) FROM outbox WHERE {which}")[0][0]


def next_release(folder: Path) -> Path:
    """This code as it might be tomorrow."""
    for part in ("jietong", "services", "connectors", "schemas", "cities"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    revisions = folder / "jietong/delivery/migrations"
    last = max(revisions.glob("[0-9]*.py"))
    number = int(last.stem[:4])
    (revisions / f"{number + 1:04}_noted.py").write_text(
        f'revision, down_revision, branch_labels = "delivery_{number + 1:04}", "delivery_{number:04}", None\n'
        f'release, min_code = "99.0.0", "{jietong.__version__}"\n\n\n'
        "def upgrade(op):\n    import sqlalchemy as sa\n\n"
        '    op.add_column("outbox", sa.Column("noted", sa.Text()))\n'
    )
    changed(folder / "jietong/delivery/outbox.py", ("COLUMNS}, aggregatetype)", "COLUMNS}, aggregatetype, noted)"),
            (":aggregatetype)", ":aggregatetype, :noted)"), ('"aggregatetype": ', '"noted": "new", "aggregatetype": '))  # fmt: skip
    changed(
        folder / "jietong/delivery/tables.py", ('Column("operator"', 'Column("noted", Text),\n    Column("operator"')
    )
    changed(folder / "jietong/__init__.py", ("__version__ =", '__version__ = "99.0.0"  #'))
    return folder


def changed(file: Path, *pairs: tuple[str, str]) -> None:
    text = file.read_text("utf-8")
    for old, new in pairs:
        assert old in text, (file.name, old)
        text = text.replace(old, new, 1)
    file.write_text(text, "utf-8")


def run_new(town: Town, new: Path, *words: str) -> None:
    command = [sys.executable, "-c", "from jietong.cli import main; main()", *words]
    done = subprocess.run(
        command, cwd=new, env={**os.environ, **town.env}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@SHARED
def test_f15_of_two_relays_on_one_outbox_one_stands_by_until_the_other_is_gone(town: Town) -> None:
    second = town.beside(INVESTMENT, JIETONG_MEMBER="second")
    second.line("ready", READY)
    town.work(seed=115, projects=30, seconds=10)
    town.through(3)
    town.programs.signal(town.copy(INVESTMENT), signal.SIGSTOP)
    town.through(0.5)  # what was under way arrives
    had = written(town)
    town.through(3)
    assert unsent(town) > 0, "not exercised: there was nothing to send"
    assert written(town) == had, "the second sent while the first had the lock"
    town.programs.signal(town.copy(INVESTMENT), signal.SIGCONT)
    town.programs.end(town.copy(INVESTMENT))
    had = marked(town)
    town.works_until(lambda: marked(town) > had, seed=1150)
    told(before=had, after=marked(town))
    town.programs.begin(town.copy(INVESTMENT))
    town.finish()
    second.kill()
    town.judge()
