"""FAULTS.md, C and F43, on real servers: disks that are full, topics made anew, cut off, overtaken, and bytes that rot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from simulation.servers.database import as_another
from tests.faults.harness import told, until
from tests.faults.town import READY, Town

pytestmark = [pytest.mark.city, pytest.mark.timeout(600)]
SHARED = pytest.mark.xdist_group("town")
INVESTMENT, HOOKUP, TIMELINE = "connectors.investment", "services.hookup", "services.timeline"
REGISTERED = "investment.project.registered.v1"


@contextmanager
def disk(folder: Path, size: str) -> Generator[Path]:
    """A small disk of its own in this folder; without the right to mount one the case is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this user may not mount a small disk: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """What is free there, taken."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return ballast


# -- F23 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("full")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_f23_while_the_brokers_disk_is_full_approvals_commit_and_the_outbox_grows(tmp_path: Path) -> None:
    with disk(tmp_path / "servers/kafka", "64m") as full, Town(tmp_path) as town:
        town.work(seed=123, projects=40, seconds=30)
        town.through(4)
        ballast = fill(full)
        town.through(12)
        unsent, ok = unsent_rows(town), town.operations()
        town.through(6)
        more, later = unsent_rows(town), town.operations()
        ended = not town.city.kafka.alive()
        ballast.unlink()
        town.city.kafka.start()
        told(unsent=f"{unsent} then {more}", approvals=f"{ok} then {later}", broker="ended" if ended else "went on")
        assert later > ok, "approvals did not commit"
        assert more > unsent > 0, "not exercised: the outbox did not grow"
        town.judge()


def unsent_rows(town: Town) -> int:
    return town.sql("investment", "SELECT count(*) FROM unsent")[0][0]


# -- F25 ---------------------------------------------------------------------------------------------------------------
@SHARED
@pytest.mark.slow
def test_f25_while_the_disk_of_a_utility_is_full_its_group_waits_and_nothing_is_held(
    town: Town, tmp_path: Path
) -> None:
    """Its inbox is on a disk of its own; the others are not."""
    water = "utility:jm-water"
    with disk(tmp_path / "small", "48m") as small:
        if as_another():
            shutil.chown(small, *map(int, (part.split("=")[1] for part in as_another()[1:3])))
        town.sql(water, f"CREATE TABLESPACE small LOCATION '{small}'")
        town.sql(water, "ALTER TABLE inbox SET TABLESPACE small")
        ballast = fill(small)
        town.work(seed=125, projects=30, seconds=10)
        town.finish()
        until(lambda: waits(town, "consume utility:jm-water"), READY)
        until(lambda: lag(town, "utility:jm-gas") == 0, READY)
        held = town.sql(water, "SELECT count(*) FROM inbox WHERE fate IN ('parked', 'dead')")[0][0]
        behind = lag(town, water)
        ballast.unlink()
        told(behind=behind, held=held)
        town.judge()
        town.sql(water, "ALTER TABLE inbox SET TABLESPACE pg_default")
        town.sql(water, "DROP TABLESPACE small")
    assert behind > 0, "not exercised: it took everything"
    assert held == 0


def waits(town: Town, movement: str) -> bool:
    return any(movement in town.waiting(copy) for copy in town.programs.of("connectors.utility"))


def lag(town: Town, store: str, topic: str = "utility.connection.requested.v1") -> int:
    ends = {p: bounds.end for p, bounds in town.engine.log.topic(topic).bounds.items()}
    at = dict(town.sql(store, 'SELECT partition, "offset" FROM position WHERE topic = %s', topic))
    return sum(end - at[p] for p, end in ends.items())


# -- F27: a topic is deleted and made anew, or overtaken ---------------------------------------------------------------
def admin(town: Town) -> Any:  # whose answers have no types
    return AdminClient({"bootstrap.servers": town.city.kafka.direct, "log_level": 0})


def delete(town: Town, topic: str) -> None:
    client = admin(town)
    for done in client.delete_topics([topic], operation_timeout=30).values():
        done.result(30)
    until(lambda: topic not in client.list_topics(timeout=10).topics)


def apply(town: Town) -> None:
    """`jietong topics apply`, while the topic may still be on its way out."""
    command = [str(Path(sys.executable).with_name("jietong")), "topics", "apply"]
    env = {**os.environ, **town.env, "KAFKA_BOOTSTRAP_SERVERS": town.city.kafka.direct}
    until(lambda: subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0, READY)


@SHARED
def test_f27_a_topic_deleted_and_made_anew_is_noticed_and_filled_again_from_the_outbox(town: Town) -> None:
    """Under load: its offsets begin at 0 again, below every position."""
    had = events(town)
    town.work(seed=127, projects=60, seconds=60)
    until(lambda: events(town) > had and unsent_rows(town) == 0 and lag(town, "hookup", REGISTERED) == 0, READY)
    old, ids, seen = events(town), topic_id(town), Seen(town)
    delete(town, REGISTERED)
    town.through(2)
    apply(town)
    until(lambda: {"topic-renewed", "log-changed"} <= seen.look(), READY)
    town.judge()
    told(
        events_before=old,
        records_now=sum(b.end for b in town.engine.log.topic(REGISTERED).bounds.values()),
        alarms=seen.names,
    )
    assert old > 0, "not exercised: there was nothing to send again"
    assert topic_id(town) != ids
    until(lambda: not {"topic-renewed", "log-changed"} & {name for _, name, _ in town.alarms()}, READY)


class Seen:
    """Names of alarms that stood at some time."""

    def __init__(self, town: Town) -> None:
        self._town, self.names = town, set[str]()

    def look(self) -> set[str]:
        self.names |= {name for _, name, _ in self._town.alarms()}
        return self.names


def events(town: Town) -> int:
    return town.sql("investment", "SELECT count(*) FROM outbox WHERE type = %s", REGISTERED)[0][0]


def topic_id(town: Town) -> str:
    return town.engine.log.topic(REGISTERED).id


@SHARED
@pytest.mark.slow
def test_f27_a_reader_that_retention_overtook_asks_for_what_it_never_read(town: Town) -> None:
    town.programs.end(town.copy(TIMELINE))
    town.work(seed=1270, projects=20, seconds=5)
    town.finish()
    until(lambda: unsent_rows(town) == 0, READY)
    unread, seen = lag(town, "timeline", REGISTERED), Seen(town)
    ends = {p: bounds.end for p, bounds in town.engine.log.topic(REGISTERED).bounds.items()}
    client = admin(town)
    wanted = [TopicPartition(REGISTERED, p, end) for p, end in ends.items()]
    for done in client.delete_records(wanted).values():
        done.result(30)
    town.forgot(REGISTERED)
    town.programs.begin(town.copy(TIMELINE))
    until(lambda: "log-changed" in seen.look(), READY)
    asked_now(town, "timeline")
    town.judge()
    told(unread=unread, alarms=seen.names)
    assert unread > 0, "not exercised: everything was read before it went"


def asked_now(town: Town, store: str) -> None:
    """A short sum is given two minutes, for what may be on its way; here nothing is."""
    until(lambda: town.sql(store, "UPDATE asked SET next_at = 0 WHERE type = %s RETURNING 1", REGISTERED), READY)


# -- F28 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("brokers")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_f28_a_log_cut_off_by_an_unclean_election_is_noticed_and_healed_from_the_outbox(tmp_path: Path) -> None:
    """A topic with two copies: one is dead while records are acknowledged by the other; then that one dies, and the one
    that never had them leads."""
    with Town(tmp_path, nodes=3) as town:
        on_two(town)
        first, second = town.city.kafka.nodes[:2]
        town.work(seed=128, projects=10, seconds=3)
        town.judge()
        town.programs.end(town.copy(TIMELINE))
        second.kill()
        until(lambda: isrs(town) == {(1,)}, READY)
        town.work(seed=1280, projects=20, seconds=5)
        town.finish()
        until(lambda: unsent_rows(town) == 0, READY)
        written, seen = ends(town), Seen(town)
        first.kill()
        second.start()
        until(lambda: leaders(town) == {2}, READY)
        first.start()
        left = ends(town)
        town.forgot(REGISTERED)
        town.programs.begin(town.copy(TIMELINE))
        until(lambda: "log-changed" in seen.look(), READY)
        asked_now(town, "timeline")
        town.judge(within=400)
        told(records_before=written, records_after=left, alarms=seen.names)
        assert left < written, "not exercised: the log lost nothing"


def on_two(town: Town) -> None:
    log: Any = town.engine.log
    found = log.described()[REGISTERED]
    delete(town, REGISTERED)
    told_ = {
        name: found.configs[name]
        for name in ("message.timestamp.type", "compression.type", "max.message.bytes", "retention.ms")
    }
    settled = {**told_, "min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    replicas = [[1, 2] for _ in range(found.partitions)]

    client = admin(town)

    def made() -> bool:
        [done] = client.create_topics(
            [NewTopic(REGISTERED, len(replicas), replica_assignment=replicas, config=settled)]
        ).values()
        try:
            done.result(30)
        except KafkaException:
            return False
        return True

    until(made)


def isrs(town: Town) -> set[tuple[int, ...]]:
    found = admin(town).list_topics(REGISTERED, timeout=30).topics[REGISTERED]
    return {tuple(sorted(part.isrs)) for part in found.partitions.values()}


def leaders(town: Town) -> set[int]:
    found = admin(town).list_topics(REGISTERED, timeout=30).topics[REGISTERED]
    return {part.leader for part in found.partitions.values()}


def ends(town: Town) -> int:
    return sum(bounds.end for bounds in town.engine.log.topic(REGISTERED).bounds.values())


# -- stores that share a database --------------------------------------------------------------------------------------
@SHARED
def test_a_subject_held_in_one_store_is_free_in_another(town: Town) -> None:
    """An advisory lock is the whole database's, a subject one service's: else the slowest would hold up all."""
    took = threading.Event()

    def take() -> None:
        with town.engine.stores["timeline"].transaction() as tx:
            tx.lock(["2603-440703-04-01-000001"])
            took.set()

    with town.engine.stores["hookup"].transaction() as tx:
        tx.lock(["2603-440703-04-01-000001"])
        other = threading.Thread(target=take, daemon=True)
        other.start()
        assert took.wait(5), "it waits for another service"
    other.join(10)


# -- F43 ---------------------------------------------------------------------------------------------------------------
@SHARED
def test_f43_a_batch_whose_bytes_have_rotted_is_stepped_over_said_and_healed(town: Town) -> None:
    town.programs.end(town.copy(TIMELINE))
    town.work(seed=143, projects=20, seconds=5)
    town.finish()
    until(lambda: unsent_rows(town) == 0, READY)
    unread = lag(town, "timeline", REGISTERED)
    file = rot(town, REGISTERED)
    town.forgot(REGISTERED)
    try:
        town.programs.begin(town.copy(TIMELINE))
        until(lambda: town.sql("timeline", "SELECT 1 FROM stray WHERE reason LIKE 'damaged: batch of %%'"), READY)
        until(lambda: lag(town, "timeline", REGISTERED) == 0, READY)
        busy = processor(town.programs.running(town.copy(TIMELINE)), 5)
        strays = town.sql("timeline", "SELECT reason FROM stray")
        told(unread=unread, strays=strays, file=file.parent.name, processor=f"{busy:.0%}")
        asked_now(town, "timeline")
        town.judge()
        assert busy < 0.9, "it spins"
    finally:
        town.whole = False  # the rotten batch stays where it is


def rot(town: Town, topic: str) -> Path:
    """Flip a byte in the last batch of a partition that has one, as a disk would."""
    logs = (town.folder / "servers/kafka/node-1/log").glob(f"{topic}-*/*.log")
    file = max(logs, key=lambda file: file.stat().st_size)
    with file.open("r+b") as segment:
        segment.seek(-8, os.SEEK_END)
        [byte] = segment.read(1)
        segment.seek(-8, os.SEEK_END)
        segment.write(bytes([byte ^ 0xFF]))
    return file


def processor(pid: int, seconds: float) -> float:
    """The share of one core that a process takes."""

    def taken() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begun, at = taken(), time.monotonic()
    threading.Event().wait(seconds)
    return (taken() - begun) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - at)
