"""The tables of a store over releases: made at once, upgraded step by step, run by old and new code side by side."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, text

from jietong import migrations, settings, up
from jietong.adapters.embedded import log_tables
from jietong.adapters.sqlite import SqliteStore, changing, connected
from jietong.cli import db
from jietong.cli.app import run
from jietong.cli.folder import program_of
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.migrations import Branch
from services.hookup.tables import hookup
from tests.unit.releases import CODE, DIES, difference, put, read, shop

TABLES = [delivery, log_tables, *(db.tables(name)[-1] for name in (*db.OWN, "platform-jm-water"))]
BRANCHES = migrations.branches(*TABLES)
[HEAD] = [branch.head for branch in migrations.branches(delivery)]
ids = [branch.name for branch in BRANCHES]


@contextmanager
def on(file: Path) -> Generator[Connection]:
    with changing(file) as connection:
        yield connection


def indexes(connection: Connection) -> list[str]:
    """As SQLite keeps them, with what they are partial on."""
    rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
    return sorted(row[0].replace('"', "") for row in rows)


def names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def release(file: Path) -> tuple[str, str]:
    with closing(sqlite3.connect(file)) as made:
        return made.execute("SELECT version, min_code FROM release").fetchone()


# -- what our own revisions say ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("branch", BRANCHES, ids=ids)
def test_the_revisions_from_nothing_make_the_tables_as_they_are_declared(tmp_path: Path, branch: Branch) -> None:
    with on(tmp_path / "run.db") as connection:
        migrations.run(connection, [branch])
        missing = difference(connection, branch.tables)
        assert not missing, f"tables of {branch.name} have changed; a new revision has to do this:\n    {missing}"
        ran = indexes(connection)
    with on(tmp_path / "made.db") as connection:
        branch.tables.create_all(connection)
        assert ran == indexes(connection)


def test_a_change_that_no_revision_makes_is_seen(tmp_path: Path) -> None:
    branch = shop(tmp_path, 1)
    Table("later", branch.tables, Column("id", Text, primary_key=True))
    with on(tmp_path / "s.db") as connection:
        migrations.run(connection, [branch])
        assert "op.create_table('later'" in difference(connection, branch.tables)
        assert "drop_column('item', 'name')" in difference(connection, shop(tmp_path, 3).tables)


@pytest.mark.parametrize("branch", BRANCHES, ids=ids)
def test_revisions_are_numbered_in_their_branch_and_the_oldest_code_they_suffer_never_falls(branch: Branch) -> None:
    found = [migrations.read(file) for file in sorted(branch.folder.glob("*.py"))]
    assert [revision.id for revision in found] == [branch.id(n) for n in range(1, len(found) + 1)]
    for earlier, later in pairwise(found):
        assert migrations.parsed(earlier.min_code) <= migrations.parsed(later.min_code)
        assert migrations.parsed(earlier.release) <= migrations.parsed(later.release)
    assert all(migrations.parsed(each.min_code) <= migrations.parsed(each.release) for each in found)


def test_every_store_of_a_city_is_one_that_db_knows_with_its_tables(tmp_path: Path) -> None:
    data = tmp_path / "data"
    engine, pack = up.open_engine(settings.load(data=data, city="jiangmen"))
    try:
        for name in up.PROGRAMS:
            up.wiring(name).programs(engine, pack)
    finally:
        engine.close()
    found = {program_of(file): file for file in data.glob("*.db")}
    assert sorted(found.keys() - {"log"}) == db.stores(pack)
    for name, file in found.items():
        with on(file) as connection:
            has = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
        assert has == {branch.head.id for branch in migrations.branches(*db.tables(name))}, name


# -- old and new side by side ------------------------------------------------------------------------------------------------
def test_old_code_runs_while_the_tables_are_expanded_and_is_refused_once_they_are_contracted(tmp_path: Path) -> None:
    opens = partial(on, tmp_path / "s.db")
    old, expanded, contracted = (shop(tmp_path, n) for n in (1, 2, 3))

    def may_run(branch: Branch, code: str) -> bool:
        with opens() as connection:
            return migrations.standing(connection, [branch], code).wrong is None

    with opens() as connection:
        assert migrations.upgrade(connection, [old], CODE[1]) == ["made as shop_0001"]
    put(opens, 1, 1)
    assert not may_run(expanded, CODE[2])  # the new code waits for its tables

    with opens() as connection:
        assert migrations.upgrade(connection, [expanded], CODE[2]) == ["ran shop_0002"]
    assert release(tmp_path / "s.db") == ("0.3.0", "0.2.0")
    assert may_run(old, CODE[1])
    assert may_run(expanded, CODE[2])
    put(opens, 2, 1)
    put(opens, 3, 2)
    assert read(opens, 1) == read(opens, 2) == {1: "item 1", 2: "item 2", 3: "item 3"}
    with opens() as connection:  # the old code's own upgrade finds nothing to do, and takes nothing back
        assert migrations.upgrade(connection, [old], CODE[1]) == []
    assert release(tmp_path / "s.db") == ("0.3.0", "0.2.0")

    with opens() as connection:
        connection.execute(text("UPDATE item SET title = name WHERE title IS NULL"))
        assert migrations.upgrade(connection, [contracted], CODE[3]) == ["ran shop_0003"]
    assert release(tmp_path / "s.db") == ("0.4.0", "0.3.0")
    assert not may_run(old, CODE[1])
    assert may_run(expanded, CODE[2])
    assert read(opens, 3) == {1: "item 1", 2: "item 2", 3: "item 3"}


def test_code_older_than_the_tables_suffer_is_told_which_it_must_be(tmp_path: Path) -> None:
    opens = partial(on, tmp_path / "s.db")
    with opens() as connection:
        migrations.upgrade(connection, [shop(tmp_path, 3)], CODE[3])
    for refused in (migrations.verify, migrations.upgrade):
        with opens() as connection, pytest.raises(UsageError) as caught:
            refused(connection, [shop(tmp_path, 1)], CODE[1])
        assert str(caught.value) == (
            f"{tmp_path / 's.db'}: its tables are of Jietong 0.4.0 and need 0.3.0 or newer, this is 0.2.0; "
            "upgrade this program to Jietong 0.3.0 or newer"
        )


def test_tables_older_than_the_code_needs_name_the_command(tmp_path: Path) -> None:
    opens = partial(on, tmp_path / "s.db")
    with opens() as connection:
        migrations.upgrade(connection, [shop(tmp_path, 1)], CODE[1])
        with pytest.raises(UsageError) as caught:
            migrations.verify(connection, [shop(tmp_path, 2)], CODE[2])
    assert str(caught.value) == (
        f"{tmp_path / 's.db'}: its tables are of Jietong 0.2.0, this is 0.3.0 and lacks shop_0002; run `jietong db upgrade`"
    )


def test_a_store_that_opens_with_older_tables_is_left_as_it_is(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "s.db", shop(tmp_path, 1).tables).close()
    for read_only in (False, True):
        with pytest.raises(UsageError, match="run `jietong db upgrade`"):
            SqliteStore(tmp_path / "s.db", shop(tmp_path, 2).tables, read_only=read_only)
    with on(tmp_path / "s.db") as connection:
        assert [column["name"] for column in inspect(connection).get_columns("item")] == ["id", "name"]


def test_ten_is_newer_than_nine() -> None:
    assert migrations.parsed("0.10.0") > migrations.parsed("0.9.12")
    assert migrations.parsed("0.3.0.dev1") == migrations.parsed("0.3.0")


def test_a_store_with_two_branches_has_a_head_of_each(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    SqliteStore(file, delivery, shop(tmp_path, 1).tables).close()
    with on(file) as connection:
        delivery_branch = migrations.branches(delivery)
        migrations.upgrade(connection, [*delivery_branch, shop(tmp_path, 3)], CODE[3])
        assert set(connection.scalars(text("SELECT version_num FROM alembic_version"))) == {
            delivery_branch[0].head.id, "shop_0003",
        }  # fmt: skip
    assert release(file) == ("0.4.0", "0.3.0")


def test_a_branch_that_comes_later_takes_nothing_back_of_what_a_store_says(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    with on(file) as connection:
        migrations.create(connection, [shop(tmp_path, 3).tables])
        assert migrations.create(connection, [delivery]) == [f"made as {migrations.branches(delivery)[0].head.id}"]
    assert release(file) == ("0.4.0", "0.3.0")


# -- from nothing, and from 0.2.0 --------------------------------------------------------------------------------------------
def test_a_fresh_file_is_at_the_head_at_once(tmp_path: Path) -> None:
    branch = shop(tmp_path, 2)
    SqliteStore(tmp_path / "s.db", branch.tables).close()
    with on(tmp_path / "s.db") as connection:
        migrations.verify(connection, [branch], CODE[2])
        assert difference(connection, branch.tables) == ""


def test_a_table_of_somebody_else_is_refused_and_left(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as made:
        made.execute("CREATE TABLE item (of_ours INTEGER)")
    with pytest.raises(UsageError, match=r"s\.db: holds a table item that Jietong did not make"):
        SqliteStore(tmp_path / "s.db", shop(tmp_path, 1).tables)
    with on(tmp_path / "s.db") as connection:
        assert names(connection) == {"item"}


def as_0_2_0(file: Path, *tables: MetaData) -> None:
    """As that release left it: its tables, its format, no record."""
    with on(file) as connection:
        for branch in migrations.branches(*tables):
            first = Branch(branch.name, branch.tables, only_first(file.parent, branch))
            migrations.run(connection, [first])
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("DROP TABLE release"))


def only_first(where: Path, branch: Branch) -> Path:
    folder = where / f"first-{branch.name}"
    folder.mkdir(exist_ok=True)
    source = next(branch.folder.glob("0001*.py"))
    (folder / source.name).write_bytes(source.read_bytes())
    return folder


PUT = "INSERT INTO mark (name, value) VALUES ('kept', 'as it was')"


def test_a_file_of_0_2_0_is_adopted_by_its_record_alone(tmp_path: Path) -> None:
    file = tmp_path / "hookup.db"
    as_0_2_0(file, delivery, hookup)
    with closing(sqlite3.connect(file)) as old:
        old.execute(PUT)
        old.commit()
        before = dict(old.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    inode = file.stat().st_ino
    SqliteStore(file, read_only=True).close()
    with closing(sqlite3.connect(file)) as looked:
        assert "release" not in dict(looked.execute("SELECT name, rootpage FROM sqlite_master"))
    with on(file) as connection:
        assert migrations.create(connection, [delivery, hookup]) == ["has delivery_0001", "has hookup_0001"]
    with closing(sqlite3.connect(file)) as adopted:
        after = dict(adopted.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
        assert after.items() >= before.items()  # no table was written anew
        assert adopted.execute("SELECT value FROM mark WHERE name = 'kept'").fetchone() == ("as it was",)
    assert file.stat().st_ino == inode
    assert release(file) == ("0.2.0", "0.2.0")


def test_a_file_of_0_2_0_is_upgraded_like_any(tmp_path: Path) -> None:
    opens = partial(on, tmp_path / "s.db")
    as_0_2_0(tmp_path / "s.db", shop(tmp_path, 1).tables)
    put(opens, 1, 1)
    with opens() as connection:
        assert migrations.upgrade(connection, [shop(tmp_path, 2)], CODE[2]) == ["has shop_0001", "ran shop_0002"]
    assert read(opens, 2) == {1: "item 1"}


SUSPENDED = """INSERT INTO case_ (subject, work, operator, business_kind, phase, id, utility, requested, confirmed, round, content,
data, opened, asked) VALUES ('p', '', 'jm-water', 'NEW', 1, :id, 'WATER', :requested, 0, 1, '', '{}', 5, 7)"""


def test_a_folder_of_0_2_0_is_brought_to_today_by_one_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for stem in (
        "log",
        "hookup",
        "timeline",
        "engineering",
        "platform-engineering",
        "utility-jm-water",
        "feed-permits",
    ):
        as_0_2_0(tmp_path / f"{stem}.db", *db.tables(program_of(Path(stem))))
    with on(tmp_path / "hookup.db") as connection:
        connection.execute(text(SUSPENDED), {"id": "rests", "requested": "SUSPENDED"})
        connection.execute(text(SUSPENDED.replace("'NEW'", "'OLD'")), {"id": "goes on", "requested": "OPEN"})
    assert run(["db", "check", "--data", str(tmp_path)]) == 1
    assert run(["db", "upgrade", "--data", str(tmp_path)]) == 0
    assert run(["db", "check", "--data", str(tmp_path)]) == 0
    said = capfd.readouterr().out
    assert "hookup\thas delivery_0001, has hookup_0001, ran hookup_0002" in said
    SqliteStore(tmp_path / "hookup.db", delivery, hookup).close()
    with on(tmp_path / "hookup.db") as connection:
        assert connection.execute(text("SELECT case_id, since, until FROM rest")).all() == [("rests", 7, None)]
        assert connection.scalar(text("SELECT count(*) FROM case_")) == 2


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_0_1_0_is_refused_as_before(tmp_path: Path, read_only: bool) -> None:
    with closing(sqlite3.connect(tmp_path / "hookup.db")) as old:
        old.execute("CREATE TABLE outbox (n INTEGER)")
        old.execute("PRAGMA user_version = 1")
    with pytest.raises(UsageError, match=r"written by an older Jietong \(format 1, this one has 2\)"):
        SqliteStore(tmp_path / "hookup.db", delivery, hookup, read_only=read_only)
    with on_raw(tmp_path / "hookup.db") as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


@contextmanager
def on_raw(file: Path) -> Generator[sqlite3.Connection]:
    with closing(connected(file)) as raw:
        yield raw


# -- killed in between -------------------------------------------------------------------------------------------------------
KILLED = """
import sys
from pathlib import Path
from sqlalchemy import MetaData
from jietong import migrations
from jietong.adapters.sqlite import changing
folder = Path(sys.argv[1])
with changing(Path(sys.argv[2])) as connection:
    migrations.upgrade(connection, [migrations.Branch("shop", MetaData(), folder)], "9.9.9")
"""


@pytest.mark.parametrize("n", [2, 3])
def test_an_upgrade_that_is_killed_in_the_middle_never_was(tmp_path: Path, n: int) -> None:
    file = tmp_path / "s.db"
    opens = partial(on, file)
    with opens() as connection:
        migrations.upgrade(connection, [shop(tmp_path, n - 1)], CODE[n - 1])
    put(opens, 1, n - 1)
    dying = shop(tmp_path, n, dies=True)
    assert DIES in (dying.folder / f"{n:04}.py").read_text("utf-8")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(dying.folder), str(file)], check=False, timeout=60)
    assert ended.returncode == -9
    with opens() as connection:
        assert difference(connection, shop(tmp_path, n - 1).tables) == ""
    assert release(file)[0] == CODE[n - 1]
    assert read(opens, n - 1) == {1: "item 1"}
    with opens() as connection:
        assert migrations.upgrade(connection, [shop(tmp_path, n)], CODE[n]) == [f"ran shop_{n:04}"]
        assert difference(connection, shop(tmp_path, n).tables) == ""
    assert read(opens, n) == {1: "item 1"}


# -- the command -------------------------------------------------------------------------------------------------------------
class Office:
    """A folder with a hookup of an older release, and a newer program."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.data, self._capfd = folder / "data", capfd
        self.data.mkdir()
        self.shops = {n: shop(folder, n) for n in CODE}
        SqliteStore(self.data / "shop.db", self.shops[1].tables).close()
        SqliteStore(self.data / "utility-jm-water.db", delivery).close()
        put(partial(on, self.data / "shop.db"), 1, 1)
        known = db.tables

        def tables(store: str) -> list[MetaData]:
            return [self.shops[2].tables] if store == "shop" else known(store)

        patch.setattr(db, "tables", tables)

    def says(self, *words: str) -> tuple[int, str, str]:
        self._capfd.readouterr()
        code = run(["db", *words, "--data", str(self.data)])
        said = self._capfd.readouterr()
        return code, said.out, said.err


@pytest.fixture
def office(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(tmp_path, capfd, monkeypatch)


def test_check_says_of_every_store_what_to_do(office: Office) -> None:
    code, out, _ = office.says("check")
    assert code == 1
    assert [line.split("\t")[:4] for line in out.splitlines()] == [
        ["store", "version", "head", "min_code"],
        ["shop", "0.2.0", "0.3.0", "0.2.0"],
        ["utility:jm-water", HEAD.release, HEAD.release, HEAD.min_code],
    ]
    assert "jietong db upgrade" in out.splitlines()[1]
    assert out.splitlines()[2].endswith("\tnothing")


def test_upgrade_rehearsed_prints_its_sql_and_changes_nothing(office: Office) -> None:
    code, out, err = office.says("upgrade", "--dry-run")
    assert (code, "ALTER TABLE item ADD COLUMN title TEXT;" in out) == (0, True)
    assert "jietong backup" in err
    assert "-- utility:jm-water: nothing" in out
    assert office.says("check")[0] == 1


def test_upgrade_brings_every_store_to_its_head_and_can_be_repeated(office: Office) -> None:
    code, out, err = office.says("upgrade")
    assert (code, "shop\tran shop_0002" in out, "jietong backup" in err) == (0, True, True)
    assert read(partial(on, office.data / "shop.db"), 2) == {1: "item 1"}
    assert office.says("check")[0] == 0
    code, out, err = office.says("upgrade")
    assert (code, "shop\tnothing" in out, err) == (0, True, "")


def test_upgrade_of_one_store_leaves_the_others(office: Office) -> None:
    assert "ran" not in office.says("upgrade", "--store", "utility:jm-water")[1]
    assert office.says("check")[0] == 1
    code, _, err = office.says("upgrade", "--store", "nobody")
    assert (code, "no store nobody here" in err) == (2, True)


def test_upgrade_is_refused_while_a_city_runs_there(office: Office) -> None:
    lock = db.Lock(office.data / "log.lock")
    assert lock.take()
    code, _, err = office.says("upgrade")
    lock.release()
    assert (code, "is running on this data; stop it first" in err) == (2, True)
    assert office.says("check")[0] == 1


def test_upgrade_touches_nothing_if_one_store_needs_a_newer_program(office: Office) -> None:
    with on(office.data / "utility-jm-water.db") as connection:
        connection.execute(text("UPDATE release SET version = '9.0.0', min_code = '8.0.0'"))
    code, _, err = office.says("upgrade")
    assert (code, "upgrade this program to Jietong 8.0.0 or newer" in err) == (2, True)
    assert len(err.splitlines()) == 1
    with on(office.data / "shop.db") as connection:
        assert difference(connection, office.shops[1].tables) == ""
    with pytest.raises(UsageError, match=r"8\.0\.0"):  # and every command that opens it says so
        SqliteStore(office.data / "utility-jm-water.db", read_only=True)
