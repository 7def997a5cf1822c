"""What a person asks of a running consumer, through a table of its own database: done once, with a result to read.

A command beside a running city never writes what the city writes; it leaves its wish here, and the city carries it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jietong.delivery import alarms, inbox, limits
from jietong.errors import UsageError
from jietong.event import Key, Stream
from jietong.store import Store, Transaction

Arguments = Mapping[str, Any]


def ask(tx: Transaction, key: str, name: str, arguments: Arguments, now: int) -> None:
    """Leave a wish; the same key twice is one wish. Raises UsageError for a command nobody knows."""
    if name not in COMMANDS:
        raise UsageError(f"no command {name}; there are {', '.join(sorted(COMMANDS))}")
    if missing := [field for field in NEEDED.get(name, ()) if arguments.get(field) in (None, "")]:
        raise UsageError(f"{name}: says nothing of {', '.join(missing)}")
    if not str(arguments.get("allow", 0)).isdecimal():
        raise UsageError(f"{name}: allow is a number of events")
    tx.execute("INSERT INTO command (key, name, arguments, asked) VALUES (:key, :name, :arguments, :now) ON CONFLICT (key) DO NOTHING",
               {"key": key, "name": name, "arguments": json.dumps(arguments), "now": now})  # fmt: skip


def result(tx: Transaction, key: str) -> str | None:
    row = tx.execute("SELECT result FROM command WHERE key = :key AND done IS NOT NULL", {"key": key}).one()
    return row[0] if row else None


def pending(store: Store) -> bool:
    with store.snapshot() as tx:
        return tx.execute("SELECT 1 FROM command WHERE done IS NULL").one() is not None


def carry_out(store: Store, now: int) -> set[Stream]:
    """Do what was asked; returns the streams that may move now."""
    if not pending(store):
        return set()
    moved: set[Stream] = set()
    with store.transaction() as tx:
        for key, name, arguments in tx.execute(
            "SELECT key, name, arguments FROM command WHERE done IS NULL ORDER BY asked, key"
        ).all():
            try:
                streams, said = COMMANDS[name](tx, json.loads(arguments), now)
            except (KeyError, ValueError, TypeError) as error:
                streams, said = set[Stream](), f"refused: {type(error).__name__} in its arguments"
            moved |= streams
            tx.execute(
                "UPDATE command SET done = :now, result = :said WHERE key = :key",
                {"now": now, "said": said, "key": key},
            )
    return moved


def _redrive(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:
    """Held events of the streams that match wait for their turn again."""
    streams = {key.stream for key in inbox.held(tx) if _matches(key, arguments)}
    count = sum(inbox.redrive(tx, stream) for stream in sorted(streams))
    for stream in sorted(streams):
        tx.execute(f"UPDATE retry SET next_at = :now WHERE {inbox.OF_STREAM}", {**stream._asdict(), "now": now})
        tx.execute(f"UPDATE attempt SET deaths = 1 WHERE {inbox.OF_STREAM}", stream._asdict())
    return streams, f"{count} redriven"


def _skip(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:
    keys = [key for key in inbox.held(tx) if _matches(key, arguments)]
    done = [key for key in keys if inbox.skip(tx, key, arguments["who"], arguments["why"], now)]
    return {key.stream for key in done}, f"{len(done)} skipped"


def _resolve(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:  # noqa: ARG001
    """A person has looked at both meanings of a sequence: what was applied stands, the stream goes on."""
    stream = Stream(arguments["source"], arguments["type"], arguments["subject"])
    inbox.keep_first_meanings(tx, stream)
    freed = tx.execute(
        f"UPDATE stream SET conflict = 0 WHERE {inbox.OF_STREAM} AND conflict = 1", stream._asdict()
    ).rowcount
    alarms.clear(tx, "conflict", "/".join(stream))
    return {stream}, f"{freed} streams go on"


def _resume(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:  # noqa: ARG001
    limits.allow(tx, arguments["type"], int(arguments["allow"]))
    return set(), f"{arguments['type']}: up to {arguments['allow']} invalid events may pass"


def _confirm(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:  # noqa: ARG001
    tx.execute("INSERT INTO mark (name, value) VALUES ('vanished-confirmed', '1') ON CONFLICT (name) DO NOTHING")
    return set(), "what vanished from the source ends at the next full scan"


def _task_done(tx: Transaction, arguments: Arguments, now: int) -> tuple[set[Stream], str]:
    """Of a service that has tasks: a person has seen to one."""
    done = tx.execute(
        "UPDATE task SET done = :now WHERE id = :id AND done IS NULL", {"now": now, "id": arguments["id"]}
    ).rowcount
    return set(), f"{done} done"


def _matches(key: Key, arguments: Arguments) -> bool:
    return all(
        str(getattr(key, name)) == str(arguments[name])
        for name in ("source", "type", "subject", "sequence")
        if arguments.get(name)
    )


NEEDED: Mapping[str, Sequence[str]] = {
    "skip": ("who", "why"), "resolve": ("source", "type", "subject"), "resume": ("type", "allow"), "task-done": ("id",),
}  # fmt: skip
COMMANDS: Mapping[str, Callable[[Transaction, Arguments, int], tuple[set[Stream], str]]] = {
    "redrive": _redrive, "skip": _skip, "resolve": _resolve, "resume": _resume, "confirm": _confirm, "task-done": _task_done,
}  # fmt: skip
