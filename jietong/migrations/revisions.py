"""Alembic, and the only file that knows it: runs revisions on a connection.

Each branch is one of Alembic's own branches, in a folder of its own. A revision's `upgrade(op)` is handed its operations, so
that nothing is global and a revision needs no import of Alembic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def run(connection: Connection, folders: Sequence[Path]) -> list[str]:
    """Run what the store lacks of the revisions in these folders; returns their ids in the order they ran."""
    script = ScriptDirectory(str(Path(__file__).parent), version_locations=[str(folder) for folder in folders])
    known = {revision.revision for revision in script.walk_revisions()}
    done: list[str] = []

    def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterable[Any]:
        """Branches of the store that are not ours to run now stay as they are."""
        ours: Any = tuple(known.intersection(heads))
        for step in script._upgrade_revs("heads", ours):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] — as `alembic upgrade` does
            yield step
            done.append(step.revision.revision)

    context = MigrationContext.configure(connection, opts={"fn": steps})
    context.run_migrations(op=Operations(context))
    return done
