"""The rules of the house, as docs and files have them: what lives where, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jietong.around.metrics import METRICS
from jietong.catalog import load
from jietong.settings import Settings
from services.hookup.hookup import Hookup

ROOT = Path(__file__).parents[1]
ROOMS = frozenset({
    "schemas", "jietong", "connectors", "services", "cities", "mappings", "simulation", "deploy", "tests", "benchmarks", "docs", ".ci",
})  # fmt: skip
PROGRAMS = ("jietong", "services", "connectors", "simulation")
ONE_LIBRARY_ONE_FILE = {
    "kafka": {"jietong/adapters/kafka.py"},
    "psycopg": {"jietong/adapters/postgres.py"},
    "fastavro": {"jietong/contract.py"},
    "prometheus_client": {"jietong/around/metrics.py"},
    "tenacity": {"jietong/around/retry.py"},
    "structlog": {"jietong/around/logs.py"},
    "avro": {"jietong/compatibility/versions.py"},
    "fcntl": {"jietong/adapters/embedded.py", "simulation/servers/software.py"},
    "httpx2": {"jietong/adapters/registry.py"},
    "alembic": {"jietong/migrations/__init__.py", "jietong/migrations/revisions.py"},
    "shapely": {"jietong/geometry.py"},
    "openpyxl": {"jietong/feed/workbook.py"},
    "chinese_calendar": {"jietong/workdays.py"},
}
NAMELESS = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def tracked(*patterns: str) -> list[Path]:
    found = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in found.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()
SOURCES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PROGRAMS]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The top-level packages a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


IMPORTS = {name(path): set(imported(path)) for path in SOURCES}


def users(library: str) -> set[str]:
    return {file for file, libraries in IMPORTS.items() if library in libraries}


def text_files() -> Iterator[tuple[str, str]]:
    for path in FILES:
        try:
            yield name(path), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 60
    assert "jietong/contract.py" in {name(path) for path in SOURCES}


@pytest.mark.parametrize(("library", "files"), ONE_LIBRARY_ONE_FILE.items(), ids=ONE_LIBRARY_ONE_FILE)
def test_one_library_is_known_to_one_file(library: str, files: set[str]) -> None:
    assert users(library) <= files
    assert users(library) or not any((ROOT / file).exists() for file in files), "or the rule is about nothing"


def test_only_the_store_opens_a_database() -> None:
    """Others may know its errors and its version: commands tell a person of them."""
    opening = {name(path) for path in SOURCES if "sqlite3.connect" in path.read_text("utf-8")}
    assert opening == {"jietong/adapters/sqlite.py", "jietong/testing.py"}
    assert all(file in opening or file.startswith("jietong/cli/") for file in users("sqlite3"))


def test_no_domain_code_sees_a_socket_a_clock_or_the_environment() -> None:
    """`time`, `socket`, `threading`, `os`: a program's `__main__` and its page may; facts, cases and stories may not."""
    domain = [p for p in SOURCES if name(p).startswith(("services/hookup/", "services/timeline/"))]
    pure = [
        p for p in domain if p.stem in {"hookup", "cases", "facts", "timeline", "folds", "story", "words", "tables"}
    ]
    assert len(pure) > 5
    for path in pure:
        assert not IMPORTS[name(path)] & {"time", "socket", "threading", "os", "subprocess", "asyncio", "random"}, name(
            path
        )


def test_no_module_is_named_after_nothing() -> None:
    for path in FILES:
        assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & NAMELESS, name(path)


def test_every_room_is_one_of_the_house_and_something_lives_in_it() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in FILES if len(path.relative_to(ROOT).parts) > 1}
    assert rooms <= ROOMS
    for path in {path.parent for path in FILES if path.name == "__init__.py"}:
        others = [p for p in FILES if p.is_relative_to(path) and p.name != "__init__.py" and p.stat().st_size]
        assert others or (path / "__init__.py").stat().st_size > 200, name(path)


# -- what no file may say ----------------------------------------------------------------------------------------------------
REGISTRIES = re.compile("|".join((
    r"py" r"pi\.", "python" "hosted", r"npm" r"js\.", "ali" r"yun\.com", r"tu" r"na\.", "index" "-url[ =]+[a-z]",
    r"proxy\.go" "lang", r"doc" r"ker\.io/",
)))  # fmt: skip
MACHINE = re.compile(r"(?<![\w.}~])/(?:work|root|home|Users|mnt/c|var/folders|private/tmp)/\w")


def test_no_file_names_a_package_registry() -> None:
    assert [(file, found[0]) for file, text in text_files() if (found := REGISTRIES.search(text))] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert [(file, found[0]) for file, text in text_files() if (found := MACHINE.search(text))] == []


def test_the_rules_about_words_would_notice_one() -> None:
    assert REGISTRIES.search("https://" + "pypi" + ".org/simple")
    assert MACHINE.search("path = '" + "/home" + "/somebody/x'")
    assert not MACHINE.search("see ../work/root and https://example.com/home/page".replace("com/home", "com:home"))


def test_the_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 40
    for entry in entries:
        assert re.match(
            r"[a-z0-9][a-z0-9._-]*(\[[a-z,-]+\])?==\S+( ;[^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?)+$",
            entry,
        ), entry[:80]
    assert "://" not in lock


def test_what_is_required_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = {line.partition("==")[0].partition("[")[0] for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["city"],
        *project["dependency-groups"]["dev"],
    ]
    assert {re.split(r"[^A-Za-z0-9_-]", want)[0].lower() for want in wanted} <= locked


# -- what others depend on ---------------------------------------------------------------------------------------------------
def test_every_setting_says_what_it_is() -> None:
    for setting, field in Settings.model_fields.items():
        assert field.description, setting
        assert len(field.description) > 10, setting


def test_every_metric_is_named_by_the_convention() -> None:
    for known in METRICS:
        assert re.fullmatch(r"jietong_[a-z]+(_[a-z]+)*|kafka_consumergroup_[a-z]+", known.name)


def test_every_topic_has_an_owner_writers_and_readers_that_exist() -> None:
    services = {path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").exists()}
    connectors = {path.name for path in (ROOT / "connectors").iterdir() if (path / "__main__.py").exists()}
    for topic, spec in load().topics.items():
        if spec.draft:
            continue
        assert (ROOT / spec.owner).is_dir(), topic
        assert spec.sources, topic
        assert spec.readers, topic
        assert set(spec.sources) <= services | connectors | {"feed", "*"}, topic
        assert set(spec.readers) <= services | connectors | {"*"}, topic


def test_every_topic_hookup_reads_names_it_as_a_reader() -> None:
    catalog = load()
    assert [type_ for type_ in Hookup.types if "hookup" not in catalog.topic(type_).readers] == []


def test_every_event_type_is_named_by_the_convention() -> None:
    for topic in load().topics:
        assert re.fullmatch(r"[a-z]+(\.[a-z]+){1,3}\.v[1-9][0-9]*|jietong\.outbox\.head", topic), topic
