"""A store on one SQLite file: what it refuses, what a full or broken disk does to it, and that writers wait their turn."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest

from jietong.adapters import sqlite
from jietong.adapters.sqlite import SqliteStore, refuse_network_mount
from jietong.errors import RetriableError, UsageError
from jietong.testing import notes

INSERT = "INSERT INTO note (n, text) VALUES (:n, :text)"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "notes.db", notes)
    yield made
    made.close()


def count(store: SqliteStore) -> int:
    with store.snapshot() as tx:
        return tx.execute("SELECT count(*) FROM note").all()[0][0]


def put(store: SqliteStore, n: int, text: str = "") -> None:
    with store.transaction() as tx:
        tx.execute(INSERT, {"n": n, "text": text or str(n)})


def pragma(store: SqliteStore, name: str) -> Any:
    with store.snapshot() as tx:
        return tx.execute(f"PRAGMA {name}").all()[0][0]


def test_it_writes_ahead_and_waits_for_the_disk(store: SqliteStore) -> None:
    assert (pragma(store, "journal_mode"), pragma(store, "synchronous"), pragma(store, "user_version")) == (
        "wal",
        2,
        sqlite.FORMAT,
    )


def test_what_was_committed_is_there_after_it_was_opened_again(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "notes.db", notes)
    put(first, 1)
    first.close()
    second = SqliteStore(tmp_path / "notes.db", notes)
    assert count(second) == 1
    second.close()


def test_a_name_with_signs_of_its_own_is_a_file_like_any(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20?x#y 江门"
    folder.mkdir()
    store = SqliteStore(folder / "n#1?.db", notes)
    put(store, 1)
    store.close()
    assert (folder / "n#1?.db").exists()


def test_a_folder_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {sqlite.FORMAT + 1}")
    db.close()
    for read_only in (False, True):
        with pytest.raises(UsageError, match=r"notes\.db.*newer"):
            SqliteStore(path, notes, read_only=read_only)
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_said_so(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "notes.db").write_bytes(b"not a database, but long enough to look like one\n" * 100)
    with pytest.raises(UsageError, match="database"):
        SqliteStore(tmp_path / "notes.db", notes, read_only=read_only)


def test_a_file_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody"):
        SqliteStore(tmp_path / "nobody.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_look_sees_what_was_committed_and_cannot_write(store: SqliteStore, tmp_path: Path) -> None:
    put(store, 1)
    beside = SqliteStore(tmp_path / "notes.db", read_only=True)
    put(store, 2)
    assert count(beside) == 2
    with pytest.raises(RetriableError, match="readonly"), beside.transaction() as tx:
        tx.execute(INSERT, {"n": 3, "text": "a"})
    beside.close()


def test_a_snapshot_neither_waits_for_a_writer_nor_sees_it(store: SqliteStore, tmp_path: Path) -> None:
    seen: list[int] = []
    with store.transaction() as tx:
        tx.execute(INSERT, {"n": 1, "text": "a"})
        looking = threading.Thread(target=lambda: seen.append(count(store)))
        looking.start()
        looking.join(5)
        assert seen == [0]
    assert count(store) == 1


def test_a_snapshot_is_one_view(store: SqliteStore) -> None:
    with store.snapshot() as tx:
        assert tx.execute("SELECT count(*) FROM note").all() == [(0,)]
        writer = threading.Thread(target=put, args=(store, 1))
        writer.start()
        writer.join()
        assert tx.execute("SELECT count(*) FROM note").all() == [(0,)]
    assert count(store) == 1


def test_a_snapshot_leaves_nothing_behind(store: SqliteStore) -> None:
    with store.snapshot() as tx:
        tx.execute(INSERT, {"n": 1, "text": "a"})
    assert count(store) == 0


def test_twelve_threads_take_turns(store: SqliteStore) -> None:
    put(store, 0, "0")
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                with store.transaction() as tx:
                    value = int(tx.execute("SELECT text FROM note WHERE n = 0").all()[0][0])
                    tx.execute("UPDATE note SET text = :next WHERE n = 0", {"next": str(value + 1)})
        except BaseException as error:  # noqa: BLE001 — told below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.snapshot() as tx:
        assert (failed, tx.execute("SELECT text FROM note").all()) == ([], [("120",)])


# -- a full disk, a broken one -----------------------------------------------------------------------------------------------
def test_a_full_disk_is_waited_for_and_nothing_of_the_transaction_is_there(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "notes.db", notes)
    store.close()
    store.limit_pages = pragma(store, "page_count") + 1
    store.close()
    with pytest.raises(RetriableError, match="full"), store.transaction() as tx:
        for n in range(100):
            tx.execute(INSERT, {"n": n, "text": f"{n}" * 500})
    assert count(store) == 0
    store.close()
    store.limit_pages = 10_000
    put(store, 1)
    assert count(store) == 1
    store.close()


class Failing:
    """A connection whose COMMIT fails in one way."""

    def __init__(self, db: sqlite3.Connection, code: int) -> None:
        self._db, self._code = db, code

    def execute(self, sql: str, *more: Any) -> Any:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("as a disk would say")
            error.sqlite_errorcode = self._code  # pyright: ignore[reportAttributeAccessIssue]
            raise error
        return self._db.execute(sql, *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def failing(store: SqliteStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with store._connection() as db:
        broken = Failing(db, code)
    monkeypatch.setattr(store, "_connection", lambda: nullcontext(broken))


def test_a_disk_that_is_full_at_the_commit_is_waited_for(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rings = store.bell
    with monkeypatch.context() as patch:
        failing(store, patch, sqlite3.SQLITE_FULL)
        with pytest.raises(RetriableError, match="nothing was committed"), store.transaction() as tx:
            tx.execute(INSERT, {"n": 1, "text": "a"})
            tx.after_commit(rings)
    assert (count(store), rings.wait(0)) == (0, False)
    put(store, 1)
    assert count(store) == 1


class Ended(BaseException):
    pass


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT])
def test_any_other_error_of_a_commit_is_unknown_and_ends_the_process(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def ended(error: BaseException) -> NoReturn:
        raise Ended(str(error))

    store.ended = ended
    with monkeypatch.context() as patch:
        failing(store, patch, code)
        with pytest.raises(Ended), store.transaction() as tx:
            tx.execute(INSERT, {"n": 1, "text": "a"})


def test_closing_waits_for_who_is_reading(store: SqliteStore) -> None:
    """A connection closed under its thread ended the process with a segmentation fault."""
    put(store, 1)
    reading, go_on, read = threading.Event(), threading.Event(), list[int]()

    def look() -> None:
        with store.snapshot() as tx:
            reading.set()
            assert go_on.wait(20)
            read.append(len(tx.execute("SELECT n FROM note").all()))

    reader, closer = threading.Thread(target=look), threading.Thread(target=store.close)
    reader.start()
    assert reading.wait(20)
    closer.start()
    closer.join(0.1)  # its chance to close too early
    go_on.set()
    reader.join(20)
    closer.join(20)
    assert read == [1]


DIES = """
import resource, signal, sys
from pathlib import Path
from jietong.adapters.sqlite import SqliteStore
from jietong.testing import notes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(Path(sys.argv[1]), notes)
with store.transaction() as tx:
    tx.execute("INSERT INTO note (n, text) VALUES (1, 'kept')")
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with store.transaction() as tx:
        for n in range(2, 400):
            tx.execute("INSERT INTO note (n, text) VALUES (:n, :text)", {"n": n, "text": str(n) * 300})
except BaseException as error:
    print("reported", type(error).__name__, flush=True)
"""


def test_a_real_write_error_at_the_commit_reports_no_failure_that_may_be_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES, tmp_path / "notes.db"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (os.EX_IOERR, "")
    assert "disk failed during a commit" in done.stderr
    store = SqliteStore(tmp_path / "notes.db", notes)
    assert count(store) in (1, 399), "all of it or nothing"
    store.close()


# -- copies, mounts ----------------------------------------------------------------------------------------------------------
def test_a_backup_is_whole_though_others_write(store: SqliteStore, tmp_path: Path) -> None:
    for n in range(100):
        put(store, n)
    store.backup(tmp_path / "copy.db")
    copy = SqliteStore(tmp_path / "copy.db", notes)
    assert count(copy) == 100
    copy.close()
    assert not list(tmp_path.glob("*.part"))


MOUNTS = "disk / ext4 rw 0 0\nserver:/x /mnt/far nfs4 rw 0 0\nmine /mnt/far/near\\040by xfs rw 0 0\nx /mnt/cloud fuse.sshfs rw 0 0\n"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/city", None),
        ("/mnt/far/city", "nfs4"),
        ("/mnt/far/near by/city", None),
        ("/mnt/cloud", "fuse.sshfs"),
        ("/mnt/farther", None),
    ],
)
def test_a_network_mount_is_refused(monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: MOUNTS)
    if kind is None:
        refuse_network_mount(Path(folder))
    else:
        with pytest.raises(UsageError, match=kind):
            refuse_network_mount(Path(folder))


def test_nothing_to_write_many_times_is_nothing(store: SqliteStore) -> None:
    with store.transaction() as tx:
        assert tx.execute_many(INSERT, []) == 0
