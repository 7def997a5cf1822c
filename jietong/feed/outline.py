"""A first draft of a mapping, from a look at the file: what can be seen is filled in, what must be decided is marked.

The draft holds the file's column names and never a value.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, cast

import yaml
from charset_normalizer import from_bytes

from jietong.errors import UsageError
from jietong.feed import reader, workbook
from jietong.feed.cells import CellError
from jietong.feed.mapping import FILL_IN

SAMPLE_BYTES, SAMPLE_ROWS, DELIMITERS = 256 * 1024, 500, ",;\t|"
HEADER_WITHIN = 50
"""Rows from the top of a sheet among which its header is."""
DAYS = ("%Y/%m/%d", "%Y年%m月%d日", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d")
FORMATS = ("iso", *DAYS, *(f"{day} %H:%M:%S" for day in DAYS), *(f"{day} %H:%M" for day in DAYS))
CHINESE = frozenset(
    {"gb2312", "gbk", "gb18030", "cp936", "hz", "big5", "big5hkscs", "cp949", "johab", "euc_kr", "euc_jp"}
)
BARE_NUMBER = re.compile(r"[0-9.]{1,7}")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at a file shows."""

    encoding: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    delimiter: str | None = None
    place: str | None = None
    header_place: str | None = None
    sheets: Sequence[str] = ()
    header_row: int = 1
    optional: Sequence[str] = ()


def outline(path: Path) -> str:
    """The text of a mapping for this file. Raises UsageError if it is none of CSV, JSON, XLSX."""
    try:
        if workbook.is_one(path):
            return "\n".join(_lines(path, _workbook(path))) + "\n"
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
        if not sample.strip():
            raise UsageError(f"{path}: empty")
        encoding = _encoding(sample)
        begins = sample.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        seen = _json(path, encoding) if begins in (b"{", b"[") else _csv(path, encoding)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: its encoding cannot be told; save it as UTF-8") from error
    return "\n".join(_lines(path, seen)) + "\n"


def _encoding(sample: bytes) -> str:
    """UTF-8 if it can be (a cut character at the end aside), else the detector's guess; any Chinese one as GB18030."""
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            best = from_bytes(sample).best()
            return "gb18030" if best is None or best.encoding in CHINESE else best.encoding
    return "utf-8-sig"


def _csv(path: Path, encoding: str) -> _Seen:
    with path.open(encoding=encoding, newline="") as text:
        try:
            delimiter = csv.Sniffer().sniff(text.read(16 * 1024), DELIMITERS).delimiter
        except csv.Error:
            delimiter = ","
        text.seek(0)
        found = list(islice(reader.records(path, text, delimiter), SAMPLE_ROWS + 1))
    header = [reader.collapsed(name) for name in found[0]]
    return _Seen(encoding, header, [row for row in found[1:] if len(row) == len(header)], delimiter)


def _json(path: Path, encoding: str) -> _Seen:
    content = reader.document(path, encoding)
    place, found = next(_lists(content, ""), ("", list[Any]()))
    if not found:
        raise UsageError(f"{path}: no list of rows in this JSON")
    sample = found[:SAMPLE_ROWS]
    if isinstance(found[0], dict):
        names = list(dict.fromkeys(name for row in sample for name in row))
        return _Seen(encoding, names, [[_shown(row.get(name)) for name in names] for row in sample], place=place)
    width = len(found[0])
    headers = ((at, names) for at, names in _texts(content, "") if len(names) == width)
    header, names = next(headers, (FILL_IN, [f"column {n}" for n in range(1, width + 1)]))
    rows = [[_shown(cell) for cell in row] for row in sample if len(row) == width]
    return _Seen(encoding, names, rows, place=place, header_place=header)


def _workbook(path: Path) -> _Seen:
    """The sheets that have their header in one row with the first's, and at least half of its columns."""
    with workbook.opened(path) as book:
        tops = {sheet.title: _top(path, book, sheet.title) for sheet in book.worksheets}
    tops = {title: top for title, top in tops.items() if top[1]}
    if not tops:
        raise UsageError(f"{path}: no sheet with a header in it")
    number, first, _ = next(iter(tops.values()))
    alike = {title: top for title, top in tops.items() if top[0] == number and _alike(first, top[1])}
    names = list(dict.fromkeys(name for _, header, _ in alike.values() for name in header if name))
    rows = [
        [cells[header.index(name)] if name in header else "" for name in names]
        for _, header, found in alike.values()
        for cells in found
    ]
    optional = [name for name in names if any(name not in header for _, header, _ in alike.values())]
    return _Seen("utf-8-sig", names, rows, ",", sheets=list(alike), header_row=number, optional=optional)


def _alike(first: Sequence[str], other: Sequence[str]) -> bool:
    return 2 * len({*first} & {*other}) >= len({*first})


def _top(path: Path, book: workbook.Book, sheet: str) -> tuple[int, Sequence[str], Sequence[Sequence[str]]]:
    """A sheet's header (the fullest row near its top), the number of that row, and rows under it, of its width."""
    found = list(islice(workbook.rows(path, book, sheet), SAMPLE_ROWS))
    shown = [(n, [_text(cell) for cell in cells]) for n, cells in found]
    near = [(sum(map(bool, cells)), -n) for n, cells in shown if n <= HEADER_WITHIN]
    number = -max(near)[1] if near else 0
    header = next((cells for n, cells in shown if n == number), list[str]())
    width = len(header)
    return number, header, [[*cells, *[""] * width][:width] for n, cells in shown if n > number]


def _text(cell: Any) -> str:
    return "" if isinstance(cell, CellError) else reader.collapsed(_shown(cell))


def _shown(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _lists(content: Any, at: str) -> Iterator[tuple[str, list[Any]]]:
    """Lists of rows, the outermost first."""
    if isinstance(content, list) and content and isinstance(content[0], dict | list):
        yield at, cast("list[Any]", content)
    elif isinstance(content, dict):
        for name, inner in cast("dict[str, Any]", content).items():
            yield from _lists(inner, f"{at}.{name}" if at else name)


def _texts(content: Any, at: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(content, list) and content and all(isinstance(item, str) for item in cast("list[Any]", content)):
        yield at, cast("list[str]", content)
    elif isinstance(content, dict):
        for name, inner in cast("dict[str, Any]", content).items():
            yield from _texts(inner, f"{at}.{name}" if at else name)


def _lines(path: Path, seen: _Seen) -> Iterator[str]:
    columns = [(name, [row[n] for row in seen.rows]) for n, name in enumerate(seen.header)]
    yield f"# Drafted from {_comment(path.name)}. Fill in each {FILL_IN}, take the columns you need, then try it:"
    yield "#   jietong import FILE --mapping THIS --dry-run"
    yield f"source: {_source(path)}  # events come from urn:jietong:<city>:feed:<source>"
    yield f"city: {FILL_IN}  # a pack in cities/"
    yield f"zone: {FILL_IN}  # of times without one, as Asia/Shanghai"
    yield from _shape(seen)
    unique = [name for name, values in columns if name and all(values) and len(set(values)) == len(values)]
    yield f"key: [{_quoted(unique[0]) if unique else FILL_IN}]  # names a row; unique: {_comment(', '.join(unique))}"
    yield "# subject: {project: COLUMN}  # or unit, enterprise, local; without it local:<source>:<key>"
    yield f"since: {FILL_IN}  # a day, as 2026-01-01: what happened before is for the record and opens no lead"
    yield "# finished: {COLUMN: [TEXT]}  # rows that are finished open no lead either"
    yield "# complete: true  # if a row no longer in the file has ended; say under `gone:` what that means"
    yield f"type: {FILL_IN}  # engineering.approval.decided.v1, ...; `jietong topics` lists them"
    yield "columns:  # field of the event: column of the file, or {column: ..., formats: [...], none: [...]}"
    yield f"  {FILL_IN}: {FILL_IN}"
    yield from (f"  # {FILL_IN}: {_quoted(name)}  # {_hint(values)}" for name, values in columns if name)
    yield "constants:"
    yield f'  authority_region: {FILL_IN}  # the division of the authority, in quotes: "440703"'
    yield "facts:  # what a row tells, oldest first; each where its `when` holds"
    yield f"  - time: {FILL_IN}  # the column of its date; a fact without `time` is dated by the import"
    yield '    # when: {COLUMN: [TEXT]}  # or {COLUMN: {not: [TEXT]}}; an empty cell is ""'
    yield "    # constants: {status: ISSUED}"
    yield "    # ending: true  # for a fact that ends what an earlier one began"


def _shape(seen: _Seen) -> Iterator[str]:
    if seen.delimiter is None:
        yield "format: json"
    if seen.sheets:
        yield f"workbook: {{sheets: [{', '.join(map(_quoted, seen.sheets))}], header: {seen.header_row}}}"
    if seen.optional:
        yield f"# optional: [{_comment(', '.join(map(_quoted, seen.optional)))}]  # not in every sheet; those you read"
    if seen.place:
        yield f"rows: {_quoted(seen.place)}"
    if seen.header_place:
        yield f"header: {seen.header_place if seen.header_place == FILL_IN else _quoted(seen.header_place)}"
    if not seen.sheets:
        yield f"encoding: {seen.encoding}"
    if seen.delimiter not in (None, ","):
        yield f"delimiter: {_quoted(seen.delimiter)}"


def _hint(values: Sequence[str]) -> str:
    """Of what form the values are, never the values."""
    filled = [text for value in values if (text := reader.collapsed(value))]
    if not filled:
        return "empty"
    forms = [form for form in FORMATS if all(_is_date(text, form) for text in filled)]
    hint = f"{len(set(filled))} different, {len(values) - len(filled)} empty"
    return f'{hint}, dates: formats: ["{forms[0]}"]' if forms else hint


def _is_date(text: str, form: str) -> bool:
    if BARE_NUMBER.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007 — only whether it is one
    except ValueError:
        return False
    return True


def _source(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:50] or FILL_IN


def _quoted(text: str | None) -> str:
    """A text as YAML writes it on one line."""
    out = StringIO()
    yaml.safe_dump(text, out, allow_unicode=True, default_style='"', width=10_000)
    return out.getvalue().strip().removesuffix("...").strip()


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
