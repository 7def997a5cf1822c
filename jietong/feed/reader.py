"""Rows of a file, bounded: no line, field or file of someone else's takes this machine's memory."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from jietong.errors import UsageError
from jietong.feed.cells import Cell, CellError
from jietong.feed.mapping import Mapping

MAX_LINE, MAX_FIELD, MAX_COLUMNS, MAX_JSON = 1024 * 1024, 128 * 1024, 10_000, 256 * 1024 * 1024
NESTED = "an object or nested list where a value is expected"


@dataclass(frozen=True, slots=True)
class Row:
    """A row's mapped cells. `number` is what a spreadsheet shows: a CSV's header is row 1; a JSON's first row is 1."""

    number: int
    cells: dict[str, Cell] = field(default_factory=dict[str, Cell])
    fault: CellError | None = None


def rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    """Raises UsageError if the file is missing, unreadable, in another encoding or format, or lacks a mapped column."""
    try:
        yield from _json_rows(path, mapping) if mapping.format == "json" else _csv_rows(path, mapping)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        at = broken_at(path, mapping.encoding)
        raise UsageError(f"{path}: byte {at} is not {mapping.encoding}; set the mapping's encoding") from error


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
        _present(path, mapping, header)
        places = [(name, header.index(name)) for name in mapping.mapped]
        for number, record in enumerate(found, 2):
            if not record:
                continue
            if len(record) != len(header):
                yield Row(number, fault=CellError(f"{len(record)} cells, where the header has {len(header)}"))
            else:
                yield Row(number, {name: collapsed(record[at]) for name, at in places})


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


# -- JSON ------------------------------------------------------------------------------------------------------------
def _json_rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    content = document(path, mapping.encoding)
    found = _at(path, content, mapping.rows, "rows")
    header = [collapsed(str(name)) for name in _at(path, content, mapping.header, "header")] if mapping.header else None
    if header is not None:
        _present(path, mapping, header)
    elif missing := [name for name in mapping.mapped if not any(_has(row, name) for row in found)]:
        raise UsageError(f"{path}: no row has {', '.join(missing)}, which the mapping reads")
    for number, row in enumerate(found, 1):
        yield _json_row(number, row, header, mapping.mapped)


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


def _json_row(number: int, row: Any, header: Sequence[str] | None, mapped: Sequence[str]) -> Row:
    if header is not None:
        if not isinstance(row, list) or len(cast("list[Any]", row)) != len(header):
            return Row(number, fault=CellError(f"not a list of {len(header)} cells, as the header has"))
        row = dict(zip(header, cast("list[Any]", row), strict=True))
    if not isinstance(row, dict):
        return Row(number, fault=CellError("not an object"))
    got: dict[str, Cell] = {}
    for name in mapped:
        try:
            got[name] = _cell(_reach(cast("dict[str, Any]", row), name))
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


def _has(row: Any, name: str) -> bool:
    return _reach(row, name, missing=row) is not row


def _reach(content: Any, place: str, missing: Any = None) -> Any:
    """What stands at `a.b`, a key's own dots first; `missing` where there is nothing."""
    if not isinstance(content, dict):
        return missing
    inner = cast("dict[str, Any]", content)
    if place in inner:
        return inner[place]
    first, dot, rest = place.partition(".")
    return _reach(inner[first], rest, missing) if dot and first in inner else missing


def _present(path: Path, mapping: Mapping, header: Sequence[str]) -> None:
    if missing := [name for name in mapping.mapped if name not in header]:
        hint = "is its encoding, delimiter or header another one?"
        raise UsageError(f"{path}: no column {', '.join(missing)}, which the mapping reads; {hint}")
    if twice := [name for name in mapping.mapped if header.count(name) > 1]:
        raise UsageError(f"{path}: the column {', '.join(twice)} stands there twice; rename one")
