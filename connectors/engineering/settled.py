"""Which rows of the overlap need no second look, because the reader of this source is known to have kept them.

Without it every look would read, draft and hand over the whole overlap again, five times a second. The proof is the
position: it is committed in one transaction with what was read up to it, so one that comes back was committed. It
carries the look's own name and a count; any other position (a restart, a rollback, a restored database) proves nothing.
"""

from __future__ import annotations

from collections import deque
from uuid import uuid4

MOST = 50_000
"""Rows remembered of one look; the rest of a larger one is simply read again."""


class Settled:
    """Of one source, in memory. Rows by name, each with the digest it had."""

    def __init__(self) -> None:
        self._rows: dict[str, str] = {}
        self._met: dict[str, str] = {}
        self._given: deque[tuple[int, str, str]] = deque(maxlen=MOST)
        self._look, self._count, self._proved = "", 0, ""

    def begin(self, token: str) -> None:
        """A look begins, from a position with this token."""
        look, _, count = token.partition("/")
        if look and look == self._look:
            self._rows |= {row: digest for n, row, digest in self._given if n <= int(count)}
        elif token != self._proved:
            self._rows = {}
        self._proved, self._look, self._count = token, uuid4().hex, 0
        self._given.clear()
        self._met = {}

    def has(self, row: str, digest: str) -> bool:
        """Whether this row was kept as it is."""
        if self._rows.get(row) != digest:
            return False
        self._met[row] = digest
        return True

    def give(self, row: str, digest: str, good: bool) -> str:
        """The token to give with this row. One that is not `good` is given again each time."""
        self._count += 1
        if good:
            self._given.append((self._count, row, digest))
        return f"{self._look}/{self._count}"

    def end(self) -> None:
        """The look is over: what it did not meet has left the overlap."""
        self._rows = self._met
