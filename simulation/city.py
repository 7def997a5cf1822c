"""`make city`: the demo's city on real servers, every program a process of its own, then the outside checker's verdict.

Kafka, a registry and PostgreSQL are fetched and started on free ports of loopback, in a folder of their own; what a machine
lacks is said in one sentence. `--keep` leaves it all up and prints where everything is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jietong import settings as settings_
from jietong.errors import JietongError, UsageError
from simulation import __main__ as demo
from simulation import servers
from simulation.servers import ServerError
from simulation.supervise import Programs, programs, settings

SETTING_UP = (("topics", "apply"), ("db", "upgrade"), ("schema", "push"))
"""What a city needs before its programs start; each is safe to repeat."""


@dataclass(frozen=True)
class Apart:
    """The programs of a city, each in a process of its own: see `simulation.rest.Watched`."""

    programs: Programs

    @property
    def address(self) -> str:
        [page] = self.programs.of("services.timeline")[:1]
        return f"{page.address}/"

    def check(self) -> None:
        if wrong := self.programs.wrong():
            raise JietongError("; ".join(f"{name}: {said}" for name, said in wrong.items()))

    def duplicates(self) -> int:
        return int(self.programs.metric("jietong_events_duplicate_total"))

    def stop(self) -> None:
        """They stop when their servers do."""


def set_up(env: Mapping[str, str]) -> None:
    """Topics, tables and schemas. Raises UsageError with what the command said."""
    for command in SETTING_UP:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("jietong")), *command], env={**os.environ, **env}, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode:
            raise UsageError(f"jietong {' '.join(command)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


@contextmanager
def standing(
    folder: Path, nodes: int = 1, copies: Mapping[str, int] | None = None
) -> Generator[tuple[servers.City, Programs]]:
    """Servers and programs, up and ready; all ended at the end. Raises ServerError, UsageError."""
    with servers.servers(folder / "servers", nodes) as city:
        env = settings(city, folder / "data")
        set_up(env)
        running = programs(folder / "programs", city, folder / "data", copies=copies)
        try:
            running.start()
            yield city, running
        finally:
            running.stop()


def main(
    projects: Annotated[int, typer.Option(min=1, help="how many projects")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="how long they take to happen")] = 30,
    seed: Annotated[int, typer.Option(help="the same seed, the same city")] = 7,
    folder: Annotated[Path, typer.Option(help="where servers, programs and keys keep theirs; made anew")] = Path(
        "data/city"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="leave it up, say where everything is, until Ctrl-C")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one object")] = False,
) -> None:
    """Run a simulated city on Apache Kafka, PostgreSQL and a schema registry, and verify it."""
    console = Console(stderr=as_json)
    try:
        code = _on_servers(console, folder.absolute(), (seed, projects, seconds), keep, as_json)
    except (ServerError, JietongError, OSError) as error:
        console.print(f"city: {error}", style="red", markup=False, soft_wrap=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _on_servers(console: Console, folder: Path, chosen: tuple[int, int, float], keep: bool, as_json: bool) -> int:
    if lacks := servers.missing():
        raise UsageError(lacks)
    _anew(folder)
    console.print("starting Kafka, the registry and PostgreSQL, then every program", soft_wrap=True)
    with standing(folder) as (city, running):
        os.environ |= settings(city, folder / "data")
        if not keep:
            return demo.run(console, settings_.load(port=0), chosen, as_json, lambda _engine, _programs: Apart(running))
        for name, value in settings(city, folder / "data").items():
            console.print(f"export {name}={value}", soft_wrap=True, highlight=False)
        for copy in running.copies:
            console.print(f"{copy.program:<24} {copy.address}/", soft_wrap=True, highlight=False)
        console.print("up; Ctrl-C ends it all")
        threading.Event().wait()
    return 0


def _anew(folder: Path) -> None:
    """A folder of an earlier run is ours to empty. Raises UsageError for any other."""
    marker = folder / "city.json"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise UsageError(f"{folder}: holds something else; choose another folder with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    marker.write_text("{}", "utf-8")


if __name__ == "__main__":
    typer.run(main)
