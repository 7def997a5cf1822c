from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from simulation import servers
from tests.faults import ledger
from tests.faults.bench import Bench
from tests.faults.bench_city import CityBench, Ground
from tests.faults.harness import FULL, City, said
from tests.faults.town import Town, Towns, proxied


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group(name): one worker has them all; here for runs without pytest-xdist")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., City]]:
    """Starts cities on this test's folder; whatever still runs at its end is ended, by its pid."""
    started: list[City] = []

    def begin(*options: str, **more: object) -> City:
        started.append(City(tmp_path / "city", *options, **more))  # pyright: ignore[reportArgumentType]
        return started[-1]

    yield begin
    for city in started:
        city.kill()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "city")
    yield made
    made.close()


@pytest.fixture(scope="session")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Towns]:
    """For those with `xdist_group("town")`: one worker has it."""
    made = proxied(tmp_path_factory.mktemp("towns"))
    yield made
    made.close()


@pytest.fixture
def town(towns: Towns) -> Town:
    """A whole city on real servers, a proxy before each; made anew after a case that did not end with a clean verdict."""
    return towns.get()


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """For those with `xdist_group("ground")`."""
    if lack := servers.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    folder = tmp_path_factory.mktemp("ground")
    with servers.servers(folder / "servers") as city:
        yield Ground(city, folder)


@pytest.fixture
def city_bench(ground: Ground) -> Iterator[CityBench]:
    """The bench on real servers, with a database and topics of its own."""
    made = CityBench(ground)
    yield made
    made.close()


# -- `make faults` goes on where it stopped ----------------------------------------------------------------------------
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In full, what has passed with this very code is left out, unless it is asked for by name."""
    if FULL and not config.getoption("keyword"):
        passed = ledger.passed()
        left_out = [item for item in items if item.nodeid in passed]
        items[:] = [item for item in items if item.nodeid not in passed]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "setup":
        said.clear()
    if FULL and report.when == "call" and report.passed:
        ledger.note(item.nodeid, report.duration, said)
    return report
