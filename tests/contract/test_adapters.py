"""The same suites on memory and on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jietong.adapters.embedded import EmbeddedLog
from jietong.adapters.sqlite import SqliteStore
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
