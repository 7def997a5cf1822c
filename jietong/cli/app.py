"""`jietong …`: a city from the command line. docs/cli.md names every command and option.

Exit codes: 0 good; 1 some rows were refused, or a check failed; 2 wrong use, said in one line; 130 Ctrl-C. Whatever a
person can cause is said in a line, never in a traceback.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import jietong
from jietong.cli import (
    ask,
    backup,
    city,
    company,
    db,
    doctor,
    explain,
    figures,
    folder,
    group,
    held,
    impact,
    importing,
    leads,
    migrate,
    outbox,
    schema,
    status,
    tail,
    topics,
    transfers,
    verify,
)
from jietong.cli.options import CityPack, Data
from jietong.errors import JietongError

GOOD, WRONG_USE, INTERRUPTED = 0, 2, 130
WrongUse: Any = typer.BadParameter.__bases__[0]
"""Click's UsageError, wherever this version of typer keeps click."""

app = typer.Typer(
    name="jietong",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Jietong (接通): events that a city's platforms share, each lost never and acted on once.",
)


Host = Annotated[str | None, typer.Option(help="The page's address (default: JIETONG_HOST, else 127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="The page's port; 0: a free one (default: JIETONG_PORT, else 8440).")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"jietong {jietong.__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which, and end.")]


@app.callback()
def root(context: typer.Context, version: Version = False) -> None:
    """Jietong (接通): events that a city's platforms share, each lost never and acted on once."""
    del version
    context.call_on_close(folder.opened_here.close)


@app.command()
def up(data: Data = None, pack: CityPack = None, host: Host = None, port: Port = None) -> None:
    """Run the city on this folder, with its page, until told to stop."""
    from jietong import settings  # noqa: PLC0415 — a web server is loaded only where one runs
    from jietong import up as city_up  # noqa: PLC0415 — the page and its server load only where they run

    raise typer.Exit(city_up.up(settings.load(data=data, city=pack, host=host, port=port), print))


@app.command("run")
def run_(
    program: Annotated[str, typer.Argument(help="Its import name, such as services.hookup.")],
    operator: Annotated[str | None, typer.Option(help="Of connectors.utility: this operator alone.")] = None,
    data: Data = None,
    pack: CityPack = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run one program, with its metrics and pages, until told to stop; copies of it share the work."""
    from jietong import settings  # noqa: PLC0415 — a web server is loaded only where one runs
    from jietong import up as city_up  # noqa: PLC0415 — the page and its server load only where they run

    chosen = settings.load(data=data, city=pack, host=host, port=port)
    raise typer.Exit(city_up.run(chosen, [program], print, only=operator))


tasks_app = typer.Typer(invoke_without_command=True, callback=held.tasks)
tasks_app.command("done")(ask.done)

for name, command in {
    "status": status.status, "tail": tail.tail, "held": held.held, "explain": explain.explain, "impact": impact.impact,
    "figures": figures.figures,
    "verify": verify.verify, "redrive": ask.redrive, "skip": ask.skip, "resolve": ask.resolve, "resume": ask.resume,
    "confirm": ask.confirm, "import": importing.import_, "backup": backup.backup, "restore": backup.restore,
    "doctor": doctor.doctor, "migrate": migrate.migrate,
}.items():  # fmt: skip
    app.command(name)(command)
for name, part in {
    "tasks": tasks_app, "leads": leads.leads_app, "answers": leads.answers_app, "mapping": importing.mapping_app,
    "company": company.app, "city": city.app, "transfers": transfers.app, "schema": schema.app, "topics": topics.app, "db": db.app,
    "outbox": outbox.app, "group": group.app,
}.items():  # fmt: skip
    app.add_typer(part, name=name)


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what these arguments say (default: the process's own); returns the exit code."""
    try:
        code = app(args=list(arguments) if arguments is not None else None, prog_name="jietong", standalone_mode=False)
        sys.stdout.flush()
    except WrongUse as error:
        return _said(error.format_message())
    except (BrokenPipeError, SystemExit):  # typer makes one of the other: whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except JietongError as error:
        return _said(str(error))
    except sqlite3.Error as error:  # a file that was damaged
        return _said(f"database: {error}")
    except OSError as error:
        return _said(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    return code if isinstance(code, int) else GOOD


def _said(message: str) -> int:
    """Each line of it on stderr; help, which is what a command without arguments means, as it is."""
    for line in message.splitlines():
        typer.echo(line if message.startswith("Usage:") else f"jietong: {line}", err=True)
    return WRONG_USE
