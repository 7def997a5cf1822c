"""`jietong schema …`: the contracts as data. Check them, number them, freeze them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jietong import compatibility

app = typer.Typer(no_args_is_help=True, help="The contracts as data: check them, number them, freeze them.")

Schemas = Annotated[Path | None, typer.Option("--schemas", help="Another schemas folder than the installed one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


@app.command()
def check(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Name every broken rule with its file and field. Exit code 1 if there is one."""
    refusals = compatibility.check(schemas)
    if as_json:
        print(json.dumps({"refusals": [asdict(refusal) for refusal in refusals]}, ensure_ascii=False))
    else:
        for refusal in refusals:
            print(refusal)
        print(f"{len(refusals)} rules broken" if refusals else "the contracts keep every rule")
    raise typer.Exit(1 if refusals else 0)


@app.command()
def register(schemas: Schemas = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Give each new or changed schema its id in ids.yaml. What is frozen keeps its own."""
    _write(compatibility.register(schemas), schemas, dry_run, as_json)


@app.command()
def freeze(release: str, schemas: Schemas = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Freeze what is no draft as RELEASE (such as 0.1.0): mark it, and keep the bytes of its example for ever."""
    _write(compatibility.freeze(release, schemas), schemas, dry_run, as_json)


def _write(changes: Mapping[str, bytes], schemas: Path | None, dry_run: bool, as_json: bool) -> None:
    if not dry_run:
        compatibility.write(changes, schemas)
    if as_json:
        print(json.dumps({"dry_run": dry_run, "files": sorted(changes)}))
        return
    for name in sorted(changes):
        print(f"{'would write' if dry_run else 'wrote'} {name}")
    if not changes:
        print("nothing to write")
