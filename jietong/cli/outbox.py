"""`jietong outbox status`, `jietong outbox rebase`: whether a database was restored from a backup, and the way on.

A rebase needs a stopped city: its readers are halted with it, so each can be asked what it knows. Its plan is shown first
and is what is then done; what people must do themselves afterwards is listed at its end.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from jietong import catalog, city, settings
from jietong.broker import Broker
from jietong.cli import screen
from jietong.cli.folder import Folder, has_table, named, now
from jietong.cli.options import AsJson, CityPack, Data, DryRun
from jietong.delivery import heads, inbox, outbox, quiet
from jietong.delivery.rebase import Plan, Rebase
from jietong.delivery.runner import Consuming
from jietong.engine import Program as Running
from jietong.errors import UsageError
from jietong.event import Envelope, Key
from jietong.service import Service
from jietong.settings import Settings
from jietong.store import Store

SHOWN = 200
STATUS = ("program", "events", "unsent", "announced", "state", "ahead", "speaks")
GOOD, REWOUND, HEADLESS, AHEAD = "good", "restored from a backup", "its head is not in the log", "a reader knows more"
EVENT = ("what", "type", "subject", "sequence", "time")
DECIDED = {"command": "asked", "idempotency": "recorded", "task": "done"}
"""Tables with what people did that is in no event: their newest time."""

app = typer.Typer(no_args_is_help=True, help="Outboxes: was a database restored from a backup, and the way on.")
Program = Annotated[str, typer.Argument(help="Whose outbox, as `jietong status` names it.")]


@dataclass(frozen=True, slots=True)
class Here:
    """A data folder and the city that lies in it."""

    folder: Folder
    settings: Settings
    code: str

    def source(self, program: str) -> str:
        return f"urn:jietong:{self.code}:{named(program)}"

    def readers(self, program: str) -> dict[str, Store]:
        """Programs that know anything of this one's events, but for itself: its own inbox is as old as its outbox."""
        source = self.source(program)
        return {
            name: store
            for name, store in self.folder.programs.items()
            if name != named(program) and _knows(store, source)
        }


@app.command()
def status(data: Data = None, pack: CityPack = None, as_json: AsJson = False) -> None:
    """Per outbox: its events, what it announced, and whether its database is older than that. Exit code 1 if one is."""
    here = _here(data, pack)
    announced = heads.Heads(here.folder.log, here.folder.contract).read()
    known = {name: _sums(store) for name, store in here.folder.programs.items()}
    rows = [_status(here, name, store, announced, known) for name, store in here.folder.programs.items()]
    screen.records(rows, STATUS, as_json, "no programs yet: `jietong up` makes them")
    raise typer.Exit(1 if any(row["state"] in (REWOUND, AHEAD) for row in rows) else 0)


@app.command()
def rebase(
    program: Program,
    ask: Annotated[
        list[str] | None, typer.Option("--ask", metavar="READER", help="A reader to ask what it knows; give all.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The readers were asked: go on with what they know.")
    ] = False,
    data: Data = None,
    pack: CityPack = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring back what a database restored from a backup lacks: from the log, and where that has less than was announced,
    from the readers (then exit code 1 until they are asked and it is confirmed). Only with the city stopped."""
    here = _here(data, pack)
    if pid := here.folder.pid():
        raise UsageError(f"{here.folder.name}: process {pid} is running there; stop the city first, its readers too")
    store, since = here.folder.program(program), _newest(here.folder.program(program))
    asked = _asked(here, program, ask or [], confirm)
    plan = _rebase(here, program, store, here.folder.log).plan(asked)
    stops = bool(plan.stops) and asked is None
    waits = dry_run or stops or (asked is not None and not confirm)
    if not waits:
        with _running(here, program) as doing:
            plan = doing.run(asked)
    _show(plan, done=not waits, since=since, as_json=as_json)
    if stops:
        readers = " ".join(f"--ask {name}" for name in here.readers(program))
        _say(f"stopped: {plan.stops}", as_json)
        _say(
            f"ask every reader, look, then confirm: jietong outbox rebase {named(program)} {readers} --confirm", as_json
        )
    elif waits and not dry_run:
        _say("nothing was written: add --confirm to do it", as_json)
    raise typer.Exit(1 if stops or (waits and not dry_run) else 0)


# -- whose, and who is asked ------------------------------------------------------------------------------------------------
def _here(data: Data, pack: CityPack) -> Here:
    wanted = settings.load(data=data, city=pack)
    return Here(Folder(data), wanted, city.load(wanted.city, catalog.load()).code)


def _knows(store: Store, source: str) -> bool:
    with store.snapshot() as tx:
        return tx.execute("SELECT 1 FROM stream WHERE source = :source LIMIT 1", {"source": source}).one() is not None


def _asked(here: Here, program: str, ask: Sequence[str], confirm: bool) -> list[Store] | None:
    """The databases to ask; None if nobody is. Raises UsageError for a reader that would be passed over."""
    if not ask and not confirm:
        return None
    if unasked := sorted(here.readers(program).keys() - {named(name) for name in ask}):
        raise UsageError(f"{', '.join(unasked)}: reads {program} and would not be asked; what only it has would be lost. "
                         f"Add {' '.join(f'--ask {name}' for name in unasked)}")  # fmt: skip
    return [here.folder.program(name) for name in ask if named(name) != named(program)]


def _rebase(here: Here, program: str, store: Store, log: Broker, service: Service | None = None) -> Rebase:
    return Rebase(here.source(program), store, log, here.folder.contract, now, service)


@contextmanager
def _running(here: Here, program: str) -> Generator[Rebase]:
    """On the city's own engine. It holds the folder, or on servers the lock of this outbox's relay: nothing is sent meanwhile."""
    from jietong import up  # noqa: PLC0415 — it brings a web server along

    engine, pack = up.open_engine(here.settings)
    try:
        if not engine.backend.single(f"{named(program)} relay")():
            raise UsageError(f"{program}: its relay is running; stop it first")
        wanted = f"services.{named(program)}"
        found: list[Running] = up.wiring(wanted).programs(engine, pack) if wanted in up.PROGRAMS else []
        service = next((m.consumer.service for p in found for m in p.movements if isinstance(m, Consuming)), None)
        yield _rebase(here, program, engine.store(named(program)), engine.log, service)
    finally:
        engine.close()


# -- what is shown ----------------------------------------------------------------------------------------------------------
def _status(
    here: Here,
    name: str,
    store: Store,
    announced: Mapping[str, heads.Announced],
    known: Mapping[str, Mapping[tuple[str, str], int]],
) -> dict[str, Any]:
    source = here.source(name)
    said = announced.get(source)
    with store.snapshot() as tx:
        counts, unsent = outbox.head(tx).counts, outbox.depth(tx)[0]
        rewound, silent = heads.rewound(tx, source, announced), quiet.silent(tx)
    ahead = sorted(reader for reader, sums in known.items() if any(
        total > counts.get(type, 0) for (owner, type), total in sums.items() if owner == source))  # fmt: skip
    state = REWOUND if rewound else AHEAD if ahead else GOOD if said else HEADLESS
    return {
        "program": name, "events": sum(counts.values()), "unsent": unsent, "announced": sum(said.head.counts.values()) if said else None,
        "state": state, "ahead": ahead, "speaks": "only learns" if silent else "",
    }  # fmt: skip


def _sums(store: Store) -> Mapping[tuple[str, str], int]:
    with store.snapshot() as tx:
        return inbox.sums(tx)


def _newest(store: Store) -> dict[str, Any]:
    """The newest time in each table of what people did, and in the outbox: whatever came later, the backup cannot know."""
    with store.snapshot() as tx:
        tables = {"outbox": "recorded", **{table: column for table, column in DECIDED.items() if has_table(tx, table)}}
        return {
            table: screen.moment(tx.execute(f"SELECT max({column}) FROM {table}").all()[0][0])
            for table, column in tables.items()
        }


def _show(plan: Plan, done: bool, since: Mapping[str, Any], as_json: bool) -> None:
    events = [
        *(_event("from a reader" if e.key in plan.given else "void, known as such" if e.void else "from the log", e.key, e) for e in plan.back),
        *(_event("void: nobody has it", e.key, None) for e in plan.voids),
        *(_event(f"moves to {e.key.sequence}", key, e) for key, e in plan.moved),
        *(_event("made again; its first writing comes back", key, None) for key in plan.dropped),
        *(_event("has two meanings", key, None) for key in plan.contradicted),
    ]  # fmt: skip
    numbers = {
        "from_log": len(plan.back) - len(plan.given), "from_readers": len(plan.given), "voids": len(plan.voids), "moved": len(plan.moved),
        "dropped": len(plan.dropped), "contradicted": len(plan.contradicted), "missing": plan.missing,
    }  # fmt: skip
    if as_json:
        screen.emit(
            {
                "source": plan.source,
                "done": done,
                "needed": plan.needed,
                "stops": plan.stops,
                **numbers,
                "events": events,
                "newest": since,
            }
        )
        return
    if not plan.needed:
        print(f"{plan.source}: nothing is missing: it was not restored, or was rebased before")
        return
    if events:
        screen.table(EVENT, ([event[name] for name in EVENT] for event in events[:SHOWN]))
    if len(events) > SHOWN:
        print(f"… and {len(events) - SHOWN} more; --json lists all")
    print(
        f"{plan.source}: {'done' if done else 'would do'}: {', '.join(f'{name} {count}' for name, count in numbers.items() if count)}"
    )
    _say_what_people_must_do(plan, since)


def _event(what: str, key: Key, e: Envelope | None) -> dict[str, Any]:
    return {
        "what": what,
        "type": key.type,
        "subject": key.subject,
        "sequence": key.sequence,
        "time": screen.moment(e.time) if e and e.time else None,
    }


def _say_what_people_must_do(plan: Plan, since: Mapping[str, Any]) -> None:
    print(
        "to be entered again by hand, where this program's own tables lack it: what came back above, and what is void"
    )
    if plan.missing:
        print(f"announced, and nobody has it: {', '.join(f'{n} of {t}' for t, n in sorted(plan.missing.items()))}")
    print("what people did since, and is in no event, cannot be known from here. The newest that the backup has:")
    screen.table(("table", "newest"), since.items())


def _say(line: str, as_json: bool) -> None:
    typer.echo(f"jietong: {line}", err=True) if as_json else print(line)
