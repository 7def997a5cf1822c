"""What is known of a project, kept as JSON: decimals, dates, moments and sealed bytes come back as they were.

A value that JSON has not is a string behind the control character 1, which no text of an event can hold.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

Facts = Mapping[str, Any]
MARK = "\x01"


def dumps(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def loads(text: str) -> Any:
    return _meant(json.loads(text))


def merged(known: Iterable[Facts]) -> dict[str, Any]:
    """One picture of the project: a later one in the list says only what no earlier one knew."""
    whole: dict[str, Any] = {}
    for facts in known:
        for name, value in facts.items():
            if whole.get(name) is None:
                whole[name] = value
    return whole


def sort_fields(fields: Iterable[str], project: Facts, demand: Facts) -> tuple[list[str], list[str]]:
    """(known already, still to be asked): 一张表单, asked once. A field is `project.<name>` or `demand.<name>`."""
    known: list[str] = []
    asked: list[str] = []
    for field in fields:
        room, _, name = field.partition(".")
        value = (project if room == "project" else demand).get(name)
        (asked if value is None else known).append(field)
    return known, asked


def known(facts: Facts) -> dict[str, Any]:
    """Without what is not known: a null says nothing."""
    return {name: value for name, value in facts.items() if value is not None}


def _plain(value: Any) -> Any:
    write = WRITE.get(type(value))  # pyright: ignore[reportUnknownArgumentType] — of any value
    return write(value) if write else value


def _meant(value: Any) -> Any:
    if isinstance(value, str):
        return READ[value[1]](value[2:]) if value.startswith(MARK) else value
    if isinstance(value, dict):
        return {key: _meant(item) for key, item in cast("dict[str, Any]", value).items()}
    return [_meant(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


WRITE: Mapping[type, Callable[[Any], Any]] = {
    dict: lambda value: {key: _plain(item) for key, item in value.items()},
    list: lambda value: [_plain(item) for item in value],
    tuple: lambda value: [_plain(item) for item in value],
    Decimal: lambda value: f"{MARK}d{value}",
    datetime: lambda value: f"{MARK}m{round(value.timestamp() * 1000)}",
    date: lambda value: f"{MARK}t{value.isoformat()}",
    bytes: lambda value: f"{MARK}b{base64.b64encode(value).decode()}",
}
READ: Mapping[str, Callable[[str], Any]] = {
    "d": Decimal,
    "m": lambda text: datetime.fromtimestamp(int(text) / 1000, UTC),
    "t": date.fromisoformat,
    "b": base64.b64decode,
}
