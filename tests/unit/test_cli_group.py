"""`jietong group add` on a folder: a new reader beside a running city, with none, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import connectors.investment.__main__ as investment
import services.timeline.__main__ as timeline
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.cli.app import run
from jietong.delivery.heads import Heads
from jietong.engine import Engine, embedded

MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
INVESTMENT = "urn:jietong:440700:investment"


class Office:
    """The investment platform in a folder, whose relay is moved by hand, and the timeline, which is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Engine:
        self.engine = embedded(self.folder, "440700", catalog.load())
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.close()


def file(engine: Engine, relay: Any = None) -> str:
    """A project is registered and decided, two events of one stream; its code. `relay`: and they are sent."""
    platform, _ = investment.build(engine)
    project = Application(
        name="甲", site_regions=("440703",), authority_region="440703", contact_name="张三", contact_phone="1"
    )
    code = platform.register(project, now=MORNING)
    platform.decide(code, "FILED", "1 号", now=MORNING)
    if relay:
        move(relay)
    return code


def relay(engine: Engine) -> Any:
    return investment.build(engine)[1].movements[0]


def move(movement: Any) -> None:
    movement.start()
    for _ in range(3):
        movement.step(0)
    movement.stop()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JIETONG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = run(["group", "add", *arguments, "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    return json.loads(out)


def line(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refusal says."""
    assert run(["group", "add", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    return err


def learned(folder: Path) -> list[tuple[str, int]]:
    """What the timeline takes in when it is started; (subject, sequence)."""
    with Office(folder) as engine:
        _, program = timeline.build(engine, city.load("jiangmen", catalog.load()), "127.0.0.1", None)
        move(program.movements[0])
        with engine.stores["timeline"].snapshot() as tx:
            return [(row[0], row[1]) for row in tx.execute("SELECT subject, sequence FROM inbox ORDER BY 1, 2").all()]


def test_a_reader_from_now_on_takes_only_what_comes_after_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Office(folder) as engine:
        file(engine, relay(engine))
    assert told(capfd, "timeline", "--dry-run")["streams"] == 1
    assert not (folder / "timeline.db").exists(), "a dry run makes nothing"
    added = told(capfd, "timeline")
    assert (added["streams"], added["had"], "investment.project.registered.v1" in added["begun"]) == (1, [], True)
    assert told(capfd, "timeline") == {**added, "begun": [], "had": added["begun"], "streams": 0}
    with Office(folder) as engine:
        later = file(engine, relay(engine))
    assert learned(folder) == [(later, 1), (later, 2)]


def test_a_reader_of_the_whole_history_takes_all_of_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Office(folder) as engine:
        first = file(engine, relay(engine))
    assert told(capfd, "timeline", "--whole")["asked"] == []
    assert learned(folder) == [(first, 1), (first, 2)]


def test_an_owner_whose_relay_does_not_run_is_announced_in_its_place(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Office(folder) as engine:
        file(engine)
    assert told(capfd, "timeline")["streams"] == 1
    with Office(folder) as engine:
        assert (
            Heads(engine.log, engine.contract).read()[INVESTMENT].head.counts["investment.project.registered.v1"] == 2
        )
        move(relay(engine))
    assert learned(folder) == [], "it was committed before the cut, and left after it"


def test_beside_a_running_city_its_relays_announce(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jietong.delivery.provision.PATIENCE", 0.0)
    with Office(folder) as engine:
        sends = relay(engine)
        file(engine, sends)
        assert told(capfd, "hookup")["streams"] == 1
        file(engine)
        assert "its relay has not announced its newest events" in line(capfd, "timeline")
        move(sends)
        assert told(capfd, "timeline")["streams"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nobody",), "no topic's file in schemas/topics/ names it as a reader"),
        (("feed:permits",), "cannot be a reader's name"),
        (("platform-jm-water",), "cannot be a reader's name"),
        (("../x",), "cannot be a reader's name"),
        (("transfer", "--types", "investment.project.registered.v1"), "does not name transfer as a reader"),
        (("transfer", "--types", "nobody.knows.v1"), "no event type nobody.knows.v1"),
        (("transfer", "--whole", "--from-now"), "choose one"),
    ],
)
def test_who_may_not_read_is_told_why(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    folder.mkdir()
    assert sentence in line(capfd, *arguments)
    assert list(folder.iterdir()) == []


def test_an_operators_own_reader_is_named_by_its_kind(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Office(folder) as engine:
        file(engine, relay(engine))
    assert told(capfd, "utility:jm-new")["begun"] == [
        "utility.account.transfer.requested.v1",
        "utility.connection.requested.v1",
    ]
    assert (folder / "utility-jm-new.db").exists()
