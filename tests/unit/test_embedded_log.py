"""The embedded log: one file that any tool can read, one process that writes it, retention and a cap on its size."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from jietong.adapters import embedded
from jietong.adapters.embedded import EmbeddedLog, Lock
from jietong.broker import Bounds, Message, Place
from jietong.catalog import TopicSpec
from jietong.errors import UsageError

DAY = 86_400_000
MIB = 1024 * 1024


def topics(numbers: int = 2, days: int | None = None) -> Mapping[str, TopicSpec]:
    def spec(topic: str, partitions: int, cleanup: str, days: int | None) -> TopicSpec:
        return TopicSpec(topic, {}, ["local"], ["*"], "tests", ["*"], partitions, "internal", days, cleanup)

    specs = (
        spec("numbers", numbers, "delete", days),
        spec("newest", 1, "compact", None),
        spec("kept", 1, "delete", None),
    )
    return {spec.topic: spec for spec in specs}


Open = Callable[..., EmbeddedLog]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    made: list[EmbeddedLog] = []

    def open_(specs: Mapping[str, TopicSpec] = topics(), **options: object) -> EmbeddedLog:
        made.append(EmbeddedLog(tmp_path, specs, **options))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield open_
    for log in made:
        log.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The log's own time, milliseconds."""
    now = [1_700_000_000_000]
    monkeypatch.setattr(embedded.time, "time_ns", lambda: now[0] * 1_000_000)
    return now


def put(log: EmbeddedLog, topic: str, *values: str, key: bytes = b"a") -> None:
    log.append([Message(topic, key, value.encode()) for value in values])


def values(log: EmbeddedLog, topic: str) -> list[str]:
    places = [Place(topic, p) for p in log.topic(topic).bounds]
    return [(r.value or b"").decode()[:10] for place in places for r in log.read(place, 0, 10_000)]


# -- one process -------------------------------------------------------------------------------------------------------------
def test_a_second_process_is_told_the_firsts_pid(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(UsageError, match=f"process {os.getpid()} is running"):
        EmbeddedLog(tmp_path, topics())
    script = "import sys; from pathlib import Path; from jietong.adapters.embedded import *\n"
    script += "try: EmbeddedLog(Path(sys.argv[1]), {})\nexcept UsageError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"process {os.getpid()} is running" in done.stdout


def test_a_lock_ends_with_its_process_whatever_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "log.lock").write_text("99999", "ascii")
    assert Lock(tmp_path / "log.lock").holder() is None
    log = EmbeddedLog(tmp_path, topics())
    assert Lock(tmp_path / "log.lock").holder() == os.getpid()
    log.close()
    assert Lock(tmp_path / "log.lock").holder() is None
    assert Lock(tmp_path / "nobody.lock").holder() is None


def test_a_lock_is_taken_once_however_often_it_is_asked(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "x.lock"), Lock(tmp_path / "x.lock")
    assert (first.take(), first.take(), second.take()) == (True, True, False)
    first.release()
    assert second.take()
    second.release()


def test_a_command_may_look_beside_a_running_city(opened: Open) -> None:
    log = opened()
    put(log, "numbers", "1")
    beside = opened(read_only=True)
    assert values(beside, "numbers") == ["1"]
    put(log, "numbers", "2")
    beside.refresh()
    assert values(beside, "numbers") == ["1", "2"]


# -- one file ----------------------------------------------------------------------------------------------------------------
def test_any_tool_can_read_it(opened: Open, tmp_path: Path) -> None:
    log = opened()
    log.append([Message("numbers", "键".encode(), b"\x00\xff", (("ce_id", b"1"), ("raw", b"\xff")))])
    log.close()
    db = sqlite3.connect(tmp_path / "log.db")
    rows = db.execute('SELECT topic, "offset", key, value, headers, timestamp > 0 FROM record').fetchall()
    [(topic_id,)] = db.execute("SELECT id FROM topic WHERE name = 'numbers'").fetchall()
    db.close()
    assert rows == [("numbers", 0, "键".encode(), b"\x00\xff", '[["ce_id", "1"], ["raw", "\\udcff"]]', 1)]
    assert topic_id == log.topic("numbers").id


def test_offsets_and_ids_outlive_the_process(opened: Open) -> None:
    log = opened()
    put(log, "numbers", "1", "2")
    before = log.topic("numbers")
    log.close()
    again = opened()
    assert again.topic("numbers") == before
    put(again, "numbers", "3")
    assert values(again, "numbers") == ["1", "2", "3"]


def test_a_batch_is_in_the_log_whole_or_not_at_all(opened: Open) -> None:
    log = opened()
    with pytest.raises(UsageError):
        log.append([Message("numbers", b"a", b"1"), Message("nobody", b"a", b"2")])
    assert values(log, "numbers") == []
    assert log.topic("numbers").bounds[0] == Bounds(0, 0)


def test_a_batch_is_one_commit(opened: Open) -> None:
    log = opened()
    before = log.commits
    log.append([Message("numbers", str(n).encode(), b"x") for n in range(100)])
    assert log.commits == before + 1


def test_the_number_of_partitions_is_part_of_its_order(opened: Open) -> None:
    opened(topics(numbers=2)).close()
    for other in (1, 3):
        with pytest.raises(UsageError, match=rf"numbers: the log has 2 partitions.*says {other}"):
            opened(topics(numbers=other))
    opened(topics(numbers=2)).close()


def test_a_log_of_a_newer_version_is_refused_and_its_folder_let_go(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().close()
    db = sqlite3.connect(tmp_path / "log.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    locks: list[Lock] = []
    monkeypatch.setattr(embedded, "Lock", lambda path: locks.append(Lock(path)) or locks[-1])
    with pytest.raises(UsageError, match="newer"):
        opened()
    holder = Lock(tmp_path / "log.lock").holder()
    for lock in locks:
        lock.release()
    assert holder is None


def test_a_topic_made_anew_has_another_id_and_begins_at_zero(opened: Open) -> None:
    log = opened()
    put(log, "numbers", "1", "2")
    before = log.topic("numbers").id
    log.recreate("numbers")
    assert log.topic("numbers").id != before
    assert set(log.topic("numbers").bounds.values()) == {Bounds(0, 0)}
    put(log, "numbers", "3")
    assert values(log, "numbers") == ["3"]


def test_a_compacted_topic_keeps_one_record_a_key_and_its_offsets(opened: Open) -> None:
    log = opened()
    for n in range(5):
        put(log, "newest", str(n), key=b"a")
        put(log, "newest", str(n), key=b"b")
    assert values(log, "newest") == ["4", "4"]
    assert log.topic("newest").bounds[0].end == 10
    put(log, "newest", "5", "6", "7", key=b"a")
    assert values(log, "newest") == ["4", "7"], "also within one batch"


def test_a_full_partition_does_not_starve_the_others(opened: Open) -> None:
    log = opened()
    for n in range(40):
        put(log, "numbers", "x", key=str(n).encode())
    reader = log.reader("group", ["numbers"])
    for place in reader.assigned().places:
        reader.seek(place, 0)
    taken = [{r.partition for r in reader.poll(0, 5)} for _ in range(2)]
    assert taken[0] | taken[1] == {0, 1}


# -- retention and cap ---------------------------------------------------------------------------------------------------------
def test_what_is_older_than_its_topic_keeps_goes(opened: Open, clock: list[int]) -> None:
    log = opened(topics(days=2))
    for n in range(4):
        put(log, "numbers", str(n))
        put(log, "kept", str(n))
        put(log, "newest", str(n), key=str(n).encode())
        clock[0] += DAY
    dropped = log.trim()
    assert dropped == 2
    assert (values(log, "numbers"), values(log, "kept"), len(values(log, "newest"))) == (
        ["2", "3"],
        ["0", "1", "2", "3"],
        4,
    )
    [bounds] = [b for b in log.topic("numbers").bounds.values() if b.end]
    assert bounds == Bounds(2, 4)


def test_an_emptied_partition_goes_on_counting(opened: Open, clock: list[int]) -> None:
    log = opened(topics(days=1))
    put(log, "numbers", "1", "2")
    clock[0] += 3 * DAY
    log.trim()
    [bounds] = [b for b in log.topic("numbers").bounds.values() if b.end]
    assert bounds == Bounds(2, 2)
    put(log, "numbers", "3")
    assert [b for b in log.topic("numbers").bounds.values() if b.end] == [Bounds(2, 3)]


def test_over_its_cap_the_oldest_go_and_heads_stay(opened: Open, clock: list[int]) -> None:
    log = opened(cap=2 * MIB)
    put(log, "newest", "head")
    for n in range(40):
        put(log, "numbers" if n % 2 else "kept", f"{n:03}" + "x" * 100_000)
        clock[0] += 1
    assert log.trim() > 0
    left = sorted(values(log, "numbers") + values(log, "kept"))
    assert left == [f"{n:03}" + "x" * 7 for n in range(40 - len(left), 40)], "the newest"
    assert 15 <= len(left) <= 21
    assert values(log, "newest") == ["head"]
    assert log.trim() <= 1, "and then there is room"


def test_below_its_cap_nothing_goes(opened: Open) -> None:
    log = opened()
    put(log, "numbers", *map(str, range(100)))
    assert log.trim() == 0
    assert len(values(log, "numbers")) == 100
