"""`jietong redrive`, `skip`, `resolve`, `resume`, `confirm`, `tasks done`: what a person asks of a program.

None of them writes what the program writes: each leaves a wish in its command table (`jietong.delivery.commands`).
A running city carries it out within a second or two; with none it takes effect at the next `jietong up`.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

import typer

from jietong.cli import screen
from jietong.cli.folder import Folder, has_table, now
from jietong.cli.held import SHOWN, waiting
from jietong.cli.options import AsJson, Consumer, Data, DryRun
from jietong.delivery import commands
from jietong.delivery.inbox import OF_STREAM
from jietong.errors import UsageError
from jietong.event import HELD
from jietong.store import Store

PATIENCE = 10.0
"""Seconds to wait for a running city's answer."""

Key = Annotated[str | None, typer.Option(help="Idempotency key: the same one twice is one wish (default: a new one).")]
Source = Annotated[str | None, typer.Option(help="The source's URN, as `jietong held` shows it.")]
TypeFilter = Annotated[str | None, typer.Option("--type", help="Only this event type.")]
SubjectFilter = Annotated[str | None, typer.Option("--subject", help="Only this subject.")]
SequenceFilter = Annotated[int | None, typer.Option("--sequence", min=1, help="Only this sequence.")]
EventType = Annotated[str, typer.Option("--type", help="The event type.")]
Subject = Annotated[str, typer.Option("--subject", help="The subject: a project code, a unit code, …")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one program, and how the answer is shown."""

    data: Data
    program: str
    name: str
    arguments: Mapping[str, Any]
    key: str | None = None
    dry_run: bool = False
    as_json: bool = False


def redrive(
    consumer: Consumer,
    type_: TypeFilter = None,
    subject: SubjectFilter = None,
    sequence: SequenceFilter = None,
    source: Source = None,
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let held events wait for their turn again: what they met is mended. Their whole streams go again."""
    arguments = {"source": source, "type": type_, "subject": subject, "sequence": sequence}
    _held(Wish(data, consumer, "redrive", arguments, key, dry_run, as_json))


def skip(
    consumer: Consumer,
    type_: EventType,
    subject: Subject,
    why: Annotated[str, typer.Option(help="The reason, kept with the event for good. Nothing personal.")],
    who: Annotated[str | None, typer.Option(help="Who decides (default: this computer's user).")] = None,
    sequence: SequenceFilter = None,
    source: Source = None,
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Step over held events for good: they will have no effect at this consumer, and those behind them go on."""
    if not why.strip():
        raise UsageError("--why: say why; whoever looks later must know")
    arguments = {"source": source, "type": type_, "subject": subject, "sequence": sequence}
    _held(Wish(data, consumer, "skip", {**arguments, "who": who or _user(), "why": why}, key, dry_run, as_json))


def resolve(
    consumer: Consumer,
    source: Annotated[str, typer.Option(help="The source's URN, as the alarm shows it.")],
    type_: EventType,
    subject: Subject,
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a stream go on of which one sequence had two meanings: what was applied stands."""
    arguments = {"source": source, "type": type_, "subject": subject}
    with Folder(data).program(consumer).snapshot() as tx:
        found = tx.execute(f"SELECT 1 FROM stream WHERE {OF_STREAM} AND conflict = 1", arguments).one()
    if found is None:
        raise UsageError(f"{consumer}: no conflict in {source}/{type_}/{subject}; `jietong status` shows the alarms")
    _ask(Wish(data, consumer, "resolve", arguments, key, dry_run, as_json))


def resume(
    consumer: Consumer,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The event type at which it stopped.")],
    allow: Annotated[int, typer.Option(min=0, help="So many invalid events may pass uncounted.")],
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a consumer go on that stopped because too many events of a type were invalid."""
    with Folder(data).program(consumer).snapshot() as tx:
        if tx.execute("SELECT 1 FROM position WHERE topic = :type", {"type": type_}).one() is None:
            raise UsageError(f"{consumer}: does not read {type_}")
    _ask(Wish(data, consumer, "resume", {"type": type_, "allow": allow}, key, dry_run, as_json))


def confirm(
    source: Annotated[str, typer.Argument(help="The connector, as `jietong status` names it.")],
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The rows that vanished at once from a platform did end: the next full scan ends them."""
    if source.startswith("feed:"):
        raise UsageError(f"{source}: a file is read only when it is imported; import it again with --sure")
    with Folder(data).program(source).snapshot() as tx:
        if tx.execute("SELECT 1 FROM source_seen").one() is None:
            raise UsageError(f"{source}: reads no platform's rows")
    _ask(Wish(data, source, "confirm", {}, key, dry_run, as_json))


def done(
    task: Annotated[str, typer.Argument(help="The task's id, as `jietong tasks` shows it.")],
    data: Data = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A person has done what waited for them."""
    programs = Folder(data).programs
    program = next((name for name in programs if _has_task(programs[name], task)), None)
    if program is None:
        raise UsageError(f"no open task {task}; `jietong tasks` lists them")
    _ask(Wish(data, program, "task-done", {"id": task}, key, dry_run, as_json))


def _held(wish: Wish) -> None:
    """Ask it of held events; UsageError if none is meant by it."""
    named = {name: value for name in ("source", "type", "subject", "sequence") if (value := wish.arguments[name])}
    rows = [row for row in waiting(wish.program, Folder(wish.data).program(wish.program), 10**6)
            if row["what"] in HELD and all(row[name] == value for name, value in named.items())]  # fmt: skip
    if not rows:
        raise UsageError(f"{wish.program}: holds no such event; `jietong held --consumer {wish.program}` lists them")
    if not wish.as_json:
        for row in rows[:SHOWN]:
            print(f"{row['what']}: {row['type']} {row['subject']} {row['sequence']}: {row['reason']}")
    _ask(wish)


def _ask(wish: Wish) -> None:
    """Leave the wish, and wait for what a running city makes of it."""
    folder = Folder(wish.data)
    folder.program(wish.program)
    if wish.dry_run:
        return _tell(wish, None, "would ask", None)
    key, running = wish.key or str(uuid4()), folder.pid() is not None
    with folder.writing(wish.program) as store:
        with store.transaction() as tx:
            commands.ask(tx, key, wish.name, wish.arguments, now())
        until = time.monotonic() + (PATIENCE if running else 0)
        while (said := _result(store, key)) is None and time.monotonic() < until:
            time.sleep(0.1)
    return _tell(wish, key, "done" if said is not None else "asked" if running else "next up", said)


def _result(store: Store, key: str) -> str | None:
    with store.snapshot() as tx:
        return commands.result(tx, key)


def _tell(wish: Wish, key: str | None, state: str, said: str | None) -> None:
    if wish.as_json:
        given = {name: value for name, value in wish.arguments.items() if value is not None}
        screen.emit({"program": wish.program, "command": wish.name, "arguments": given, "key": key, "state": state,
                     "result": said})  # fmt: skip
        return
    print({
        "done": f"{wish.program}: {said}",
        "asked": f"{wish.program}: asked; not answered within {PATIENCE:.0f} s, it stays asked",
        "next up": f"{wish.program}: asked; no city runs here, it takes effect at the next `jietong up`",
        "would ask": f"{wish.program}: would be asked to {wish.name}; nothing was written",
    }[state])  # fmt: skip


def _has_task(store: Store, task: str) -> bool:
    open_ = "SELECT 1 FROM task WHERE id = :id AND done IS NULL"
    with store.snapshot() as tx:
        return has_table(tx, "task") and tx.execute(open_, {"id": task}).one() is not None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError("--who: this computer's user has no name; say who decides") from None
