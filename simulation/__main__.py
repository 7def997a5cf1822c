"""`python -m simulation`: a city of so many projects for about half a minute, then the outside checker's verdict.

Exit code 0 only if the verdict is clean and the minima were reached; 1 if not; 2 for wrong use; 130 for Ctrl-C, after
which the next run goes on where this one stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.realestate.__main__ as realestate
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from jietong import settings as settings_
from jietong import up
from jietong.around import logs
from jietong.catalog import RESEND
from jietong.city import City
from jietong.engine import Engine, Program
from jietong.errors import JietongError, UsageError
from jietong.event import Draft
from services.hookup.door import Door
from services.hookup.hookup import REQUESTED
from simulation import report as report_
from simulation import rest
from simulation.actors import History, Officers, People
from simulation.plan import Plan, plan


def main(
    projects: Annotated[int, typer.Option(min=1, help="how many projects")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="how long they take to happen")] = 30,
    seed: Annotated[int, typer.Option(help="the same seed, the same city")] = 7,
    data: Annotated[Path, typer.Option(help="the folder of this city's databases")] = Path("data/demo"),
    port: Annotated[int, typer.Option(help="the page's port; 0 takes a free one")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one object")] = False,
) -> None:
    """Run a simulated city through every platform, connector and service, and verify it."""
    console = Console(stderr=as_json)
    try:
        code = run(
            console,
            settings_.load(data=_fresh(data, projects, seconds, seed), port=port),
            (seed, projects, seconds),
            as_json,
        )
    except UsageError as error:
        console.print(f"simulation: {error}", style="red", markup=False, soft_wrap=True)
        code = 2
    except (JietongError, OSError) as error:
        console.print(
            f"simulation: stopped: {error}; what was committed stays; run it again to go on",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        code = 1
    except KeyboardInterrupt:
        console.print("stopped; what was committed stays: run it again and it goes on from here", soft_wrap=True)
        code = 130
    raise typer.Exit(code)


Watching = Callable[[Engine, Sequence[Program]], rest.Watched]
"""Gets the programs going, those given or others like them elsewhere."""


def run(
    console: Console,
    settings: settings_.Settings,
    chosen: tuple[int, int, float],
    as_json: bool,
    watch: Watching | None = None,
) -> int:
    """Perform a plan (seed, projects, seconds), come to rest, be judged; returns the exit code."""
    logs.set_up()
    engine, pack = up.open_engine(settings)
    history = History(settings.data / "history.ndjson")
    seed, projects, seconds = chosen
    planned = plan(seed, projects, seconds, pack)

    def here(engine: Engine, programs: Sequence[Program]) -> rest.Watched:
        return rest.Here(up.start(settings, engine, programs))

    city = _Simulated(engine, pack, planned, history, seed, watch or here)
    try:
        console.print(
            f"{pack.name.zh}: {projects} projects in about {seconds:.0f} s · page {city.address}", soft_wrap=True
        )
        city.perform(console)
        city.rest()
        city.predict()
        duplicates = city.duplicates()
        result = report_.read(engine, pack, planned, history, duplicates)
    finally:
        city.stop()
    verdict = rest.judged(settings)
    good = bool(verdict["clean"]) and result.reached
    history.note("run", "complete" if good else "incomplete")
    history.close()
    if as_json:
        sys.stdout.write(
            json.dumps({"ok": good, **result.json(), "verdict": verdict}, ensure_ascii=False, default=str) + "\n"
        )
    else:
        report_.show(console, result, verdict)
        console.print(
            "clean: nothing lost, nothing twice, nothing out of order" if good else "NOT clean: see above",
            style="green" if good else "red",
        )
    return 0 if good else 1


class _Simulated:
    """A whole city, and who acts in it."""

    def __init__(self, engine: Engine, pack: City, planned: Plan, history: History, seed: int, watch: Watching) -> None:
        self.engine, self.plan, self.history = engine, planned, history
        invest, investing = investment.build(engine)
        build, building = engineering.build(engine, pack)
        registry, registering = realestate.build(engine)
        utilities = utility.build_all(engine, pack)
        self.operators = {name: platform for name, (platform, _) in utilities.items()}
        [hooking], [mapping] = hookup.programs(engine, pack), timeline.programs(engine, pack)
        self.officers = Officers(engine, pack, (invest, build, registry), history, planned)
        self.officers.registered = self._block
        store = engine.stores["hookup"]
        self.outbox = engine.outbox(store)
        self.people = People(seed, self.operators, Door(store, self.outbox, pack, engine.keys), threading.Event())
        operators = [program for _, program in utilities.values()]
        self.city = watch(engine, [investing, building, registering, hooking, mapping, *operators])
        self.address = self.city.address

    def perform(self, console: Console) -> None:
        """The plan, with one operator slow all the time and one away for a while in the middle."""
        slow, away = sorted(self.operators)[-2], sorted(self.operators)[1]
        self.operators[slow].turn(slow_ms=20)
        officers = threading.Thread(target=self.officers.work, args=(self.engine.stopping,), daemon=True)
        people = threading.Thread(target=self.people.work, daemon=True)
        officers.start()
        people.start()
        total = len(self.plan.operations)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("decided and built", total=total)
            while officers.is_alive():
                officers.join(0.2)
                self.city.check()
                bar.update(task, completed=self.officers.done)
                middle = 0.4 < self.officers.done / total < 0.55
                self.operators[away].turn(away=middle)
        self.operators[away].turn(away=False)
        self.operators[slow].turn(slow_ms=0)
        self.people.stopping.set()
        people.join(10)
        self._ask_again()

    def _block(self, project: int, code: str) -> None:
        """The one project that one operator's system refuses, from before anything is asked about it."""
        if project == self.plan.blocked[1]:
            self.operators[self.plan.blocked[0]].block(code)

    def _ask_again(self) -> None:
        """One project's events once more, as a reader that missed them would ask: duplicates that must have no effect."""
        if self.history.at("again") == "ok":
            return
        subject = self.history.states[f"{self.plan.repeated}/register"]["result"]
        data: dict[str, Any] = {
            "type": report_.INVESTMENT,
            "subject": subject,
            "after": 0,
            "asked_by": self.outbox.source,
        }
        with self.engine.stores["hookup"].transaction() as tx:
            self.outbox.once(
                tx,
                "again",
                Draft(type=RESEND, subject=self.engine.urn("investment"), time=datetime.now(UTC), data=data),
            )
        rest.until(lambda: self.duplicates() >= 2 * self._sent(subject), self.city)
        self.history.note("again", "ok", duplicates=self.duplicates())

    def _sent(self, subject: str) -> int:
        with self.engine.stores["investment"].snapshot() as tx:
            return tx.execute("SELECT count(*) FROM outbox WHERE aggregateid = :subject", {"subject": subject}).all()[
                0
            ][0]

    def duplicates(self) -> int:
        """Events that readers had already, in this run or, if that was counted, an earlier one of these data."""
        return self.city.duplicates() or self.history.states.get("again", {}).get("duplicates", 0)

    def rest(self) -> None:
        """Until nothing is unsent, unread, or waiting, but behind what is held."""
        rest.until(self._at_rest, self.city)

    def predict(self) -> None:
        """What must be held now: the first request that the blocked operator refuses, and, behind it, all of its stream."""
        operator, project = self.plan.blocked
        subject = self.history.states[f"{project}/register"]["result"]
        with self.engine.stores["hookup"].snapshot() as tx:
            rows = tx.execute("SELECT sequence, operator FROM outbox WHERE type = :type AND aggregateid = :subject ORDER BY sequence",
                              {"type": REQUESTED, "subject": subject}).all()  # fmt: skip
        first = next(row[0] for row in rows if row[1] == operator)
        for sequence in (row[0] for row in rows if row[0] >= first):
            self.history.predict({"consumer": f"utility-{operator}", "source": self.outbox.source, "type": REQUESTED, "subject": subject,
                                  "sequence": sequence, "fate": "parked" if sequence == first else "waiting"})  # fmt: skip

    def _at_rest(self) -> bool:
        return rest.at_rest(self.engine) and not self._undrawn()

    def _undrawn(self) -> bool:
        """Whether an operator took a step, or the exchange tables have a row, that its connector has not read yet."""
        pairs: list[tuple[str, tuple[str, ...], str]] = [
            (f"platform-{name}", ("progress",), f"utility:{name}") for name in self.operators
        ]
        pairs.append(("platform-engineering", ("SPGL_XMSPSXBLXXXXB", "SPGL_XMSPSXPFWJXXB"), "engineering"))
        return any(
            self._rows(platform, *tables) > self._rows(reader, "source_seen", "source_held")
            for platform, tables, reader in pairs
        )

    def _rows(self, store: str, *tables: str) -> int:
        with self.engine.stores[store].snapshot() as tx:
            return sum(tx.execute(f"SELECT count(*) FROM {table}").all()[0][0] for table in tables)

    def stop(self) -> None:
        self.people.stopping.set()
        self.city.stop()


def _fresh(data: Path, projects: int, seconds: float, seed: int) -> Path:
    """A city that was finished is made anew; one that was stopped goes on. Raises UsageError for a folder that is not ours."""
    marker, chosen = data / "simulation.json", {"projects": projects, "seconds": seconds, "seed": seed}
    if marker.exists():
        if History(data / "history.ndjson").at("run") == "complete" or json.loads(marker.read_text("utf-8")) != chosen:
            shutil.rmtree(data)
    elif data.exists() and any(data.iterdir()):
        raise UsageError(f"{data}: holds something else; choose another folder with --data")
    data.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(chosen), "utf-8")
    return data


if __name__ == "__main__":
    typer.run(main)
