"""`jietong backup`, `jietong restore`: all databases of a city, as they were at one instant.

The order in which databases are copied cannot be right. A reader copied after its owner knows events that the
restored owner will number anew: one sequence, two meanings. The log copied after an owner announces what the owner
lacks. So owners would come last and readers first; but hookup reads the utilities' answers, and the utilities read
hookup's requests. There is no first.

So there is one instant. Every database's writer is held (`BEGIN IMMEDIATE`, some milliseconds), a snapshot of each is
begun, the writers go on, and each database is copied from its snapshot by SQLite's own backup. What was committed
anywhere before that instant is in the set, nothing after it is: the set is what a machine has whose power failed just
then, and the city goes on from it as from that. Nobody in it knows more than its owner has announced.

The keys of personal fields are not in it: a destroyed key must not come back with a backup. They stay in `keys/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

import jietong
from jietong import settings
from jietong.adapters.embedded import Lock
from jietong.adapters.sqlite import FORMAT, SqliteStore
from jietong.cli import screen
from jietong.cli.folder import Folder, opened
from jietong.cli.options import AsJson, Data, DryRun
from jietong.errors import RetriableError, UsageError

MANIFEST = "manifest.json"
TRIES = 5


class Copy(NamedTuple):
    """A database in a set."""

    file: str
    size: int
    sha256: str


def backup(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy every database of the city, running or not, as of one instant. Keys of personal fields are not copied."""
    _of_a_folder("back it up with PostgreSQL's own `pg_dump --format=custom`: one database, one instant")
    folder = Folder(data)
    files = sorted(folder.path.glob("*.db"))
    if not files:
        raise UsageError(f"{folder.path}: no databases here to back up")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{to}: is not empty; give a new folder")
    need = sum(file.stat().st_size for file in files)
    if dry_run:
        return _tell("would copy", to, [Copy(file.name, file.stat().st_size, "") for file in files], as_json)
    to.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(to).free) < need:
        raise UsageError(f"{to}: {free} bytes free, {need} needed")
    return _tell("copied", to, copied(files, to), as_json)


def copied(files: Sequence[Path], to: Path) -> list[Copy]:
    """The set, its manifest last: a folder without one is not a backup."""
    try:
        _copies(files, to)
    except sqlite3.Error as error:
        raise UsageError(f"{to}: {error}; there is no {MANIFEST}, so it is no backup") from error
    copies = [_copy(to / file.name) for file in files]
    about = {"jietong": jietong.__version__, "format": FORMAT, "taken": datetime.now(UTC).isoformat(timespec="seconds"),
             "files": [copy._asdict() for copy in copies]}  # fmt: skip
    part = to / f"{MANIFEST}.part"
    part.write_text(json.dumps(about, indent=1), encoding="utf-8")
    _sync(part)
    part.replace(to / MANIFEST)
    _sync(to)
    return copies


def _copies(files: Sequence[Path], to: Path) -> None:
    with ExitStack() as open_:
        writers = [open_.enter_context(closing(opened(file, read_only=False))) for file in files]
        readers = [open_.enter_context(closing(opened(file))) for file in files]
        open_.enter_context(_instant(writers, readers))
        for reader in screen.progress(readers, "backup"):
            reader.backup(to / reader.path.name)


def restore(
    of: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `jietong backup` filled.")],
    force: Annotated[bool, typer.Option("--force", help="Set aside the databases that are there.")] = False,
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup's databases into the data folder. Refused while a city runs there, or if it is not empty."""
    _of_a_folder("stop its programs and bring a dump back with PostgreSQL's own `pg_restore`")
    copies = verified(of)
    target = settings.load(data=data).data
    there = sorted(target.glob("*.db*")) if target.is_dir() else []
    if there and not force:
        raise UsageError(f"{target}: holds databases already; --force sets them aside")
    if dry_run:
        return _tell("would restore", target, copies, as_json)
    target.mkdir(parents=True, exist_ok=True)
    lock = Lock(target / "log.lock")
    if not lock.take():
        raise UsageError(f"{target}: process {lock.holder()} is running on this data; stop it first")
    try:
        _put(of, target, copies, there)
    finally:
        lock.release()
    return _tell("restored", target, copies, as_json)


def _of_a_folder(instead: str) -> None:
    """Raises UsageError on the city engine, whose database has tools of its own."""
    if settings.load().engine == "city":
        raise UsageError(f"a city on servers has no folder of databases: {instead} (docs/operations.md)")


def verified(of: Path) -> list[Copy]:
    """The copies of a set. Raises UsageError if it is none, of a newer version, or one file is not what was written."""
    try:
        about: dict[str, Any] = json.loads((of / MANIFEST).read_text("utf-8"))
        copies = [Copy(**file) for file in about["files"]]
        newer = about["format"] > FORMAT
    except OSError as error:
        raise UsageError(f"{of}: no backup: {MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{of / MANIFEST}: is not a backup's manifest") from None
    if newer:
        raise UsageError(f"{of}: written by a newer Jietong; upgrade this one first")
    for copy in copies:
        file = of / copy.file
        if Path(copy.file).name != copy.file or not file.is_file():
            raise UsageError(f"{file}: the manifest names it, and it is not there")
        if _copy(file) != copy:
            raise UsageError(f"{file}: is not what was backed up: its bytes have changed; use another backup")
    return copies


def _instant(writers: Sequence[SqliteStore], readers: Sequence[SqliteStore]) -> ExitStack:
    """Snapshots of all, begun while nobody could write. UsageError if a writer does not let go."""
    for _ in range(TRIES):
        held, seen = ExitStack(), ExitStack()
        try:
            with held:
                for writer in writers:
                    held.enter_context(writer.transaction())
                for reader in readers:
                    seen.enter_context(reader.snapshot()).execute("SELECT count(*) FROM sqlite_master").all()
        except RetriableError:
            seen.close()
            time.sleep(0.5)
        else:
            return seen
    raise UsageError("the city is too busy to be held for an instant; nothing was written, try again")


def _put(of: Path, target: Path, copies: Sequence[Copy], there: Sequence[Path]) -> None:
    """All copies first, under other names; then what is there goes aside, and they take their names, the log last."""
    try:
        for copy in copies:
            shutil.copyfile(of / copy.file, target / f"{copy.file}.part")
            _sync(target / f"{copy.file}.part")
    except OSError as error:
        for copy in copies:
            (target / f"{copy.file}.part").unlink(missing_ok=True)
        raise UsageError(f"{target}: {error.strerror}; nothing was replaced") from error
    if there:
        aside = target / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        aside.mkdir()
        for file in there:
            file.rename(aside / file.name)
    for copy in sorted(copies, key=lambda copy: copy.file == "log.db"):
        (target / f"{copy.file}.part").rename(target / copy.file)
    _sync(target)


def _copy(file: Path) -> Copy:
    """As the manifest has it. By path, which is safe here: nobody in this process has it open as a database."""
    with file.open("rb") as stream:
        return Copy(file.name, file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _tell(did: str, where: Path, copies: Sequence[Copy], as_json: bool) -> None:
    if as_json:
        screen.emit({"did": did, "folder": str(where), "files": [copy._asdict() for copy in copies]})
    else:
        print(f"{did} {len(copies)} databases, {sum(copy.size for copy in copies)} bytes: {where}")
