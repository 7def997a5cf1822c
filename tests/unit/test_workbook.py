"""A workbook is a table like any other: what its sheets show goes in typed and once, and a damaged one brings in nothing."""

from __future__ import annotations

import csv
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.cli.app import run
from jietong.cli.importing import bring, write_rejects
from jietong.contract import Contract
from jietong.delivery import outbox
from jietong.delivery.draw import Drawn
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.feed import mapping, reader, workbook
from jietong.feed.outline import outline
from jietong.feed.source import Reject

CATALOG = catalog.load()
CONTRACT = Contract(CATALOG)
MAPPING = """\
source: permits
city: jiangmen
zone: UTC
workbook: {sheets: [Open, Ended], header: 3}
names: {number: [Permit Number], decided: [Decided On], area: [Land Area], homes: [Homes], reason: [Why Ended]}
optional: [reason]
key: number
type: engineering.approval.decided.v1
columns:
  item_instance: number
  document_number: {column: code, none: [""]}
  decided_on: decided
  project.land_area: area
  project.households: homes
  project.name: reason
constants: {decision_kind: CONSTRUCTION, authority_region: "440703"}
facts:
  - time: decided
    constants: {decision: APPROVED}
  - when: {reason: {not: ""}}
    ending: true
    constants: {decision: REVOKED}
"""
OPEN = ["Permit\nNumber", "Decided \n On", "Land Area", "Homes", "code", "Remark"]
ENDED = ["Why Ended", "code", "Permit Number", "Homes", "Land Area", "Decided On"]
DAY, MOMENT = datetime(2026, 3, 1), datetime(2026, 3, 2, 7, 30, 15)  # noqa: DTZ001 — a sheet knows no zone


class Desk:
    """A folder with a mapping, a workbook and a city's data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.map, self.file = folder / "permits.yaml", folder / "permits.xlsx"
        self.map.write_text(MAPPING, "utf-8")

    def write(self, open_: Sequence[Sequence[Any]], ended: Sequence[Sequence[Any]] = (), **formats: str) -> None:
        """Both sheets, under two rows that are no header; `formats`: cell → number format, in the first."""
        book = openpyxl.Workbook()
        for title, header, rows in (("Open", OPEN, open_), ("Ended", ENDED, ended)):
            sheet = book.create_sheet(title)
            for row in ([title], [], header, *rows):
                sheet.append(list(row))
        for cell, form in formats.items():
            book["Open"][cell].number_format = form
        book.save(self.file)

    def bring(self, file: Path | None = None) -> tuple[Drawn, list[Reject]]:
        return bring(file or self.file, str(self.map), self.data)

    def remap(self, old: str, new: str) -> None:
        text = self.map.read_text("utf-8")
        assert old in text
        self.map.write_text(text.replace(old, new), "utf-8")

    def events(self) -> list[Any]:
        store = SqliteStore(self.data / "feed-permits.db", delivery)
        try:
            with store.snapshot() as tx:
                return [CONTRACT.decode(envelope) for _, envelope in outbox.pending(tx, 100_000)]
        finally:
            store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# -- what goes in ------------------------------------------------------------------------------------------------------
def test_sheets_of_different_width_and_order_are_read_by_the_names_in_their_header(desk: Desk) -> None:
    desk.write([["A1", DAY, 10, 1, None, "x"], ["A2", DAY, 20, 2]], [["unlawful", None, "B1", 3, 30, DAY]])
    assert desk.bring() == (Drawn(read=3, new=3, events=4), [])
    told = [(e.subject[-2:], e.data["decision"], e.data["project"]["households"]) for e in desk.events()]
    assert told == [("A1", "APPROVED", 1), ("A2", "APPROVED", 2), ("B1", "APPROVED", 3), ("B1", "REVOKED", 3)]
    assert desk.bring()[0] == Drawn(read=3, unchanged=3)


def test_numbers_and_dates_are_what_the_sheet_shows_without_the_noise_of_their_binary_form(desk: Desk) -> None:
    desk.write([[7, MOMENT, 0.1 + 0.2, 12.0, 42], ["A2", DAY, 1e-7, 3, "007"]], E4="000000")
    desk.remap("project.land_area: area", "project.land_area: {column: area, round: true}")
    desk.bring()
    first, second = desk.events()
    assert (first.subject, first.time) == ("local:permits:7", MOMENT.replace(tzinfo=UTC))
    assert (first.data["decided_on"], first.data["document_number"]) == (date(2026, 3, 2), "000042")
    assert (first.data["project"]["land_area"], first.data["project"]["households"]) == (Decimal("0.30"), 12)
    assert (second.time, second.data["document_number"]) == (DAY.replace(tzinfo=UTC), "007")
    assert second.data["project"]["land_area"] == Decimal("0.00")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"), (73.2699966430664, "73.2699966430664"), (1e22, "10000000000000000000000"), (-2.50, "-2.5"),
        (5e-7, "0.0000005"), (12, "12"), (38.0, "38"), (123456789012345, "123456789012345"), (DAY, "2026-03-01"),
        (MOMENT, "2026-03-02 07:30:15"), (time(7, 30), "07:30:00"), (" two\n words\u3000", "two words"), ("22.0", "22.0"),
        ("=1+1", ""),  # a formula whose value nobody has computed yet
    ],
)  # fmt: skip
def test_a_cell_is_the_text_that_its_sheet_shows(desk: Desk, value: Any, text: str) -> None:
    desk.write([["A1", DAY, value, 1]])
    (row,) = reader.rows(desk.file, mapping.load(desk.map, CATALOG))
    assert row.cells["area"] == text


def test_what_a_sheet_says_of_its_size_is_not_believed(desk: Desk) -> None:
    desk.write([["A1", DAY, 10, 1], ["A2", DAY, 10, 1]])
    repacked(
        desk, lambda name, part: part.replace(b'ref="A1:F5"', b'ref="A1"') if name.endswith("sheet2.xml") else part
    )
    assert desk.bring()[0].new == 2


def test_a_yes_or_no_of_a_sheet_is_one(desk: Desk) -> None:
    desk.write([[True, DAY]])
    (row,) = reader.rows(desk.file, mapping.load(desk.map, CATALOG))
    assert row.cells["number"] is True


def test_a_table_as_csv_and_as_workbook_tells_the_same_and_nothing_twice(desk: Desk) -> None:
    desk.write([["A1", MOMENT, 10.5, 1, None, "x"]], [["unlawful", None, "B1", 3, 30, DAY]])
    table = desk.folder / "permits.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [["number", "decided", "area", "homes", "code", "reason"],
             ["A1", "2026-03-02 07:30:15", "10.5", "1", "", ""], ["B1", "2026-03-01", "30", "3", "", "unlawful"]]
        )  # fmt: skip
    assert desk.bring(table)[0] == Drawn(read=2, new=2, events=3)
    first = [(event.id, event.data) for event in desk.events()]
    assert desk.bring()[0] == Drawn(read=2, unchanged=2)
    desk.data = desk.folder / "another"
    desk.bring()
    assert [(event.id, event.data) for event in desk.events()] == first


def test_of_several_names_that_a_header_has_the_first_that_is_not_empty_is_read(desk: Desk) -> None:
    desk.remap("[Permit Number]", "[Permit Number, Remark]")
    desk.remap("[Open, Ended]", "[Open]")
    desk.write([["A1", DAY, 10, 1, None, "x"], [None, DAY, 10, 1, None, "A2"]])
    desk.bring()
    assert [event.subject[-2:] for event in desk.events()] == ["A1", "A2"]


# -- what stays out ----------------------------------------------------------------------------------------------------
def test_a_refused_row_is_named_by_its_sheet_and_the_rest_goes_in(desk: Desk) -> None:
    desk.write(
        [["A1", DAY, 10, 1], [None, None, None, None, "a legend"], [], ["A2", DAY, "#REF!", 2], ["A3", DAY], [], []],
        [["unlawful", None, "B1", "many", 30, DAY], [" "]],
    )
    drawn, refused = desk.bring()
    assert (drawn.read, drawn.new, drawn.rejected) == (6, 2, 4)
    assert [str(reject) for reject in refused] == [
        "row Ended!4: homes: not a whole number",
        "row Open!5: number: must be a text of at most 1000 printable characters, and not empty",
        "row Open!6: number: must be a text of at most 1000 printable characters, and not empty",
        "row Open!7: area: an error of the sheet, such as #REF!",
    ]
    listed = desk.folder / "rejects.csv"
    write_rejects(listed, [*refused, Reject(4, "x", "why", "=cmd")])
    with listed.open(encoding="utf-8-sig", newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == ["row", "Ended!4", "Open!5", "Open!6", "Open!7", "'=cmd!4"]
    assert desk.bring()[0] == Drawn(read=6, unchanged=2, rejected=4), "held, each by its own name"


def truncated(desk: Desk) -> None:
    desk.file.write_bytes(desk.file.read_bytes()[:-200])


def repacked(desk: Desk, change: Callable[[str, bytes], bytes | None]) -> None:
    """The workbook with some of its parts changed, or left out (None)."""
    packed = BytesIO()
    with zipfile.ZipFile(desk.file) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    desk.file.write_bytes(packed.getvalue())


def broken_last_sheet(desk: Desk) -> None:
    repacked(desk, lambda name, part: part.replace(b"</row>", b"", 1) if name.endswith("sheet3.xml") else part)


def flipped(desk: Desk) -> None:
    """One bit of the last sheet's packed bytes."""
    with zipfile.ZipFile(desk.file) as book:
        at = book.getinfo("xl/worksheets/sheet3.xml").header_offset + 60
    content = bytearray(desk.file.read_bytes())
    content[at] ^= 1
    desk.file.write_bytes(content)


def locked(desk: Desk) -> None:
    """The flag of an encrypted part, in the directory at the end of the file."""
    content = bytearray(desk.file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    desk.file.write_bytes(content)


SPOILT: list[tuple[Callable[[Desk], object], str]] = [
    (lambda d: d.remap("[Open, Ended]", "[Open, Closed]"), "no sheet Closed; there are Sheet, Open, Ended"),
    (lambda d: d.remap("header: 3", "header: 2"), "sheet Open: no column number, .*; is the header another row than 2"),
    (lambda d: d.remap("header: 3", "header: 9999"), "sheet Open: no column number"),
    (lambda d: d.remap("optional: [reason]", "optional: []"), "sheet Open: no column reason, which the mapping reads"),
    (
        lambda d: d.remap("workbook: {sheets: [Open, Ended], header: 3}\n", ""),
        "a workbook; give the mapping a `workbook`",
    ),
    (truncated, "a damaged workbook"),
    (flipped, "a damaged workbook"),
    (broken_last_sheet, "a damaged workbook"),
    (lambda d: repacked(d, lambda n, part: None if n == "xl/workbook.xml" else part), "a damaged workbook"),
    (locked, r"an old \.xls, or an \.xlsx with a password"),
    (lambda d: d.file.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600), r"an old \.xls, or an \.xlsx with"),
    (lambda d: d.file.write_text("number,decided\nA1,2026-03-01\n"), "no workbook, or a damaged one"),
    (lambda d: d.file.write_bytes(b""), "no workbook, or a damaged one"),
    (lambda d: d.file.unlink(), "cannot be read: No such file"),
]


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT)
def test_a_workbook_that_is_not_what_its_mapping_says_is_one_sentence_and_nothing_goes_in(
    desk: Desk, spoil: Callable[[Desk], object], sentence: str
) -> None:
    desk.write([[f"A{n}", DAY, 1, 1] for n in range(600)], [["unlawful", None, "B1", 3, 30, DAY]])
    spoil(desk)
    with pytest.raises(UsageError, match=sentence) as error:
        desk.bring()
    assert "\n" not in str(error.value)
    assert not (desk.data / "feed-permits.db").exists() or desk.events() == []


def test_the_command_ends_with_two_and_a_sentence(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.write([["A1", DAY]])
    truncated(desk)
    assert run(["import", str(desk.file), "--mapping", str(desk.map), "--data", str(desk.data)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "a damaged workbook" in said.err


def test_a_sheet_that_says_it_has_more_rows_than_one_can_is_refused(desk: Desk) -> None:
    desk.write([["A1", DAY, 1, 1]])
    repacked(
        desk, lambda name, part: part.replace(b'r="4"', b'r="99999999999"') if name.endswith("sheet2.xml") else part
    )
    with pytest.raises(UsageError, match="beyond what a sheet can have"):
        desk.bring()


@pytest.mark.parametrize(("limit", "sentence"), [("MAX_UNPACKED", "bytes unpacked"), ("MAX_SHARED", "read whole")])
def test_a_workbook_that_unpacks_to_too_much_is_refused_unread(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str, sentence: str
) -> None:
    desk.write([["A1", DAY]])
    monkeypatch.setattr(workbook, limit, 500)
    with pytest.raises(UsageError, match=sentence):
        desk.bring()


def test_a_workbook_is_streamed(desk: Desk) -> None:
    desk.remap("[Open, Ended]", "[Open]")
    desk.write([[f"A{n}", DAY, n / 7, n, None, "a remark that nobody maps"] for n in range(4000)])
    plan = mapping.load(desk.map, CATALOG)
    tracemalloc.start()
    count = sum(1 for _ in reader.rows(desk.file, plan))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 3 * 2**20


# -- a draft -----------------------------------------------------------------------------------------------------------
def test_a_mapping_drafted_from_a_workbook_imports_once_its_marked_places_are_filled(desk: Desk) -> None:
    desk.write([["A1", DAY, 10, 1, "c1", "x"], ["A2", DAY, 20, 2, "c2", "y"]], [["unlawful", "c3", "B1", 3, 30, DAY]])
    drafted = outline(desk.file)
    assert "unlawful" not in drafted
    content: Any = yaml.load(drafted, yaml.BaseLoader)  # noqa: S506
    assert content["workbook"] == {"sheets": ["Open", "Ended"], "header": "3"}
    assert content["key"] == ["Permit Number"]
    assert '# optional: ["Remark", "Why Ended"]' in drafted
    for name, word in (
        ("city", "jiangmen"),
        ("zone", "UTC"),
        ("since", "2026-01-01"),
        ("type", "licensing.licence.changed.v1"),
    ):
        drafted = drafted.replace(f"\n{name}: ___", f"\n{name}: {word}")
    drafted = drafted.replace("  ___: ___", "  licence: Permit Number").replace("time: ___", "time: Decided On")
    drafted = drafted.replace(
        "authority_region: ___", 'authority_region: "440703"\n  licence_kind: permit\n  status: ISSUED'
    )
    desk.map.write_text(drafted, "utf-8")
    assert desk.bring() == (Drawn(read=3, new=3, events=3), [])


def test_a_workbook_without_a_table_gives_no_draft(desk: Desk) -> None:
    openpyxl.Workbook().save(desk.file)
    with pytest.raises(UsageError, match="no sheet with a header"):
        outline(desk.file)


# -- anything ----------------------------------------------------------------------------------------------------------
def whole() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.create_sheet("Open")
    for row in (["t"], [], OPEN, ["A1", DAY, 1.5, 1], ["A2", MOMENT, "x", True]):
        sheet.append(row)
    packed = BytesIO()
    book.save(packed)
    loose = BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(loose, "w") as new:  # unpacked: damage reaches the XML
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return loose.getvalue()


WHOLE = whole()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=6)), max_size=4), st.booleans()
)
def test_however_a_workbook_is_damaged_it_is_rows_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]], sealed: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "map.yaml").write_text(MAPPING.replace("[Open, Ended]", "[Open]"), "utf-8")
    content = bytearray(WHOLE)
    for at, more in damage:
        content[at : at + len(more)] = more
    if sealed:  # as someone would who means it: every part with the checksum of what is in it
        content = resealed(content)
    (folder / "file.xlsx").write_bytes(content)
    try:
        list(reader.rows(folder / "file.xlsx", mapping.load(folder / "map.yaml", CATALOG)))
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 — an error is one of two good ends


def resealed(content: bytearray) -> bytearray:
    """The parts that can still be found, with checksums that fit."""
    packed = BytesIO()
    try:
        with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
            for part in old.infolist():
                at = part.header_offset + 30 + len(part.filename)
                new.writestr(part.filename, bytes(content[at : at + part.file_size]))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return content
    return bytearray(packed.getvalue())
