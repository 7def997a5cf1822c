"""`python -m benchmarks`: every benchmark, one table. `--quick` for small sizes, `--write` keeps it in docs/benchmarks.md.

Nothing here fails on a number: a machine under load says little, and a ratio over its target is shown as such.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import commits, latency, memory, scale, service
from benchmarks.table import Line, markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
YARDSTICK = "benchmarks/yardstick.py"
ALL: Sequence[tuple[str, Callable[[], list[Line]], Callable[[], list[Line]]]] = (
    ("service", service.measure, lambda: service.measure(5_000, 3)),
    ("commits", commits.measure, lambda: commits.measure(5_000)),
    ("scale", scale.measure, lambda: scale.measure(200_000, 2_000, 3)),
    ("memory", memory.measure, lambda: memory.measure(100_000, 10_000)),
    ("latency", latency.measure, lambda: latency.measure(30, 50)),
)
"""Name, in full, quick."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios on this machine, as a table.")
    parser.add_argument("names", nargs="*", help=f"only these of {', '.join(name for name, *_ in ALL)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not a measurement")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)} too; only in full")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - {name for name, *_ in ALL}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    if chosen.write and (chosen.quick or chosen.names):
        parser.error("--write keeps all of it, measured in full: leave out --quick and names")
    lines: list[Line] = []
    for name, full, quick in ALL:
        if not chosen.names or name in chosen.names:
            print(f"measuring: {name}", file=sys.stderr)
            lines += quick() if chosen.quick else full()
    print(markdown(lines))
    if chosen.write:
        PAGE.write_text(page(lines), "utf-8")


def page(lines: Sequence[Line]) -> str:
    return f"""# Benchmarks

Written by `make bench ARGS=--write` on {datetime.now(UTC):%Y-%m-%d}, at commit {_git("rev-parse", "--short", "HEAD")}.
Machine: {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}.
Ratios are taken within one run, the two sides in turns; a range is that of its rounds, their number in brackets.

{markdown(lines)}

What each line means stands at the top of its file in `benchmarks/`.

The yardstick (`{YARDSTICK}`, last changed in commit {_git("log", "-1", "--format=%h", "--", YARDSTICK)}) does the service's
work by hand, without the delivery core. Both must ask the same cases of the same operators, or no ratio is printed. Two
things to know when reading the ratio:

* The yardstick does not come first: when it was written, a first version of the service already lay beside it. It was
  written without reading that version's code, only its tables. It has not been touched since; the service was made
  faster since.
* Both keep every case, but the yardstick keeps with each all that was last said, the project's facts too; the service
  keeps what is the case's own and reads the facts from the project's rows. The second line of the table compares it
  with the same yardstick made to keep no more than that (`benchmarks/lean.py`).
"""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main(sys.argv[1:])
