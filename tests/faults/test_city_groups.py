"""FAULTS.md, E on real servers: members that come and go, handlers that are too slow, backlogs, writers in each other's way."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from uuid6 import uuid7

from jietong.broker import Place
from jietong.engine import Engine, Program, Running
from jietong.event import Event
from tests.faults.bench import APPROVAL, draft, tables
from tests.faults.bench_city import CityBench, Ground
from tests.faults.harness import FULL, told, until
from tests.faults.test_bad_data import fails
from tests.faults.test_city_bad_data import memory
from tests.faults.town import Town

pytestmark = [
    pytest.mark.city, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore:read_text is deprecated"),  # kafka-python
]  # fmt: skip
SHARED = pytest.mark.xdist_group("town")
GROUND = pytest.mark.xdist_group("ground")
HOOKUP = "services.hookup"


@pytest.fixture
def bench(city_bench: CityBench) -> CityBench:
    """Everything here is on real servers."""
    return city_bench


# -- joining ---------------------------------------------------------------------------------------------------------------
@GROUND
@pytest.mark.parametrize("millis", [0, 4])
def test_a_join_that_short_polls_overtake_is_taken_up_again(bench: CityBench, millis: int) -> None:
    """kafka-python 3.0.12 would leave it without partitions, heartbeat or error for ever: 10 of 12 joins here."""
    polls, slowest = 0, 0.0
    for n in range(6):
        with closing(bench.log.reader(f"joins-{millis}-{n}", [APPROVAL])) as reader:
            begun = time.monotonic()
            while not reader.assigned().places:
                polls += 1
                reader.poll(millis / 1000, 10)
                assert time.monotonic() < begun + 20, "it never got a partition"
            slowest = max(slowest, time.monotonic() - begun)
    told(joins=6, polls=polls, slowest_s=round(slowest, 1))


# -- F31 -------------------------------------------------------------------------------------------------------------------
@GROUND
def test_f31_members_that_come_and_go_every_two_seconds_do_each_event_once_and_in_order(bench: CityBench) -> None:
    seconds, chance = 180.0 if FULL else 24.0, random.Random("F31")
    joined = 0
    bench.reader.stop()
    with bench.member("1") as first, relaying(bench):
        stop, committed = threading.Event(), [0]

        def work() -> None:
            while not stop.wait(0.02):
                committed[0] += len(bench.commit(*(draft(chance.randrange(40)) for _ in range(3))))

        worker = threading.Thread(target=work)
        worker.start()
        generations, taken, end = set[int](), list[int](), time.monotonic() + seconds
        while time.monotonic() < end:
            begun = len(bench.done())
            with bench.member("2") as second:
                joined += 1
                stays(second)
                taken.append(second.consumers()[0].counts.events)
            generations.add(first.consumers()[0]._reader.assigned().generation)
            time.sleep(2)
            assert len(bench.done()) > begun, "nothing moved while they came and went"
        stop.set()
        worker.join()
        until(lambda: len(bench.done()) == committed[0], 90)
    bench.judged()
    told(joined=joined, generations=len(generations), committed=committed[0], taken_by_the_second=sum(taken))
    assert len(generations) >= joined / 2, "not exercised: no rebalance"
    assert sum(taken), "not exercised: the second did nothing"


@SHARED
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_f31_copies_of_a_program_that_come_and_go_for_three_minutes(town: Town) -> None:
    """As processes, which come as fast as they can start and stay for two seconds."""
    joined, taken, end = 0, 0, time.monotonic() + 180
    town.work(seed=31, projects=60, seconds=180)
    while time.monotonic() < end:
        before = town.metric("jietong_events_consumed_total")
        process = town.beside(HOOKUP)
        process.line("ready", 60)
        town.through(2)
        os.kill(process.pid, signal.SIGTERM)
        assert process.ended(15) == 0, process.errors[-3:]
        joined += 1
        taken += town.metric("jietong_events_consumed_total") > before
    town.judge()
    told(joined=joined, something_moved_meanwhile=taken)
    assert joined >= 15
    assert taken == joined, "nothing moved while one came and went"


def stays(member: Running) -> None:
    """Two seconds; on a busy machine until it has done something."""
    consumer, begun = member.consumers()[0], time.monotonic()
    while time.monotonic() < begun + (2 if consumer.counts.events else 10):
        time.sleep(0.05)


class relaying:  # noqa: N801 — read as a word of its `with`
    """The relay of the bench's platform as a thread."""

    def __init__(self, bench: CityBench) -> None:
        self._running = Running(bench.engine, [Program("platform", [bench.relay])], beat=0.5)

    def __enter__(self) -> Running:
        return self._running.start()

    def __exit__(self, *_: object) -> None:
        self._running.stop()
        assert self._running.bug() is None


# -- F32 -------------------------------------------------------------------------------------------------------------------
@GROUND
def test_f32_a_handler_that_sleeps_past_its_groups_patience_loses_its_partitions_and_does_nothing_twice(
    bench: CityBench,
) -> None:
    patience, slow = 2.0, {draft(n).subject for n in (3, 7)}
    slept: list[float] = []

    def sleepy(event: Event) -> None:
        if event.subject in slow and len(slept) < 4:
            slept.append(2 * patience)
            time.sleep(2 * patience)

    bench.verdict = sleepy
    bench.reader.stop()
    events = bench.commit(*(draft(n % 12) for n in range(120)))
    with (
        relaying(bench),
        bench.member("1", kafka_poll_interval=patience) as one,
        bench.member("2", kafka_poll_interval=patience) as two,
    ):
        until(lambda: len(bench.done()) == len(events), 120)
        until(lambda: all(each.consumers()[0]._reader.assigned().generation > 2 for each in (one, two)), 60)
        generations = [each.consumers()[0]._reader.assigned().generation for each in (one, two)]
        duplicates = [each.consumers()[0].counts.duplicates for each in (one, two)]
    told(slept=len(slept), generations=generations, duplicates=duplicates)
    assert len(slept) >= 2, "not exercised: nobody slept"
    assert max(generations) > 2, "not exercised: no partition was lost"
    bench.judged()


# -- F35 -------------------------------------------------------------------------------------------------------------------
@GROUND
def test_f35_twenty_writers_that_commit_out_of_order_lose_no_row_and_break_no_order(
    ground: Ground, bench: CityBench
) -> None:
    rounds, shared = 100 if FULL else 12, [draft(n) for n in range(3)]
    committed, undone, faults = [0], [0], list[BaseException]()
    guard = threading.Lock()

    def write(engine: Engine, number: int) -> None:
        """The shared project first: who holds one that others want never waits for them."""
        chance, store = random.Random(f"F35/{number}"), engine.stores["engineering"]
        outbox = engine.outbox(store)
        for _ in range(rounds):
            drafts = [chance.choice(shared), *[draft(100 + number)] * chance.randint(0, 1)]
            rolled_back = chance.random() < 0.1
            with suppress(ZeroDivisionError), store.transaction() as tx:
                for each in drafts:
                    tx.execute("SELECT pg_sleep(:s)", {"s": chance.uniform(0, 0.02)})
                    outbox.add(tx, each)
                tx.execute("SELECT pg_sleep(:s)", {"s": chance.uniform(0, 0.01)})
                _ = 1 / (not rolled_back)
            with guard:
                undone[0] += rolled_back
                committed[0] += 0 if rolled_back else len(drafts)

    def written(engine: Engine, number: int) -> None:
        try:
            write(engine, number)
        except BaseException as error:  # noqa: BLE001 — for the test
            faults.append(error)

    with relaying(bench), second(ground, bench) as other:
        engines = [bench.engine, other]
        threads = [threading.Thread(target=written, args=(engines[n % 2], n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults, faults[:2]
        bench.take(120)
        until(lambda: bench.take(60) == 0 and len(bench.done()) == committed[0], 90)
    inversions = out_of_order(bench)
    told(writers=20, committed=committed[0], rolled_back=undone[0], left_after_a_later_one=inversions)
    assert inversions >= 5, "not exercised: they left in the order of their numbers"
    assert undone[0] >= 5
    bench.judged()


class second:  # noqa: N801
    """Another process's sessions on the platform's store."""

    def __init__(self, ground: Ground, bench: CityBench) -> None:
        self._engine = Engine(ground.backend(bench.url), "440700", bench.types, clock=lambda: bench.now)

    def __enter__(self) -> Engine:
        self._engine.store("engineering", tables)
        return self._engine

    def __exit__(self, *_: object) -> None:
        self._engine.close()


def out_of_order(bench: CityBench) -> int:
    """Records that follow, in their partition, one of a row with a higher number: committed later, and not lost."""
    with bench.platform.snapshot() as tx:
        numbers = dict(tx.execute("SELECT id, n FROM outbox").all())
    found = 0
    for partition in bench.log.topic(APPROVAL).bounds:
        highest = 0
        for record in bench.log.read(Place(APPROVAL, partition), 0, 100_000):
            number = numbers[dict(record.headers)["ce_id"].decode()]
            found += number < highest
            highest = max(highest, number)
    return found


# -- F36 -------------------------------------------------------------------------------------------------------------------
@SHARED
def test_f36_a_session_that_sits_in_a_transaction_is_an_alarm_within_a_minute_and_all_recovers(town: Town) -> None:
    town.work(seed=36, projects=40, seconds=600 if FULL else 50)
    pids = [town.programs.running(copy) for copy in town.programs.copies]
    with psycopg.connect(town.city.postgres.admin) as session, psycopg.connect(town.city.postgres.url) as busy:
        session.execute("SET idle_in_transaction_session_timeout = 0")  # a person's, at a terminal
        session.execute("SELECT * FROM investment.counter FOR UPDATE")
        session.execute("SELECT * FROM hookup.position FOR UPDATE")
        begun = time.monotonic()
        until(lambda: busy.execute("SELECT 1") and any(name == "idle-transaction" for _, name, _ in town.alarms()), 60)
        raised = time.monotonic() - begun
        [about] = {about for _, name, about in town.alarms() if name == "idle-transaction"}
        assert f"session {session.info.backend_pid} of" in about, "and not one that is long, and at work"
        until(lambda: town.metric("jietong_movement_waiting") > 0, 60)  # what it stops waits in sight
        if FULL:
            town.through(600 - raised)
        session.rollback()
    until(lambda: not any(name == "idle-transaction" for _, name, _ in town.alarms()), 60)
    town.judge()
    assert [town.programs.running(copy) for copy in town.programs.copies] == pids, "a program did not live through it"
    told(alarm_after_s=round(raised, 1), about=about)


# -- F29, what a wrong clock leaves behind -----------------------------------------------------------------------------------
@GROUND
def test_f29_what_a_clock_a_day_ahead_put_off_is_tried_again_when_it_is_right(bench: CityBench) -> None:
    """A parked event's next try, and the next request for a gap, stand in the tables; nobody waits a day for them."""
    day = 24 * 3_600_000
    bench.verdict = lambda event: fails(event, draft(1).subject)
    bench.now += day
    parked = next(e for e in bench.commit(draft(1), draft(2)) if e.key.subject == draft(1).subject)
    bench.flow()
    kept = bench.keep(*bench.commit(draft(3), draft(3)))
    bench.send()  # its head alone
    bench.write(kept[1])
    bench.take()
    assert bench.completeness.beat(bench.now) == 1, "it asks for the gap"
    with bench.store.transaction() as tx:
        tx.execute("DELETE FROM unsent")  # and what it asked is lost
    bench.now -= day
    bench.verdict = lambda _: None
    assert bench.fates()[parked.key] == "parked"
    bench.reader.beat()
    assert bench.fates()[parked.key] == "applied", "it would wait for a day"
    assert bench.completeness.beat(bench.now) == 1, "it would not ask again for a day"
    until(lambda: bench.flow() or len(bench.done()) == 4, 30)
    assert [key.sequence for key in bench.done() if key.subject == draft(3).subject] == [1, 2]
    bench.judged()


@GROUND
def test_f29_an_owner_and_a_reader_whose_clocks_are_days_apart_keep_every_order(bench: CityBench) -> None:
    day, begun, chance = 24 * 3_600_000, bench.now, random.Random("F29")
    offsets = [day, -day, 600_000, 0]
    for _ in range(20):
        bench.now = begun + chance.choice(offsets)  # the owner's
        bench.commit(*(draft(chance.randrange(6)) for _ in range(5)))
        bench.send()
        bench.now = begun - 2 * day  # the reader's
        bench.take()
        bench.reader.beat()
        bench.completeness.beat(time.monotonic_ns() // 1_000_000)
    recorded = [row[0] for row in bench.rows("SELECT recorded FROM inbox ORDER BY source, type, subject, sequence")]
    back = sum(after < before for before, after in pairwise(recorded))
    told(events=len(recorded), recorded_before_its_predecessor=back)
    assert back > 20, "not exercised: no clock ran back"
    assert not bench.alarms(), "a false alarm"
    bench.judged()


# -- F33 -------------------------------------------------------------------------------------------------------------------
SLOW, SILENT = "jm-gas", "jm-power"
TOOK = """SELECT r.received_at - o.recorded FROM receipt r JOIN hookup.outbox o ON o.id = r.event_id WHERE o.recorded >= %s"""


def took(town: Town, since: int, *operators: str) -> list[int]:
    """Milliseconds from hookup's commit to each operator's own table."""
    return sorted(row[0] for operator in operators for row in town.sql(f"platform-{operator}", TOOK, since))


def turned(town: Town, operator: str, **switches: int) -> None:
    for name, value in switches.items():
        town.sql(f"platform-{operator}", "INSERT INTO switch (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = %s",
                 name, value, value)  # fmt: skip


@SHARED
def test_f33_one_utility_that_crawls_and_one_that_never_answers_delay_no_other(town: Town) -> None:
    others = [name for name in town.pack.operators if name not in (SLOW, SILENT)]
    begun = time.time_ns() // 1_000_000
    town.work(seed=331, projects=25, seconds=10)
    town.judge()
    usual = took(town, begun, *others)
    turned(town, SLOW, slow_ms=400)
    turned(town, SILENT, away=1)
    begun = time.time_ns() // 1_000_000
    had = len(took(town, begun, SILENT))
    town.work(seed=332, projects=25, seconds=10)
    town.finish()
    until(lambda: all_taken(town, begun, others), 120)
    beside = took(town, begun, *others)
    behind, missed = owed(town, begun, SLOW) - len(took(town, begun, SLOW)), owed(town, begun, SILENT)
    assert len(took(town, begun, SILENT)) == had, "it was not away"
    turned(town, SLOW, slow_ms=0)
    turned(town, SILENT, away=0)
    town.judge()
    assert missed > 5, "not exercised: nothing was asked of the one that never answers"
    assert p99(beside) <= 3 * p99(usual) + 1000, (p99(usual), p99(beside))
    told(others_p99_ms={"before": p99(usual), "beside": p99(beside)}, deliveries=(len(usual), len(beside)), slow_one_behind=behind,
         silent_one_missed=missed)  # fmt: skip


def p99(values: list[int]) -> int:
    return values[int(len(values) * 0.99)] if values else 0


def owed(town: Town, since: int, operator: str) -> int:
    return town.sql("hookup", "SELECT count(*) FROM outbox WHERE operator = %s AND recorded >= %s", operator, since)[0][
        0
    ]


def all_taken(town: Town, since: int, operators: list[str]) -> bool:
    return all(len(took(town, since, name)) == owed(town, since, name) for name in operators)


# -- F34 -------------------------------------------------------------------------------------------------------------------
def backlog(bench: CityBench, count: int) -> None:
    """Committed while nobody relays and nobody reads; then both start."""
    bench.reader.stop()
    made = [bench.outbox.prepare(draft(n)) for n in range(500)]
    for start in range(0, count, 500):
        with bench.platform.transaction() as tx:
            bench.outbox.put(tx, [replace(each, id=uuid7()) for each in made])
            tx.execute(
                "INSERT INTO approval (item) SELECT 'SX-' || n FROM generate_series(CAST(:first AS bigint), :first + 499) n",
                {"first": start},
            )
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest it ever was
    before, begun = memory("VmRSS"), time.monotonic()
    with relaying(bench), bench.member("1") as member:
        consumer = member.consumers()[0]
        until(lambda: consumer.counts.events >= count, 60 + count / 100)
        until(lambda: sum(consumer.lag().values()) == 0, 60)
        seconds = time.monotonic() - begun
    grown = memory("VmHWM") - before
    told(backlog=count, drained_s=round(seconds), events_a_second=round(count / seconds), grown_mib=grown)
    assert grown < 128, f"{grown} MiB"
    bench.judged()


@GROUND
def test_f34_a_backlog_drains_in_bounded_memory(bench: CityBench) -> None:
    backlog(bench, 50_000 if FULL else 10_000)


@GROUND
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_f34_a_backlog_of_a_million_drains_in_bounded_memory(bench: CityBench) -> None:
    backlog(bench, 1_000_000)
