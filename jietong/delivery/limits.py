"""A bad deploy must not drain a topic: too many invalid events stop their consumer, and the batch that did it is undone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from jietong.errors import LimitError
from jietong.store import Transaction


@dataclass(frozen=True, slots=True)
class Limit:
    """So many invalid in a row, or more than a share of the last `window`, once `least` have been seen."""

    in_a_row: int = 20
    share: float = 0.01
    window: int = 1000
    least: int = 200


USUAL = Limit()


@dataclass(slots=True)
class Window:
    """The last outcomes of one topic at one consumer; kept in its database while any of them is invalid."""

    topic: str
    limit: Limit
    outcomes: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=1000))
    allowed: int = 0

    @classmethod
    def load(cls, tx: Transaction, topic: str, limit: Limit) -> Window:
        kept = _mark(tx, f"window:{topic}")
        return cls(topic, limit, deque((c == "1" for c in kept), limit.window), int(_mark(tx, f"allowed:{topic}") or 0))

    def note(self, invalid: bool) -> None:
        """Raises LimitError at the outcome that is one too many."""
        if invalid and self.allowed:
            self.allowed -= 1
            return
        self.outcomes.append(invalid)
        if invalid and (self._in_a_row() or self._too_many()):
            raise LimitError(f"{self.topic}: too many invalid events ({sum(self.outcomes)} of the last {len(self.outcomes)}); nothing of this "
                             f"batch was kept. See `jietong held`; when it is right to go on: `jietong resume`")  # fmt: skip

    def copy(self) -> Window:
        return Window(self.topic, self.limit, self.outcomes.copy(), self.allowed)

    def save(self, tx: Transaction, before: Window) -> None:
        """Keep it in the batch's own transaction, while there is anything to keep."""
        if any(self.outcomes) or any(before.outcomes):
            _set(
                tx,
                f"window:{self.topic}",
                "".join("01"[invalid] for invalid in self.outcomes) if any(self.outcomes) else "",
            )
        if self.allowed != before.allowed:
            _set(tx, f"allowed:{self.topic}", str(self.allowed or ""))

    def _in_a_row(self) -> bool:
        last = [self.outcomes[-n] for n in range(1, min(self.limit.in_a_row, len(self.outcomes)) + 1)]
        return len(last) == self.limit.in_a_row and all(last)

    def _too_many(self) -> bool:
        seen = len(self.outcomes)
        return seen >= self.limit.least and sum(self.outcomes) > self.limit.share * seen


def allow(tx: Transaction, topic: str, invalid: int) -> None:
    """A person's word: the window starts anew, and so many invalid events may pass uncounted."""
    _set(tx, f"window:{topic}", "")
    _set(tx, f"allowed:{topic}", str(invalid or ""))


def _set(tx: Transaction, name: str, value: str) -> None:
    if value:
        tx.execute("INSERT INTO mark (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = :value",
                   {"name": name, "value": value})  # fmt: skip
    else:
        tx.execute("DELETE FROM mark WHERE name = :name", {"name": name})


def _mark(tx: Transaction, name: str) -> str:
    row = tx.execute("SELECT value FROM mark WHERE name = :name", {"name": name}).one()
    return row[0] if row else ""
