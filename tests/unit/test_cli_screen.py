"""What a command prints, and what a spreadsheet must not run."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong.cli import screen
from jietong.cli.leads import armed, defused

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def test_in_a_pipe_rows_are_tab_separated_and_times_are_the_citys(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("what", "since", "none"), [("parked", NOON, None), ("a\tb\n\x1b[31m", date(2026, 3, 2), [1, 2])])
    assert capsys.readouterr().out.splitlines() == [
        "what\tsince\tnone",
        "parked\t2026-03-02 12:00:00\t",
        "a b  [31m\t2026-03-02\t1, 2",
    ]


def test_on_a_terminal_rows_are_a_table_without_colour_where_that_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    screen.table(("reason",), [("[bold]not markup[/bold]",)])
    out = capsys.readouterr().out
    assert "[bold]not markup[/bold]" in out
    assert "\x1b[3" not in out


def test_json_is_one_line_with_utc_times_and_decimals_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    screen.emit({"at": NOON, "on": date(2026, 3, 2), "fee": Decimal("1.20"), "bytes": b"\xff", "zh": "供水"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "at": "2026-03-02T04:00:00.000Z", "on": "2026-03-02", "fee": "1.20", "bytes": "/w==", "zh": "供水",
    }  # fmt: skip


@given(st.text(max_size=20))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_exported_cell_begins_as_a_formula_and_each_comes_back_as_it_was(text: str) -> None:
    cell = defused(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    if not text.startswith("'"):
        assert armed(cell) == text
