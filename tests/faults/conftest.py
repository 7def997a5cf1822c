from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench
from tests.faults.harness import City
from tests.faults.town import Town, Towns, proxied


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
