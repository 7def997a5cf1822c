"""`jietong impact DOCUMENT`: who received an approval, who acted on it, and what would be suspended if it fell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from jietong import city, settings
from jietong.cli import screen
from jietong.cli.folder import Folder, has_table, module, now
from jietong.cli.options import AsJson, CityPack, Data
from jietong.errors import UsageError

COLUMNS = ("operator", "business_kind", "work", "received", "reached", "acted", "says", "why")
REACHED = "SELECT count(*) FROM inbox WHERE type = 'utility.connection.requested.v1' AND subject = :subject AND fate = 'applied'"


def impact(
    document: Annotated[str, typer.Argument(help="Number of the approval's document, as the platform has it.")],
    data: Data = None,
    pack: CityPack = None,
    as_json: AsJson = False,
) -> None:
    """Preview, before an approval is withdrawn or revoked: nothing is changed. Exit code 1 if no standing one has that number."""
    folder = Folder(data)
    store = folder.program("hookup")
    known = city.load(settings.load(city=pack).city, folder.contract.catalog)
    service = module("services.hookup.hookup").Hookup(known, now)
    with store.snapshot() as tx:
        if not has_table(tx, "support"):
            raise UsageError(f"{folder.name}: hookup has not run here yet")
        found = [asdict(effect) for effect in module("services.hookup.impact").impact(tx, service, document)]
    rows = [{**row, "reached": _reached(folder, row)} for row in found]
    counts = {word: sum(row["says"] == word for row in rows) for word in ("SUSPENDED", "CANCELLED")}
    if as_json:
        screen.emit(
            {"document": document, "cases": rows, "suspended": counts["SUSPENDED"], "cancelled": counts["CANCELLED"]}
        )
    elif rows:
        for subject in sorted({row["subject"] for row in rows}):
            print(subject)
            mine = [row for row in rows if row["subject"] == subject]
            screen.table(list(COLUMNS), ([row[name] for name in COLUMNS] for row in mine))
        print(f"{counts['SUSPENDED']} suspended, {counts['CANCELLED']} cancelled; the rest stands")
    else:
        print(f"{document}: no standing approval has this number, or it opened no case")
    raise typer.Exit(0 if rows else 1)


def _reached(folder: Folder, row: Mapping[str, Any]) -> bool:
    """Whether the operator's own connector has taken a message of this subject."""
    store = folder.programs.get(f"utility:{row['operator']}")
    if store is None:
        return False
    with store.snapshot() as tx:
        [[count]] = tx.execute(REACHED, {"subject": row["subject"]}).all()
    return count > 0
