"""The log's topics follow their files, and get more partitions without a subject losing its order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient

import connectors.investment.__main__ as investment
import services.timeline.__main__ as timeline
from connectors.investment.platform import Application
from jietong import catalog, settings, up
from jietong.broker import Place
from jietong.catalog import Catalog
from jietong.cli import topics as cli
from jietong.cli.app import run
from jietong.engine import Engine, Running
from jietong.errors import UsageError

pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]
REGISTERED = "investment.project.registered.v1"
KNOWN = catalog.load()
MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


def with_partitions(count: int) -> Catalog:
    known = KNOWN
    specs = {**known.topics, REGISTERED: replace(known.topics[REGISTERED], partitions=count)}
    return replace(known, topics=specs)


def does(capsys: pytest.CaptureFixture[str]) -> Mapping[str, str]:
    return {step["topic"]: step["does"] for step in json.loads(capsys.readouterr().out)}


def test_what_differs_is_said_and_mended_and_partitions_are_never_changed_by_the_way(
    empty_city: settings.Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["topics", "plan", "--json"]) == 0
    assert set(does(capsys).values()) == {"as its file says"}
    known = AdminClient({"bootstrap.servers": empty_city.kafka_bootstrap_servers})
    log = cli._log()
    log.configure(REGISTERED, {"retention.ms": "1000"})
    log.close()
    assert run(["topics", "plan", "--json"]) == 1
    assert does(capsys)[REGISTERED] == "retention.ms: 1000 → 2592000000"
    assert run(["topics", "apply", "--dry-run", "--json"]) == 0
    assert run(["topics", "plan", "--json"]) == 1
    capsys.readouterr()
    assert run(["topics", "apply", "--json"]) == 0
    capsys.readouterr()
    assert run(["topics", "plan", "--json"]) == 0
    capsys.readouterr()
    for count, way in ((12, "jietong topics raise"), (3, "never gets fewer")):
        monkeypatch.setattr(cli.catalog, "load", lambda count=count: with_partitions(count))
        assert run(["topics", "apply", "--json"]) == 1
        assert way in does(capsys)[REGISTERED]
        engine, _ = up.open_engine(empty_city)
        with closing(engine), pytest.raises(UsageError, match=f"{REGISTERED} has 6 partitions.*{way}"):
            up.refuse_a_log_that_does_not_fit(engine)
    assert len(known.list_topics(REGISTERED, timeout=10).topics[REGISTERED].partitions) == 6


def test_more_partitions_keep_every_subjects_order(
    on_servers: Callable[[], Engine], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, reading = on_servers(), on_servers()
    platform, program = investment.build(writing)
    owner = Running(writing, [program], beat=0.5).start()
    reader = Running(reading, timeline.programs(reading, pack()), beat=0.5).start()
    codes = [
        platform.register(Application(name=f"项目{n}", site_regions=("440703",), authority_region="440703"), now=MORNING) for n in range(30)
    ]  # fmt: skip
    known = with_partitions(12)
    monkeypatch.setattr(cli.catalog, "load", lambda: known)
    monkeypatch.setattr(cli, "PATIENCE", 3.0)
    assert run(["topics", "raise", REGISTERED]) == 2, "its writer still runs"
    assert "stop those programs" in capsys.readouterr().err
    owner.stop()
    writing.close()
    monkeypatch.setattr(cli, "PATIENCE", 120.0)
    code = run(["topics", "raise", REGISTERED, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert json.loads(said.out)[0]["partitions"] == "6 → 12"
    again = on_servers()
    platform, program = investment.build(again)
    for code in codes:
        platform.decide(code, "FILED", "江备〔2026〕1 号", now=MORNING)
    owner = Running(again, [program], beat=0.5).start()

    def settled() -> list[tuple[str, int]]:
        with reading.stores["timeline"].snapshot() as tx:
            sql = "SELECT subject, last FROM stream WHERE type = :type ORDER BY subject"
            return [(row[0], row[1]) for row in tx.execute(sql, {"type": REGISTERED}).all()]

    for _ in range(900):
        if settled() == [(code, 2) for code in sorted(codes)]:
            break
        again.stopping.wait(0.1)
    assert settled() == [(code, 2) for code in sorted(codes)]
    found = [r for p in range(12) for r in again.log.read(Place(REGISTERED, p), 0, 1000)]
    moved = {r.key for r in found if r.partition >= 6}
    assert moved, "no subject changed its partition: nothing was shown"
    with reading.stores["timeline"].snapshot() as tx:
        assert tx.execute("SELECT count(*) FROM asked WHERE subject <> ''").all() == [(0,)], (
            "nothing was missed on the way"
        )
    owner.stop()
    reader.stop()


def pack() -> object:
    from jietong import city

    return city.load("jiangmen", catalog.load())
