"""FAULTS.md, B and D on real servers: networks that are cut, slow, or lose what is said; names and clocks that are wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from confluent_kafka.admin import AdminClient

from jietong.catalog import HEADS, RESEND
from simulation import servers
from simulation.servers import Proxy
from simulation.supervise import Copy
from tests.faults.harness import FULL, told, until
from tests.faults.town import PROGRAMS, READY, Town

pytestmark = [
    pytest.mark.city, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore:read_text is deprecated"),  # kafka-python
]  # fmt: skip
SHARED = pytest.mark.xdist_group("town")
FEEDS = "connectors.feed"
"""Has nothing to be ready for where nothing was imported."""
INVESTMENT, HOOKUP = "connectors.investment", "services.hookup"
NARROW = 8_000
"""64 kbit a second, in bytes."""
TICKS = os.sysconf("SC_CLK_TCK")


# -- what a case looks at ------------------------------------------------------------------------------------------------
def pids(town: Town) -> dict[str, int]:
    return {copy.name: town.programs.running(copy) for copy in town.programs.copies}


def cpu(town: Town) -> dict[str, float]:
    """Seconds each program has worked."""
    found: dict[str, float] = {}
    for name, pid in pids(town).items():
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
            found[name] = (int(stat[11]) + int(stat[12])) / TICKS
    return found


@contextmanager
def nobody_dies_or_spins(town: Town) -> Generator[None]:
    """The same processes before and after; none above 90 % of a core meanwhile (I6)."""
    before, worked, begun, missed = pids(town), cpu(town), time.monotonic(), asked(town)
    yield
    seconds = time.monotonic() - begun
    busiest = max((used - worked[name]) / seconds for name, used in cpu(town).items() if name in worked)
    assert pids(town) == before, "a program did not live through it"
    assert busiest < 0.9, f"one works at {busiest:.0%} of a core while there is nothing to do"
    told(lived=len(before), busiest=f"{busiest:.0%}", asked_again=asked(town) - missed)


def asked(town: Town) -> int:
    """Requests to send something again, ever: each is something a reader missed."""
    return sum(bounds.end for bounds in town.engine.log.topic(RESEND).bounds.values())


def unsent(town: Town) -> int:
    return sum(town.sql(store, "SELECT count(*) FROM unsent")[0][0] for store in ("investment", "engineering"))


def readiness(copy: Copy) -> tuple[int, dict[str, object]]:
    try:
        with urlopen(f"{copy.address}/readyz", timeout=20) as answer:  # noqa: S310 — loopback
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


# -- F16–F18: between the programs and the log ---------------------------------------------------------------------------
def partition(town: Town, seconds: float) -> None:
    way, sent, before = town.ways["kafka-1"], unsent(town), town.operations()
    lost = way.lost
    with nobody_dies_or_spins(town):
        way.lose_requests = way.lose_answers = True
        town.through(seconds)
        grown, went_on = unsent(town) - sent, town.operations() - before
        way.heal()
        healed = time.monotonic()
        town.finish()
        until(lambda: unsent(town) == 0, 90)
    told(partition_s=seconds, committed_meanwhile=went_on, unsent_meanwhile=grown, bytes_lost=way.lost - lost,
         sent_again_after_s=round(time.monotonic() - healed, 1))  # fmt: skip
    assert went_on > 0, "not exercised: no approval was committed meanwhile"
    assert grown > 0, "not exercised: nothing waited for the log"
    assert way.lost > lost, "not exercised: nothing was lost on the way"
    town.judge()


@SHARED
def test_f16_after_a_partition_relays_and_readers_go_on_by_themselves(town: Town) -> None:
    town.work(seed=1601, projects=40, seconds=25)
    town.through(3)
    partition(town, 20)


@SHARED
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_f16_after_a_partition_of_five_minutes_relays_and_readers_go_on_by_themselves(town: Town) -> None:
    town.work(seed=1602, projects=80, seconds=310)
    town.through(3)
    partition(town, 300)


@SHARED
def test_f17_answers_that_are_lost_leave_outcomes_unknown_and_nothing_is_done_twice(town: Town) -> None:
    """A batch follows its relay's head: the answers of the moment after one are lost, until batches were written again."""
    way, tries, had = town.ways["kafka-1"], 0, in_the_log(town) - committed(town)
    lost = way.lost

    def tried() -> bool:
        nonlocal tries
        tries += answers_lost(town, way)
        until(lambda: unsent(town) < 20)  # or what waits hides what is there twice
        return in_the_log(town) - committed(town) - had >= 3

    with nobody_dies_or_spins(town):
        town.works_until(tried, seed=17, within=300)
        town.finish()
    town.judge()
    told(tries=tries, bytes_lost=way.lost - lost, written_again=town.more("duplicates in the log"))
    assert town.more("duplicates in the log") >= 3, "not exercised: no unknown outcome was sent again"


def answers_lost(town: Town, way: Proxy) -> bool:
    """Whether a head came into the log, so that what the broker said next was lost."""
    before, end = heads_in_the_log(town), time.monotonic() + 0.5
    while not (came := heads_in_the_log(town) > before) and time.monotonic() < end:
        """Nothing is slept: the batch is a few milliseconds behind."""
    if came:
        way.lose_answers = True
        time.sleep(0.3)
    way.heal()
    return came


def heads_in_the_log(town: Town) -> int:
    return sum(bounds.end for bounds in town.engine.log.topic(HEADS).bounds.values())


def in_the_log(town: Town) -> int:
    """Records of every type that is kept in outboxes; asked before `committed`, it is more by duplicates only."""
    topics = town.engine.log.topics(set(town.engine.catalog.topics) - {HEADS})
    return sum(bounds.end for topic in topics.values() for bounds in topic.bounds.values())


def committed(town: Town) -> int:
    return sum(town.sql(store, "SELECT count(*) FROM outbox")[0][0] for store in town.stores())


@SHARED
def test_f18_connections_cut_within_an_answer_are_made_anew_and_nothing_is_done_twice(town: Town) -> None:
    way, resets = town.ways["kafka-1"], town.ways["kafka-1"].resets
    cuts = (3, 60, 300, 1_000, 5_000, 20_000) * (5 if FULL else 1)
    town.work(seed=18, projects=40, seconds=3 * len(cuts) + 4)
    with nobody_dies_or_spins(town):
        for after in cuts:
            way.cut_after = after
            town.through(1.5)
            way.cut_after = None
            town.through(1.5)
        town.finish()
    town.judge()
    told(cuts=len(cuts), resets=way.resets - resets, duplicates=town.more("duplicates in the log"))
    assert way.resets - resets >= len(cuts), "not exercised: nothing was cut"


# -- F19 -------------------------------------------------------------------------------------------------------------------
def rebalances(town: Town) -> dict[str, int]:
    """Group → how often Kafka has prepared to rebalance it, by the coordinators' logs."""
    found: dict[str, int] = {}
    for node in town.city.kafka.nodes:
        for group in re.findall(r"Preparing to rebalance group (\S+) in state", node.log()):
            found[group] = found.get(group, 0) + 1
    return found


@SHARED
def test_f19_a_way_of_64_kbit_a_second_is_slow_and_no_storm(town: Town) -> None:
    """Of each connection, through the proxy: a kernel's token bucket would need rights that CI has not."""
    way, seconds = town.ways["kafka-1"], 300.0 if FULL else 25.0
    town.work(seed=19, projects=30, seconds=seconds + 3)
    town.through(3)
    before, begun = rebalances(town), time.monotonic()
    with nobody_dies_or_spins(town):
        way.rate = NARROW
        town.through(seconds)
        slow = unsent(town)
        town.finish()
        storm = {group: n - before.get(group, 0) for group, n in rebalances(town).items() if n > before.get(group, 0)}
        way.heal()
    told(
        narrow_s=round(time.monotonic() - begun),
        rebalances=sum(storm.values()),
        of_groups=len(storm),
        unsent_at_its_end=slow,
    )
    assert max(storm.values(), default=0) <= 2 + seconds / 60, f"a storm: {storm}"
    town.judge()


# -- F20 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("brokers")
def test_f20_a_reader_that_reaches_the_brokers_but_not_its_coordinator_does_nothing_twice(tmp_path: Path) -> None:
    with Town(tmp_path, nodes=3, proxied=True) as town:
        town.work(seed=20, projects=40, seconds=60)
        town.through(8)
        groups = coordinators(town, "hookup", "timeline")
        before, members = pids(town), {group: members_of(town, group) for group in groups}
        way = town.ways[f"kafka-{groups['hookup']}"]
        lost = way.lost
        way.lose_requests = way.lose_answers = True
        town.through(30)
        way.heal()
        town.judge()
        assert pids(town) == before, "a program did not live through it"
        changed = sorted(group for group in groups if members_of(town, group) != members[group])
        told(coordinators=groups, bytes_lost=way.lost - lost, joined_again=changed)
        assert "hookup" in changed, "not exercised: its reader never had to join again"


def coordinators(town: Town, *groups: str) -> dict[str, int]:
    admin = AdminClient({"bootstrap.servers": town.city.kafka.direct, "log_level": 0})
    found = admin.describe_consumer_groups(list(groups), request_timeout=30)
    return {group: said.result().coordinator.id for group, said in found.items()}


def members_of(town: Town, group: str) -> set[str]:
    admin = AdminClient({"bootstrap.servers": town.city.kafka.direct, "log_level": 0})
    said = admin.describe_consumer_groups([group], request_timeout=30)[group].result()
    return {member.member_id for member in said.members}


# -- F21 -------------------------------------------------------------------------------------------------------------------
@SHARED
def test_f21_a_database_out_of_reach_in_the_middle_pauses_and_nothing_crashes(town: Town) -> None:
    way, seconds = town.ways["database"], 120.0 if FULL else 10.0
    resets, lost = way.resets, way.lost
    town.work(seed=21, projects=40, seconds=2 * seconds + 12)
    with nobody_dies_or_spins(town):
        town.through(3)
        way.refuse = True
        way.reset()  # in the middle of whatever is under way
        town.through(seconds)
        seen = {copy.name: readiness(copy) for copy in town.programs.copies if copy.program != FEEDS}
        way.heal()
        town.through(4)
        way.lose_answers = True  # a commit whose answer never comes
        town.through(seconds / 2)
        way.heal()
        town.finish()
        town.ready()
    assert all(code == 503 and "database" in str(said) for code, said in seen.values()), seen
    told(away_s=seconds, resets=way.resets - resets, bytes_lost=way.lost - lost, said_so=len(seen))
    assert way.resets > resets, "not exercised: nobody was connected"
    assert way.lost > lost, "not exercised: no answer was lost"
    town.judge()


# -- F22 -------------------------------------------------------------------------------------------------------------------
NAME = "broker.jietong.test"
IN_ITS_OWN = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@"'
"""A shell's: with a hosts file of ours, and no other way to find a name."""


def namespace() -> tuple[str, ...] | None:
    """What gives a process a mount namespace of its own here, if anything does."""
    for command in (("unshare", "-m"), ("unshare", "-r", "-m")):
        with suppress(OSError):
            if (
                subprocess.run(
                    [*command, "mount", "--bind", "/etc/hosts", "/etc/hosts"], capture_output=True, check=False
                ).returncode
                == 0
            ):
                return command
    return None


@pytest.mark.xdist_group("names")
def test_f22_a_brokers_name_that_nobody_finds_for_a_while_is_found_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (own := namespace()) is None:
        pytest.skip("no mount namespace for a hosts file of our own (tried: unshare -m, unshare -r -m)")
    hosts, switch, seconds = tmp_path / "hosts", tmp_path / "nsswitch.conf", 120.0 if FULL else 15.0
    found = f"127.0.0.1 localhost\n127.0.0.1 {NAME}\n"
    hosts.write_text(found)
    switch.write_text("hosts: files\n")
    monkeypatch.setattr(servers, "proxy", named)
    with Town(tmp_path / "town", names=(), proxied=True) as town:
        assert NAME in town.env["KAFKA_BOOTSTRAP_SERVERS"]
        wrapper = (*own, "sh", "-c", IN_ITS_OWN, str(hosts), str(switch))
        running = [town.beside(program, wrapper=wrapper) for program in PROGRAMS]
        for process in running:
            process.line("ready", READY)
        way = town.ways["kafka-1"]
        town.work(seed=22, projects=30, seconds=seconds + 8)
        town.through(4)
        hosts.write_text("127.0.0.1 localhost\n")
        way.reset()
        town.through(1)
        known = way.connections
        town.through(seconds)
        waited, came = unsent(town), way.connections - known
        hosts.write_text(found)
        town.judge()
        told(away_s=seconds, unsent_meanwhile=waited, came_meanwhile=came, came_after=way.connections - known)
        assert waited > 0, "not exercised: nothing waited for the log"
        assert came == 0, "not exercised: somebody still found the way"
        assert way.connections > known
        assert all(process.alive() for process in running), "a program did not live through it"


def named(target: tuple[str, int]) -> Proxy:
    """A proxy that is called by a name where it stands before a broker."""
    made = Proxy(target)
    made.address = (NAME, made.address[1])
    return made


# -- F29 -------------------------------------------------------------------------------------------------------------------
SKEWED = {"connectors.engineering": "+1d"}
"""Who draws and relays. Readers' clocks are wrong in `test_city_groups`, by the injected clock: under faketime a reader's
process comes to stand still, as does another client's, in waits with a time-out that faketime does not keep."""
AHEAD = "SELECT count(*) FROM outbox WHERE abs(recorded - %s) > 12 * 3600 * 1000"


@SHARED
def test_f29_a_process_whose_clock_is_a_day_ahead_changes_no_order(town: Town) -> None:
    if (library := next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("faketime is not installed (Debian: faketime)")
    for program in SKEWED:
        town.programs.end(town.copy(program))
    wrong = [
        town.beside(
            program, wrapper=("env", f"LD_PRELOAD={library}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
        )
        for program, offset in SKEWED.items()
    ]
    for process in wrong:
        process.line("ready", READY)
    town.work(seed=291, projects=25, seconds=10)
    town.judge()
    now = time.time_ns() // 1_000_000
    skewed = {store: town.sql(store, AHEAD, now)[0][0] for store in ("engineering",)}
    assert not {name for _, name, _ in town.alarms()} & {"silent", "halted"}, "a false alarm"
    for process in wrong:
        os.kill(process.pid, signal.SIGTERM)
        assert process.ended(READY) == 0
    for program in SKEWED:
        town.programs.begin(town.copy(program))
    town.ready()
    town.work(seed=292, projects=15, seconds=5)
    town.judge()
    told(clocks=SKEWED, rows_of_another_day=skewed)
    assert all(skewed.values()), "not exercised: no row has another day"
