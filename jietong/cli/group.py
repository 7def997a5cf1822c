"""`jietong group add`: a new reader of the log, or one that begins to read more types."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from jietong import city, settings
from jietong.catalog import Catalog
from jietong.cli import db, screen
from jietong.cli.folder import PLATFORM, Files, Folder, known, now
from jietong.cli.options import AsJson, CityPack, Data, DryRun
from jietong.delivery.outbox import Outbox
from jietong.delivery.provision import Owner, Provision, Provisioned
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.store import Store

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}(:[a-z0-9][a-z0-9.-]{0,39})?")

app = typer.Typer(no_args_is_help=True, help="Readers of the log.")


@app.callback()
def group_() -> None:
    """Readers of the log."""


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The reader's name: its consumer group, and its database.")],
    types: Annotated[
        list[str] | None, typer.Option("--types", metavar="TYPE", help="Only this type; again for another (default: all whose files name it).")
    ] = None,
    from_now: Annotated[bool, typer.Option("--from-now", help="What is committed from now on; the default.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="The whole history: it needs a right to it.")] = False,
    data: Data = None,
    pack: CityPack = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Let a reader begin, before its program is started for the first time: from now on by an exact cut, or with the whole
    history. Beside a running city or with none. Safe to repeat."""
    if from_now and whole:
        raise UsageError("--from-now and --whole: choose one")
    read = _types(name, types, known())
    folder, source = Folder(data), f"urn:jietong:{city.load(settings.load(city=pack).city, known()).code}:{name}"
    if dry_run:
        with _as_it_is(folder, name) as store:
            begins = Provision(
                store, Outbox(source, folder.contract, now, store.bell), _owners(folder, name, False), folder.log
            )
            return _tell(name, begins.plan(read, whole), whole, as_json, dry_run)
    alone = folder.settings.engine == "city" or not folder.pid()
    log, owners = folder.kept.log(write=alone), _owners(folder, name, alone)
    with closing(folder.kept.made(name, *db.tables(name))) as store:
        begins = Provision(store, Outbox(source, folder.contract, now, store.bell), owners, log)
        return _tell(name, begins.whole(read) if whole else begins.from_now(read), whole, as_json, dry_run)


def _types(name: str, given: Sequence[str] | None, types: Catalog) -> list[str]:
    """Raises UsageError for a name that is none, a type that does not name this reader, or if no type does."""
    if not NAME.fullmatch(name) or name.startswith((PLATFORM, db.FEED)):
        raise UsageError(
            f"{name}: cannot be a reader's name: lower-case letters, digits and -, as hookup or utility:jm-water"
        )
    own = [spec.topic for spec in types.topics.values() if name.partition(":")[0] in spec.readers]
    for type in given or ():
        if types.topic(type).topic not in own:
            raise UsageError(f"{type}: schemas/topics/{type}.yaml does not name {name.partition(':')[0]} as a reader")
    if not own:
        raise UsageError(
            f"{name}: no topic's file in schemas/topics/ names it as a reader; add it to those it may read"
        )
    return sorted(set(given or own))


def _owners(folder: Folder, name: str, alone: bool) -> list[Owner]:
    """Everybody else with an outbox. `alone`: we may write the log, and announce an owner whose relay does not run; beside a
    city that runs in a folder nobody else may."""
    return [
        Owner(store, folder.kept.single(f"{owner} relay") if alone else lambda: False)
        for owner, store in folder.programs.items()
        if owner != name
    ]


@contextmanager
def _as_it_is(folder: Folder, name: str) -> Generator[Store]:
    """Its database, or one that is thrown away."""
    with ExitStack() as scratch:
        place = Path(scratch.enter_context(TemporaryDirectory()))
        store = folder.kept.store(name, write=False) or Files(place).made(name, delivery)
        yield scratch.enter_context(closing(store))


def _tell(name: str, done: Provisioned, whole: bool, as_json: bool, dry_run: bool) -> None:
    if as_json:
        screen.emit({"reader": name, "whole": whole, "dry_run": dry_run, **asdict(done)})
        return
    if not done.begun:
        print(f"{name}: has begun before, with {len(done.had)} types; nothing was changed")
        return
    does = "would begin" if dry_run else "begins"
    if whole:
        print(
            f"{name}: {does} with the log's beginning: {len(done.begun)} types; owners are asked to send {len(done.asked)} of them again"
        )
    else:
        print(
            f"{name}: {does} with what is committed from now on: {len(done.begun)} types, {done.streams} streams lie before the cut"
        )
    for type in done.begun:
        print(f"  {type}")
