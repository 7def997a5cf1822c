"""`jietong transfers …`: what the counter sees of property transfers (一体化过户), and what a person decides there.

A decision is written into the transfer service's own database at once, with or without a running city; the service hears it
within a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jietong.cli import screen
from jietong.cli.folder import Folder, has_table, module, now
from jietong.cli.options import AsJson, Data, DryRun
from jietong.errors import UsageError
from jietong.store import Store

PROGRAM, COUNTER = "transfer", "services.transfer.counter"
Transfer = Annotated[str, typer.Argument(help="The transfer's id, as `jietong transfers show` has it.")]
By = Annotated[str, typer.Option(help="Who decides; kept with the decision.")]

app = typer.Typer(no_args_is_help=True, help="What the counter sees of property transfers, and what a person decides.")


@app.callback()
def transfers_() -> None:
    """What the counter sees of property transfers, and what a person decides."""


@app.command()
def show(
    registration: Annotated[str, typer.Argument(help="The registration's number (受理号).")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Each account of a registration: what was found, what is owed, or that its operator has not answered yet."""
    folder = Folder(data)
    found = [asdict(checked) for checked in _counter(folder, folder.program(PROGRAM)).checked(registration)]
    if not found:
        raise UsageError(f"{registration}: no such registration here, or nothing was asked for it")
    if as_json:
        screen.emit({"registration": registration, "accounts": found})
    else:
        screen.table(list(found[0]), (list(row.values()) for row in found))


@app.command()
def match(
    transfer: Transfer,
    account: Annotated[str, typer.Argument(help="The account's number (户号) at that operator.")],
    by: By,
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """This is the account: it is asked again, and remembered for the unit's next transfer."""
    _decided(
        data,
        dry_run,
        as_json,
        f"{transfer} is account {account}",
        lambda c, at: c.match(transfer, account, by=by, now=at),
    )


@app.command()
def settled(transfer: Transfer, by: By, data: Data = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Someone saw that the arrears are paid: the operator is asked to look again."""
    _decided(data, dry_run, as_json, f"{transfer} was seen paid", lambda c, at: c.settled(transfer, by=by, now=at))


@app.command()
def told(transfer: Transfer, by: By, data: Data = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """The estate or the buyer was told what stays owed."""
    _decided(
        data,
        dry_run,
        as_json,
        f"{transfer}: it was told what stays owed",
        lambda c, at: c.told(transfer, by=by, now=at),
    )


@app.command()
def assign(
    unit: Annotated[str, typer.Argument(help="The unit that was split or merged.")],
    operator: Annotated[str, typer.Argument(help="The operator's id in the city pack.")],
    account: Annotated[str, typer.Argument(help="The account's number (户号).")],
    by: By,
    successor: Annotated[str | None, typer.Option(help="The unit it goes to (default: none of them).")] = None,
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """After a split or merger: which unit an account goes with."""
    _decided(data, dry_run, as_json, f"account {account} goes to {successor or 'none'}",
             lambda c, at: c.assign(unit, operator, account, successor, by=by, now=at))  # fmt: skip


def _decided(data: Any, dry_run: bool, as_json: bool, what: str, decide: Callable[[Any, datetime], None]) -> None:
    folder = Folder(data)
    _counter(folder, folder.program(PROGRAM))
    if not dry_run:
        with folder.writing(PROGRAM) as store:
            decide(_counter(folder, store), datetime.fromtimestamp(now() / 1000, UTC))
    if as_json:
        screen.emit({"dry_run": dry_run, "decided": what})
    else:
        print(f"would write: {what}" if dry_run else what)


def _counter(folder: Folder, store: Store) -> Any:
    with store.snapshot() as tx:
        if not has_table(tx, "decision"):
            raise UsageError(f"{folder.name}: the transfer service has not run here yet")
    return module(COUNTER).Counter(store)
