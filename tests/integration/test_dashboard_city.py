"""The dashboard *Delivery* against a real Prometheus that scraped a running city: every panel has something to show."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from deploy.grafana.delivery import NOTHING, PANELS, Ask, Tile
from simulation.servers import ServerError, missing, prometheus

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]
WAIT = 45.0
"""Seconds until a scraped city must have shown everything: half its programs start when their first event comes."""
ASKED = [pytest.param(tile, ask, id=f"{tile.title}, {ask.legend}") for tile in PANELS for ask in tile.asks]


@pytest.fixture(scope="module", params=["embedded", "city"])
def running_city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Sequence[str]]]:
    """Job → the addresses of /metrics of a city with traffic: of its one process, or of each program on real servers."""
    folder = tmp_path_factory.mktemp("city") / "demo"
    module, where = {"embedded": ("simulation", "--data"), "city": ("simulation.city", "--folder")}[request.param]
    if request.param == "city" and (lack := missing()):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    command = [sys.executable, "-m", module, "--projects", "40", "--seconds", "100", where, str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment) as city:  # fmt: skip
        assert city.stdout is not None
        said = list(until_its_page(city.stdout))
        try:
            found = re.search(r"http://([0-9.:]+)/", said[-1])
            assert found, said
            yield {"jietong": addresses(folder) if request.param == "city" else [found[1]]}
        finally:
            city.send_signal(signal.SIGINT)
            city.communicate(timeout=60)


def until_its_page(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if "http://" in line:
            return


def addresses(folder: Path) -> list[str]:
    """Of every program that the supervisor runs."""
    told = (folder / "programs" / "supervisord.conf").read_text("utf-8")
    return [f"127.0.0.1:{port}" for port in re.findall(r'JIETONG_PORT="(\d+)"', told)]


@pytest.fixture(scope="module")
def watched(running_city: Mapping[str, Sequence[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that scrapes it every second."""
    try:
        server = prometheus(tmp_path_factory.mktemp("prometheus"), running_city)
    except ServerError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    yield server.url
    server.stop()


def answer(url: str, query: str) -> list[dict[str, Any]]:
    with urlopen(f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}", timeout=10) as response:  # noqa: S310
        told = json.load(response)
    assert told["status"] == "success", told
    return told["data"]["result"]


def asked(ask: Ask) -> str:
    """The query as Grafana sends it, for every service, without what it says where there is nothing."""
    return ask.query.replace("$service", ".*").replace("$__rate_interval", "10s").removesuffix(NOTHING)


@pytest.mark.parametrize(("tile", "ask"), ASKED)
def test_a_panel_has_something_to_show(tile: Tile, ask: Ask, watched: str) -> None:
    query = asked(ask)
    if ask.query.endswith(NOTHING):  # a city without a standing alarm has no series: then it says 0
        query = ask.query.replace("$service", ".*")
    rows: list[dict[str, Any]] = []
    until = time.monotonic() + WAIT
    while not rows and time.monotonic() < until:
        rows = [row for row in answer(watched, query) if row["value"][1] != "NaN"]
        time.sleep(0 if rows else 0.5)  # looks, with a deadline
    assert rows, f"{tile.title}: {query}"
    labels = set(
        re.findall(r"\{\{(\w+)\}\}", ask.legend)
    )  # an empty one, such as the reason of what was applied, is not sent
    assert not labels or ask.query.endswith(NOTHING) or all(labels & row["metric"].keys() for row in rows), rows[0]


def test_the_city_is_seen_at_work(watched: str) -> None:
    """Not only series that are there, but events that go through."""
    until = time.monotonic() + WAIT
    taken: dict[str, float] = {}
    while (
        not {"hookup", "timeline"} <= {name for name, count in taken.items() if count > 0} and time.monotonic() < until
    ):
        rows = answer(watched, "sum by (service) (jietong_events_consumed_total)")
        taken = {row["metric"]["service"]: float(row["value"][1]) for row in rows}
        time.sleep(0.5)
    assert taken["hookup"] > 0
    assert taken["timeline"] > 0
