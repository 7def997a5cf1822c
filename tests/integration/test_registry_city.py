"""Schema ids from a real registry: pushed once, known in its own spelling, gone on with while it is down or built anew."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jietong import catalog
from jietong.adapters.registry import FRESH, Access, ConfluentRegistry
from jietong.catalog import Catalog, Schema
from jietong.cli.app import run
from jietong.contract import fingerprint
from jietong.errors import RetriableError, UsageError
from simulation import servers
from tests.unit.stage import DECIDED
from tests.unit.test_registry import SMALL, SPELLINGS, STRANGERS, TWICE, Clock, newer, stored, text

pytestmark = pytest.mark.city

WHOLE = catalog.load()
ALL = [schema for versions in WHOLE.schemas.values() for schema in versions]
NEWEST = WHOLE.schemas[TWICE][-1]
SLOWLY = 30.0
"""Seconds: a registry that just started, on a machine that does much else."""
FOREIGN = '{"type": "record", "name": "Order", "fields": []}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Registry]:
    if lack := servers.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    made = servers.registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.stop()


@pytest.fixture
def empty(server: servers.Registry) -> servers.Registry:
    with opened(server.url) as registry:
        used = registry.api.topics()
    if used:
        server.stop()
        server.start(empty=True)
    return server


@contextmanager
def opened(url: str, catalog: Catalog = WHOLE, clock: Clock | None = None) -> Generator[ConfluentRegistry]:
    made = ConfluentRegistry(catalog, Access(url, timeout=SLOWLY), clock or Clock())
    try:
        yield made
    finally:
        made.close()


def push(capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> tuple[int, Any]:
    code = run(["schema", "push", "--url", url, "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def held(url: str, *schemas: Schema) -> None:
    """Registered by hand, in this order."""
    with opened(url) as registry:
        for schema in schemas:
            registry.api.register(schema.topic, text(schema))


def test_the_schemas_are_pushed_once_and_every_one_is_known_by_its_own_fingerprint(
    empty: servers.Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        opened(empty.url) as registry,
        pytest.raises(UsageError, match=f"{len(ALL)} of {len(ALL)} .* `jietong schema push`"),
    ):
        registry.check()
    for arguments, counts in (("--dry-run",), "new"), ((), "registered"), ((), "there"), (("--dry-run",), "there"):
        code, told = push(capsys, empty.url, *arguments)
        assert (code, told["counts"]) == (0, {counts: len(ALL)})
    assert told["loose"] == []
    with opened(empty.url) as registry:
        registry.check()
    with opened(empty.url) as registry:  # that knows nothing yet
        for schema in ALL:
            known = fingerprint(schema.definition)
            assert registry.fingerprint(registry.id(known)) == known
        assert registry.fingerprint(2**31 - 1) is registry.fingerprint(2**32 - 1) is registry.fingerprint(0) is None


def test_the_registry_itself_refuses_what_breaks_a_version_and_a_newer_release_may_go_ahead(
    server: servers.Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    push(capsys, server.url)
    with opened(server.url) as registry:
        broken = STRANGERS["a field that must be given"]
        assert not registry.api.compatible(TWICE, broken)
        with pytest.raises(UsageError, match=r"refused \(409\)"):
            registry.api.register(TWICE, broken)
        with pytest.raises(UsageError, match=r"refused \(422\)"):
            registry.api.register(TWICE, "{")
        assert registry.api.compatible(TWICE, newer(NEWEST))
        registry.api.register(TWICE, newer(NEWEST))
        registry.check()
    code, told = push(capsys, server.url)
    assert (code, told["counts"]) == (0, {"there": len(ALL), "later": 1})


def test_while_it_is_down_known_ids_go_on_and_afterwards_all_is_as_it_was(server: servers.Registry) -> None:
    held(server.url, *ALL)
    clock = Clock()
    with opened(server.url, clock=clock) as registry:
        known = [fingerprint(schema.definition) for schema in ALL]
        ids = [registry.id(each) for each in known[:-1]]
        server.kill()
        clock.now += FRESH
        assert [registry.id(each) for each in known[:-1]] == ids
        assert [registry.fingerprint(id) for id in ids] == known[:-1]
        with pytest.raises(RetriableError, match="no connection"):
            registry.id(known[-1])
        server.start()
        clock.now += FRESH
        assert [registry.id(each) for each in known[:-1]] == ids
        assert registry.id(known[-1]) not in ids


def test_in_another_spelling_a_schema_is_ours_and_a_foreign_one_or_a_wrong_path_is_said_in_a_line(
    empty: servers.Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(empty.url) as registry:
        for n, schema in enumerate(ALL):
            registry.api.register(schema.topic, list(SPELLINGS.values())[n % len(SPELLINGS)](text(schema)))
        registry.check()
    with opened(empty.url) as registry:  # that knows nothing yet
        for schema in ALL:
            known = fingerprint(schema.definition)
            assert registry.fingerprint(registry.id(known)) == known
        registry.api.register(TWICE, FOREIGN)
        with pytest.raises(UsageError, match=f"{TWICE}-value holds a schema that is not ours"):
            registry.check()
    code, told = push(capsys, empty.url)
    assert (code, told["counts"], told["tightened"]) == (1, {"there": len(ALL), "foreign": 1}, [])
    for path in ("", "/apis/registry/v3", "/ui"):
        with (
            opened(empty.url.replace("/apis/ccompat/v7", path)) as registry,
            pytest.raises(UsageError, match=r"is the path right\?|no registry's answer"),
        ):
            registry.check()


def test_a_registry_built_anew_is_noticed_and_changes_nothing_that_is_stored(empty: servers.Registry) -> None:
    schemas = [schema for versions in SMALL.schemas.values() for schema in versions]
    held(empty.url, *schemas)
    clock = Clock()
    with opened(empty.url, SMALL, clock) as registry:
        known = fingerprint(SMALL.schemas[DECIDED][0].definition)
        old, one = registry.id(known), stored(empty.url)
        empty.stop()
        empty.start(empty=True)
        held(empty.url, *WHOLE.schemas[TWICE], *reversed(schemas))
        clock.now += FRESH
        assert registry.id(known) != old
        other = stored(empty.url)
    assert len(one[1]) == 4
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1], "the ids on the wire are the registry's own"
