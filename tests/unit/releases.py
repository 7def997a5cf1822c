"""Three releases of a shop's tables: 0.2.0; 0.3.0 says `title` where `name` was and keeps both (expand); 0.4.0 drops `name`
(contract)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, text

from jietong.migrations import Branch
from jietong.migrations.record import record

Opens = Callable[[], AbstractContextManager[Connection]]
"""A transaction on the store."""
CODE = {1: "0.2.0", 2: "0.3.0", 3: "0.4.0"}
REVISION = """
import os, signal, sqlalchemy as sa
revision, down_revision, branch_labels = "shop_{n:04}", {down!r}, {label!r}
release, min_code = {release!r}, {min_code!r}
def upgrade(op):
    {does}
"""
MAKE = 'op.create_table("item", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.Text()))'
EXPAND = 'op.add_column("item", sa.Column("title", sa.Text())); op.execute("UPDATE item SET title = name")'
CONTRACT = """with op.batch_alter_table("item") as item:
        item.drop_column("name")"""
MIN_CODE = {1: "0.2.0", 2: "0.2.0", 3: "0.3.0"}
DOES = {1: MAKE, 2: EXPAND, 3: CONTRACT}
COLUMNS = {1: ("name",), 2: ("name", "title"), 3: ("title",)}
DIES = "; os.kill(os.getpid(), signal.SIGKILL)"


def shop(folder: Path, n: int, dies: bool = False) -> Branch:
    """The branch as release `n` has it; with `dies` the process ends in the middle of its newest revision."""
    own = folder / f"shop-{n}{'-dies' if dies else ''}"
    own.mkdir(exist_ok=True)
    for k in range(1, n + 1):
        does = DOES[k] + (DIES if dies and k == n else "")
        written = REVISION.format(n=k, down=f"shop_{k - 1:04}" if k > 1 else None, label=("shop",) if k == 1 else None,
                                  release=CODE[k], min_code=MIN_CODE[k], does=does)  # fmt: skip
        (own / f"{k:04}.py").write_text(written, "utf-8")
    tables = MetaData(info={"branch": "shop", "revisions": own})
    Table("item", tables, Column("id", Integer, primary_key=True), *(Column(name, Text) for name in COLUMNS[n]))
    return Branch("shop", tables, own)


def put(opens: Opens, id: int, n: int) -> None:
    """What the code of release `n` writes: the newer one both columns, as long as the old one may read."""
    columns = COLUMNS[n]
    with opens() as connection:
        connection.execute(
            text(f"INSERT INTO item (id, {', '.join(columns)}) VALUES (:id, {', '.join([':text'] * len(columns))})"),
            {"id": id, "text": f"item {id}"},
        )


def read(opens: Opens, n: int) -> dict[int, str]:
    """What the code of release `n` reads. What an old one wrote has only its column."""
    shown = {1: "name", 2: "coalesce(title, name)", 3: "title"}[n]
    with opens() as connection:
        return {row[0]: row[1] for row in connection.execute(text(f"SELECT id, {shown} FROM item ORDER BY id"))}


def difference(connection: Connection, tables: MetaData) -> str:
    """What a revision would have to do for the store to have these tables, in Alembic's words; "" if it has them."""

    def ours(_item: object, name: str | None, *_: object) -> bool:
        return name not in record.tables

    compare = {"compare_type": True, "compare_server_default": True, "include_object": ours}
    seen = MigrationContext.configure(connection, opts=compare)
    operations = produce_migrations(seen, tables).upgrade_ops
    return "" if not operations or operations.is_empty() else render_python_code(operations)
