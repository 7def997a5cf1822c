"""`python -m simulation.real`: real files of eight cities through the whole path, twice, and counted.

The files lie where JIETONG_REAL_DATA says and are not ours to publish; without them this says so and ends with code 2.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
import services.transfer.__main__ as transfer
from connectors.utility.accounts import AccountBook
from connectors.utility.tables import utility as utility_tables
from jietong import catalog, up
from jietong import settings as settings_
from jietong.adapters.sqlite import SqliteStore
from jietong.around import logs
from jietong.city import City
from jietong.cli import importing
from jietong.contract import Contract
from jietong.delivery.outbox import COLUMNS, envelope_of
from jietong.engine import Engine
from jietong.errors import UsageError
from jietong.feed.source import NAMELESS, Reject
from simulation import rest

TOLD = {
    "engineering.approval.decided.v1": "approvals",
    "engineering.item.progressed.v1": "progress of items",
    "licensing.licence.changed.v1": "licences",
    "realestate.registration.progressed.v1": "registrations",
    "utility.connection.requested.v1": "requests",
    "utility.connection.progressed.v1": "progress of requests",
}
"""What a feed tells, by type, and what the table calls it."""
TRANSFERS = "SELECT asked, coalesce(answer, 'not answered'), count(*) FROM transfer GROUP BY 1, 2"
"""What was asked of an account (each round's step and choice), and the operator's word that holds."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A file or folder, by its mapping's name, and the rows and events that must come of it."""

    mapping: str
    file: str
    rows: int
    events: int
    refused: int = 0
    """Rows without a key, of no use to anyone: they are held in sight."""

    @property
    def name(self) -> str:
        return f"{self.mapping} ({Path(self.file).name})"


PLACES: Mapping[str, tuple[Feed, ...]] = {
    "chengdu": (Feed("chengdu-presale", "permit-chengdu-presale/shuangliu.json", 33, 33),),
    "calgary": (Feed("calgary", "permit-calgary/building_permits.csv", 5000, 5012),),
    "chicago": (Feed("chicago-monthly", "permit-chicago-monthly/permits_2026_06.json", 2857, 2857),
                Feed("chicago-licences", "licence-chicago/Business_Licenses.csv", 561, 604)),
    "philadelphia": (Feed("philadelphia", "permit-philadelphia/permits.csv", 363, 373),),
    "caiso": (Feed("caiso", "utility-caiso-queue/public_queue_clean_combined.csv", 2290, 4229, 12),
              Feed("caiso", "utility-caiso-queue/publicqueuereport.xlsx", 2290, 0, 12)),
    "odp": (Feed("odp", "permit-uk-odp-planning/examples", 148, 47),),
    "manchester": (Feed("manchester", "transfer-uk-manchester/ppd_data.csv", 15374, 15374),),
}  # fmt: skip
"""A table that is there twice, as CSV and as workbook, tells nothing new the second time. Of documents the facts they tell
are counted, each as often as it is told."""


def main(
    data: Annotated[Path, typer.Option(help="the folder of these cities' databases; made anew")] = Path("data/real"),
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one object")] = False,
) -> None:
    """Import each file, let it run through hookup to the operators, verify, and import it again."""
    console = Console(stderr=as_json)
    try:
        real = _real()
        results = [_place(console, real, data / place, place) for place in PLACES]
    except UsageError as error:
        console.print(f"simulation.real: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    good = all(result["ok"] for result in results)
    if as_json:
        sys.stdout.write(json.dumps({"ok": good, "places": results}, ensure_ascii=False) + "\n")
    else:
        _show(console, results)
    raise typer.Exit(0 if good else 1)


def _real() -> Path:
    real = settings_.load().real_data
    if real is None or not real.is_dir():
        raise UsageError("JIETONG_REAL_DATA names no folder; the real files are not part of this project")
    return real


def _place(console: Console, real: Path, folder: Path, place: str) -> dict[str, Any]:
    if folder.exists():
        shutil.rmtree(folder)
    first = _brought(real, folder, place)
    console.print(f"{place}: {sum(drawn['read'] for drawn in first.values())} rows read")
    _run(folder, place)
    again = _brought(real, folder, place)
    verdict = rest.judged(settings_.load(data=folder))
    expected = all(
        (first[f.name]["read"], first[f.name]["events"], first[f.name]["rejected"]) == (f.rows, f.events, f.refused)
        for f in PLACES[place]
    )
    silent = all(drawn["events"] == 0 for drawn in again.values())
    return {
        "place": place,
        "feeds": first,
        "again": again,
        **_counted(folder),
        "verdict": verdict,
        "ok": expected and silent and verdict["clean"],
    }


def _brought(real: Path, folder: Path, place: str) -> dict[str, dict[str, int]]:
    """The numbers of each import; what the last one of a mapping refuses is what the checker must find held."""
    numbers: dict[str, dict[str, int]] = {}
    held: dict[str, list[Reject]] = {}
    for feed in PLACES[place]:
        drawn, held[feed.mapping] = importing.bring(real / feed.file, feed.mapping, folder)
        numbers[feed.name] = asdict(drawn)
    with (folder / "history.ndjson").open("w", encoding="utf-8") as history:
        for mapping, refused in held.items():
            for reject in refused:
                row = {"file": f"feed-{mapping}", "row": f"{NAMELESS}{reject.place}"}
                history.write(json.dumps({"held": row}, ensure_ascii=False) + "\n")
    return numbers


def _run(folder: Path, place: str) -> None:
    """The programs that carry a feed: its relay, hookup, the timeline, and the place's operators."""
    logs.set_up()
    settings = settings_.load(data=folder, city=place, port=0)
    engine, pack = up.open_engine(settings)
    try:
        _, moving = transfer.build(engine, pack)
        others = [program for wiring in (hookup, timeline, utility) for program in wiring.programs(engine, pack)]
        city = up.start(settings, engine, [moving, *others])
        rest.until(lambda: rest.at_rest(engine) and not _clerks(engine, pack), rest.Here(city))
        city.stop()
    finally:
        engine.close()


def _clerks(engine: Engine, pack: City) -> int:
    """Each operator's clerks look at what its book could not tell by itself, and say so; how many they saw to."""
    count = 0
    for operator in pack.operators:
        book = AccountBook(engine.platform(operator, utility_tables))
        waiting = [case for case in book.cases(waiting=True) if case.matched is None]
        for case in waiting:
            book.not_ours(case.transfer, now=engine.now())
        count += len(waiting)
    return count


def _counted(folder: Path) -> dict[str, Any]:
    """What was told, by type, its word, and whether for the record only; and leads by operator: from the tables."""
    settings = settings_.load(data=folder)
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    contract = Contract(catalog.load())
    for file in sorted(settings.data.glob("feed-*.db")):
        store = SqliteStore(file, read_only=True)
        with store.snapshot() as tx:
            events = [contract.decode(envelope_of(row)) for row in tx.execute(f"SELECT {COLUMNS} FROM outbox").all()]
        store.close()
        for event in events:
            word = event.data.get("decision") or event.data["status"]
            told[TOLD[event.type]][word + (" (historical)" if event.data.get("historical") else "")] += 1
    leads: dict[str, int] = {}
    for file in sorted(settings.data.glob("platform-*.db")):
        store = SqliteStore(file, read_only=True)
        with store.snapshot() as tx:
            leads[file.stem.removeprefix("platform-")] = tx.execute("SELECT count(*) FROM case_").all()[0][0]
        store.close()
    checks: Counter[str] = Counter()
    if (settings.data / "transfer.db").exists():
        store = SqliteStore(settings.data / "transfer.db", read_only=True)
        with store.snapshot() as tx:
            checks.update({f"{row[0]} {row[1]}": row[2] for row in tx.execute(TRANSFERS).all()})
        store.close()
    return {
        "transfers": dict(sorted(checks.items())),
        **{what: dict(sorted(told[what].items())) for what in TOLD.values()},
        "leads": leads,
    }


def _show(console: Console, results: list[dict[str, Any]]) -> None:
    table = Table("place", "counted", title="真实数据 · real files", title_justify="left", show_lines=True)
    for result in results:
        feeds = [
            f"{name}: {drawn['read']} rows, {drawn['rejected']} refused, {drawn['events']} events, imported again "
            f"{result['again'][name]['events']}"
            for name, drawn in result["feeds"].items()
        ]
        counts = [f"{what}: {_list(result[what])}" for what in (*TOLD.values(), "transfers", "leads") if result[what]]
        verdict = "clean" if result["ok"] else f"NOT clean: {result['verdict']['broken'] or 'counts differ'}"
        table.add_row(result["place"], "\n".join((*feeds, *counts, f"verdict: {verdict}")))
    console.print(table)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    typer.run(main)
