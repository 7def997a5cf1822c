"""XLSX, streamed: a workbook of someone else's, whose cells become the texts that its sheet shows.

It is checked once from end to end before a row is told, so that a damaged one brings in nothing.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.parsers import expat

import openpyxl

from jietong.errors import UsageError
from jietong.feed.cells import Cell, CellError

SIGNATURE, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SUFFIXES = (".xlsx", ".xlsm")
ENCRYPTED = 0x1
"""The flag of an encrypted part of a ZIP (APPNOTE 4.4.4)."""
MAX_ROWS, MAX_WIDTH = 1_048_576, 16_384
"""What a sheet can have: a file that says more is not one."""
MAX_SHARED, MAX_UNPACKED = 256 * 1024 * 1024, 2 * 1024**3
"""Bytes: of one part that is read whole (the texts, the styles), and of all together."""
SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
ZEROS = re.compile(r"0{2,20}")
OLD = "an old .xls, or an .xlsx with a password; save it as .xlsx without one"

Book = openpyxl.Workbook


def is_one(path: Path) -> bool:
    """Whether a file is a workbook, or says by its name that it is. Raises UsageError for one that cannot be read."""
    with path.open("rb") as stream:
        begins = stream.read(len(OLE))
    if begins == OLE:
        raise UsageError(f"{path}: {OLD}")
    if begins.startswith(SIGNATURE):
        return True
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{path}: no workbook, or a damaged one; save it again as .xlsx")
    return False


@contextmanager
def opened(path: Path) -> Generator[Book]:
    """Raises UsageError if it is damaged or too large."""
    _sound(path)
    with _telling(path):
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        yield book
    finally:
        book.close()


def chosen(path: Path, book: Book, names: Sequence[str]) -> Sequence[str]:
    """The sheets that a mapping names, the first one if it names none. Raises UsageError if one is not there."""
    titles = [sheet.title for sheet in book.worksheets]
    if missing := [name for name in names if name not in titles]:
        raise UsageError(f"{path}: no sheet {', '.join(missing)}; there are {', '.join(titles) or 'none'}")
    if not titles:
        raise UsageError(f"{path}: no sheet in it")
    return names or titles[:1]


def row(path: Path, book: Book, sheet: str, number: int) -> Sequence[Cell]:
    """One row, an error of the sheet as an empty cell; nothing if there is no such row."""
    found = next((cells for n, cells in rows(path, book, sheet, number) if n == number), list[Cell | CellError]())
    return ["" if isinstance(cell, CellError) else cell for cell in found]


def rows(path: Path, book: Book, sheet: str, start: int = 1) -> Iterator[tuple[int, Sequence[Cell | CellError]]]:
    """The rows that are not empty, each with its number. Raises UsageError where the sheet cannot be read on."""
    with _telling(path):
        found: Any = book[sheet]
        found.reset_dimensions()  # what a sheet says of its size is often wrong
        stream = enumerate(found.iter_rows(min_row=start), start)
    while True:
        with _telling(path):
            number, row = next(stream, (0, ()))
            cells = [_cell(cell) for cell in row]
        if not number:
            return
        if number > MAX_ROWS or len(cells) > MAX_WIDTH:
            raise UsageError(f"{path}: sheet {sheet}: row {number}: beyond what a sheet can have")
        if any(cell != "" for cell in cells):
            yield number, cells


def _cell(cell: Any) -> Cell | CellError:
    """A cell's text. A number's is without the noise of its binary form, with the zeros its format puts before it."""
    value: Any = cell.value
    match value:
        case None:
            return ""
        case bool():
            return value
        case int() | float():
            text = format(value, "d" if isinstance(value, int) else ".15g")
            whole = ZEROS.fullmatch(cell.number_format or "")
            return text.zfill(len(whole[0])) if whole and text.isdecimal() else f"{Decimal(text):f}"
        case datetime():
            moment = value.replace(microsecond=0)
            return moment.date().isoformat() if moment.time() == time.min else moment.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case _ if cell.data_type == "e":
            return CellError("an error of the sheet, such as #REF!")
        case _:
            return str(value).strip()


def _sound(path: Path) -> None:
    """Read it once, keeping nothing: every part is whole and every XML well formed."""
    with _telling(path), zipfile.ZipFile(path) as archive:
        if any(part.flag_bits & ENCRYPTED for part in archive.infolist()):
            raise UsageError(f"{path}: {OLD}")
        if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED:
            raise UsageError(f"{path}: over {MAX_UNPACKED} bytes unpacked; bring it in parts, or as CSV")
        for part in archive.infolist():
            if not SHEET.fullmatch(part.filename) and part.file_size > MAX_SHARED:
                raise UsageError(f"{path}: a part over {MAX_SHARED} bytes that is read whole; bring it as CSV")
            with archive.open(part) as stream:
                if part.filename.endswith((".xml", ".rels")):
                    expat.ParserCreate().ParseFile(stream)
                while stream.read(64 * 1024):
                    pass


@contextmanager
def _telling(path: Path) -> Generator[None]:
    """What openpyxl warns of (styles, validations) is nothing to a reader of rows; what stops it is a damaged file."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (UsageError, OSError):
        raise
    except Exception as error:  # openpyxl stumbles over damage wherever it meets it: KeyError, TypeError, IndexError, …
        raise UsageError(f"{path}: a damaged workbook; open it and save it again as .xlsx") from error
