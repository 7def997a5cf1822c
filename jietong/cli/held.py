"""`jietong held`, `jietong tasks`: what waits, where, why and since when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from jietong.cli import screen
from jietong.cli.folder import Folder, has_table
from jietong.cli.options import AsJson, Data
from jietong.event import HELD, Fate
from jietong.store import Row, Store, Transaction

SHOWN = 200
COLUMNS = ("consumer", "what", "source", "type", "subject", "sequence", "reason", "since", "next_try")
WAITING = """SELECT i.source, i.type, i.subject, i.sequence, i.id, i.fate, i.reason, coalesce(i.settled, i.recorded),
r.next_at, coalesce(s.last, 0), coalesce(s.conflict, 0), (SELECT p.fate FROM inbox p WHERE p.source = i.source AND p.type = i.type
AND p.subject = i.subject AND p.sequence = coalesce(s.last, 0) + 1) FROM inbox i
LEFT JOIN stream s ON s.source = i.source AND s.type = i.type AND s.subject = i.subject
LEFT JOIN retry r ON r.source = i.source AND r.type = i.type AND r.subject = i.subject
WHERE i.fate IN ('waiting', 'parked', 'dead') {and_} ORDER BY 1, 2, 3, 4 LIMIT :most"""
TASK = ("program", "id", "subject", "kind", "detail", "since", "done")


def held(
    data: Data = None,
    consumer: Annotated[str | None, typer.Option(help="Only this consumer.")] = None,
    most: Annotated[int, typer.Option("-n", min=1, help="So many of each kind and consumer at most.")] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """Events that are parked, dead or wait behind those; rows that could not become events; records that are strays."""
    folder = Folder(data)
    stores = {consumer: folder.program(consumer)} if consumer else folder.programs
    rows = [row for name, store in stores.items() for row in waiting(name, store, most)]
    screen.records(rows, COLUMNS, as_json, "nothing is held")


def waiting(name: str, store: Store, most: int, subject: str | None = None) -> Iterator[dict[str, Any]]:
    """What one program holds; of one subject, or everything."""
    with store.snapshot() as tx:
        and_ = "AND i.subject = :subject" if subject else ""
        events = tx.execute(WAITING.format(and_=and_), {"most": most, "subject": subject}).all()
        others = [] if subject else [*_source_rows(tx, most), *_strays(tx, most)]
    for row in events:
        yield {"consumer": name, **_event(row)}
    for other in others:
        yield {"consumer": name, **other}


def tasks(
    context: typer.Context,
    data: Data = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are done too.")] = False,
    as_json: AsJson = False,
) -> None:
    """What waits for a person."""
    if context.invoked_subcommand:
        return
    folder = Folder(data)
    rows = [row for name, store in folder.programs.items() for row in to_do(name, store)]
    rows = [row for row in rows if everything or not row["done"]]
    screen.records(sorted(rows, key=lambda row: row["since"]), TASK, as_json, "nothing waits for a person")


def to_do(name: str, store: Store, subject: str | None = None) -> list[dict[str, Any]]:
    """The tasks of a program: any that has a table `task`."""
    with store.snapshot() as tx:
        if not has_table(tx, "task"):
            return []
        where = "WHERE subject = :subject" if subject else ""
        sql = f"SELECT id, subject, kind, detail, since, done FROM task {where} ORDER BY since, id"
        rows = tx.execute(sql, {"subject": subject}).all()
    named: list[dict[str, Any]] = [dict(zip(TASK, (name, *row), strict=True)) for row in rows]
    return [{**row, "since": screen.moment(row["since"]), "done": screen.moment(row["done"])} for row in named]


def _event(row: Row) -> dict[str, Any]:
    source, type_, subject, sequence, id_, fate, reason, since, next_at, last, conflict, first = row
    if fate == Fate.WAITING:
        reason = _why_waiting(sequence, last, conflict, first)
    return {
        "what": fate, "source": source, "type": type_, "subject": subject, "sequence": sequence, "id": id_,
        "reason": reason, "since": screen.moment(since), "next_try": screen.moment(next_at if fate == Fate.PARKED else None),
    }  # fmt: skip


def _why_waiting(sequence: int, last: int, conflict: int, first: str | None) -> str:
    """What stands before it. `first`: the fate of the event whose turn it is, None if that never came."""
    if conflict:
        return "its stream stands still: one sequence has two meanings (`jietong resolve`)"
    if first in HELD:
        return f"behind {last + 1}, which is {first}"
    if first is None:
        return f"{last + 1} has not come; it is asked for again"
    return "its turn: not taken yet, or its target is away" if sequence == last + 1 else f"behind {last + 1}"


def _source_rows(tx: Transaction, most: int) -> Iterator[Mapping[str, Any]]:
    """Rows of a platform that cannot become events yet; read again until they can."""
    sql = "SELECT row, reason, since FROM source_held ORDER BY since, row LIMIT :most"
    for row, reason, since in tx.execute(sql, {"most": most}).all():
        yield _other("source row", row, reason, since)


def _strays(tx: Transaction, most: int) -> Iterator[Mapping[str, Any]]:
    """Records that say nothing about any stream: damaged, or not from whom they claim."""
    sql = 'SELECT topic, partition, "offset", reason, seen FROM stray ORDER BY seen, topic, 2, 3 LIMIT :most'
    for topic, partition, offset, reason, seen in tx.execute(sql, {"most": most}).all():
        yield {**_other("stray", f"{partition}/{offset}", reason, seen), "type": topic}


def _other(what: str, subject: str, reason: str, since: int) -> dict[str, Any]:
    return {"what": what, "source": None, "type": None, "subject": subject, "sequence": None, "id": None,
            "reason": reason, "since": screen.moment(since), "next_try": None}  # fmt: skip
