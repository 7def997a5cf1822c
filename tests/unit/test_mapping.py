"""A mapping reads files of others: what goes in is typed and told once; what cannot is named by row, column, reason."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.cli.importing import bring, import_, mapping_app
from jietong.contract import Contract
from jietong.delivery import outbox
from jietong.delivery.draw import Drawn
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.feed import cells, mapping
from jietong.feed.cells import CellError, Column, Target
from jietong.feed.reader import MAX_FIELD, MAX_LINE, broken_at
from jietong.feed.source import Feed, Reject

MAPPING = """\
source: permits
city: jiangmen
zone: Asia/Shanghai
key: number
since: 2026-01-01
type: engineering.approval.decided.v1
columns:
  item_instance: number
  document_number: number
  decided_on: decided
  department_name: {column: office, replace: {"(": （, ")": ）}}
  project.name: name
  project.land_area: area
  project.households: homes
  project.longitude: {column: east, round: true}
  missing: {column: missing, separators: "、，"}
constants:
  decision_kind: CONSTRUCTION
  authority_region: "440703"
facts:
  - time: decided
    constants: {decision: APPROVED}
"""
HEADER = ("number", "decided", "office", "name", "area", "homes", "east", "missing", "remark")
GOOD = {"number": "A1", "decided": "2026-03-01", "name": "甲", "area": "1000.5", "homes": "12", "remark": "x"}
CATALOG = catalog.load()
CONTRACT = Contract(CATALOG)
FIELDS = cells.fields(CATALOG.schemas["engineering.approval.decided.v1"][-1].definition)


class Office:
    """A folder with a mapping, a file and a city's data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.map, self.file = folder / "permits.yaml", folder / "permits.csv"
        self.map.write_text(MAPPING, "utf-8")

    def remap(self, old: str, new: str) -> None:
        text = self.map.read_text("utf-8")
        assert old in text
        self.map.write_text(text.replace(old, new), "utf-8")

    def write(self, *rows: dict[str, str], encoding: str = "utf-8", header: Sequence[str] = HEADER) -> None:
        with self.file.open("w", encoding=encoding, newline="") as stream:
            out = csv.DictWriter(stream, header, restval="")
            out.writeheader()
            out.writerows(rows)

    def bring(self, **how: Any) -> tuple[Drawn, list[Reject]]:
        return bring(self.file, str(self.map), self.data, **how)

    def events(self) -> list[Any]:
        store = SqliteStore(self.data / "feed-permits.db", delivery)
        try:
            with store.snapshot() as tx:
                return [CONTRACT.decode(envelope) for _, envelope in outbox.pending(tx, 100_000)]
        finally:
            store.close()

    def held(self) -> list[str]:
        store = SqliteStore(self.data / "feed-permits.db", delivery)
        try:
            with store.snapshot() as tx:
                return [row[0] for row in tx.execute("SELECT row FROM source_held ORDER BY row").all()]
        finally:
            store.close()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def row(number: str, **others: str) -> dict[str, str]:
    return {**GOOD, "number": number, **others}


# -- what goes in ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_a_row_becomes_the_same_typed_event_in_every_encoding(office: Office, encoding: str) -> None:
    office.remap("zone:", f"encoding: {'utf-8-sig' if encoding == 'utf-8' else encoding}\nzone:")
    office.write(row("A1", office="住建局(一)", east="113.0712345678", missing="图纸，合同、"), encoding=encoding)
    assert office.bring() == (Drawn(read=1, new=1, events=1), [])
    (event,) = office.events()
    assert event.subject == "local:permits:A1"
    assert event.source == "urn:jietong:440700:feed:permits"
    assert event.time == datetime(2026, 2, 28, 16, tzinfo=UTC)
    data = event.data
    assert (data["decided_on"], data["department_name"]) == (date(2026, 3, 1), "住建局（一）")
    assert (data["missing"], data["historical"], data["permit_part"]) == (["图纸", "合同"], False, "FULL")
    project = data["project"]
    assert (project["name"], project["households"], project["land_area"]) == ("甲", 12, Decimal("1000.50"))
    assert (project["longitude"], project["address"]) == (Decimal("113.071235"), None)


@pytest.mark.parametrize("text", ["'); DROP TABLE outbox; --", "=cmd|' /C calc'!A0", '"quoted", and more', "%s\\n{0}"])
def test_a_hostile_text_goes_in_as_the_text_it_is(office: Office, text: str) -> None:
    office.write(row("A1", name=text))
    assert office.bring()[0].new == 1
    assert office.events()[0].data["project"]["name"] == text


def test_line_breaks_and_tabs_in_a_quoted_cell_become_one_space(office: Office) -> None:
    office.write(row("A1", name="first\r\n second\t\nthird "))
    office.bring()
    assert office.events()[0].data["project"]["name"] == "first second third"


def test_two_hundred_columns_and_a_blank_line_do_no_harm(office: Office) -> None:
    office.write(row("A1"), header=[*HEADER, *(f"more {n}" for n in range(200))])
    office.file.write_text(office.file.read_text() + "\n", "utf-8")
    assert office.bring()[0] == Drawn(read=1, new=1, events=1)


def test_the_words_for_no_date_give_none_and_an_empty_cell_is_refused(office: Office) -> None:
    office.remap("decided_on: decided", "decided_on: {column: decided, none: [现房]}")
    office.remap("- time: decided", "- time: {column: decided, none: [现房]}")
    office.write(row("A1", decided="现房"), row("A2", decided=""))
    before = datetime.now(UTC).replace(microsecond=0)
    _, refused = office.bring()
    assert [(r.row, r.column) for r in refused] == [(3, "decided")]
    (event,) = office.events()
    assert event.data["decided_on"] is None
    assert event.time >= before, "an undated fact is dated by the import"


def test_several_date_formats_are_tried_in_turn(office: Office) -> None:
    office.remap("decided_on: decided", 'decided_on: {column: decided, formats: [iso, "%Y年%m月%d日", "%d.%m.%Y"]}')
    office.remap("- time: decided", '- time: {column: decided, formats: [iso, "%Y年%m月%d日", "%d.%m.%Y"]}')
    office.write(
        row("A1", decided="2026年3月1日"), row("A2", decided="01.03.2026"), row("A3", decided="2026-03-01T00:00:00Z")
    )
    office.bring()
    assert {event.data["decided_on"] for event in office.events()} == {date(2026, 3, 1)}


def test_a_time_keeps_its_own_zone_and_its_day_is_the_citys(office: Office) -> None:
    office.write(row("A1", decided="2026-03-01T20:00:00Z"))
    office.bring()
    (event,) = office.events()
    assert event.time == datetime(2026, 3, 1, 20, tzinfo=UTC)
    assert event.data["decided_on"] == date(2026, 3, 2)


def test_a_json_file_gives_rows_as_objects_or_as_lists_beside_a_header(office: Office) -> None:
    listed = {"names": list(GOOD), "data": {"rows": [list(GOOD.values())]}}
    office.write()
    office.remap("zone:", "format: json\nrows: data.rows\nheader: names\nzone:")
    for column in ("office", "east", "missing"):
        listed["names"].append(column)
        listed["data"]["rows"][0].append(None)
    office.file.write_text(json.dumps(listed), "utf-8")
    assert office.bring() == (Drawn(read=1, new=1, events=1), [])
    office.remap("header: names\n", "")
    office.file.write_text(
        json.dumps({"data": {"rows": [{**GOOD, "office": None, "east": 113.1, "missing": ["图纸"]}]}}), "utf-8"
    )
    assert office.bring() == (Drawn(read=1, changed=1, events=1), [])
    assert office.events()[-1].data["missing"] == ["图纸"]


def test_an_enterprise_or_project_is_the_subject_where_the_file_has_its_code(office: Office) -> None:
    office.remap("key: number", "key: number\nsubject: {project: remark}")
    office.write(row("A1", remark="2106-440100-04-01-237448"), row("A2", remark="2106-440100-04-01-237449"))
    _, refused = office.bring()
    assert [event.subject for event in office.events()] == ["2106-440100-04-01-237448"]
    assert [(r.row, r.column) for r in refused] == [(3, "remark")]
    assert "237449" not in refused[0].reason


# -- what stays out --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("decided", "2026-02-30", "no date of the form iso"),
        ("decided", "0001-01-01T00:00:00", "out of range"),
        ("area", "NaN", "not a number"),
        ("area", "inf", "not a number"),
        ("area", "1.005", "more than 2 decimals"),
        ("area", "1e99", "digits before the point"),
        ("area", "１２", "not a number"),
        ("homes", "1099511627776", "beyond 32 bits"),
        ("homes", "3.9", "not a whole number"),
        ("homes", "9" * 5000, "not a whole number"),
        ("name", "nul\x00", "control character"),
        ("name", "\x1b[31mred", "control character"),
        ("name", "x" * 501, "longer than 500"),
        ("number", "", "not empty"),
        ("number", "n" * 300, "longer than 200"),
    ],
)
def test_a_bad_cell_keeps_its_row_out_and_the_rest_goes_in(office: Office, column: str, cell: str, reason: str) -> None:
    office.write(row("A1"), row("B2") | {column: cell}, row("C3"))
    drawn, (refused,) = office.bring()
    assert (drawn.new, drawn.rejected, drawn.events) == (2, 1, 2)
    assert (refused.row, refused.column) == (3, column)
    assert reason in refused.reason
    assert not cell.strip() or cell not in refused.reason


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1099511627776", "true", "[1]", '{"a": 1}', '"\\ud800"'])
def test_a_bad_json_value_keeps_its_row_out(office: Office, literal: str) -> None:
    office.remap("zone:", "format: json\nzone:")
    good = json.dumps({**dict.fromkeys(HEADER, ""), **GOOD})
    bad = good.replace('"A1"', '"A2"').replace('"homes": "12"', f'"homes": {literal}')
    office.file.write_text(f"[{good}, {bad}]", "utf-8")
    drawn, (refused,) = office.bring()
    assert (drawn.new, refused.row, refused.column) == (1, 2, "homes")


def test_a_yes_or_no_is_what_its_value_table_says_and_nothing_else() -> None:
    answer = cells.Field("dual", "boolean", required=False, nullable=True)
    table = Target(answer, Column(column="c", values={"Y": "true", "N": "false"}), None)
    assert [table.read("Y"), table.read("N"), table.read("")] == [True, False, None]
    for cell in ("false", "true", "1", True):
        with pytest.raises(CellError, match="not in the value table"):
            table.read(cell)
    plain = Target(answer, Column(column="c"), None)
    assert plain.read(False) is False, "JSON has its own"
    with pytest.raises(CellError, match="value table"):
        plain.read("false")


def test_a_time_without_a_zone_is_refused_when_the_mapping_names_none(office: Office) -> None:
    office.remap("zone: Asia/Shanghai\n", "")
    office.write(row("A1"), row("A2", decided="2026-03-01T08:00:00+08:00"))
    drawn, (refused,) = office.bring()
    assert (drawn.new, refused.row, refused.column) == (1, 2, "decided")
    assert "without a zone" in refused.reason


def test_a_row_of_another_width_is_refused(office: Office) -> None:
    office.write(row("A1"))
    office.file.write_text(office.file.read_text() + "A2,2026-03-01\n", "utf-8")
    assert office.bring()[1] == [Reject(3, "", "2 cells, where the header has 9")]


def test_of_rows_with_one_key_copies_are_nothing_new_and_contradictions_are_refused(office: Office) -> None:
    office.write(row("A1"), row("A1"), row("A1", homes="13"), row("A1", remark="not mapped"))
    drawn, refused = office.bring()
    assert (drawn.read, drawn.new, drawn.unchanged, drawn.rejected, drawn.events) == (4, 1, 2, 1, 1)
    assert refused == [Reject(4, "number", "row 2 has this key too, with other content")]
    assert office.bring()[0] == Drawn(read=4, unchanged=3, rejected=1)


def test_a_mended_row_goes_in_and_is_no_longer_held(office: Office) -> None:
    office.write(row("A1", homes="many"), {**GOOD, "number": ""})
    office.bring()
    assert office.held() == ["#3", "A1"]
    office.write(row("A1"))
    assert office.bring() == (Drawn(read=1, new=1, events=1), [])
    assert office.held() == []


# -- again and again -------------------------------------------------------------------------------------------------
def test_a_second_import_tells_nothing_and_a_changed_mapped_cell_exactly_one_thing(office: Office) -> None:
    office.write(row("A1"), row("A2"))
    office.bring()
    assert office.bring()[0] == Drawn(read=2, unchanged=2)
    office.write(row("A1"), row("A2", remark="another"))
    assert office.bring()[0] == Drawn(read=2, unchanged=2)
    office.write(row("A1", name="乙"), row("A2"))
    assert office.bring()[0] == Drawn(read=2, changed=1, unchanged=1, events=1)
    office.write(row("A1"), row("A2"))
    assert office.bring()[0] == Drawn(read=2, changed=1, unchanged=1, events=1), "set back is a new fact"
    assert len({event.id for event in office.events()}) == 4


def test_a_changed_cell_that_only_a_condition_looks_at_is_told_too(office: Office) -> None:
    office.remap("since:", "finished: {remark: done}\nsince:")
    office.write(row("A1", remark="issued"))
    office.bring()
    office.write(row("A1", remark="under way"))
    assert office.bring()[0] == Drawn(read=1, changed=1, events=1)


def test_ids_come_from_the_rows_so_a_lost_database_tells_the_same_events(office: Office) -> None:
    office.write(row("A1"), row("A2"))

    def told() -> set[UUID]:
        office.bring()
        return {event.id for event in office.events()}

    first = told()
    office.data = office.folder / "another"
    assert told() == first


def test_a_mapping_that_reads_a_row_otherwise_tells_it_anew_and_the_others_not(office: Office) -> None:
    office.write(row("A1", decided="2026-01-20"), row("A2", decided="2026-03-01"))
    office.bring()
    office.remap("since: 2026-01-01", "since: 2026-02-01")
    assert office.bring()[0] == Drawn(read=2, changed=1, unchanged=1, events=1)
    assert office.events()[-1].data["historical"] is True


def test_what_was_before_since_or_is_finished_is_historical_but_never_its_ending(office: Office) -> None:
    office.remap("since: 2026-01-01", "since: 2026-01-01\nfinished: {remark: [done, ended]}")
    office.map.write_text(
        office.map.read_text("utf-8")
        + "  - when: {remark: ended}\n    ending: true\n    constants: {decision: LAPSED}\n",
        "utf-8",
    )
    office.write(
        row("A1"), row("A2", decided="2025-12-31"), row("A3", remark="done"), row("A4", remark="ended"),
        row("A5", decided="2025-12-31T16:00:00Z"),
    )  # fmt: skip
    assert office.bring()[0].events == 6
    told = [(e.subject[-2:], e.data["decision"], e.data["historical"]) for e in office.events()]
    assert told == [
        ("A1", "APPROVED", False), ("A2", "APPROVED", True), ("A3", "APPROVED", True), ("A4", "APPROVED", True),
        ("A4", "LAPSED", False), ("A5", "APPROVED", False),
    ]  # fmt: skip


def test_a_row_that_ended_since_tells_only_its_ending(office: Office) -> None:
    office.map.write_text(
        office.map.read_text("utf-8").replace("- time", "- when: {remark: {not: [never, '']}}\n    time")
        + "  - when: {remark: ended}\n    ending: true\n    constants: {decision: REVOKED}\n", "utf-8"
    )  # fmt: skip
    office.write(row("A1"), row("A2", remark="never"))
    assert office.bring()[0] == Drawn(read=2, new=2, events=1)
    office.write(row("A1", remark="ended"), row("A2", remark="never"))
    assert office.bring()[0] == Drawn(read=2, changed=1, unchanged=1, events=1)
    assert [e.data["decision"] for e in office.events()] == ["APPROVED", "REVOKED"]


def test_a_vanished_row_ends_only_where_the_file_is_complete(office: Office) -> None:
    office.write(row("A1"), row("A2"))
    office.bring()
    office.write(row("A1"))
    assert office.bring()[0] == Drawn(read=1, unchanged=1)
    office.remap("since:", "complete: true\ngone: {constants: {decision: WITHDRAWN}, ending: true}\nsince:")
    office.data = office.folder / "complete"
    office.write(row("A1"), row("A2"))
    office.bring()
    office.write(row("A1"))
    assert office.bring()[0] == Drawn(read=1, unchanged=1, vanished=1, events=1)
    ending = office.events()[-1]
    assert (ending.subject, ending.data["decision"], ending.data["item_instance"]) == (
        "local:permits:A2",
        "WITHDRAWN",
        "A2",
    )
    assert office.bring()[0] == Drawn(read=1, unchanged=1)
    office.write(row("A1"), row("A2"))
    assert office.bring()[0].events == 1, "it came back"


def test_no_row_ends_while_a_refused_row_may_be_the_one_that_vanished(office: Office) -> None:
    office.remap("since:", "complete: true\ngone: {constants: {decision: WITHDRAWN}, ending: true}\nsince:")
    office.write(row("A1"), row("A2"))
    office.bring()
    office.write(row("A1"))
    office.file.write_text(office.file.read_text() + "A2,torn\n", "utf-8")
    drawn, refused = office.bring()
    assert (drawn.vanished, drawn.events) == (0, 0)
    assert [str(reject) for reject in refused] == [
        "file: no vanished row was ended: a refused row without its key may be one of them",
        "row 3: 2 cells, where the header has 9",
    ]
    office.write(row("A1"), row("A2", homes="?"))
    assert office.bring()[0].vanished == 0, "a bad row with its key is still there"


def test_many_vanished_rows_end_only_when_a_person_is_sure(office: Office) -> None:
    office.remap("since:", "complete: true\ngone: {constants: {decision: WITHDRAWN}, ending: true}\nsince:")
    office.write(*(row(f"A{n}") for n in range(30)))
    office.bring()
    office.write(row("A1"))
    with pytest.raises(UsageError, match=r"29 of 30 rows vanished .* --sure"):
        office.bring()
    assert office.bring(sure=True)[0].events == 29
    office.write(*(row(f"B{n}") for n in range(30)))
    office.bring(sure=True)
    office.bring(sure=True)
    office.write(row("B1"))
    with pytest.raises(UsageError, match="vanished"):  # an earlier `sure`, for nothing, is not for ever
        office.bring()


def test_rows_of_one_subject_are_told_in_the_order_the_mapping_names(office: Office) -> None:
    office.remap("key: number", "key: number\nsubject: {local: remark}\norder: [decided]")
    office.write(
        row("A3", decided="2026-03-03"),
        row("A1", decided="2026-03-01"),
        row("A2", decided="2026-03-02"),
        row("A0", decided="?"),
    )
    _, refused = office.bring()
    assert [(e.sequence, e.data["item_instance"]) for e in office.events()] == [(1, "A1"), (2, "A2"), (3, "A3")]
    assert [(r.row, r.column) for r in refused] == [(5, "decided")]


# -- a wrong file ----------------------------------------------------------------------------------------------------
Spoil = Callable[[Office], object]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda o: o.file.unlink(), "cannot be read: No such file"),
        (lambda o: (o.file.unlink(), o.file.mkdir()), "cannot be read: Is a directory"),
        (lambda o: o.file.write_bytes(b""), "empty"),
        (lambda o: o.write(header=HEADER[1:]), "no column number, which the mapping reads"),
        (lambda o: o.write(header=[*HEADER, "number"]), "the column number stands there twice"),
        (lambda o: o.file.write_text(",".join(HEADER) + '\n"' + "x,\n" * 50_000), "line .*: not CSV: field larger"),
        (lambda o: o.file.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00"), "byte 0 is not utf-8-sig"),
        (lambda o: o.remap("zone:", "format: json\nzone:"), "not JSON"),
        (lambda o: (o.remap("zone:", "format: json\nzone:"), o.file.write_text("[" * 100_000)), "not JSON"),
        (lambda o: (o.remap("zone:", "format: json\nzone:"), o.file.write_text("{}")), "no list at the top"),
        (lambda o: (o.remap("zone:", "format: json\nrows: a\nzone:"), o.file.write_text('{"a":1}')), "no list at a"),
        (lambda o: (o.remap("zone:", "format: json\nzone:"), o.file.write_text('[{"number":1}]')), "no row has"),
        (lambda o: (o.remap("zone:", "format: json\nzone:"), o.file.write_text(" \n")), "empty"),
        (lambda o: o.map.unlink(), "no such mapping"),
        (lambda o: o.remap("city: jiangmen", "city: atlantis"), "no such city pack"),
        (lambda o: (o.bring(), o.remap("city: jiangmen", "city: calgary")), "holds the city 440700"),
        (lambda o: (o.data.mkdir(), (o.data / "feed-permits.db").write_text("no" * 99)), "cannot be .* a database"),
        (lambda o: o.data.write_text("a file"), "cannot be the data folder"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_mapping_says_is_one_sentence(office: Office, spoil: Spoil, sentence: str) -> None:
    office.write(row("A1"))
    spoil(office)
    with pytest.raises(UsageError, match=sentence):
        office.bring()


@pytest.mark.parametrize("lead", [0, 65_535, 200_000])
@pytest.mark.parametrize(
    ("encoding", "bad"), [("utf-8-sig", b"\xff"), ("gb18030", b"\xff"), ("utf-8", "房".encode("gb18030"))]
)
def test_bytes_of_another_encoding_are_named_by_their_place(
    office: Office, lead: int, encoding: str, bad: bytes
) -> None:
    office.remap("zone:", f"encoding: {encoding}\nzone:")
    head = (",".join(HEADER) + "\n" + ("房" * 300 + "\n") * (lead // 900)).encode(encoding)
    office.file.write_bytes(head + bad + b"\n")
    assert broken_at(office.file, encoding) == len(head)
    with pytest.raises(UsageError, match=rf"byte {len(head)} is not {encoding}"):
        office.bring()


def test_a_line_of_a_gigabyte_is_refused_without_being_read(office: Office) -> None:
    office.write(row("A1"))
    os.truncate(office.file, 2**30)
    tracemalloc.start()
    with pytest.raises(UsageError, match=f"line 3: longer than {MAX_LINE} characters"):
        office.bring()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert csv.field_size_limit() >= MAX_FIELD


# -- a wrong mapping -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("since:", "sinse:", 5, "sinse: no such key in a mapping"),
        ("{column: east, round: true}", "{column: east, rund: true}", 15, "columns.project.longitude.rund: no such"),
        ("since: 2026-01-01", "since: last year", 5, "since: Input should be a valid date"),
        ("zone: Asia/Shanghai", "zone: Jiangmen", 3, "zone: no such time zone"),
        ("zone:", "encoding: klingon\nzone:", 3, "encoding: no such encoding"),
        ("zone:", "city: again\nzone:", 3, "city: this key stands here twice"),
        ("key: number", "key: []", 4, "key: Tuple should have at least 1 item"),
        ("key: number", "key: number\nsubject: {local: a, unit: b}", 5, "subject: give exactly one"),
        ("key: number", "key: number\nsubject: {unit: b}", 5, "is about project or local"),
        ("key: number", "key: number\ncomplete: true", 5, "`complete: true` and `gone:`"),
        ("engineering.approval.decided.v1", "engineering.approval.v9", 6, "type: no such event type"),
        ("engineering.approval.decided.v1", "hookup.demand.confirmed.v1", 6, "type: a feed may not write this"),
        ("  missing:", "  historical:", 16, "historical: is set by since and finished"),
        ("  missing:", "  project.contact_phone:", 16, "contact_phone: is personal"),
        ("  missing:", "  color:", 16, "columns.color: no such field of the event; there are work, "),
        ("decided_on: decided", "decided_on: {column: decided, none: ___}", 10, "not filled in yet"),
        ("decision: APPROVED", "decision: MAYBE", 22, "decision: none of the field's words"),
        ("decision: APPROVED", "decision: UNKNOWN", 22, "decision: none of the field's words"),
        ("constants: {decision: APPROVED}", "ending: false", 21, "nothing gives the required field decision"),
        ("  project.name: name", "  acceptance_basis: {column: a, values: {x: WHOLE}}", 12, "leads to WHOLE"),
        ("facts:", "facts: x\nfact:", 20, "Input should be a valid"),
        ("source: permits", "source: Our Permits", 1, "source: String should match pattern"),
        ("source: permits", "source: [permits", 0, "cannot be read as YAML"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_named_by_file_line_and_key(
    office: Office, old: str, new: str, line: int, sentence: str
) -> None:
    office.remap(old, new)
    with pytest.raises(UsageError) as error:
        mapping.load(office.map, CATALOG)
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{office.map}:{line}:" if line else str(office.map))


def test_texts_of_a_mapping_stay_the_texts_they_are(office: Office) -> None:
    office.remap("{column: office, replace:", "{column: office, none: [NO, 9999-01-01, 007], replace:")
    assert mapping.load(office.map, CATALOG).columns["department_name"].none == ("NO", "9999-01-01", "007")


def test_every_mapping_of_the_project_can_be_loaded() -> None:
    files = sorted(mapping.MAPPINGS.glob("*.yaml"))
    assert len(files) >= 5
    assert [mapping.load(file, CATALOG).source for file in files] == [file.stem for file in files]


# -- the command -----------------------------------------------------------------------------------------------------
def command(*words: str | Path) -> Any:
    app = typer.Typer()
    app.command("import")(import_)
    app.add_typer(mapping_app, name="mapping")
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_prints_numbers_lists_what_it_refused_and_exits_one(office: Office) -> None:
    office.remap("project.households: homes", 'project.households: "=homes"')
    rejects = office.folder / "out.csv"
    good = {**row("A1"), "=homes": "1"}
    office.write(good, {**good, "number": "A2", "=homes": "secret"}, header=[*HEADER, "=homes"])
    words = ("import", office.file, "--mapping", office.map, "--data", office.data, "--rejects", rejects, "--json")
    result = command(*words)
    assert result.exit_code == 1
    numbers = json.loads(result.stdout)
    assert {name: numbers[name] for name in ("read", "new", "changed", "unchanged", "rejected", "events")} == {
        "read": 2, "new": 1, "changed": 0, "unchanged": 0, "rejected": 1, "events": 1,
    }  # fmt: skip
    with rejects.open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [["row", "column", "reason"], ["3", "'=homes", "not a whole number"]]
    office.write(good, header=[*HEADER, "=homes"])
    assert command(*words).exit_code == 0


def test_a_dry_run_says_the_same_numbers_and_writes_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(office.folder)
    office.write(row("A1"), row("A2", homes="?"))
    words = ("import", office.file, "--mapping", office.map, "--data", office.data, "--json")

    def files() -> set[str]:
        return {str(path) for path in office.folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}

    before = files()
    dry = json.loads(command(*words, "--dry-run").stdout)
    assert files() == before
    wet = json.loads(command(*words).stdout)
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry == wet
    office.write(row("A1", name="丙"))
    before = files()
    assert json.loads(command(*words, "--dry-run").stdout)["changed"] == 1
    assert (files(), len(office.events())) == (before, 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_a_drafted_mapping_loads_and_imports_once_its_marked_places_are_filled(office: Office, encoding: str) -> None:
    office.file.write_text(
        "许可证号;发证日期;单位 名称\n"
        + "".join(f"许{n};2026/03/0{n};某某房地产开发有限公司{n % 2}\n" for n in range(1, 9)),
        encoding,
    )
    out = office.folder / "draft.yaml"
    assert command("mapping", "init", office.file, "--out", out).exit_code == 0
    text = out.read_text("utf-8")
    assert "某某" not in text
    assert 'formats: ["%Y/%m/%d"]' in text
    assert f"encoding: {encoding}" in text
    with pytest.raises(UsageError, match=r"draft\.yaml:\d+: city: not filled in yet"):
        mapping.load(out, CATALOG)
    for name, word in (
        ("city", "jiangmen"),
        ("zone", "Asia/Shanghai"),
        ("since", "2026-01-01"),
        ("type", "licensing.licence.changed.v1"),
    ):
        text = text.replace(f"\n{name}: ___", f"\n{name}: {word}")
    text = text.replace("authority_region: ___", 'authority_region: "440703"\n  licence_kind: 许可证\n  status: ISSUED')
    text = text.replace("  ___: ___", "  licence: 许可证号").replace(
        "time: ___", 'time: {column: 发证日期, formats: ["%Y/%m/%d"]}'
    )
    out.write_text(text, "utf-8")
    assert bring(office.file, str(out), office.data) == (Drawn(read=8, new=8, events=8), [])
    with pytest.raises(UsageError, match="is there already"):
        typer.main.get_command(mapping_app)(["init", str(office.file), "--out", str(out)], standalone_mode=False)


@pytest.mark.parametrize("header", [True, False])
def test_a_mapping_is_drafted_from_json_too(office: Office, header: bool) -> None:
    rows: list[Any] = (
        [["A1", "2026-03-01"], ["A2", None]] if header else [{"号": "A1", "日": "2026-03-01"}, {"号": "A2"}]
    )
    office.file.write_text(json.dumps({"page": {"names": ["号", "日"]}, "list": rows}), "utf-8")
    drafted = yaml.load(command("mapping", "init", office.file).stdout, yaml.BaseLoader)  # noqa: S506
    assert (drafted["format"], drafted["rows"], drafted["key"]) == ("json", "list", ["号"])
    assert drafted.get("header") == ("page.names" if header else None)


# -- anything --------------------------------------------------------------------------------------------------------
CELLS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["2026-03-01", "1.50", "12", "-0", "1e9", "1E-9", "99999999.995", "true", "APPROVED", "0001-1-1"]),
    st.integers().map(str), st.decimals().map(str), st.floats().map(str), st.datetimes().map(str), st.booleans(),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
)  # fmt: skip
NAMES = sorted(name for name, field in FIELDS.items() if field.kind != "sealed")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), CELLS, st.booleans(), st.sampled_from(["", "、,"]))
def test_whatever_a_cell_holds_it_is_refused_here_or_taken_by_the_contract(
    name: str, cell: Any, loose: bool, separators: str
) -> None:
    how = Column(column="c", round=loose, separators=separators)
    try:
        value = Target(FIELDS[name], how, UTC).read(cell)
    except CellError:
        return
    data: dict[str, Any] = {
        "item_instance": "i",
        "decision_kind": "OTHER",
        "decision": "APPROVED",
        "authority_region": "440703",
    }
    if "." in name:
        data["project"] = {name.partition(".")[2]: value}
    else:
        data[name] = value
    CONTRACT.encode(
        Draft(type="engineering.approval.decided.v1", subject="local:a:b", time=datetime.now(UTC), data=data)
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    content=st.one_of(st.binary(max_size=400), st.text(max_size=300).map(str.encode)),
    kind=st.sampled_from(["csv", "json"]),
)
def test_whatever_a_file_holds_it_is_rows_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "map.yaml").write_text(MAPPING.replace("zone:", f"format: {kind}\nzone:"), "utf-8")
    (folder / "file").write_bytes(",".join(HEADER).encode() + b"\n" + content if kind == "csv" else content)
    feed = Feed(folder / "file", mapping.load(folder / "map.yaml", CATALOG), CATALOG, lambda: datetime.now(UTC))
    try:
        readings = list(feed.scan())
    except UsageError:
        return
    assert len(feed.rejects) == sum(reading.reason is not None for reading in readings)
