"""`jietong city …`: what differs from city to city, as data. Check a pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jietong import catalog, city

app = typer.Typer(no_args_is_help=True, help="City packs: check them.")

PackName = Annotated[str | None, typer.Argument(metavar="[NAME|PATH]", help="A pack's name or folder; default: each.")]
Cities = Annotated[Path | None, typer.Option("--cities", help="Folder that holds the packs.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


@app.callback()
def packs() -> None:
    """City packs: check them."""


@app.command()
def check(name: PackName = None, cities: Cities = None, as_json: AsJson = False) -> None:
    """Name every broken rule with its file, line and key. Exit code 1 if there is one; warnings alone are 0."""
    known = catalog.load()
    names = [name] if name is not None else city.names(cities)
    found = [refusal for pack in names for refusal in city.check(pack, known, cities)]
    wrong = sum(not refusal.warning for refusal in found)
    if as_json:
        print(json.dumps({"packs": names, "refusals": [r._asdict() for r in found]}, ensure_ascii=False))
    else:
        for refusal in found:
            print(f"{'warning: ' if refusal.warning else ''}{refusal}")
        print(f"{', '.join(names)}: {f'{wrong} rules broken' if wrong else 'keeps every rule'}")
    raise typer.Exit(1 if wrong else 0)
