"""`jietong migrate`, what of it needs no servers: the folder it reads, the keys, and how values are fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Integer, LargeBinary, Text

import connectors.utility.__main__ as utility
from jietong import catalog
from jietong.cli import migrate
from jietong.cli.app import run
from jietong.cli.folder import program_of
from jietong.engine import embedded
from jietong.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One operator's connector and its stand-in, that never met an event."""
    engine = embedded(tmp_path / "data", "440700", catalog.load())
    utility.build(engine, "jm-water")
    engine.close()
    return tmp_path / "data"


def test_a_program_moves_together_with_the_stand_in_it_works_on(folder: Path) -> None:
    with migrate.stopped(folder) as old:
        [move] = old.moves
    assert (move.name, [program_of(file) for file in move.files]) == (
        "utility:jm-water", ["platform-jm-water", "utility:jm-water"],
    )  # fmt: skip


def without_its_program(folder: Path) -> None:
    (folder / "utility-jm-water.db").unlink()


def without_a_log(folder: Path) -> None:
    (folder / "log.db").unlink()


def of_another_release(folder: Path) -> None:
    (folder / "utility-jm-water.db").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_its_program, "stands there without utility:jm-water"),
        (without_a_log, "no city ever ran here"),
        (of_another_release, "it has no tables yet"),
    ],
)
def test_a_folder_that_cannot_move_as_it_is_is_named(
    folder: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    for rest in folder.glob("*.db-*"):
        rest.unlink()
    spoil(folder)
    with pytest.raises(UsageError, match=sentence), migrate.stopped(folder):
        pass


def test_a_folder_where_a_city_runs_is_left_alone(folder: Path) -> None:
    engine = embedded(folder, "440700", catalog.load())
    with pytest.raises(UsageError, match="is running on this data"), migrate.stopped(folder):
        pass
    engine.close()


def test_it_moves_to_servers_only(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JIETONG_ENGINE", raising=False)
    assert run(["migrate", "--from", str(folder)]) == 2
    assert "set JIETONG_ENGINE=city" in capfd.readouterr().err


def test_keys_stay_or_are_all_there_as_they_are_also_the_destroyed_ones(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    migrate.same_keys(old, new)  # nobody's data was ever sealed
    for place in (old, new):
        (place / "keys").mkdir(parents=True)
        (place / "keys" / "a.1").write_bytes(b"key")
    migrate.same_keys(old, old)
    migrate.same_keys(old, new)
    (old / "keys" / "a.1").write_bytes(b"")
    with pytest.raises(UsageError, match="has not the city's keys"):
        migrate.same_keys(old, new)
    (new / "keys" / "a.1").unlink()
    with pytest.raises(UsageError, match="has not the city's keys"):
        migrate.same_keys(old, new)


@pytest.mark.parametrize(
    ("kind", "value", "fitted"),
    [
        (Boolean(), 1, True), (Boolean(), None, None), (Text(), 12, "12"), (Text(), "一", "一"), (Integer(), 7, 7), (JSON(), '{"a": 1}', '{"a": 1}'),
        (LargeBinary(), b"\x00", b"\x00"), (LargeBinary(), "x", b"x"),
    ],
)  # fmt: skip
def test_values_are_fitted_to_what_the_column_says(kind: Any, value: Any, fitted: Any) -> None:
    assert migrate.fitted(kind, value) == fitted
    assert type(migrate.fitted(kind, value)) is type(fitted)
