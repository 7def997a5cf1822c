"""A row of a table that is not ours, read cell by cell, whatever types a vendor gave it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from connectors.engineering.tables import TOMBSTONE
from jietong.errors import JietongError

SHANGHAI = ZoneInfo("Asia/Shanghai")
FIRST_YEAR, LAST_YEAR = 1949, 2199
LONGEST_NUMBER = 64


class UnreadableError(JietongError):
    """A cell cannot become part of an event. Names table, column and rule, never the value."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. Every reader raises UnreadableError; an empty cell is None (Oracle knows no empty text)."""

    table: str
    cells: Mapping[str, Any]

    @property
    def key(self) -> int:
        """LSH, the row's serial: DFSJZJ will not do, a correction may carry on the one of its tombstone."""
        return self.cells["LSH"]

    @property
    def name(self) -> str:
        return f"{self.table}:{self.key}"

    @property
    def struck(self) -> bool:
        """Whether it is a tombstone: its platform says it was never true."""
        return str(self.cells["SJYXBS"]).strip() == str(TOMBSTONE)

    @property
    def stamped(self) -> datetime:
        return self.required_moment("GXSJ")

    def digest(self, columns: Sequence[str]) -> str:
        """SHA-256 over these cells: what else changes (upload state, a person's opinion) tells nobody anything."""
        cells = [None if (cell := self.cells[column]) is None else str(cell) for column in columns]
        return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()

    def bad(self, column: str, rule: str) -> UnreadableError:
        return UnreadableError(f"{self.table}.{column}: {rule}")

    def text(self, column: str, longest: int) -> str | None:
        """Words; line breaks and runs of space become one space."""
        cell = self.cells[column]
        return self._checked(column, " ".join(str(cell).split()), longest) or None if cell is not None else None

    def code(self, column: str, longest: int = 100) -> str:
        """A key, taken as it is written: it must be there, and has one spelling."""
        cell = self.cells[column]
        if cell is None or not str(cell).strip():
            raise self.bad(column, "missing")
        return self._checked(column, str(cell), longest)

    def many(self, column: str, longest: int, separators: str = "、,，;；") -> list[str]:
        """Words separated by `、`, `,` or `;`, wide or narrow; sentences, which have commas, by fewer."""
        listed = (self.text(column, 10_000) or "").translate(dict.fromkeys(map(ord, separators), "\n")).split("\n")
        return [self._checked(column, word.strip(), longest) for word in listed if word.strip()]

    def whole(self, column: str) -> int | None:
        """A whole number that fits 32 bits."""
        number = self.number(column, 10, 0, exact=True)
        if number is not None and not -(2**31) <= number < 2**31:
            raise self.bad(column, "a number too large")
        return None if number is None else int(number)

    def number(self, column: str, digits: int, places: int, *, exact: bool = False) -> Decimal | None:
        """At most `digits` digits, `places` of them after the point; rounded to them unless it must be `exact`."""
        cell = self.cells[column]
        if cell is None or not (text := str(cell).strip()):
            return None
        if len(text) > LONGEST_NUMBER:
            raise self.bad(column, "a number too long")
        try:
            number = Decimal(text)
            rounded = number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        except InvalidOperation:
            raise self.bad(column, "not a number, or one too large") from None
        if exact and rounded != number:
            raise self.bad(column, "not a whole number")
        if not rounded.is_finite() or len(rounded.as_tuple().digits) > digits:
            raise self.bad(column, f"not a number of at most {digits} digits")
        return rounded

    def moment(self, column: str) -> datetime | None:
        """A time; without a zone it is Asia/Shanghai's."""
        cell = self.cells[column]
        if isinstance(cell, date) and not isinstance(cell, datetime):
            cell = datetime.combine(cell, time())
        if cell is None or not str(cell).strip():
            return None
        try:
            found = cell if isinstance(cell, datetime) else datetime.fromisoformat(str(cell).strip())
        except ValueError:
            raise self.bad(column, "not a date or time (YYYY-MM-DD HH:MM:SS)") from None
        return found if found.tzinfo else found.replace(tzinfo=SHANGHAI)

    def required_moment(self, column: str) -> datetime:
        found = self.moment(column)
        if found is None:
            raise self.bad(column, "missing")
        if not FIRST_YEAR <= found.year <= LAST_YEAR:
            raise self.bad(column, f"not a time between {FIRST_YEAR} and {LAST_YEAR}")
        return found

    def day(self, column: str) -> date | None:
        """A day; 9999-01-01, the standard's "without end", is none."""
        found = self.moment(column)
        return None if found is None or found.year == date.max.year else found.date()

    def _checked(self, column: str, text: str, longest: int) -> str:
        if len(text) > longest:
            raise self.bad(column, f"longer than {longest} characters")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise self.bad(column, "control characters")
        return text
