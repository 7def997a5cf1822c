"""`jietong verify`: the operator's reconciliation (对账), with numbers."""

from __future__ import annotations

from dataclasses import asdict

import typer

from jietong import catalog
from jietong.cli import screen
from jietong.cli.folder import Folder
from jietong.cli.options import AsJson, Data
from jietong.delivery.reconcile import Report, Taken, Written, reconcile

WRITTEN = ("source", "type", "events", "announced", "unsent", "logged", "trimmed", "missing", "misnumbered")
TAKEN = ("reader", "source", "type", "settled", "waiting", "held", "to_read", "gaps", "short", "ahead")


def verify(data: Data = None, as_json: AsJson = False) -> None:
    """Outboxes against the log against every reader. Exit code 1 if it does not add up."""
    folder = Folder(data)
    report = reconcile(folder.programs, folder.log, folder.contract)
    if as_json:
        screen.emit({"adds_up": report.adds_up, **asdict(report)})
    else:
        _show(report)
    raise typer.Exit(0 if report.adds_up else 1)


def _show(report: Report) -> None:
    for columns, lines in ((WRITTEN, report.written), (TAKEN, report.taken)):
        screen.table(columns, ([_short(getattr(line, name)) for name in columns] for line in lines))
        print()
    for line in (*report.written, *report.taken):
        if not line.adds_up:
            print(f"does not add up: {_said(line)}")
    verdict = "对账一致 it adds up" if report.adds_up else "对账不一致 it does not add up"
    print(f"{verdict}; strays in the log: {report.strays}")


def _short(value: object) -> object:
    return catalog.source_name(value) if isinstance(value, str) else value


def _said(line: Written | Taken) -> str:
    """Where, what, and what to do."""
    if isinstance(line, Taken):
        parts = ((line.gaps, "gaps"), (line.short, "never came"), (line.ahead, "its owner never wrote"))
        advice = "an owner restored from a backup?" if line.ahead else "asked for again while the city runs"
        where = f"{line.reader}: {line.source} {line.type}"
    else:
        parts = ((line.missing, "sent, and not in the log"), (line.misnumbered, "streams misnumbered"),
                 (line.announced - line.events, "announced more than there are rows"))  # fmt: skip
        advice = "a topic made anew is filled again while the city runs" if line.missing else "restore a backup"
        where = f"{line.source} {line.type}"
    return f"{where}: {', '.join(f'{count} {what}' for count, what in parts if count)} ({advice})"
