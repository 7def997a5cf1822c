"""`jietong explain CODE`: one project's whole story, and why an operator did or did not get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from jietong import city, settings
from jietong.cli import screen
from jietong.cli.folder import Folder, has_table
from jietong.cli.held import SHOWN, to_do, waiting
from jietong.cli.options import AsJson, CityPack, Data
from jietong.cli.story import Reading, Told, story
from jietong.cli.why import SERVICE, Sentence, why
from jietong.errors import UsageError
from jietong.event import HELD, Fate

CASE = ("operator", "utility", "business_kind", "phase", "work", "requested", "progress", "round", "opened")


def explain(
    code: Annotated[str, typer.Argument(help="A project code, or another subject.")],
    operator: Annotated[str | None, typer.Option(help="Why this operator did or did not get it.")] = None,
    data: Data = None,
    pack: CityPack = None,
    as_json: AsJson = False,
) -> None:
    """Every event with when it happened, was recorded, logged and applied; cases; what is held and why."""
    folder = Folder(data)
    told = story(folder, code)
    if not told:
        raise UsageError(f"{code}: no event of it in {folder.name}; is the code right?")
    reasons = _reasons(folder, pack, operator, told) if operator else []
    events = [_event(one) for one in told]
    cases, held, tasks = _cases(folder, code), _held(folder, code), _tasks(folder, code)
    if as_json:
        sentences = [sentence._asdict() for sentence in reasons]
        screen.emit({"subject": code, "events": events, "cases": cases, "held": held, "tasks": tasks,
                        "operator": operator, "why": sentences})  # fmt: skip
        return
    for zh, en in reasons:
        print(f"{zh}\n  {en}")
    if operator:
        return
    for one in told:
        _print(folder, one)
    for title, rows in (("事项 cases", cases), ("待办 tasks", tasks), ("滞留 held", held)):
        if rows:
            print(f"\n{title}")
            screen.table(list(rows[0]), (list(row.values()) for row in rows))


def _reasons(folder: Folder, pack: str | None, operator: str, told: Sequence[Told]) -> list[Sentence]:
    known = city.load(settings.load(city=pack).city, folder.contract.catalog)
    if operator not in known.operators:
        raise UsageError(f"{known.name.en}: no operator {operator}; there are {', '.join(sorted(known.operators))}")
    return why(known, known.operators[operator], told)


def _event(told: Told) -> dict[str, Any]:
    e = told.envelope
    return {
        **e.key._asdict(), "id": str(e.id), "word": told.word, "operator": e.operator, "owner": told.owner, "happened": screen.moment(e.time),
        "recorded": screen.moment(e.recorded), "sent": told.sent, "logged": screen.moment(told.logged),
        "fault": told.fault, "data": told.event.data if told.event else None,
        "readers": {name: _reading(told, reading) for name, reading in sorted(told.readings.items())},
    }  # fmt: skip


def _reading(told: Told, reading: Reading) -> dict[str, Any]:
    return {"fate": reading.fate, "reason": reading.reason, "at": screen.moment(reading.at),
            "seconds": _delay(told, reading.at)}  # fmt: skip


def _print(folder: Folder, told: Told) -> None:
    """Two lines an event: what it is; and how long after its recording it was logged, applied, or why it is held."""
    key = told.envelope.key
    title = folder.contract.spec(key.type).title.get("zh", "")
    to = f" → {told.envelope.operator}" if told.envelope.operator else ""
    happened = screen.moment(told.envelope.time)
    assert happened is not None  # noqa: S101 — every event has a time
    print(f"{happened.astimezone(screen.LOCAL):%Y-%m-%d %H:%M:%S}  {title} {key.type} {key.sequence} {told.word}{to}")
    recorded = f"recorded {_seconds((told.envelope.recorded - told.envelope.time) / 1000)}"
    logged = f"logged {_seconds(_delay(told, told.logged))}" if told.logged else "sent" if told.sent else "not sent yet"
    readings = sorted(told.readings.items())
    applied = ", ".join(f"{name} {_seconds(_delay(told, r.at))}" for name, r in readings if r.fate == Fate.APPLIED)
    print(f"    {recorded} ({told.owner or 'owner not here'}), {logged}{'; applied: ' if applied else ''}{applied}")
    for name, reading in readings:
        if reading.fate not in (Fate.APPLIED, Fate.FILTERED):
            print(f"    {'!' if reading.fate in HELD else '·'} {name}: {reading.fate} {reading.reason or ''}".rstrip())
    if told.fault:
        print(f"    ! cannot be decoded: {told.fault}")


def _delay(told: Told, at: int | None) -> float | None:
    """Seconds from the outbox commit."""
    return None if at is None else (at - told.envelope.recorded) / 1000


def _seconds(delay: float | None) -> str:
    return "?" if delay is None else f"{delay:+.3f} s" if abs(delay) < 600 else f"{delay / 3600:+.1f} h"


def _cases(folder: Folder, code: str) -> list[dict[str, Any]]:
    """The cases of hookup, with the utility's last word."""
    store = folder.programs.get(SERVICE)
    if store is None:
        return []
    with store.snapshot() as tx:
        if not has_table(tx, "case_"):
            return []
        sql = f"SELECT {', '.join(CASE)} FROM case_ WHERE subject = :code ORDER BY opened, operator"
        rows = tx.execute(sql, {"code": code}).all()
    named: list[dict[str, Any]] = [dict(zip(CASE, row, strict=True)) for row in rows]
    return [{**row, "opened": screen.moment(row["opened"])} for row in named]


def _held(folder: Folder, code: str) -> list[Mapping[str, Any]]:
    return [row for name, store in folder.programs.items() for row in waiting(name, store, SHOWN, code)]


def _tasks(folder: Folder, code: str) -> list[Mapping[str, Any]]:
    return [row for name, store in folder.programs.items() for row in to_do(name, store, code) if not row["done"]]
