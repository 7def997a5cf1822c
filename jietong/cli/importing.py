"""`jietong import FILE --mapping MAP`, `jietong mapping …`: a file of others into the same path as every platform."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jietong import catalog, city, settings
from jietong.cli.folder import Files, Folder, Kept
from jietong.cli.options import AsJson, Data, DryRun
from jietong.contract import Contract, to_millis
from jietong.delivery.draw import Draw, Drawn
from jietong.delivery.outbox import Outbox
from jietong.delivery.tables import delivery
from jietong.errors import HaltError, UsageError
from jietong.feed import mapping as mappings
from jietong.feed.mapping import Mapping
from jietong.feed.outline import outline
from jietong.feed.source import NAMELESS, Feed, Reject, Told
from jietong.store import Store

CONFIRMED = {"name": "vanished-confirmed"}
SHOWN = 20
FORMULA = ("=", "+", "-", "@", "\t", "\r")

mapping_app = typer.Typer(no_args_is_help=True, help="Mappings: how a file of others is read.")


File = Annotated[Path, typer.Argument(help="A CSV, JSON or XLSX file, or a folder of JSON documents.")]
MapName = Annotated[str, typer.Option("--mapping", help="How to read it: a file, or a name in mappings/.")]
Rejects = Annotated[Path | None, typer.Option(help="Where refused rows are listed [default: FILE.rejects.csv, here].")]
Sure = Annotated[bool, typer.Option("--sure", help="End vanished rows, however many.")]


def import_(
    file: File,
    mapping: MapName,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    rejects: Rejects = None,
    data: Data = None,
    sure: Sure = False,
) -> None:
    """Bring in what is new and changed in a file. Exit code 1 if some rows were refused; the rest went in."""
    drawn, refused = bring(file, mapping, settings.load(data=data).data, dry_run, sure)
    listed = rejects or Path(f"{file.name}.rejects.csv")
    if refused and not dry_run:
        write_rejects(listed, refused)
    if as_json:
        print(json.dumps({**asdict(drawn), "dry_run": dry_run}))
    else:
        _show(drawn, refused, None if dry_run else listed)
    raise typer.Exit(1 if refused else 0)


def bring(
    file: Path, mapping: str, folder: Path, dry_run: bool = False, sure: bool = False
) -> tuple[Drawn, list[Reject]]:
    """Read a file into its feed's outbox; a running city sends it on. Returns the numbers, and the rows refused.

    Raises UsageError if file, mapping or city pack are not what they should be, or too many rows vanished at once.
    """
    types = catalog.load()
    plan = mappings.load(mappings.find(mapping), types)
    pack = city.load(plan.city, types)
    _of_its_operators(plan, pack)
    urn = f"urn:jietong:{pack.code}:feed:{plan.source}"
    with _where(folder, dry_run) as kept, _store(kept, urn, dry_run) as store:
        feed = Feed(file, plan, types, lambda: datetime.now(UTC), _told(store) if plan.format == "documents" else None)
        outbox = Outbox(urn, Contract(types), lambda: to_millis(datetime.now(UTC)), store.bell)
        with store.transaction() as tx:
            tx.execute("DELETE FROM source_held WHERE substr(row, 1, 1) = :nameless", {"nameless": NAMELESS})
        draw = Draw(feed, store, outbox)
        drawn = draw.full(endings=False)
        refused = [*feed.rejects, *_refused_by_outbox(store, feed)]
        if plan.complete and feed.nameless:
            refused.append(Reject(0, "", "no vanished row was ended: a refused row without its key may be one of them"))
        elif plan.complete:
            ended = _ended(draw, store, sure)
            drawn.vanished, drawn.events = ended.vanished, drawn.events + ended.events
        return drawn, sorted(refused, key=lambda reject: (reject.section, reject))


def _told(store: Store) -> Told:
    """When the last thing told of each type and subject happened, in milliseconds."""
    with store.snapshot() as tx:
        found = tx.execute("SELECT type, aggregateid, max(time) FROM outbox GROUP BY type, aggregateid").all()
    return {(row[0], row[1]): row[2] for row in found}


def _of_its_operators(plan: Mapping, pack: city.City) -> None:
    """A request to an operator that the city has not would reach nobody."""
    for part in (plan, *plan.facts):
        how, given = part.columns.get("operator"), part.constants.get("operator")
        named = [*(how.values.values() if how else ()), *([given] if isinstance(given, str) else ())]
        if unknown := sorted({name for name in named if name not in pack.operators}):
            raise UsageError(f"{plan.source}: operator {unknown[0]}: not in the city pack {plan.city}")


def _ended(draw: Draw, store: Store, sure: bool) -> Drawn:
    """A second look, now that what is in the file is known: rows that are no longer there have ended."""
    with store.transaction() as tx:
        if sure:
            tx.execute("INSERT INTO mark (name, value) VALUES (:name, '') ON CONFLICT DO NOTHING", CONFIRMED)
    try:
        return draw.full()
    except HaltError as error:
        raise UsageError(f"{error}; all else went in. If the file is whole, say --sure") from error
    finally:
        with store.transaction() as tx:
            tx.execute("DELETE FROM mark WHERE name = :name", CONFIRMED)


def write_rejects(path: Path, refused: Sequence[Reject]) -> None:
    """As CSV, whole or not at all; a column's name that a spreadsheet would run is defused. Raises UsageError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8-sig", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(("row", "column", "reason"))
            for reject in refused:
                rows.writerow((_defused(reject.place), _defused(reject.column), reject.reason))
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot hold the refused rows: {error.strerror}; give another --rejects") from error


def _defused(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


@mapping_app.callback()
def mapping_() -> None:
    """Mappings: how a file of others is read."""


@mapping_app.command()
def init(
    file: File,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it (default: the screen).")] = None,
) -> None:
    """Draft a mapping from a look at a file; places to fill in are marked."""
    text = outline(file)
    if out is None:
        print(text, end="")
        return
    try:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{out}: is there already; give another --out") from None
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    print(f"wrote {out}; fill in each {mappings.FILL_IN}")


@contextmanager
def _where(folder: Path, dry_run: bool) -> Generator[Kept]:
    """Where feeds are kept. A data folder that is not there is made; for a dry run, elsewhere."""
    if settings.load().engine == "city" or folder.is_dir():
        yield Folder(folder).kept
    elif dry_run and not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            yield Files(Path(scratch))
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be the data folder: {error.strerror}; give another --data") from error
        yield Files(folder)


@contextmanager
def _store(kept: Kept, urn: str, dry_run: bool) -> Generator[Store]:
    """The feed's database; for a dry run one that leaves no trace."""
    _of_one_city(kept, urn)
    name = catalog.source_name(urn)
    if not dry_run:
        with closing(kept.made(name, delivery)) as store:
            yield store
    elif kept.store(name, write=False):
        with kept.rehearsed(name) as store:
            yield store
    else:
        with tempfile.TemporaryDirectory() as scratch, closing(Files(Path(scratch)).made(name, delivery)) as store:
            yield store


def _of_one_city(kept: Kept, urn: str) -> None:
    """One folder is one city: its programs would not send on what another city's feed says."""
    for store in kept.programs().values():
        with store.snapshot() as tx:
            found = tx.execute("SELECT source FROM total LIMIT 1").one()
        store.close()
        if found and found[0].split(":")[2] != urn.split(":")[2]:
            city_here = found[0].split(":")[2]
            raise UsageError(
                f"{kept.name}: holds the city {city_here}, the mapping's is {urn.split(':')[2]}; give another --data"
            )


def _refused_by_outbox(store: Store, feed: Feed) -> Iterator[Reject]:
    """What passed the mapping but not the event's contract."""
    known = {reject.place for reject in feed.rejects}
    with store.snapshot() as tx:
        for name, reason in tx.execute("SELECT row, reason FROM source_held").all():
            if row := feed.rows.get(name):
                reject = Reject(row.number, "", reason, row.section)
                if reject.place not in known:
                    yield reject


def _show(drawn: Drawn, refused: Sequence[Reject], listed: Path | None) -> None:
    """`listed` is None where nothing is written."""
    numbers = ", ".join(f"{name} {number}" for name, number in asdict(drawn).items())
    print(f"{'brought in' if listed else 'would bring in'}: {numbers}")
    for reject in refused[:SHOWN]:
        typer.echo(str(reject), err=True)
    if len(refused) > SHOWN:
        typer.echo(f"… and {len(refused) - SHOWN} more", err=True)
    if refused and listed:
        typer.echo(f"the {len(refused)} refused rows are listed in {listed}", err=True)
