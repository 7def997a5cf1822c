from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench
from tests.faults.harness import City


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
