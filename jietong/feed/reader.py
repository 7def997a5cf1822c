"""Rows of a file, bounded: no line, field or file of someone else's takes this machine's memory."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, cast

from jietong.errors import UsageError
from jietong.feed import workbook
from jietong.feed.cells import Cell, CellError
from jietong.feed.mapping import Mapping

MAX_LINE, MAX_FIELD, MAX_COLUMNS, MAX_JSON = 1024 * 1024, 128 * 1024, 10_000, 256 * 1024 * 1024
NESTED = "an object or nested list where a value is expected"


@dataclass(frozen=True, slots=True)
class Row:
    """A row's mapped cells. `number` is what a spreadsheet shows: a CSV's header is row 1; a JSON's first row is 1.
    `section`: the sheet of a workbook or the document of a folder that it is in."""

    number: int
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])
    fault: CellError | None = None
    section: str = ""


def rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    """Raises UsageError if the file is missing, unreadable, in another encoding or format, or lacks a mapped column."""
    try:
        yield from _kind(path, mapping)(path, mapping)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        at = broken_at(path, mapping.encoding)
        raise UsageError(f"{path}: byte {at} is not {mapping.encoding}; set the mapping's encoding") from error


def _kind(path: Path, mapping: Mapping) -> Callable[[Path, Mapping], Iterator[Row]]:
    if mapping.format == "documents":
        return _documents
    if not workbook.is_one(path):
        return _json_rows if mapping.format == "json" else _csv_rows
    if mapping.workbook is None:
        raise UsageError(f"{path}: a workbook; give the mapping a `workbook`, which says where its rows are")
    return _sheet_rows


def broken_at(path: Path, encoding: str) -> int:
    """Where, from 0, a file's first bytes stand that its encoding does not allow; its size if there are none."""
    decoder, done = codecs.getincrementaldecoder(encoding)(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(64 * 1024):
            done += len(chunk)
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:  # what it was decoding ends with the chunk, and may begin before it
                return done - len(error.object) + error.start
    return done - len(decoder.getstate()[0])


def collapsed(text: str) -> str:
    """Each run of whitespace (line breaks in a cell, tabs, 全角空格) is one space, none at the ends."""
    return " ".join(text.split())


# -- CSV -------------------------------------------------------------------------------------------------------------
def _csv_rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    with path.open(encoding=mapping.encoding, newline="") as stream:
        found = records(path, stream, mapping.delimiter)
        header = [collapsed(name) for name in next(found, list[str]())]
        if not header:
            raise UsageError(f"{path}: empty: a first line with the columns' names is expected")
        places = _places(str(path), mapping, header, "is its encoding, delimiter or header another one?")
        for number, record in enumerate(found, 2):
            if not record:
                continue
            if len(record) != len(header):
                yield Row(number, fault=CellError(f"{len(record)} cells, where the header has {len(header)}"))
            else:
                yield Row(number, {name: _first(collapsed(record[n]) for n in at) for name, at in places.items()})


def records(path: Path, stream: TextIO, delimiter: str) -> Iterator[list[str]]:
    """The records of a CSV. Raises UsageError at a line or field too long, and at what is no CSV."""
    lines, previous = _Lines(path, stream), csv.field_size_limit(MAX_FIELD)
    try:
        for record in csv.reader(lines, delimiter=delimiter):
            if len(record) > MAX_COLUMNS:
                raise UsageError(f"{path}: line {lines.number}: more than {MAX_COLUMNS} columns")
            yield record
    except csv.Error as error:
        hint = "is a quote left open, or the delimiter another one?"
        raise UsageError(f"{path}: line {lines.number}: not CSV: {error}; {hint}") from error
    finally:
        csv.field_size_limit(previous)


class _Lines:
    """A file's lines, none longer than MAX_LINE; `number` is the last one's, from 1."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self.path, self.stream, self.number = path, stream, 0

    def __iter__(self) -> Iterator[str]:
        while line := self.stream.readline(MAX_LINE + 1):
            self.number += 1
            if len(line) > MAX_LINE:
                raise UsageError(f"{self.path}: line {self.number}: longer than {MAX_LINE} characters")
            yield line


# -- XLSX ------------------------------------------------------------------------------------------------------------
def _sheet_rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    """Every sheet's header is looked at before the first row is told. An empty row is one if another follows it."""
    where = mapping.workbook
    assert where is not None  # noqa: S101 — else the file is not read as a workbook
    with workbook.opened(path) as book:
        places: dict[str, dict[str, list[int]]] = {}
        for sheet in workbook.chosen(path, book, where.sheets):
            header = [collapsed(str(name)) for name in workbook.row(path, book, sheet, where.header)]
            hint = f"is the header another row than {where.header}? `workbook: {{header: …}}` says which"
            places[sheet] = _places(f"{path}: sheet {sheet}", mapping, header, hint)
        for sheet, at in places.items():
            blank = where.header + 1
            for number, found in workbook.rows(path, book, sheet, where.header + 1):
                yield from (Row(n, dict.fromkeys(at, ""), section=sheet) for n in range(blank, number))
                yield _sheet_row(number, found, at, sheet)
                blank = number + 1


def _sheet_row(number: int, found: Sequence[Cell | CellError], places: dict[str, list[int]], sheet: str) -> Row:
    got: dict[str, Cell] = {}
    for name, at in places.items():
        cells = [found[n] for n in at if n < len(found)]
        if fault := next((cell for cell in cells if isinstance(cell, CellError)), None):
            return Row(number, fault=CellError(fault.reason, name), section=sheet)
        got[name] = _first(
            collapsed(cell) if isinstance(cell, str) else cell for cell in cells if not isinstance(cell, CellError)
        )
    return Row(number, got, section=sheet)


# -- JSON ------------------------------------------------------------------------------------------------------------
def _json_rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    content = document(path, mapping.encoding)
    found = _at(path, content, mapping.rows, "rows")
    header = [collapsed(str(name)) for name in _at(path, content, mapping.header, "header")] if mapping.header else None
    if header is not None:
        _places(str(path), mapping, header, "is its encoding or header another one?")
    elif missing := [name for name in mapping.mapped if not any(_has(row, name, mapping) for row in found)]:
        raise UsageError(f"{path}: no row has {', '.join(missing)}, which the mapping reads")
    for number, row in enumerate(found, 1):
        yield _json_row(number, row, header, mapping)


def _documents(path: Path, mapping: Mapping) -> Iterator[Row]:
    """A file is one row; of a folder each `.json` file in it, at any depth. One that is no JSON is a bad row."""
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        section = file.relative_to(path).as_posix() if path.is_dir() else ""
        try:
            content = document(file, mapping.encoding)
        except UnicodeDecodeError:
            yield Row(1, fault=CellError(f"its bytes are not {mapping.encoding}"), section=section)
        except UsageError as error:
            yield Row(1, fault=CellError(str(error).removeprefix(f"{file}: ")), section=section)
        else:
            yield replace(_json_row(1, content, None, mapping), section=section)


def document(path: Path, encoding: str) -> Any:
    """A JSON file, numbers as the texts they are. Raises UsageError if it is none or too large, UnicodeDecodeError."""
    if path.stat().st_size > MAX_JSON:
        raise UsageError(f"{path}: over {MAX_JSON} bytes; a JSON file is read whole, so bring larger ones as CSV")
    text = path.read_text(encoding)
    if not text.strip():
        raise UsageError(f"{path}: empty")
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error


def _at(path: Path, content: Any, place: str | None, what: str) -> list[Any]:
    found = _reach(content, place) if place else content
    if not isinstance(found, list):
        where = place or "the top"
        raise UsageError(f"{path}: no list at {where}; the mapping's `{what}` says where it is, as a.b")
    return cast("list[Any]", found)


def _json_row(number: int, row: Any, header: Sequence[str] | None, mapping: Mapping) -> Row:
    if header is not None:
        if not isinstance(row, list) or len(cast("list[Any]", row)) != len(header):
            return Row(number, fault=CellError(f"not a list of {len(header)} cells, as the header has"))
        row = dict(zip(header, cast("list[Any]", row), strict=True))
    if not isinstance(row, dict):
        return Row(number, fault=CellError("not an object"))
    got: dict[str, Cell] = {}
    for name in mapping.mapped:
        try:
            got[name] = _first(_cell(_reach(row, other)) for other in mapping.called(name))
        except CellError as error:
            return Row(number, fault=CellError(error.reason, name))
    return Row(number, got)


def _cell(value: Any) -> Cell:
    match value:
        case None:
            return ""
        case bool():
            return value
        case str():
            return collapsed(value)
        case list() if all(isinstance(item, str) for item in cast("list[Any]", value)):
            return tuple(collapsed(item) for item in cast("list[str]", value))
        case _:
            raise CellError(NESTED)


def _has(row: Any, name: str, mapping: Mapping) -> bool:
    names = mapping.called(name)
    return name in mapping.optional or any(_reach(row, other, missing=row) is not row for other in names)


def _reach(content: Any, place: str, missing: Any = None) -> Any:
    """What stands at `a.b`, a key's own dots first; `missing` where there is nothing."""
    if not isinstance(content, dict):
        return missing
    inner = cast("dict[str, Any]", content)
    if place in inner:
        return inner[place]
    first, dot, rest = place.partition(".")
    return _reach(inner[first], rest, missing) if dot and first in inner else missing


# -- columns -----------------------------------------------------------------------------------------------------------
def _places(where: str, mapping: Mapping, header: Sequence[str], hint: str) -> dict[str, list[int]]:
    """Where each column that the mapping reads stands under this header, under all its names."""
    names = {column: [name for name in mapping.called(column) if name in header] for column in mapping.mapped}
    if missing := [column for column, found in names.items() if not found and column not in mapping.optional]:
        raise UsageError(f"{where}: no column {', '.join(missing)}, which the mapping reads; {hint}")
    if twice := [name for found in names.values() for name in found if header.count(name) > 1]:
        raise UsageError(f"{where}: the column {', '.join(twice)} stands there twice; rename one")
    return {column: [header.index(name) for name in found] for column, found in names.items()}


def _first(cells: Iterable[Cell]) -> Cell:
    """The first that is not empty."""
    return next((cell for cell in cells if cell not in ("", ())), "")
