"""The same suites on memory and on SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jietong.adapters.embedded import EmbeddedLog
from jietong.adapters.sqlite import SqliteStore
from jietong.broker import Message
from jietong.catalog import TopicSpec
from jietong.testing import BrokerContract, MemoryLog, MemoryStore, OpenBroker, OpenStore, StoreContract, notes


def spec(topic: str, partitions: int, cleanup: str) -> TopicSpec:
    return TopicSpec(topic, {}, ["project"], ["*"], "tests", ["*"], partitions, "internal", cleanup=cleanup)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        return lambda: MemoryStore("notes", notes)


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        store = SqliteStore(tmp_path / "notes.db", notes)
        yield lambda: store
        store.close()


class TestMemoryLog(BrokerContract):
    @pytest.fixture
    def open_broker(self) -> OpenBroker:
        log = MemoryLog({"numbers": 3, "newest": 1})
        log.compacted = {"newest"}
        return lambda: log


class TestEmbeddedLog(BrokerContract):
    @pytest.fixture
    def open_broker(self, tmp_path: Path) -> Iterator[OpenBroker]:
        log = EmbeddedLog(tmp_path, {s.topic: s for s in (spec("numbers", 3, "delete"), spec("newest", 1, "compact"))})
        yield lambda: log
        log.close()


def test_a_look_at_the_file_beside_an_append_never_shows_a_log_that_shrank(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path, {"numbers": spec("numbers", 1, "delete")})
    ends: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            log.refresh()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        log.append([Message("numbers", b"a", b"1")])
        ends.append(log.topic("numbers").bounds[0].end)
    stop.set()
    for thread in threads:
        thread.join()
    log.close()
    assert ends == list(range(1, 301))
