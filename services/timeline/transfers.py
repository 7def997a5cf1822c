"""账户过户: the accounts that move with a unit, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from jietong.markup import Html, tag
from services.timeline.frame import City, both, mark, moment, order, pill, section
from services.timeline.words import CHOICES, TRANSFERS, UTILITIES, Name
from services.timeline.works import utility_sign

Row = Mapping[str, Any]
WAITING = ("PENDING_SETTLEMENT", "UNMATCHED")
"""What waits for the owner to pay, or for a person to find the account."""
CHECKS = (
    ("auto_debit_stopped", "原自动扣款已停", "自动扣款未停"),
    ("contract_signed", "合同已签", "合同未签"),
    ("safety_checked", "安检已做", "安检未做"),
)


def transfers(city: City, unit: Row) -> Html:
    """By registration, every account with what was chosen and how far it is; first what waits."""
    rows = sorted(
        unit["transfers"],
        key=lambda row: (row.get("registration") or "", order(row["utility"] or "", UTILITIES), row["operator"] or ""),
    )
    waiting = [(state, n) for state in WAITING if (n := sum(row["state"] == state for row in rows))]
    counted = (
        mark(Name(f"{TRANSFERS[state].zh} {n}", f"{TRANSFERS[state].en} {n}"), "stopped") for state, n in waiting
    )
    groups = [
        _registration(city, number, list(found))
        for number, found in groupby(rows, lambda row: row.get("registration") or "")
    ]
    summary = [tag("p", *counted, class_="waiting")] if waiting else []
    return section("transfers", Name("账户过户", "Accounts moving with the property"), *summary, *groups)


def _registration(city: City, number: str, rows: list[Row]) -> Html:
    on = next((row["registered_on"] for row in rows if row.get("registered_on")), None)
    head = tag("h3", "登记 ", tag("bdi", number), f" · 登簿 {on}" if on else None)
    return tag("div", head, tag("ul", *(_account(city, row) for row in rows)), class_="package")


def _account(city: City, row: Row) -> Html:
    name = UTILITIES.get(row["utility"] or "", Name("其他", "Other"))
    choice, checked = row.get("choice"), TRANSFERS.get(row["checked"] or "")
    looked = row["settlement_seen"] and row["state"] != "DONE"
    return tag(
        "li",
        utility_sign(row["utility"]),
        tag("strong", tag("bdi", city[row["operator"]] if row["operator"] else name.zh)),
        tag("span", both(CHOICES[choice])) if choice in CHOICES else None,
        pill(row["state"], TRANSFERS),
        tag("span", both(Name("已见结清凭据，复核中", "Payment seen, looked at again"))) if looked else None,
        tag("span", "预检：", checked.zh) if checked and row["checked"] != row["state"] else None,
        *(tag("span", line, class_="line") for line in _done(row)),
        tag("span", moment(row["moved_at"]), class_="line"),
        data_key=row["transfer"],
    )


def _done(row: Row) -> Iterator[str]:
    if row.get("read_on"):
        yield f"抄表 {row['read_on']}"
    for field, yes, no in CHECKS:
        if (value := row.get(field)) is not None:
            yield yes if value else no
    if row.get("effective_on"):
        yield f"自 {row['effective_on']} 起计费"
