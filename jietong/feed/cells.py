"""What a cell of a file becomes: the typed value of one field of an event's schema, or a reason why it cannot.

The schema decides the type; a mapping only says how the file writes it. Reasons never hold the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal, localcontext
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
    """What each text means; `*` stands for any other. Without it, a text that is not listed is refused. The empty text
    stands for the empty cell, which else says nothing."""
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


def fields(definition: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a schema by name, those of a record in it as `project.name`; personal ones are of kind `sealed`."""
    return {field.name: field for field in _fields(definition, "", {})}


def _fields(record: Mapping[str, Any], above: str, named: dict[str, Mapping[str, Any]]) -> Iterator[Field]:
    for entry in cast("list[dict[str, Any]]", record["fields"]):
        name, kind, nullable = above + entry["name"], entry["type"], False
        if isinstance(kind, list):
            members = cast("list[Any]", kind)
            nullable, kind = "null" in members, next(member for member in members if member != "null")
        shape: Mapping[str, Any] = named.get(kind, {"type": kind}) if isinstance(kind, str) else kind
        if shape["type"] in ("record", "enum"):
            named[shape["name"]] = shape
        if shape["type"] == "record" and shape["name"] != "Sealed":
            yield from _fields(shape, f"{name}.", named)
        else:
            yield _field(name, shape, entry, nullable)


def _field(name: str, shape: Mapping[str, Any], entry: Mapping[str, Any], nullable: bool) -> Field:
    kind = "sealed" if shape["type"] == "record" else shape.get("logicalType") or shape["type"]
    symbols = [symbol for symbol in shape.get("symbols", ()) if not (symbol == "UNKNOWN" and entry.get("decisive"))]
    return Field(
        name=name,
        kind=kind,
        required="default" not in entry,
        nullable=nullable,
        longest=entry.get("maxLength", MAX_TEXT),
        precision=shape.get("precision", 0),
        scale=shape.get("scale", 0),
        symbols=tuple(symbols),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """A field, and how the file writes it. `zone` is that of times without one."""

    field: Field
    how: Column
    zone: tzinfo | None

    def read(self, cell: Cell) -> Any:
        """The value of a cell, None where it says nothing. Raises CellError."""
        try:
            return self._list(cell) if self.field.kind == "array" else self._one(cell)
        except CellError as error:
            raise CellError(error.reason, self.how.column) from None

    def constant(self, given: str | Sequence[str]) -> Any:
        """The value of a text that a mapping gives itself. Raises CellError."""
        if self.field.kind == "array":
            return self._list((given,) if isinstance(given, str) else tuple(given))
        if not isinstance(given, str):
            raise CellError("a list where one value is expected")
        return PARSERS[self.field.kind](given, self)

    def _one(self, cell: Cell) -> Any:
        if isinstance(cell, tuple):
            raise CellError("a list where one value is expected")
        if isinstance(cell, bool) and self.field.kind == "boolean" and not self.how.values:
            return cell
        text = _translated(_text_of(cell), self.how)
        if text is None:
            if not self.field.nullable:
                raise CellError("empty, and required")
            return None
        if self.field.kind == "boolean" and not self.how.values:
            raise CellError("not a yes or no of a value table")
        return PARSERS[self.field.kind](text, self)

    def _list(self, cell: Cell) -> list[str]:
        parts = cell if isinstance(cell, tuple) else _parts(_text_of(cell), self.how.separators)
        items = [_printable(text, self.field) for part in parts if (text := _translated(part, self.how)) is not None]
        if len(items) > MAX_ITEMS:
            raise CellError(f"more than {MAX_ITEMS} parts")
        return items


def target(name: str, kind: str, how: Column, zone: tzinfo | None) -> Target:
    """A place for a value that is no field of the event."""
    return Target(Field(name, kind, required=False, nullable=True), how, zone)


def _text_of(cell: str | bool) -> str:
    return cell if isinstance(cell, str) else str(cell).lower()


def _translated(text: str, how: Column) -> str | None:
    """A cell's text as the mapping reads it, before it gets a type."""
    if text in how.none or (not text and "" not in how.values):
        return None
    for old, new in how.replace.items():
        text = text.replace(old, new)
    if how.values:
        found = how.values.get(text, how.values.get("*"))
        if found is None:
            raise CellError("not in the value table")
        text = found
    return text or None


def _parts(text: str, separators: str) -> list[str]:
    pieces = re.split(f"[{re.escape(separators)}]", text) if separators else [text]
    return list(dict.fromkeys(part for piece in pieces if (part := piece.strip())))


def _printable(text: str, field: Field) -> str:
    if UNPRINTABLE.search(text):
        raise CellError("a character that is no text (a control character)")
    if len(text) > field.longest:
        raise CellError(f"longer than {field.longest} characters")
    return text


def _text(text: str, into: Target) -> str:
    separators = into.how.separators
    return _printable("、".join(sorted(_parts(text, separators))) if separators else text, into.field)


def _symbol(text: str, into: Target) -> str:
    if text not in into.field.symbols:
        raise CellError(f"none of the field's words ({', '.join(into.field.symbols)}); a value table can lead to them")
    return text


def _whole(text: str, into: Target) -> int:
    if not WHOLE.fullmatch(text):
        raise CellError("not a whole number")
    number, bits = int(text), BITS[into.field.kind]
    if not -(2**bits) <= number < 2**bits:
        raise CellError(f"a whole number beyond {bits + 1} bits")
    return number


def _decimal(text: str, into: Target) -> Decimal:
    if not NUMBER.fullmatch(text):
        raise CellError("not a number")
    number, precision, scale = Decimal(text), into.field.precision, into.field.scale
    with localcontext(prec=200):  # as many as NUMBER lets through
        fitted = number.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)
    if fitted != number and not into.how.round:
        raise CellError(f"more than {scale} decimals")
    if fitted.adjusted() >= precision - scale:
        raise CellError(f"more than {precision - scale} digits before the point")
    return fitted


def _boolean(text: str, into: Target) -> bool:
    if text not in ("true", "false"):
        raise CellError(f"{into.field.name} is either true or false")
    return text == "true"


def _moment(text: str, into: Target) -> datetime:
    moment = _parsed(text, into.how)
    if moment.tzinfo is None:
        if into.zone is None:
            raise CellError("a time without a zone; the mapping's zone is that of such times")
        moment = moment.replace(tzinfo=into.zone)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise CellError("a date out of range") from None


def _date(text: str, into: Target) -> date:
    moment = _parsed(text, into.how)
    try:
        return moment.astimezone(into.zone).date() if moment.tzinfo and into.zone else moment.date()
    except OverflowError:
        raise CellError("a date out of range") from None


def _parsed(text: str, how: Column) -> datetime:
    for form in how.formats:
        try:
            if form == ISO:
                return datetime.fromisoformat(text.upper())  # a `t` and a `z` are as good (RFC 3339, 5.6)
            return datetime.strptime(text, form)  # noqa: DTZ007 - its zone comes next
        except ValueError:
            continue
    raise CellError(f"no date of the form {' or '.join(how.formats)}")


PARSERS: dict[str, Callable[[str, Target], Any]] = {
    "string": _text,
    "enum": _symbol,
    "int": _whole,
    "long": _whole,
    "boolean": _boolean,
    "decimal": _decimal,
    "date": _date,
    "timestamp-millis": _moment,
}
