"""What a cell of a file becomes: the typed value of one field of an event's schema, or a reason why it cannot.

The schema decides the type; a mapping only says how the file writes it. Reasons never hold the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict

Cell = str | bool | tuple[str, ...]
"""Whitespace collapsed; an absent or null one is empty. JSON also has true, false and lists."""

ISO = "iso"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
NUMBER = re.compile(r"[+-]?[0-9]{1,60}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,2})?")
BITS = {"int": 31, "long": 63}
MAX_TEXT, MAX_ITEMS = 1000, 10_000


class CellError(ValueError):
    """This cell cannot become what its field must be. `column` is set by whoever knows it."""

    def __init__(self, reason: str, column: str = "") -> None:
        super().__init__(reason)
        self.reason, self.column = reason, column


class Column(BaseModel):
    """How the file writes one field. A bare column name is one with all else left at its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    column: str
    formats: tuple[str, ...] = (ISO,)
    """Of dates, tried in turn: `iso` (ISO 8601) or as `%d.%m.%Y`."""
    none: tuple[str, ...] = ()
    """Texts that mean "no value", beside the empty cell: 现房, 9999-01-01."""
    values: dict[str, str] = {}
    """What each text means; `*` stands for any other. Without it, a text that is not listed is refused."""
    replace: dict[str, str] = {}
    """Parts of a text put otherwise: one spelling of brackets, no currency sign."""
    separators: str = ""
    """Characters between the parts of a cell: a list's, or a text's, whose parts are then sorted (any order is one)."""
    round: bool = False
    """Whether a number may lose decimals beyond the field's scale (coordinates); money may not."""


def _named(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


Named = Annotated[Column, BeforeValidator(_named)]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a schema, as far as a cell can fill it. `kind` is an Avro type or logical type."""

    name: str
    kind: str
    required: bool
    nullable: bool
    longest: int = MAX_TEXT
    precision: int = 0
    scale: int = 0
    symbols: tuple[str, ...] = ()


TIME = Field("time", "timestamp-millis", required=True, nullable=True)
DAY = Field("day", "date", required=False, nullable=True)


def fields(definition: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a schema by name, those of a record in it as `project.name`. Sealed (personal) ones are `sealed`."""
    return {field.name: field for field in _fields(definition, "", {})}


def _fields(record: Mapping[str, Any], above: str, named: dict[str, Mapping[str, Any]]) -> Iterator[Field]:
    for entry in cast("list[dict[str, Any]]", record["fields"]):
        name, type, nullable = above + entry["name"], entry["type"], False
        if isinstance(type, list):
            members = cast("list[Any]", type)
            nullable, type = "null" in members, next(member for member in members if member != "null")
        shape: Mapping[str, Any] = named.get(type, {"type": type}) if isinstance(type, str) else type
        if shape["type"] in ("record", "enum"):
            named[shape["name"]] = shape
        if shape["type"] == "record" and shape["name"] != "Sealed":
            yield from _fields(shape, f"{name}.", named)
        else:
            yield _field(name, shape, entry, nullable)


def _field(name: str, shape: Mapping[str, Any], entry: Mapping[str, Any], nullable: bool) -> Field:
    symbols = [symbol for symbol in shape.get("symbols", ()) if not (symbol == "UNKNOWN" and entry.get("decisive"))]
    return Field(
        name, "sealed" if shape["type"] == "record" else shape.get("logicalType") or shape["type"], "default" not in entry,
        nullable, entry.get("maxLength", MAX_TEXT), shape.get("precision", 0), shape.get("scale", 0), tuple(symbols),
    )  # fmt: skip


def read(cell: Cell, how: Column, field: Field, zone: tzinfo | None) -> Any:
    """The value of a cell, None where it says nothing. Raises CellError."""
    if field.kind == "array":
        return _list(cell, how, field)
    if isinstance(cell, tuple):
        raise CellError("a list where one value is expected", how.column)
    if isinstance(cell, bool):
        if field.kind == "boolean" and not how.values:
            return cell
        cell = str(cell).lower()
    try:
        text = translated(cell, how)
        if text is not None and field.kind == "boolean" and not how.values:
            raise CellError("not a yes or no of a value table")
        value = None if text is None else PARSERS[field.kind](text, how, field, zone)
        if value is None and not field.nullable:
            raise CellError("empty, and required")
    except CellError as error:
        raise CellError(error.reason, how.column) from None
    return value


def constant(given: str | Sequence[str], field: Field, zone: tzinfo | None) -> Any:
    """The value of a text that a mapping gives itself. Raises CellError."""
    if field.kind == "array":
        return _list((given,) if isinstance(given, str) else tuple(given), PLAIN, field)
    if not isinstance(given, str):
        raise CellError("a list where one value is expected")
    return PARSERS[field.kind](given, PLAIN, field, zone)


def translated(text: str, how: Column) -> str | None:
    """A cell's text as the mapping reads it, before it gets a type."""
    if not text or text in how.none:
        return None
    for old, new in how.replace.items():
        text = text.replace(old, new)
    if how.values:
        found = how.values.get(text, how.values.get("*"))
        if found is None:
            raise CellError("not in the value table")
        text = found
    return text or None


def _list(cell: Cell, how: Column, field: Field) -> list[str]:
    parts = cell if isinstance(cell, tuple) else _parts(str(cell), how.separators)
    try:
        items = [_text(item, PLAIN, field, None) for part in parts if (item := translated(part, how)) is not None]
    except CellError as error:
        raise CellError(error.reason, how.column) from None
    if len(items) > MAX_ITEMS:
        raise CellError(f"more than {MAX_ITEMS} parts", how.column)
    return items


def _parts(text: str, separators: str) -> list[str]:
    pieces = re.split(f"[{re.escape(separators)}]", text) if separators else [text]
    return list(dict.fromkeys(part for piece in pieces if (part := piece.strip())))


def _text(text: str, how: Column, field: Field, zone: tzinfo | None) -> str:  # noqa: ARG001 — one shape for all parsers
    if how.separators:
        text = "、".join(sorted(_parts(text, how.separators)))
    if UNPRINTABLE.search(text):
        raise CellError("a character that is no text (a control character)")
    if len(text) > field.longest:
        raise CellError(f"longer than {field.longest} characters")
    return text


def _symbol(text: str, how: Column, field: Field, zone: tzinfo | None) -> str:  # noqa: ARG001
    if text not in field.symbols:
        raise CellError(f"none of the field's words ({', '.join(field.symbols)}): a value table is missing it")
    return text


def _whole(text: str, how: Column, field: Field, zone: tzinfo | None) -> int:  # noqa: ARG001
    if not WHOLE.fullmatch(text):
        raise CellError("not a whole number")
    number, bits = int(text), BITS[field.kind]
    if not -(2**bits) <= number < 2**bits:
        raise CellError(f"a whole number beyond {bits + 1} bits")
    return number


def _decimal(text: str, how: Column, field: Field, zone: tzinfo | None) -> Decimal:  # noqa: ARG001
    if not NUMBER.fullmatch(text):
        raise CellError("not a number")
    number = Decimal(text)
    try:
        fitted = number.quantize(Decimal(1).scaleb(-field.scale), rounding=ROUND_HALF_UP)
    except InvalidOperation:
        raise CellError(f"more than {field.precision} digits") from None
    if fitted != number and not how.round:
        raise CellError(f"more than {field.scale} decimals")
    if fitted.adjusted() + 1 > field.precision - field.scale:
        raise CellError(f"more than {field.precision} digits")
    return fitted


def _boolean(text: str, how: Column, field: Field, zone: tzinfo | None) -> bool:  # noqa: ARG001
    if text not in ("true", "false"):
        raise CellError("neither true nor false")
    return text == "true"


def _moment(text: str, how: Column, field: Field, zone: tzinfo | None) -> datetime:
    moment = _parsed(text, how)
    if moment.tzinfo is None:
        if zone is None:
            raise CellError("a time without a zone: give the mapping's zone")
        moment = moment.replace(tzinfo=zone)
    try:
        moment.timestamp()
    except OverflowError:
        raise CellError("a date out of range") from None
    return moment


def _date(text: str, how: Column, field: Field, zone: tzinfo | None) -> date:  # noqa: ARG001
    moment = _parsed(text, how)
    try:
        return moment.astimezone(zone).date() if moment.tzinfo and zone else moment.date()
    except OverflowError:
        raise CellError("a date out of range") from None


def _parsed(text: str, how: Column) -> datetime:
    for form in how.formats:
        try:
            return datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)  # noqa: DTZ007 — the zone comes next
        except ValueError:
            continue
    raise CellError(f"no date of the form {' or '.join(how.formats)}")


PLAIN = Column(column="")
PARSERS: dict[str, Callable[[str, Column, Field, tzinfo | None], Any]] = {
    "string": _text, "enum": _symbol, "int": _whole, "long": _whole, "boolean": _boolean, "decimal": _decimal,
    "date": _date, "timestamp-millis": _moment,
}  # fmt: skip
