"""An alarm is a row, a metric and a line in /readyz: raised once, cleared when what it says is no longer so."""

from __future__ import annotations

from typing import NamedTuple

from jietong.store import Transaction


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


def standing(tx: Transaction) -> list[Alarm]:
    return [
        Alarm(*row)
        for row in tx.execute("SELECT name, about, detail, since FROM alarm ORDER BY since, name, about").all()
    ]
