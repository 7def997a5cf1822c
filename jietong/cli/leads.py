"""`jietong leads export`, `jietong answers import`: an operator that works with a spreadsheet.

What is exported can be filled in and imported as it is: of its columns those of `ANSWER` are read.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from jietong.cli import screen
from jietong.cli.folder import Folder, module
from jietong.cli.importing import FORMULA, write_rejects
from jietong.cli.options import AsJson, Data, DryRun
from jietong.errors import InvalidEventError, UsageError
from jietong.feed.source import Reject
from jietong.store import Store

PLATFORM = "connectors.utility.platform"
ANSWER = (
    "case", "status", "reason", "account", "promised_days", "visit_demanded", "protection", "works_external", "access_point", "capacity",
    "length_m", "fee", "days", "boundary", "works_kinds", "road", "area_m2", "depth_m", "pipe_dn_mm", "voltage", "trees", "emergency",
    "planned_start", "planned_finish",
)  # fmt: skip
"""What an operator fills in."""
LEAD = (
    *ANSWER, "subject", "name", "address", "site_regions", "utility", "business_kind", "phase", "work", "continues", "customer_role",
    "demand_basis", "asked", "received_at", "triggered_at", "contact_by", "answer_by", "promised_plan_days", "promised_connect_days",
    "promised_fee", "promised_boundary", "missing", "missing_due", "permits", "permits_reason", "refused",
)  # fmt: skip
OF_CASE = {
    "promised_plan_days": "plan_days", "promised_connect_days": "connect_days", "promised_fee": "fee", "promised_boundary": "boundary",
}  # fmt: skip
"""Columns that the operator's own table calls otherwise."""
ANSWERED = {"NONE": "NOT_NEEDED", "PROTECT": "PLAN_REPLIED", "MOVE": "PLAN_REPLIED"}
"""The step that an answer to a protection request is."""
UNANSWERED = ("LEAD", "CONTACTED", "DEMAND_CONFIRMED", "ACCEPTED")
"""Where such a case stood before it."""
STEPS = {
    "CONTACTED": "contact", "ACCEPTED": "accept", "PLAN_REPLIED": "reply", "CONTRACTED": "contract",
    "WORKS_STARTED": "start_works", "WORKS_FINISHED": "finish_works", "INSPECTED": "inspect", "CONNECTED": "connect",
    "NOT_NEEDED": "not_needed", "DECLINED": "decline", "REFUSED": "refuse", "LAPSED": "lapse",
}  # fmt: skip
HOUR = 3_600_000
MOST_BYTES, LONGEST = 64 * 1024 * 1024, 1000
LIMITS = {
    "access_point": 500, "capacity": 100, "boundary": 500, "road": 200, "voltage": 20, "reason": 500, "account": 50,
    "fee": 12, "length_m": 8, "area_m2": 10, "depth_m": 4,
}  # fmt: skip
"""Characters of a text, digits before the point of a number: what an event holds."""
WORKS = ("ROAD_OCCUPATION", "ROAD_EXCAVATION", "GREEN_SPACE", "TREES", "TRAFFIC", "RIVER", "HIGHWAY")
YES, NO = ("1", "true", "yes", "y", "是"), ("0", "false", "no", "n", "否")

Since = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only what came since then, Asia/Shanghai."),
]
Out = Annotated[Path | None, typer.Option(help="Where to write it (default: the screen).")]
Rejects = Annotated[Path | None, typer.Option(help="Where refused rows are listed (default: FILE.rejects.csv, here).")]
Operator = Annotated[str, typer.Option(help="The operator's id in the city pack, such as jm-water.")]

leads_app = typer.Typer(no_args_is_help=True, help="An operator's leads, as a spreadsheet.")
answers_app = typer.Typer(no_args_is_help=True, help="An operator's answers, from a spreadsheet.")


@leads_app.callback()
def leads_() -> None:
    """An operator's leads, as a spreadsheet."""


@answers_app.callback()
def answers_() -> None:
    """An operator's answers, from a spreadsheet."""


# -- export ----------------------------------------------------------------------------------------------------------------
@leads_app.command("export")
def export(
    operator: Operator,
    since: Since = None,
    out: Out = None,
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The cases in an operator's own table as CSV (UTF-8 with BOM). A cell that a spreadsheet would run is defused."""
    store = Folder(data).platform(operator)
    begins = since.replace(tzinfo=screen.LOCAL) if since else datetime.fromtimestamp(0, UTC)
    platform = module(PLATFORM).Platform(store)
    answered = platform.protections()
    rows = [row for case in platform.cases() if (row := _lead(case, answered))["received_at"] >= begins]
    if as_json:
        screen.emit(rows)
    elif dry_run:
        print(f"would write {len(rows)} cases{f' to {out}' if out else ''}")
    elif out:
        _write(out, rows)
        print(f"wrote {len(rows)} cases to {out}")
    else:
        sys.stdout.write("\ufeff")
        _csv(sys.stdout, rows)


def _lead(case: Any, answered: Mapping[str, str]) -> dict[str, Any]:
    """Its answer columns are to be filled in: only what stands is in them. Contact data stays in the operator's own system."""
    hours: int | None = case.contact_within_hours
    same = {name: getattr(case, OF_CASE.get(name, name), None) for name in LEAD if name not in ANSWER}
    return dict.fromkeys(LEAD) | same | {
        "case": case.case_id, "status": case.status, "protection": answered.get(case.case_id),
        "received_at": screen.moment(case.received_at), "triggered_at": screen.moment(case.triggered_at),
        "contact_by": None if hours is None else screen.moment(case.received_at + hours * HOUR),
        "answer_by": None if case.answer_by is None else screen.moment(case.answer_by),
        "missing": "、".join(json.loads(case.missing or "[]")) or None,
    }  # fmt: skip


def _write(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Whole or not at all."""
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8-sig", newline="") as stream:
            _csv(stream, rows)
        part.replace(out)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}; give another --out") from error


def _csv(stream: IO[str], rows: Sequence[Mapping[str, Any]]) -> None:
    lines = csv.writer(stream, lineterminator="\r\n")
    lines.writerow(LEAD)
    lines.writerows([defused(row[name]) for name in LEAD] for row in rows)


def defused(value: object) -> str:
    """A cell as text; one that a spreadsheet would run is defused by an apostrophe (OWASP, CSV injection)."""
    if value is None:
        return ""
    text = value.astimezone(screen.LOCAL).strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def armed(cell: str) -> str:
    """The text of a cell that was defused."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


# -- import ----------------------------------------------------------------------------------------------------------------
@answers_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV with the columns case and status, and what the status needs.")],
    operator: Operator,
    rejects: Rejects = None,
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take the steps a file tells into an operator's own table. Exit code 1 if some rows were refused."""
    folder = Folder(data)
    name = folder.platform(operator).name
    rows = list(_rows(file))
    counts: Counter[str] = Counter(read=len(rows), taken=0, unchanged=0)
    with folder.kept.rehearsed(name) if dry_run else closing(folder.platform(operator, write=True)) as store:
        refused = list(_take(store, rows, counts))
    listed = rejects or Path(f"{file.name}.rejects.csv")
    if refused and not dry_run:
        write_rejects(listed, refused)
    _tell(counts, refused, None if dry_run else listed, as_json)
    raise typer.Exit(1 if refused else 0)


def _take(store: Store, rows: Sequence[tuple[int, Mapping[str, str]]], counts: Counter[str]) -> Iterator[Reject]:
    system = module(PLATFORM)
    platform = system.Platform(store)
    answered: dict[str, str] = platform.protections()
    for number, row in rows:
        try:
            match _new(platform.case(row["case"]), row, answered):
                case "answer":
                    _answer(platform, system.Plan, row)
                    answered[row["case"]] = row["protection"]
                case "step":
                    _step(platform, system.Plan, row)
                case _:
                    counts["unchanged"] += 1
                    continue
            counts["taken"] += 1
        except _CellError as error:
            yield Reject(number, error.column, error.reason)
        except (UsageError, InvalidEventError) as error:
            yield Reject(number, "status", str(error).partition(": ")[2] or str(error))


class _CellError(Exception):
    def __init__(self, column: str, reason: str) -> None:
        self.column, self.reason = column, reason


def _new(known: Any, row: Mapping[str, str], answered: Mapping[str, str]) -> str | None:
    """What a row says anew of a case: an `answer` to a protection request, which may stand beside the status as it was, or
    a `step`; None: nothing."""
    if known is None:
        return "step"
    answer, status = row["protection"], row["status"]
    if answer and answered.get(known.case_id) != answer:
        _checked(known, answer, status)
        return "answer"
    if status in (known.status, known.done, "") or (answer and status in UNANSWERED):
        return None
    return "step"


def _checked(known: Any, answer: str, status: str) -> None:
    if known.business_kind != "PROTECT":
        raise _CellError("protection", "only a PROTECT case is answered so")
    if answer not in ANSWERED:
        raise _CellError("protection", f"must be one of {', '.join(ANSWERED)}")
    if status not in (known.status, known.done, "", ANSWERED[answer]):
        raise _CellError("status", f"{answer} is {ANSWERED[answer]}; or leave it as it was exported")


def _answer(platform: Any, plan: Any, row: Mapping[str, str]) -> None:
    drawn = _plan(row, plan) if row["works_external"] else None
    platform.protect(row["case"], row["protection"], now=datetime.now(UTC), plan=drawn)


def _step(platform: Any, plan: Any, row: Mapping[str, str]) -> None:
    """One step of the operator's people. Raises _CellError or UsageError."""
    status, now = row["status"], datetime.now(UTC)
    if status not in STEPS:
        raise _CellError("status", f"must be one of {', '.join(STEPS)}")
    take = getattr(platform, STEPS[status])
    match status:
        case "CONTACTED":
            take(row["case"], now=now, visit_demanded=_truth(row, "visit_demanded", empty=False))
        case "ACCEPTED":
            take(row["case"], now=now, promised_days=_whole(row, "promised_days"))
        case "PLAN_REPLIED":
            take(row["case"], _plan(row, plan), now=now)
        case "CONNECTED":
            take(row["case"], _needed(row, "account"), now=now)
        case "DECLINED" | "REFUSED" | "LAPSED":
            take(row["case"], _needed(row, "reason"), now=now)
        case "NOT_NEEDED":
            take(row["case"], now=now, reason=_text_of(row, "reason"))
        case _:
            take(row["case"], now=now)


def _plan(row: Mapping[str, str], plan: Any) -> Any:
    texts = {name: _text_of(row, name) for name in ("access_point", "capacity", "boundary", "road", "voltage")}
    decimals = {name: _decimal(row, name) for name in ("length_m", "fee", "area_m2", "depth_m")}
    numbers = {name: _whole(row, name) for name in ("days", "pipe_dn_mm", "trees")}
    days = {name: _day(row, name) for name in ("planned_start", "planned_finish")}
    if days["planned_start"] and days["planned_finish"] and days["planned_finish"] < days["planned_start"]:
        raise _CellError("planned_finish", "is before planned_start")
    return plan(
        works_external=_truth(row, "works_external"), works_kinds=_kinds(row), emergency=_truth(row, "emergency", empty=False),
        **texts, **decimals, **numbers, **days,
    )  # fmt: skip


def _kinds(row: Mapping[str, str]) -> tuple[str, ...]:
    """The permits that the works need, by their words, separated by spaces or commas."""
    kinds = tuple(row["works_kinds"].upper().replace(",", " ").replace("、", " ").split())
    if any(kind not in WORKS for kind in kinds):
        raise _CellError("works_kinds", f"must be of {', '.join(WORKS)}")
    return kinds


def _text_of(row: Mapping[str, str], column: str) -> str | None:
    if len(row[column]) > LIMITS[column]:
        raise _CellError(column, f"must have at most {LIMITS[column]} characters")
    return row[column] or None


def _day(row: Mapping[str, str], column: str) -> date | None:
    """As spreadsheets write it too: 2026/5/4."""
    try:
        return date(*map(int, row[column].replace("/", "-").split("-"))) if row[column] else None
    except (ValueError, TypeError):
        raise _CellError(column, "must be a day, YYYY-MM-DD") from None


def _needed(row: Mapping[str, str], column: str) -> str:
    if (cell := _text_of(row, column)) is None:
        raise _CellError(column, f"{row['status']} needs it")
    return cell


def _whole(row: Mapping[str, str], column: str) -> int | None:
    cell = row[column]
    if cell and not (cell.isascii() and cell.isdecimal() and len(cell) < 6):
        raise _CellError(column, "must be a whole number")
    return int(cell) if cell else None


def _decimal(row: Mapping[str, str], column: str) -> Decimal | None:
    cell = row[column]
    try:
        number = Decimal(cell) if cell else None
    except InvalidOperation:
        raise _CellError(column, "must be a number") from None
    most = 10 ** LIMITS[column]
    if number is not None and not (number.is_finite() and 0 <= number < most and number == round(number, 2)):
        raise _CellError(column, f"must be a number from 0, below {most}, with at most two decimals")
    return None if number is None else round(number, 2)


def _truth(row: Mapping[str, str], column: str, empty: bool | None = None) -> bool:
    """`empty`: what an empty cell says; None: it must say something."""
    cell = row[column].lower()
    if not cell and empty is not None:
        return empty
    if cell not in YES + NO:
        raise _CellError(column, "must be yes or no (是, 否)")
    return cell in YES


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(number, cells): the header is row 1. Raises UsageError if the file cannot be read or lacks a column."""
    lines = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        columns = lines.fieldnames or []
        if missing := [name for name in ("case", "status") if name not in columns]:
            raise UsageError(f"{file}: no column {', '.join(missing)}; `jietong leads export` shows all")
        for number, line in enumerate(lines, 2):
            cells = {name: armed((line.get(name) or "").strip()) for name in ANSWER}
            yield number, {name: cell[:LONGEST] for name, cell in cells.items()}
    except csv.Error as error:
        raise UsageError(f"{file}: row {lines.line_num}: is not CSV: {error}") from error


def _text(file: Path) -> str:
    """UTF-8, or GB18030 as spreadsheets here still write it."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file}: over {MOST_BYTES // 1024 // 1024} MiB; split it")
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UsageError(f"{file}: is neither UTF-8 nor GB18030; save it as CSV UTF-8")


def _tell(counts: Mapping[str, int], refused: Sequence[Reject], listed: Path | None, as_json: bool) -> None:
    """`listed` is None where nothing is written."""
    if as_json:
        screen.emit({**counts, "rejected": len(refused), "dry_run": listed is None})
        return
    numbers = ", ".join(f"{name} {n}" for name, n in counts.items())
    print(f"{'answers' if listed else 'would be answers'}: {numbers}, rejected {len(refused)}")
    for reject in refused[:20]:
        typer.echo(str(reject), err=True)
    if refused and listed:
        typer.echo(f"the {len(refused)} refused rows are listed in {listed}", err=True)
