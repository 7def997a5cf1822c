"""`jietong …`: a city from the command line. docs/cli.md names every command and option."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn


def main() -> NoReturn:
    """The program: ends with its exit code."""
    sys.exit(import_module("jietong.cli.app").run())  # by name: the commands are parts of this package
