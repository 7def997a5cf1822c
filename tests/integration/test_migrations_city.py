"""The same tables on a real PostgreSQL: a schema a store, upgraded wholly or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, MetaData, text

from jietong import catalog, city, migrations
from jietong.adapters import postgres as postgres_adapter
from jietong.adapters.embedded import log_tables
from jietong.cli import db
from jietong.cli.app import run
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.migrations import Branch
from simulation.servers import postgres
from simulation.servers.software import postgres_programs
from tests.unit.releases import CODE, difference, put, read, shop

pytestmark = pytest.mark.city

TABLES = [delivery, log_tables, *(db.tables(name)[-1] for name in (*db.OWN, "platform-jm-water"))]
BRANCHES = migrations.branches(*TABLES)
Says = Callable[..., tuple[int, str, str]]
STORE = "utility:jm-water"
"""A name that must be quoted."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    if postgres_programs() is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("PostgreSQL 15 or newer is not installed")
    running = postgres(tmp_path_factory.mktemp("postgres"))
    yield running.url
    running.stop()


@pytest.fixture
def url(server: str) -> str:
    """A database without schemas of ours."""
    with psycopg.connect(server, autocommit=True) as session:
        found = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'"
        for (name,) in session.execute(found).fetchall():
            session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
    return server


def on(url: str, schema: str = STORE) -> Callable[[], AbstractContextManager[Connection]]:
    return lambda: migrations.in_schema(lambda: psycopg.connect(url), schema)


def make(url: str, *schemas: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        for schema in schemas:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def indexes(connection: Connection, schema: str) -> list[str]:
    found = text("SELECT indexdef FROM pg_indexes WHERE schemaname = :schema")
    rows = connection.execute(found, {"schema": schema})
    return sorted(row[0].replace(f'"{schema}".', "").replace(f"{schema}.", "") for row in rows)


@pytest.mark.parametrize("branch", BRANCHES, ids=[branch.name for branch in BRANCHES])
def test_the_revisions_from_nothing_make_the_tables_as_they_are_declared(url: str, branch: Branch) -> None:
    declared = MetaData()
    make(url, "declared", "ran")
    with on(url, "declared")() as connection:
        branch.tables.create_all(connection)
        wanted = indexes(connection, "declared")
        declared.reflect(connection)  # as PostgreSQL has them: what is declared without quotes is in lower case
    with on(url, "ran")() as connection:
        migrations.run(connection, [branch])
        missing = difference(connection, declared)
        assert not missing, f"tables of {branch.name} have changed; a new revision has to do this:\n    {missing}"
        record = {"alembic_version", "release"}
        assert [
            index for index in indexes(connection, "ran") if index.split(" ON ")[1].split()[0] not in record
        ] == wanted


def test_old_and_new_code_run_side_by_side_between_expand_and_contract(url: str, tmp_path: Path) -> None:
    opens = on(url)
    old, expanded, contracted = (shop(tmp_path, n) for n in (1, 2, 3))

    def may_run(branch: Branch, code: str) -> bool:
        with opens() as connection:
            return migrations.standing(connection, [branch], code).wrong is None

    with opens() as connection:
        migrations.upgrade(connection, [old], CODE[1])
    put(opens, 1, 1)
    assert not may_run(expanded, CODE[2])
    with opens() as connection:
        assert migrations.upgrade(connection, [expanded], CODE[2]) == ["ran shop_0002"]
    assert may_run(old, CODE[1])
    assert may_run(expanded, CODE[2])
    put(opens, 2, 1)
    put(opens, 3, 2)
    assert read(opens, 1) == read(opens, 2) == {1: "item 1", 2: "item 2", 3: "item 3"}
    with opens() as connection:
        connection.execute(text("UPDATE item SET title = name WHERE title IS NULL"))
        assert migrations.upgrade(connection, [contracted], CODE[3]) == ["ran shop_0003"]
    assert not may_run(old, CODE[1])
    assert may_run(expanded, CODE[2])
    with opens() as connection, pytest.raises(UsageError, match=r"upgrade this program to Jietong 0\.3\.0 or newer"):
        migrations.verify(connection, [old], CODE[1])
    assert read(opens, 3) == {1: "item 1", 2: "item 2", 3: "item 3"}


KILLED = """
import sys
from pathlib import Path
import psycopg
from sqlalchemy import MetaData
from jietong import migrations
url, schema, folder = sys.argv[1:]
with migrations.in_schema(lambda: psycopg.connect(url), schema) as connection:
    migrations.upgrade(connection, [migrations.Branch("shop", MetaData(), Path(folder))], "9.9.9")
"""


@pytest.mark.parametrize("n", [2, 3])
def test_an_upgrade_that_is_killed_in_the_middle_never_was(url: str, tmp_path: Path, n: int) -> None:
    opens = on(url)
    with opens() as connection:
        migrations.upgrade(connection, [shop(tmp_path, n - 1)], CODE[n - 1])
    put(opens, 1, n - 1)
    dying = shop(tmp_path, n, dies=True)
    ended = subprocess.run([sys.executable, "-c", KILLED, url, STORE, str(dying.folder)], check=False, timeout=60)
    assert ended.returncode == -9
    with opens() as connection:
        assert difference(connection, shop(tmp_path, n - 1).tables) == ""
        assert connection.scalar(text("SELECT version FROM release")) == CODE[n - 1]
    with opens() as connection:
        assert migrations.upgrade(connection, [shop(tmp_path, n)], CODE[n]) == [f"ran shop_{n:04}"]
        assert difference(connection, shop(tmp_path, n).tables) == ""
    assert read(opens, n) == {1: "item 1"}


def test_a_program_that_finds_no_tables_says_the_command(url: str) -> None:
    with migrations.in_schema(lambda: psycopg.connect(url), STORE) as connection, pytest.raises(UsageError) as caught:
        migrations.verify(connection, migrations.branches(delivery))
    assert str(caught.value) == "utility:jm-water: it has no tables yet; run `jietong db upgrade`"


def test_a_table_of_somebody_else_is_refused_and_left(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("CREATE SCHEMA shop; CREATE TABLE shop.item (of_theirs integer)")
    with (
        pytest.raises(UsageError, match="shop: holds a table item that Jietong did not make"),
        on(url, "shop")() as connection,
    ):
        migrations.upgrade(connection, [shop(tmp_path, 1)], CODE[1])
    with psycopg.connect(url) as session:
        tables = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'").fetchall()
        assert tables == [("item",)]


def test_two_upgrades_at_once_do_it_once(url: str, tmp_path: Path) -> None:
    with on(url)() as connection:
        migrations.upgrade(connection, [shop(tmp_path, 1)], CODE[1])
    begin, done, newer = threading.Barrier(4), list[list[str]](), shop(tmp_path, 2)

    def one() -> None:
        begin.wait()
        with on(url)() as connection:
            done.append(migrations.upgrade(connection, [newer], CODE[2]))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [[], [], [], ["ran shop_0002"]]


# -- the command -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def says(url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    monkeypatch.setenv("JIETONG_ENGINE", "city")
    monkeypatch.setenv("JIETONG_CITY", "odp")  # few operators
    monkeypatch.setenv("JIETONG_DATABASE_URL", url)

    def say(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(["db", *words])
        said = capfd.readouterr()
        return code, said.out, said.err

    return say


def schemas(url: str) -> list[str]:
    found = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)' ORDER BY nspname"
    with psycopg.connect(url) as session:
        return sorted(row[0] for row in session.execute(found).fetchall())


def test_upgrade_makes_a_schema_for_every_store_of_the_city(url: str, says: Says) -> None:
    stores = db.stores(city.load("odp", catalog.load()))
    assert len(stores) > len(db.OWN)
    code, out, _ = says("check")
    assert (code, out.count("it has no tables yet; run `jietong db upgrade`")) == (1, len(stores))
    code, out, _ = says("upgrade", "--dry-run", "--store", stores[-1])
    assert (code, f'CREATE SCHEMA "{stores[-1]}"' in out, "CREATE TABLE outbox" in out) == (0, True, True)
    assert schemas(url) == []
    assert says("upgrade")[0] == 0
    assert schemas(url) == stores
    assert says("check")[0] == 0
    code, out, err = says("upgrade")
    assert (code, out.count("\tnothing"), err) == (0, len(stores), "")


def test_a_program_opens_its_store_once_it_is_made(url: str, says: Says) -> None:
    database = postgres_adapter.Database(url)
    try:
        with pytest.raises(UsageError, match="feed:permits: it has no tables yet; run `jietong db upgrade`"):
            postgres_adapter.PostgresStore(database, "feed:permits", delivery)
        assert says("upgrade", "--store", "feed:permits")[0] == 0
        postgres_adapter.PostgresStore(database, "feed:permits", delivery).close()
    finally:
        database.close()


def test_the_schema_of_a_feed_is_made_when_it_is_named_and_seen_from_then_on(url: str, says: Says) -> None:
    code, _, err = says("upgrade", "--store", "nobody")
    assert (code, "no store nobody in this city" in err) == (2, True)
    assert says("upgrade", "--store", "feed:permits")[0] == 0
    assert schemas(url) == ["feed:permits"]
    assert "feed:permits\t0.3.0" in says("check")[1]


def test_tables_that_are_in_use_end_the_upgrade_in_a_line(
    url: str, says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on(url, "feed:shop")() as connection:
        migrations.upgrade(connection, [shop(tmp_path, 1)], CODE[1])
    newer = shop(tmp_path, 2).tables

    def tables(_store: str) -> list[MetaData]:
        return [newer]

    monkeypatch.setattr(db, "tables", tables)
    monkeypatch.setattr(postgres_adapter, "LIMITS", "SET lock_timeout = '200ms'")
    with on(url, "feed:shop")() as reader:
        reader.execute(text("SELECT * FROM item"))
        code, _, err = says("upgrade", "--store", "feed:shop")
    assert code == 2
    assert "feed:shop: canceling statement due to lock timeout; nothing was changed in it" in err
    assert says("upgrade", "--store", "feed:shop")[0] == 0


def test_a_login_that_may_not_make_schemas_is_told_so(url: str, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = url.replace("jietong@", "postgres@")
    with psycopg.connect(admin, autocommit=True) as session:
        session.execute("DROP ROLE IF EXISTS guest")
        session.execute("CREATE ROLE guest LOGIN")
    monkeypatch.setenv("JIETONG_DATABASE_URL", url.replace("jietong@", "guest@"))
    code, _, err = says("upgrade", "--store", "hookup")
    assert (code, err) == (2, "jietong: hookup: permission denied for database jietong; nothing was changed in it\n")


def test_an_address_where_no_database_is_is_said_in_a_line(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "PATIENCE", 0.1)
    monkeypatch.setenv("JIETONG_DATABASE_URL", "postgresql://jietong:secret@127.0.0.1:1/jietong")
    code, _, err = says("check")
    assert (code, len(err.splitlines()), "secret" in err) == (2, 1, False)
