"""`jietong leads export`, `jietong answers import`: an operator that works with a spreadsheet.

What is exported can be filled in and imported as it is: the columns are the same, others are not read.
"""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from jietong.adapters.sqlite import SqliteStore
from jietong.cli import screen
from jietong.cli.folder import Folder, module, opened
from jietong.cli.importing import FORMULA, write_rejects
from jietong.cli.options import AsJson, Data, DryRun
from jietong.errors import InvalidEventError, UsageError
from jietong.feed.source import Reject

PLATFORM = "connectors.utility.platform"
LEAD = (
    "case", "status", "reason", "account", "promised_days", "works_external", "access_point", "capacity", "length_m",
    "fee", "days", "subject", "name", "address", "site_regions", "utility", "business_kind", "phase", "work", "customer_role",
    "demand_basis", "asked", "received_at", "triggered_at", "contact_by",
)  # fmt: skip
STEPS = {
    "CONTACTED": "contact", "ACCEPTED": "accept", "PLAN_REPLIED": "reply", "CONTRACTED": "contract",
    "WORKS_STARTED": "start_works", "WORKS_FINISHED": "finish_works", "INSPECTED": "inspect", "CONNECTED": "connect",
    "NOT_NEEDED": "not_needed", "DECLINED": "decline", "REFUSED": "refuse",
}  # fmt: skip
HOUR = 3_600_000
MOST_BYTES, LONGEST = 64 * 1024 * 1024, 1000
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
    store = opened(Folder(data).platform(operator))
    begins = since.replace(tzinfo=screen.LOCAL) if since else datetime.fromtimestamp(0, UTC)
    rows = [row for case in module(PLATFORM).Platform(store).cases() if (row := _lead(case))["received_at"] >= begins]
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


def _lead(case: Any) -> dict[str, Any]:
    hours: int | None = case.contact_within_hours
    by = None if hours is None else screen.moment(case.received_at + hours * HOUR)
    same = {name: getattr(case, name) for name in LEAD if hasattr(case, name)}
    return dict.fromkeys(LEAD) | same | {
        "case": case.case_id, "received_at": screen.moment(case.received_at),
        "triggered_at": screen.moment(case.triggered_at), "contact_by": by,
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
    path = Folder(data).platform(operator)
    rows = list(_rows(file))
    counts: Counter[str] = Counter(read=len(rows), taken=0, unchanged=0)
    with tempfile.TemporaryDirectory() as scratch:
        store = _throw_away(path, Path(scratch)) if dry_run else opened(path, read_only=False)
        refused = list(_take(store, rows, counts))
        store.close()
    listed = rejects or Path(f"{file.name}.rejects.csv")
    if refused and not dry_run:
        write_rejects(listed, refused)
    _tell(counts, refused, None if dry_run else listed, as_json)
    raise typer.Exit(1 if refused else 0)


def _take(store: SqliteStore, rows: Sequence[tuple[int, Mapping[str, str]]], counts: Counter[str]) -> Iterator[Reject]:
    system = module(PLATFORM)
    platform = system.Platform(store)
    for number, row in rows:
        try:
            known = next((case for case in platform.cases() if case.case_id == row["case"]), None)
            if known is not None and row["status"] in (known.status, known.done, ""):
                counts["unchanged"] += 1
            else:
                _step(platform, system.Plan, row)
                counts["taken"] += 1
        except _CellError as error:
            yield Reject(number, error.column, error.reason)
        except (UsageError, InvalidEventError) as error:
            yield Reject(number, "status", str(error).partition(": ")[2] or str(error))


class _CellError(Exception):
    def __init__(self, column: str, reason: str) -> None:
        self.column, self.reason = column, reason


def _step(platform: Any, plan: Any, row: Mapping[str, str]) -> None:
    """One step of the operator's people. Raises _CellError or UsageError."""
    status, now = row["status"], datetime.now(UTC)
    if status not in STEPS:
        raise _CellError("status", f"must be one of {', '.join(STEPS)}")
    take = getattr(platform, STEPS[status])
    match status:
        case "ACCEPTED":
            take(row["case"], now=now, promised_days=_whole(row, "promised_days"))
        case "PLAN_REPLIED":
            take(row["case"], _plan(row, plan), now=now)
        case "CONNECTED":
            take(row["case"], _needed(row, "account"), now=now)
        case "DECLINED" | "REFUSED":
            take(row["case"], _needed(row, "reason"), now=now)
        case "NOT_NEEDED":
            take(row["case"], now=now, reason=row.get("reason") or None)
        case _:
            take(row["case"], now=now)


def _plan(row: Mapping[str, str], plan: Any) -> Any:
    return plan(works_external=_truth(row, "works_external"), access_point=row.get("access_point") or None,
                capacity=row.get("capacity") or None, length_m=_decimal(row, "length_m"), fee=_decimal(row, "fee"),
                days=_whole(row, "days"))  # fmt: skip


def _needed(row: Mapping[str, str], column: str) -> str:
    if not (cell := row.get(column, "")):
        raise _CellError(column, f"{row['status']} needs it")
    return cell


def _whole(row: Mapping[str, str], column: str) -> int | None:
    cell = row.get(column, "")
    if cell and not (cell.isascii() and cell.isdecimal() and len(cell) < 6):
        raise _CellError(column, "must be a whole number")
    return int(cell) if cell else None


def _decimal(row: Mapping[str, str], column: str) -> Decimal | None:
    cell = row.get(column, "")
    try:
        number = Decimal(cell) if cell else None
    except InvalidOperation:
        raise _CellError(column, "must be a number") from None
    if number is not None and not (number.is_finite() and 0 <= number < 10**12 and number == round(number, 2)):
        raise _CellError(column, "must be a number from 0, with at most two decimals")
    return None if number is None else round(number, 2)


def _truth(row: Mapping[str, str], column: str) -> bool:
    cell = row.get(column, "").lower()
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
            cells = {name: armed((line.get(name) or "").strip()) for name in LEAD}
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


def _throw_away(path: Path, scratch: Path) -> SqliteStore:
    """A copy on which a dry run takes its steps."""
    store = opened(path)
    store.backup(scratch / path.name)
    store.close()
    return opened(scratch / path.name, read_only=False)


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
