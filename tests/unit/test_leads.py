"""An operator that works with a spreadsheet: what it is shown, and what it fills in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from connectors.utility import tables
from connectors.utility.connector import PROGRESSED, REQUESTED, OperatorSource
from connectors.utility.platform import Platform
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.cli import leads
from jietong.cli.app import run
from jietong.contract import Contract
from jietong.event import Event

NOW = datetime(2026, 4, 21, 8, 0, tzinfo=UTC)
SUBJECT = "2604-440703-04-01-000017"
CONTRACT = Contract(catalog.load())
SAID: dict[str, Any] = {
    "operator": "jm-water", "utility": "WATER", "phase": 1, "work": None, "status": "LEAD", "triggered_at": NOW, "project": {"name": "=产业园"},
    "demand": None, "demand_basis": "UNKNOWN", "customer_role": "DEVELOPER", "contact_within_hours": 24, "site_regions": ["440703"],
    "reason": "APPROVAL_DECIDED", "answer_by": NOW, "promised_plan_days": 3, "promised_connect_days": 8, "promised_fee": Decimal("0.00"),
    "promised_boundary": "红线", "missing": ["合同", "图纸"], "missing_due": date(2026, 5, 21), "permits": "PENDING", "permits_reason": None,
    "continues": None, "refused_step": None, "refused_because": None, "authorised": ["contact_name"], "round": 1,
}  # fmt: skip
Rows = list[dict[str, str]]
Import = Callable[..., dict[str, Any]]


class Desk:
    """An operator's folder, and its spreadsheet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.store = SqliteStore(folder / "platform-jm-water.db", tables.utility)
        self.platform = Platform(self.store, opens=lambda _subject, sealed: "张三" if sealed else None)

    def ask(self, case: str, kind: str, **more: Any) -> None:
        self.number += 1
        project = {"address": None, "contact_name": {"key": "k"}, "contact_phone": None}
        data: dict[str, Any] = {**SAID, "case": case, "business_kind": kind, **more}
        data["project"] = project | dict(data["project"])
        self.platform.deliver(
            Event(type=REQUESTED, subject=SUBJECT, time=NOW, data=data, id=uuid4(), source="urn:jietong:440700:hookup", sequence=self.number,
                  recorded=NOW), NOW,
        )  # fmt: skip

    def exported(self) -> Rows:
        out = self.folder / "leads.csv"
        assert run(["leads", "export", "--operator", "jm-water", "--out", str(out), "--data", str(self.folder)]) == 0
        with out.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream))

    def filled(self, case: str, **cells: str) -> Rows:
        """The exported sheet, with cells of one row filled in."""
        return [row | cells if row["case"] == case else row for row in self.exported()]

    def steps(self) -> list[dict[str, Any]]:
        """What its connector tells, as the contract takes it."""
        drafts = [draft for reading in OperatorSource("jm-water", self.store).read(None) for draft in reading.drafts]
        for draft in drafts:
            CONTRACT.encode(draft)
        return [dict(draft.data) for draft in drafts]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.ask("p", "PROTECT")
    made.ask("s", "PERMANENT")
    yield made
    made.store.close()


@pytest.fixture
def take(desk: Desk, capfd: pytest.CaptureFixture[str]) -> Import:
    """Import rows; the counts, and the (row, column) of what was refused."""

    def call(rows: Rows) -> dict[str, Any]:
        file, listed = desk.folder / "answers.csv", desk.folder / "rejects.csv"
        with file.open("w", encoding="gb18030", newline="") as stream:
            writer = csv.DictWriter(stream, list[str](leads.LEAD))
            writer.writeheader()
            writer.writerows(rows)
        capfd.readouterr()
        run(
            [
                "answers",
                "import",
                str(file),
                "--operator",
                "jm-water",
                "--rejects",
                str(listed),
                "--data",
                str(desk.folder),
                "--json",
            ]
        )
        counts: dict[str, Any] = json.loads(capfd.readouterr().out)
        if counts["rejected"]:
            with listed.open(encoding="utf-8-sig", newline="") as stream:
                counts["refused"] = [(row["row"], row["column"]) for row in csv.DictReader(stream)]
        return counts

    return call


def test_a_lead_shows_what_was_promised_what_is_missing_and_where_its_permits_stand(desk: Desk) -> None:
    lead = next(row for row in desk.exported() if row["case"] == "s")
    shown = {
        name: lead[name]
        for name in leads.LEAD
        if name.startswith(("promised_", "missing", "permits", "answer_by", "contact_by"))
    }
    assert shown == {
        "promised_days": "", "answer_by": "2026-04-21 16:00:00", "contact_by": "2026-04-22 16:00:00", "promised_plan_days": "3",
        "promised_connect_days": "8", "promised_fee": "0.00", "promised_boundary": "红线", "missing": "合同、图纸", "missing_due": "2026-05-21",
        "permits": "PENDING", "permits_reason": "",
    }  # fmt: skip
    assert (lead["fee"], lead["boundary"], lead["name"]) == ("", "", "'=产业园"), "a promise is no answer"


def test_contact_data_is_not_in_the_sheet(desk: Desk) -> None:
    assert {case.contact_name for case in desk.platform.cases()} == {"张三"}
    assert "张三" not in repr(desk.exported())


def test_a_step_that_the_city_did_not_apply_is_shown(desk: Desk) -> None:
    desk.ask(
        "s",
        "PERMANENT",
        status="AMENDED",
        round=2,
        refused_step=str(UUID(int=1)),
        refused_because="INSPECTED cannot follow LEAD",
    )
    assert next(row for row in desk.exported() if row["case"] == "s")["refused"] == "INSPECTED cannot follow LEAD"


@pytest.mark.parametrize(
    ("answer", "status"), [("NONE", "NOT_NEEDED"), ("PROTECT", "PLAN_REPLIED"), ("MOVE", "PLAN_REPLIED")]
)
@pytest.mark.parametrize("said", [True, False])
def test_a_protection_request_is_answered_in_its_own_column(
    desk: Desk, take: Import, answer: str, status: str, said: bool
) -> None:
    rows = desk.filled("p", protection=answer, **({"status": status} if said else {}))
    assert (take(rows)["taken"], desk.platform.case("p").status) == (1, status)  # pyright: ignore[reportOptionalMemberAccess]
    assert [(step["status"], step["protection"]) for step in desk.steps()] == [(status, answer)]
    assert take(rows) | {"dry_run": 0} == {"read": 2, "taken": 0, "unchanged": 2, "rejected": 0, "dry_run": 0}
    assert next(row for row in desk.exported() if row["case"] == "p")["protection"] == answer
    assert take(desk.exported())["unchanged"] == 2


def test_an_answered_request_goes_on_in_the_same_sheet(desk: Desk, take: Import) -> None:
    take(desk.filled("p", protection="PROTECT"))
    assert take(desk.filled("p", status="WORKS_FINISHED"))["taken"] == 1
    assert [(step["status"], step["protection"]) for step in desk.steps()] == [
        ("PLAN_REPLIED", "PROTECT"),
        ("WORKS_FINISHED", None),
    ]


@pytest.mark.parametrize(
    ("case", "cells", "column"),
    [
        ("p", {"protection": "PERHAPS"}, "protection"),
        ("p", {"protection": "NONE", "status": "PLAN_REPLIED"}, "status"),
        ("p", {"protection": "MOVE", "status": "ACCEPTED"}, "status"),
        ("p", {"status": "NOT_NEEDED"}, "status"),
        ("s", {"protection": "MOVE"}, "protection"),
        ("p", {"protection": "MOVE", "works_external": "yes", "planned_start": "2026-13-01"}, "planned_start"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_by_its_column(
    desk: Desk, take: Import, case: str, cells: dict[str, str], column: str
) -> None:
    counts = take(desk.filled(case, **cells))
    assert [name for _, name in counts["refused"]] == [column]
    assert desk.steps() == []


def test_a_second_answer_that_contradicts_the_first_is_refused(desk: Desk, take: Import) -> None:
    take(desk.filled("p", protection="MOVE"))
    assert take(desk.filled("p", protection="NONE"))["rejected"] == 1
    assert [step["protection"] for step in desk.steps()] == ["MOVE"]


def test_a_plan_says_where_and_when_it_digs(desk: Desk, take: Import) -> None:
    desk.platform.accept("s", now=NOW)
    cells = {
        "status": "PLAN_REPLIED", "works_external": "是", "access_point": "DN400", "boundary": "红线", "works_kinds": "road_excavation、TRAFFIC",
        "road": "新昌路", "length_m": "86.5", "area_m2": "12.5", "depth_m": "1.6", "pipe_dn_mm": "200", "voltage": "10kV", "trees": "2", "fee": "0",
        "days": "4", "planned_start": "2026/5/4", "planned_finish": "2026-05-09",
    }  # fmt: skip
    assert take(desk.filled("s", **cells))["taken"] == 1
    plan = desk.steps()[-1]["plan"]
    assert plan == {
        "works_external": True, "access_point": "DN400", "capacity": None, "boundary": "红线", "works_kinds": ["ROAD_EXCAVATION", "TRAFFIC"],
        "road": "新昌路", "length_m": Decimal("86.50"), "area_m2": Decimal("12.50"), "depth_m": Decimal("1.60"), "pipe_dn_mm": 200, "voltage": "10kV",
        "trees": 2, "fee": Decimal("0.00"), "days": 4, "emergency": False, "planned_start": date(2026, 5, 4), "planned_finish": date(2026, 5, 9),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("works_external", ""), ("works_kinds", "DIGGING"), ("depth_m", "10000"), ("length_m", "-1"), ("area_m2", "1.234"), ("pipe_dn_mm", "DN200"),
        ("voltage", "十" * 21), ("road", "路" * 201), ("emergency", "perhaps"), ("planned_start", "明天"), ("planned_start", "2026-05"),
        ("planned_finish", "2026-05-03"), ("trees", "1.5"),
    ],
)  # fmt: skip
def test_a_cell_of_a_plan_that_cannot_be_is_refused_by_its_column(
    desk: Desk, take: Import, column: str, cell: str
) -> None:
    desk.platform.accept("s", now=NOW)
    cells = {"status": "PLAN_REPLIED", "works_external": "yes", "planned_start": "2026-05-04"} | {column: cell}
    assert [name for _, name in take(desk.filled("s", **cells))["refused"]] == [column]
    assert len(desk.steps()) == 1


def test_a_visit_that_was_demanded_is_said_and_a_lapse_needs_a_reason(desk: Desk, take: Import) -> None:
    take(desk.filled("s", status="CONTACTED", visit_demanded="yes"))
    assert [name for _, name in take(desk.filled("s", status="LAPSED"))["refused"]] == ["reason"]
    take(desk.filled("s", status="LAPSED", reason="逾期未签合同"))
    assert [(step["status"], step["visit_demanded"]) for step in desk.steps()] == [
        ("CONTACTED", True),
        ("LAPSED", None),
    ]


def test_its_words_of_works_are_those_of_the_event() -> None:
    schema = json.loads((Path(catalog.__file__).parent / "schemas/avro/works.permit.requested.v1.1.avsc").read_text())
    (kind,) = (field["type"] for field in schema["fields"] if field["name"] == "works_kind")
    assert ["UNKNOWN", *leads.WORKS] == kind["symbols"]
    assert PROGRESSED in CONTRACT.catalog.topics
