"""`make mutants`: break each guarantee on purpose. A mutant that lives is a test that is missing.

Each `*.patch` here breaks one guarantee, and names in its header the test that must turn red and a text that its failure
must show. Every patch is applied to a copy of the tree, and only its test is run there. It is a failure if the test stays
green, fails for another reason (a text that is not shown, an import error), or the patch no longer applies.

    What: two copies of a reader may both move on
    Test: tests/faults/test_guarantees.py::test_of_two_copies_of_a_reader_the_second_is_fenced_and_has_done_nothing
    Red: DID NOT RAISE
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = (
    "jietong",
    "schemas",
    "services",
    "connectors",
    "cities",
    "mappings",
    "simulation",
    "deploy",
    "tests",
    "pyproject.toml",
)
SECONDS = 300
AT_ONCE = 2
RED, BROKEN = 1, (2, 3, 4, 5)
"""pytest's exit codes: tests failed; or it was interrupted, broke, was used wrongly, or found nothing."""


@dataclass(frozen=True)
class Mutant:
    path: Path
    what: str
    test: str
    red: str


def read(path: Path) -> Mutant:
    """Raises ValueError if its header does not say what, which test, and what must be seen."""
    said = dict(line.split(": ", 1) for line in path.read_text("utf-8").split("\n--- ")[0].splitlines() if ": " in line)
    if lacking := [name for name in ("What", "Test", "Red") if name not in said]:
        raise ValueError(f"{path.name}: its header lacks {', '.join(lacking)}")
    return Mutant(path, said["What"], said["Test"], said["Red"])


def copied(folder: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=skipped)
        else:
            shutil.copyfile(source, target)
    return folder


def tried(folder: Path, *tests: str) -> tuple[int, str]:
    """pytest's exit code and output, with the code of this copy and of no other."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "--no-header", "--tb=short", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


def judged(mutant: Mutant) -> str:
    """What is wrong with it; empty if it was caught."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        folder = copied(Path(scratch))
        alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # wherever it lies, it is no repository
        command = ["git", "apply", "-C1", str(mutant.path)]
        patched = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
        if patched.returncode:
            return f"no longer applies: {patched.stderr.strip().splitlines()[:1]}"
        try:
            code, output = tried(folder, mutant.test)
        except subprocess.TimeoutExpired:
            return f"its test did not end within {SECONDS} s"
    if code == 0:
        return "LIVES: its test stayed green"
    if code in BROKEN or "ImportError" in output or "SyntaxError" in output:
        return f"fails elsewhere (pytest said {code}): {output.strip().splitlines()[-1:]}"
    shown = "\n".join(line[1:].strip() for line in output.splitlines() if line.startswith("E "))
    return "" if mutant.red in shown else f"fails, but does not show {mutant.red!r}: {shown.splitlines()[:8]}"


def told(mutants: Iterable[Mutant]) -> int:
    failures = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, fault in zip(mutants, pool.map(judged, mutants), strict=True):
            failures += bool(fault)
            sys.stdout.write(f"{'FAIL' if fault else 'red '}  {mutant.path.stem}: {fault or mutant.what}\n")
            sys.stdout.flush()
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutations.run", description="Every patch must turn its test red.")
    parser.add_argument("names", nargs="*", help="some of them, by name (all)")
    given = parser.parse_args()
    mutants = [read(path) for path in sorted(HERE.glob("*.patch")) if not given.names or path.stem in given.names]
    with tempfile.TemporaryDirectory(prefix="unbroken-") as scratch:
        code, output = tried(copied(Path(scratch)), *sorted({mutant.test for mutant in mutants}))
    if code:
        sys.stdout.write(f"{output}\nthe tests are not green before anything is broken\n")
        return 1
    failures = told(mutants)
    sys.stdout.write(f"{len(mutants) - failures} of {len(mutants)} mutants turned their test red\n")
    return 1 if failures or len(mutants) < 12 - len(given.names) * 12 else 0


if __name__ == "__main__":
    sys.exit(main())
