"""What is known of a project, kept as JSON: decimals, dates, moments and sealed bytes come back as they were."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

Facts = Mapping[str, Any]


def dumps(value: object) -> str:
    return json.dumps(value, default=_tagged, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def loads(text: str) -> Any:
    return json.loads(text, object_hook=_untagged)


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


def _tagged(value: object) -> dict[str, Any]:
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime):
        return {"$time": round(value.timestamp() * 1000)}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is no value of an event")


def _untagged(found: dict[str, Any]) -> Any:
    if len(found) != 1:
        return found
    [(tag, value)] = found.items()
    match tag:
        case "$decimal":
            return Decimal(value)
        case "$time":
            return datetime.fromtimestamp(value / 1000, UTC)
        case "$date":
            return date.fromisoformat(value)
        case "$bytes":
            return base64.b64decode(value)
        case _:
            return found
