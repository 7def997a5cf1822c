"""An alarm is a row, a metric and a line in /readyz: raised once, cleared when what it says is no longer so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jietong.store import Transaction

STANDS = 30_000
"""Milliseconds that an alarm for what mends itself stands at least: who scrapes metrics looks every 15 s."""


class Alarm(NamedTuple):
    """`name` in the field's words, `about` what (a topic, a stream, a source), `detail` the way on."""

    name: str
    about: str
    detail: str
    since: int


def raise_(tx: Transaction, name: str, about: str, detail: str, now: int) -> None:
    tx.execute("INSERT INTO alarm (name, about, detail, since) VALUES (:name, :about, :detail, :now) "
               "ON CONFLICT (name, about) DO UPDATE SET detail = excluded.detail",
               {"name": name, "about": about, "detail": detail, "now": now})  # fmt: skip


def clear(tx: Transaction, name: str, about: str) -> None:
    tx.execute("DELETE FROM alarm WHERE name = :name AND about = :about", {"name": name, "about": about})


def only(tx: Transaction, name: str, details: Mapping[str, str], now: int) -> None:
    """Of this name these stand (about → detail), and no others."""
    for about in {alarm.about for alarm in standing(tx) if alarm.name == name} - details.keys():
        clear(tx, name, about)
    for about, detail in sorted(details.items()):
        raise_(tx, name, about, detail, now)


def over(tx: Transaction, name: str, now: int) -> None:
    """What it said of anything is no longer so; it goes once it has stood so long that somebody can have seen it, or was
    raised by a clock that ran ahead."""
    tx.execute("DELETE FROM alarm WHERE name = :name AND (since <= :seen OR since > :now)",
               {"name": name, "seen": now - STANDS, "now": now})  # fmt: skip


def standing(tx: Transaction) -> list[Alarm]:
    return [
        Alarm(*row)
        for row in tx.execute("SELECT name, about, detail, since FROM alarm ORDER BY since, name, about").all()
    ]
