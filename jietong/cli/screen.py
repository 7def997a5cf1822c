"""What a command prints: a table on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
LOCAL = ZoneInfo("Asia/Shanghai")
"""UTC on the wire, the city's own time on the screen."""


def emit(value: object) -> None:
    """One line of JSON: times as ISO 8601 in UTC, decimals as text, bytes as base64."""
    print(json.dumps(value, ensure_ascii=False, default=_plain))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their columns; None is an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (columns, *cells):
            print("\t".join(line))
        return
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)


def records(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, none: str) -> None:
    """The same rows either way; `none` is what to say if there are no rows."""
    if as_json:
        emit(rows)
    elif rows:
        table(columns, ([row[column] for column in columns] for row in rows))
    else:
        print(none)


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar on a terminal."""
    return track(items, what, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def moment(millis: int | None) -> datetime | None:
    """A time of our tables, aware."""
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_cell, cast("list[object]", value)))
    text = value.astimezone(LOCAL).strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)
    return "".join(c if c.isprintable() else " " for c in text)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
