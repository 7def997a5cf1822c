"""A city's data folder, as a command sees it: read beside a running city, or with none."""

from __future__ import annotations

import importlib
import sqlite3
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType

from jietong import catalog, settings
from jietong.adapters.embedded import EmbeddedLog, Lock
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.errors import UsageError
from jietong.store import Transaction

LOG, PLATFORM = "log", "platform-"
MANY = ("utility-", "feed-")
"""Programs of which there are several: `utility:jm-water` lies in `utility-jm-water.db`."""


class Folder:
    """Raises UsageError if there is no such folder. Databases are opened once, read only."""

    def __init__(self, data: Path | None) -> None:
        self.path = settings.load(data=data).data
        if not self.path.is_dir():
            raise UsageError(f"{self.path}: no such data folder; name it with --data or JIETONG_DATA")

    def pid(self) -> int | None:
        """The process that runs a city here."""
        return Lock(self.path / "log.lock").holder()

    @cached_property
    def contract(self) -> Contract:
        return Contract(catalog.load())

    @cached_property
    def log(self) -> EmbeddedLog:
        """Raises UsageError if no city ever ran here."""
        if not (self.path / "log.db").exists():
            raise UsageError(f"{self.path}: there is no log yet; `jietong up` makes one")
        return EmbeddedLog(self.path, self.contract.catalog.topics, read_only=True)

    @cached_property
    def programs(self) -> Mapping[str, SqliteStore]:
        """Every program's database, by the program's name."""
        files = [f for f in sorted(self.path.glob("*.db")) if f.stem != LOG and not f.stem.startswith(PLATFORM)]
        return {program_of(file): _ours(opened(file)) for file in files}

    def program(self, name: str) -> SqliteStore:
        """Raises UsageError if no program of that name has a database here."""
        if (store := self.programs.get(name) or self.programs.get(named(name))) is None:
            raise UsageError(f"{self.path}: no program {name} here; there are {', '.join(self.programs) or 'none'}")
        return store

    def platform(self, operator: str) -> Path:
        """The file of an operator's own system. Raises UsageError if it is not here."""
        file = self.path / f"{PLATFORM}{operator}.db"
        if not file.exists():
            known = (f.stem.removeprefix(PLATFORM) for f in sorted(self.path.glob(f"{PLATFORM}*.db")))
            raise UsageError(f"{self.path}: no operator {operator} here; there are {', '.join(known) or 'none'}")
        return file


def opened(file: Path, read_only: bool = True) -> SqliteStore:
    """Raises UsageError if it is no database, or one of a newer version."""
    try:
        return SqliteStore(file, read_only=read_only, name=program_of(file))
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{file}: cannot be read as a database: {error}") from error


def _ours(store: SqliteStore) -> SqliteStore:
    with store.snapshot() as tx:
        if not has_table(tx, "outbox"):
            raise UsageError(f"{store.path}: has none of our tables; take it out of the data folder")
    return store


def has_table(tx: Transaction, name: str) -> bool:
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
    return tx.execute(sql, {"name": name}).one() is not None


def program_of(file: Path) -> str:
    return named(file.stem)


def named(stem: str) -> str:
    return next((f"{many[:-1]}:{stem.removeprefix(many)}" for many in MANY if stem.startswith(many)), stem)


def module(name: str) -> ModuleType:
    """A module of a program, by import name. Raises UsageError if it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"no module {name} here: run this beside `services/` and `connectors/`") from error


def now() -> int:
    return time.time_ns() // 1_000_000
