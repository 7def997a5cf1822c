"""docs/states.md, drawn from the table that runs: `python -m services.hookup.drawing` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.hookup.machine import ENDS, LINES, MOVES, OPEN, SUPPLY, Move

PAGE = Path(__file__).parents[2] / "docs" / "states.md"
NEVER = ("NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED")
"""Ends that may follow anything open: one arrow in the picture."""
HEAD = """# The states of a case (接入事项)

Drawn from the table that runs (`services/hookup/machine.py`) by `python -m services.hookup.drawing`; a test holds the two together.

A case is one (工程, operator, business kind, phase) of a project, unit or enterprise. The *utility* moves it, step by step; the
*city* suspends, resumes and cancels it with the approvals behind it, whatever step it is at; the *customer* confirms demand and
declines. A step that is not in the table is answered (`AMENDED`, reason `WRONG_STEP`, with the step's id and why), counted, shown
as a task, and never applied. What is connected is never cut by an event.
"""
CITY = """## What the city does

| said | when | what stays |
|---|---|---|
| `LEAD` | a trigger row of the city is met by a fact in force | nothing was said yet, or it was cancelled |
| `REQUESTED` | the company confirmed its demand, or applied by itself | the lead is a request; what had ended without a supply begins once more |
| `AMENDED` | facts, demand, consent or permits changed; a step was refused | the state |
| `SUSPENDED` | all support that is left rests; or the last fell, and the utility has accepted | the step; of what was accepted, a task for a person |
| `RESUMED` | a support came back | goes on where it was |
| `CANCELLED` | the last support fell, and the utility has not accepted | nothing |
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *_section("Supply", SUPPLY), *_section("Lines that are there already", LINES), CITY]
    return "\n".join(parts)


def _section(title: str, kinds: tuple[str, ...]) -> Iterator[str]:
    """One picture for kinds that move alike, else one each."""
    yield f"## {title}: {', '.join(kinds)}\n"
    alike = len({tuple(move for move in MOVES if kind in move.kinds) for kind in kinds}) == 1
    for kind in kinds[:1] if alike else kinds:
        moves = [move for move in MOVES if kind in move.kinds]
        if not alike:
            yield f"### {kind}\n"
        yield "\n".join(("```mermaid", "stateDiagram-v2", *_arrows(moves), "```\n"))
        yield "| to | 中文 | after | by | needs | whose time follows | clock |\n|---|---|---|---|---|---|---|"
        yield "\n".join(_row(move) for move in moves) + "\n"


def _arrows(moves: list[Move]) -> Iterator[str]:
    yield "    [*] --> LEAD"
    for move in moves:
        if move.to in NEVER and set(move.after) >= set(OPEN):
            yield f"    LEAD --> {move.to}: from any open state"
            continue
        yield from (f"    {after} --> {move.to}" for after in move.after if after != move.to)
    ends = {move.to for move in moves if move.to in ENDS or move.owner == "UNKNOWN"}
    yield from (f"    {end} --> [*]" for end in sorted(ends))


def _row(move: Move) -> str:
    after = "any open" if set(move.after) >= set(OPEN) else ", ".join(move.after)
    owner = "nobody's" if move.owner == "UNKNOWN" else move.owner.lower()
    return f"| {move.to} | {move.zh} | {after} | {move.by.lower()} | {move.needs} | {owner} | {move.clock} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
