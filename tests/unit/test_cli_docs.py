"""docs/cli.md and the program name the same commands, arguments and options, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jietong.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SYNOPSIS = re.compile(r"^jietong .*$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def commands(command: Any, name: str = "jietong") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    parts: dict[str, Any] = getattr(command, "commands", {})
    if not parts or command.invoke_without_command or name == "jietong":
        yield name, command
    for word, part in parts.items():
        yield from commands(part, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def told() -> dict[str, str]:
    """command → its synopsis on the page."""
    page = PAGE.read_text("utf-8")
    lines = [
        line
        for block in re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in SYNOPSIS.findall(block)
    ]
    return {max((name for name in COMMANDS if f"{line} ".startswith(f"{name} ")), key=len): line for line in lines}


def test_every_command_stands_on_the_page_and_nothing_else() -> None:
    assert told().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_stands_in_its_line_and_no_other(name: str) -> None:
    options = [p for p in COMMANDS[name].params if p.param_type_name == "option" and p.name != "help"]
    known = {max(p.opts, key=len) for p in options}
    assert set(OPTION.findall(told()[name])) == known
    for p in options:
        assert (f"[{max(p.opts, key=len)}" in told()[name]) != p.required


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_of_a_command_stands_in_its_line(name: str) -> None:
    rest = re.sub(r"\[?--?[a-z-]+( [A-Z]+)?\]?", "", told()[name].removeprefix(name))
    assert len(rest.split()) == sum(p.param_type_name == "argument" for p in COMMANDS[name].params)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].help
    assert all(p.help for p in COMMANDS[name].params if p.param_type_name == "option")


PRINTS_ITSELF = {"jietong", "jietong up", "jietong run", "jietong mapping init"}
WRITES = {
    "redrive", "skip", "resolve", "resume", "confirm", "tasks done", "import", "leads export", "answers import", "backup",
    "restore", "db upgrade", "topics apply", "topics raise", "outbox rebase", "schema register", "schema freeze", "schema push",
    "group add", "migrate",
    *(f"transfers {verb}" for verb in ("match", "settled", "told", "assign")),
    *(f"company {verb}" for verb in ("confirm", "choose", "consent", "withdraw", "apply", "begun", "object")),
}  # fmt: skip


def test_every_command_that_prints_can_print_json_and_every_write_has_a_dry_run() -> None:
    options = {name: {o for p in command.params for o in p.opts} for name, command in COMMANDS.items()}
    assert {name for name in options if "--json" not in options[name]} == PRINTS_ITSELF
    assert {name.removeprefix("jietong ") for name in options if "--dry-run" in options[name]} == WRITES
