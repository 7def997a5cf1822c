"""`jietong figures`: what a window of days came to, by division, operator or type. docs/figures.md defines each figure."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from jietong import city, settings
from jietong.cli import screen
from jietong.cli.folder import Folder, has_table, module, now
from jietong.cli.leads import defused
from jietong.cli.options import AsJson, CityPack, Data
from jietong.errors import UsageError

COLUMNS = ("figure", "group", "value", "unit", "n", "left_out", "provisional")
DAY = ["%Y-%m-%d"]


class By(StrEnum):
    """What the figures are grouped by."""

    DIVISION = "division"
    OPERATOR = "operator"
    TYPE = "type"


First = Annotated[datetime, typer.Option("--from", formats=DAY, help="The first day, as 2026-03-01.")]
Last = Annotated[datetime, typer.Option("--to", formats=DAY, help="The last day, itself included.")]
Grouped = Annotated[By, typer.Option("--by", help="Groups beside the total; a type is a utility and a business kind.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV, one row a figure and group, instead of a table.")]


def figures(
    first: First, last: Last, by: Grouped = By.DIVISION, as_csv: AsCsv = False, data: Data = None, pack: CityPack = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """The city's figures for these days: durations, shares in time, whose time it was, fields, permits, breaches, absences."""
    if as_csv and as_json:
        raise UsageError("--csv and --json: choose one")
    folder = Folder(data)
    of_hookup = module("services.hookup.figures")
    window = of_hookup.Window(first.date(), last.date(), by.value, now())
    store = folder.program("hookup")
    known = city.load(settings.load(city=pack).city, folder.contract.catalog)
    with store.snapshot() as tx:
        if not has_table(tx, "breach"):
            raise UsageError(f"{folder.name}: hookup has not run here yet")
        found: Sequence[Any] = of_hookup.figures(tx, known, folder.contract, window)
    provisional: bool = of_hookup.provisional(known, window)
    rows = [{**asdict(figure), "provisional": provisional} for figure in found]
    if as_json:
        screen.emit({
            "from": window.first, "to": window.last, "by": by.value, "zone": known.working.zone, "as_of": screen.moment(window.now),
            "provisional": provisional, "figures": _nested(rows),
        })  # fmt: skip
    elif as_csv:
        _csv(rows)
    else:
        screen.table(COLUMNS[:-1], ([_short(row[name]) for name in COLUMNS[:-1]] for row in rows))
        if provisional:
            print("provisional: a day of these is one whose calendar is not published yet")


def _nested(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figure → its unit, its total, its groups."""
    nested: dict[str, Any] = {}
    for row in rows:
        said = {name: row[name] for name in ("value", "n", "left_out")}
        if row["group"] == "total":
            nested[row["figure"]] = {"unit": row["unit"], "total": said, "groups": {}}
        else:
            nested[row["figure"]]["groups"][row["group"]] = said
    return nested


def _csv(rows: Sequence[dict[str, Any]]) -> None:
    lines = csv.writer(sys.stdout, lineterminator="\r\n")
    lines.writerow(COLUMNS)
    lines.writerows([_exact(row[name]) for name in COLUMNS] for row in rows)


def _exact(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else defused(value)


def _short(value: object) -> object:
    """For a screen: three decimals."""
    return round(value, 3) if isinstance(value, float) else value
