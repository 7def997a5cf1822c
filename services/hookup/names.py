"""What the words of events are called, Chinese first: as the schemas and the city pack say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from jietong.catalog import Catalog
from jietong.city import City, Name


class Names:
    """Of one catalogue and city."""

    def __init__(self, catalog: Catalog, city: City) -> None:
        self.city = city
        self._zh: dict[str, Mapping[str, str]] = {}
        for schemas in catalog.schemas.values():
            for name, zh in _enums(schemas[-1].definition):
                self._zh.setdefault(name, zh)

    def of(self, enum: str, symbol: str) -> Name:
        """A symbol of an enum of the schemas; one that has no name stands as it is."""
        return Name(
            self._zh.get(enum, {}).get(symbol, symbol), symbol.replace("_", " ").capitalize().replace(" tv", " TV")
        )

    def symbols(self, enum: str) -> list[str]:
        return [symbol for symbol in self._zh[enum] if symbol != "UNKNOWN"]

    def operator(self, id: str) -> Name:
        known = self.city.operators.get(id)
        return known.name if known else Name(id, id)

    def unit(self, id: str) -> Name:
        """Who is responsible: an operator, a department, or the office."""
        if id in self.city.departments:
            return self.city.departments[id].name
        return self.city.units.get(id) or self.operator(id)


def _enums(node: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    if isinstance(node, Mapping):
        made = cast("Mapping[str, Any]", node)
        if made.get("type") == "enum":
            yield made["name"], made.get("zh", {})
        for key in ("fields", "type", "items", "values"):
            yield from _enums(made.get(key))
    elif isinstance(node, list):
        for part in cast("list[Any]", node):
            yield from _enums(part)
