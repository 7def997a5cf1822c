"""The command line on folders that real movements made, beside a running city and with none."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import connectors.investment.__main__ as investment
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.timeline.__main__ as timeline
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.cli import run
from jietong.engine import Engine, Program, Running

MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
OPERATORS = ("jm-water", "jm-gas")
FILED = "investment.project.registered.v1"
Run = Callable[..., tuple[int, str, str]]


class SmallCity:
    """Investment, hookup, the timeline and two operators; one project in 蓬江, one in 恩平 where no gas is piped."""

    def __init__(self, folder: Path) -> None:
        pack = city.load("jiangmen", catalog.load())
        self.engine = Engine(folder, pack.code, catalog.load())
        self.investment, investing = investment.build(self.engine)
        operators = {name: utility.build(self.engine, name) for name in OPERATORS}
        self.operators = {name: platform for name, (platform, _) in operators.items()}
        _, mapping = timeline.build(self.engine, pack, "127.0.0.1", None)
        self.programs: list[Program] = [investing, hookup.build(self.engine, pack), mapping, *(p for _, p in operators.values())]
        self.running = Running(self.engine, [], beat=0.2)

    def file(self, region: str, name: str) -> str:
        code = self.investment.register(Application(name=name, site_regions=(region,), authority_region=region), now=MORNING)
        self.investment.decide(code, "FILED", "江备〔2026〕1 号", now=MORNING)
        return code

    def start(self) -> None:
        for program in self.programs:
            self.running.add(program)

    def until(self, what: Callable[[], object]) -> None:
        """Each commit anywhere wakes someone; this only looks."""
        for _ in range(1000):
            assert not self.running.failed.is_set(), self.running.bug()
            if what():
                return
            self.engine.stopping.wait(0.02)
        raise AssertionError(self.running.health)

    def taken(self, program: str, count: int) -> bool:
        with self.engine.stores[program].snapshot() as tx:
            return tx.execute("SELECT count(*) FROM inbox WHERE fate IN ('applied', 'filtered')").all()[0][0] >= count

    def close(self) -> None:
        self.running.stop()
        self.engine.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A city that has come to rest, and its two projects."""
    folder = tmp_path_factory.mktemp("city") / "data"
    small = SmallCity(folder)
    near, far = small.file("440703", "=蓬江智造园"), small.file("440785", "恩平温泉")
    small.start()
    small.until(lambda: len(small.operators["jm-water"].cases()) == 2)
    [case] = [case for case in small.operators["jm-water"].cases() if case.subject == near]
    small.operators["jm-water"].contact(case.case_id, now=datetime.now(UTC))
    requests = sum(len(json.loads("[]")) for _ in ())
    small.until(lambda: small.taken("timeline", 16 + requests))
    small.close()
    return folder, near, far


@pytest.fixture
def folder(made: tuple[Path, str, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "data"))


@pytest.fixture
def jietong(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run([*arguments, "--data", str(folder)])
        out, err = capfd.readouterr()
        return code, out, err

    return call

def test_x(made, jietong: Run, folder) -> None:
    for a in (["status"],["topics"],["tail","utility.connection.requested.v1","-n","1"],["held"],["verify"],["explain",made[1]],["explain",made[2],"--operator","jm-gas"],["explain",made[1],"--operator","jm-water"],["tasks"],["doctor"],["leads","export","--operator","jm-water"],["backup",str(folder.parent/"b")],["verify"]):
        r=jietong(*a)
        with open("/tmp/cliout","a") as f: print(a, r[0], file=f); print(r[1], r[2], file=f)
