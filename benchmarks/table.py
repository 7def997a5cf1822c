"""What a benchmark found, as a table: median and range of each number, beside its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HEAD = ("measured", "median", "range", "target", "")


@dataclass(frozen=True, slots=True)
class Line:
    """One number measured several times. `target`: the most it should be, `least`: the least; None where it is only reported."""

    what: str
    values: Sequence[float]
    unit: str = "×"
    target: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        middle = median(self.values)
        return (self.target is None or middle <= self.target) and (self.least is None or middle >= self.least)

    def cells(self) -> tuple[str, ...]:
        low, high = min(self.values), max(self.values)
        spread = f"{_short(low)} – {_short(high)} ({len(self.values)})" if len(self.values) > 1 else ""
        wanted = [
            f"{sign} {_short(bound)} {self.unit}".rstrip()
            for sign, bound in (("≤", self.target), ("≥", self.least))
            if bound
        ]
        target = ", ".join(wanted)
        verdict = "" if not wanted else "met" if self.met else "**not met**"
        return self.what, f"{_short(median(self.values))} {self.unit}".rstrip(), spread, target, verdict


def markdown(lines: Sequence[Line]) -> str:
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
