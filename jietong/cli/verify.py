"""`jietong verify`: the operator's reconciliation (对账), with numbers."""

from __future__ import annotations

from dataclasses import asdict

import typer

from jietong.cli import screen
from jietong.cli.folder import Folder
from jietong.cli.options import AsJson, Data
from jietong.delivery.reconcile import Taken, Written, reconcile

WRITTEN = ("source", "type", "events", "announced", "unsent", "logged", "trimmed", "missing", "misnumbered")
TAKEN = ("reader", "source", "type", "settled", "waiting", "held", "to_read", "gaps", "short", "ahead")


def verify(data: Data = None, as_json: AsJson = False) -> None:
    """Outboxes against the log against every reader: each event is somewhere, once. Exit code 1 if it does not add up."""
    folder = Folder(data)
    report = reconcile(folder.programs, folder.log, folder.contract)
    if as_json:
        screen.emit({"adds_up": report.adds_up, **asdict(report)})
    else:
        screen.table(WRITTEN, ([getattr(line, name) for name in WRITTEN] for line in report.written))
        print()
        screen.table(TAKEN, ([getattr(line, name) for name in TAKEN] for line in report.taken))
        for line in (*report.written, *report.taken):
            if not line.adds_up:
                print(f"does not add up: {_said(line)}")
        print(f"\n{'对账一致 all adds up' if report.adds_up else '对账不一致 it does not add up'}; strays in the log: {report.strays}")
    raise typer.Exit(0 if report.adds_up else 1)


def _said(line: Written | Taken) -> str:
    """Where, what, and what to do."""
    if isinstance(line, Taken):
        parts = ((line.gaps, "gaps"), (line.short, "never came"), (line.ahead, "its owner never wrote"))
        advice = "an owner restored from a backup?" if line.ahead else "asked for again while the city runs"
        where = f"{line.reader}: {line.source} {line.type}"
    else:
        parts = ((line.missing, "sent, and not in the log"), (line.misnumbered, "streams misnumbered"),
                 (line.announced - line.events, "announced more than there are rows"))  # fmt: skip
        advice = "sent again at the next `jietong up` if the topic was made anew" if line.missing else "restore a backup"
        where = f"{line.source} {line.type}"
    return f"{where}: {', '.join(f'{count} {what}' for count, what in parts if count)} ({advice})"
