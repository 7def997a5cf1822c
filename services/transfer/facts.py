"""What was told, kept as JSON: decimals, days and sealed bytes come back as they were."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

READ: Mapping[str, Callable[[str], Any]] = {
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$bytes": base64.b64decode,
}


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_plain)


def loads(text: str) -> Any:
    return json.loads(text, object_hook=_meant)


def _plain(value: object) -> dict[str, str]:
    match value:
        case Decimal():
            return {"$decimal": str(value)}
        case date():
            return {"$date": value.isoformat()}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case _:
            raise TypeError(f"{type(value).__name__} is in no event")


def _meant(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        ((name, text),) = value.items()
        if name in READ:
            return READ[name](text)
    return value
