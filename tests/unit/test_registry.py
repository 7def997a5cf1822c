"""Ids from a registry server: cached, gone on with while it is away, never believed blindly; and `jietong schema push`."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import catalog, compatibility
from jietong.adapters.registry import FRESH, LAST_ID, UNKNOWN, Access, ConfluentRegistry
from jietong.catalog import HEADS, RESEND, Catalog, Schema
from jietong.cli.app import run
from jietong.contract import Contract, fingerprint
from jietong.delivery.consumer import Consumer
from jietong.delivery.outbox import Outbox
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.errors import RetriableError, UsageError
from jietong.event import Draft
from jietong.testing import MemoryLog, MemoryStore
from tests.unit.stage import (
    DECIDED,
    EPOCH,
    NOTED,
    PLATFORM,
    READER,
    TOPICS,
    A,
    B,
    Recorder,
    effects,
    moment,
    small_catalog,
)

PATH = "/apis/ccompat/v7"
SMALL, WHOLE = small_catalog(), catalog.load()
ALL = [schema for versions in WHOLE.schemas.values() for schema in versions]
TYPE = "application/vnd.schemaregistry.v1+json"
Answer = tuple[int, Any]
NOWHERE: Answer = 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


def text(schema: Schema) -> str:
    return json.dumps(schema.definition, ensure_ascii=False)


# -- a registry that behaves as Confluent's, until it is told otherwise ------------------------------------------------
class Fake:
    """Ids count up, one for each text; `faults` answers first, if it answers at all."""

    def __init__(self, path: str = PATH, context: ssl.SSLContext | None = None) -> None:
        self.path, self.asked, self.lock = path, list[tuple[str, str]](), threading.Lock()
        self.over = threading.Event()
        self.connections: list[socket.socket] = []
        self.texts: dict[int, str] = {}
        self.subjects: dict[str, list[int]] = {}
        self.levels: dict[str, str] = {}
        self.next, self.login, self.pause = 1, "", 0.0
        self.incompatible: Callable[[str], bool] = lambda text: False
        self.spelled: Callable[[str], str] = lambda text: text
        self.fault: Callable[[str, str], Answer | None] = lambda method, path: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server.server_port}{path}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def holds(self, *schemas: Schema) -> Fake:
        for schema in schemas:
            self.put(f"{schema.topic}-value", text(schema))
        return self

    def put(self, subject: str, text: str) -> int:
        id = next((id for id, known in self.texts.items() if known == text), 0)
        if not id:
            id, self.next = self.next, self.next + 1
        self.texts[id] = text
        if id not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(id)
        return id

    def emptied(self) -> None:
        self.texts, self.subjects, self.levels, self.next = {}, {}, {}, 1

    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.asked if method != "GET" and not path.startswith("compat")]

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, method: str, path: str, body: Any, login: str) -> Answer:
        if self.login and login != self.login:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if not path.startswith(f"{self.path}/"):
            return NOWHERE
        path = path.removeprefix(f"{self.path}/")
        with self.lock:
            self.asked.append((method, path))
            return self.fault(method, path) or self.meant(method, path.split("/"), body)

    def meant(self, method: str, path: list[str], body: Any) -> Answer:
        match method, path:
            case "GET", ["subjects"]:
                return 200, list(self.subjects)
            case "GET", ["schemas", "ids", id]:
                return self.named(int(id))
            case "GET", ["config", subject]:
                level = self.levels.get(subject)
                return (
                    (200, {"compatibilityLevel": level}) if level else (404, {"error_code": 40408, "message": "none"})
                )
            case "PUT", ["config", subject]:
                self.levels[subject] = body["compatibility"]
                return 200, body
            case "POST", ["compatibility", "subjects", subject, "versions"]:
                return 200, {"is_compatible": not self.incompatible(body["schema"])}
            case "POST", ["subjects", subject, "versions"]:
                if self.incompatible(body["schema"]):
                    return 409, {"error_code": 409, "message": "incompatible with an earlier schema"}
                return 200, {"id": self.put(subject, body["schema"])}
            case "GET", ["subjects", subject, "versions", *number]:
                return self.listed(subject, number)
            case _:
                return NOWHERE

    def named(self, id: int) -> Answer:
        if id > LAST_ID:
            return NOWHERE  # it counts in signed ints of Java
        known = self.texts.get(id)
        return (
            (404, {"error_code": 40403, "message": "no such schema"})
            if known is None
            else (200, {"schema": self.spelled(known)})
        )

    def listed(self, subject: str, number: list[str]) -> Answer:
        ids = self.subjects.get(subject)
        if not ids:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        if not number:
            return 200, list(range(1, len(ids) + 1))
        id = ids[int(number[0]) - 1]
        return 200, {"subject": subject, "version": int(number[0]), "id": id, "schema": self.spelled(self.texts[id])}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer leaves whole

            def setup(self) -> None:
                super().setup()
                fake.connections.append(self.connection)

            def log_message(self, format: str, *args: Any) -> None: ...

            def _do(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = fake.answer(self.command, self.path, body, self.headers.get("authorization") or "")
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                packed = "gzip" in (self.headers.get("accept-encoding") or "")
                content = gzip.compress(content) if packed else content
                self.send_response(status)
                if packed:
                    self.send_header("content-encoding", "gzip")
                self.send_header("content-type", TYPE)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                for byte in content[: 1_000 if fake.pause else 0]:  # by and by
                    with suppress(OSError):
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                    fake.over.wait(fake.pause)
                self.wfile.write(content[1_000 if fake.pause else 0 :])

            do_GET = do_POST = do_PUT = _do  # noqa: N815 — the server's own names

        return Handler


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A fake registry, and what asks it; all of it closed at the end."""

    fake: Fake = field(default_factory=Fake)
    clock: Clock = field(default_factory=Clock)
    opened: list[ConfluentRegistry] = field(default_factory=list[ConfluentRegistry])

    def registry(self, catalog: Catalog = SMALL, **access: Any) -> ConfluentRegistry:
        made = ConfluentRegistry(catalog, Access(**{"url": self.fake.url, "timeout": 5.0} | access), self.clock)
        self.opened.append(made)
        return made

    def close(self) -> None:
        for registry in self.opened:
            registry.close()
        self.fake.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    made.fake.holds(*(schema for versions in SMALL.schemas.values() for schema in versions))
    yield made
    made.close()


[DECIDED_V1], [NOTED_V1] = SMALL.schemas[DECIDED], SMALL.schemas[NOTED]
KNOWN = fingerprint(DECIDED_V1.definition)


# -- looking up --------------------------------------------------------------------------------------------------------
def test_an_id_is_looked_up_once_and_nothing_is_ever_registered(desk: Desk) -> None:
    registry = desk.registry()
    ids = {registry.id(KNOWN) for _ in range(50)}
    assert ids == {desk.fake.subjects[f"{DECIDED}-value"][0]}
    assert len(desk.fake.asked) == 2
    assert {method for method, _ in desk.fake.asked} == {"GET"}


def test_an_id_leads_to_the_fingerprint_of_its_schema_and_back(desk: Desk) -> None:
    desk.fake.holds(*ALL)
    registry = desk.registry(WHOLE)
    for id, known in desk.fake.texts.items():
        assert registry.fingerprint(id) == fingerprint(json.loads(known))
    for schema in ALL:
        known = fingerprint(schema.definition)
        assert registry.fingerprint(registry.id(known)) == known
    before = len(desk.fake.asked)
    assert [registry.fingerprint(registry.id(fingerprint(schema.definition))) for schema in ALL]
    assert len(desk.fake.asked) == before


def test_an_id_read_under_another_subject_is_none_to_write_with(desk: Desk) -> None:
    definition = {**DECIDED_V1.definition, "doc": "a copy of somebody"}
    copy = desk.fake.put("copy-value", json.dumps(definition))
    registry = desk.registry()
    assert registry.fingerprint(copy) == KNOWN
    assert registry.id(KNOWN) == desk.fake.subjects[f"{DECIDED}-value"][0] != copy


def test_an_id_nobody_knows_is_asked_for_again_but_not_at_once(desk: Desk) -> None:
    registry = desk.registry()
    assert [registry.fingerprint(99) for _ in range(10)] == [None] * 10
    assert len(desk.fake.asked) == 1
    desk.fake.texts[99] = text(NOTED_V1)
    assert registry.fingerprint(99) is None
    desk.clock.now += UNKNOWN
    assert registry.fingerprint(99) == fingerprint(NOTED_V1.definition)


def test_an_id_that_a_registry_would_take_for_a_wrong_path_is_unknown(desk: Desk) -> None:
    assert desk.registry().fingerprint(2**32 - 1) is None
    assert desk.fake.asked == []


def test_damaged_ids_never_fill_the_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jietong.adapters.registry.MANY", 5)
    registry = desk.registry()
    known = registry.id(KNOWN)
    for id in range(100, 130):
        assert registry.fingerprint(id) is None
    assert len(registry._known) <= 6
    desk.fake.fault = lambda method, path: (500, {})
    assert registry.id(KNOWN) == known


def test_a_schema_that_is_not_registered_waits_and_the_command_is_named(desk: Desk) -> None:
    desk.fake.emptied()
    with pytest.raises(RetriableError, match=rf"{DECIDED} version 1 is not registered; run `jietong schema push`"):
        desk.registry().id(KNOWN)


def test_a_schema_of_another_release_is_no_reason_to_wait(desk: Desk) -> None:
    with pytest.raises(UsageError, match="the catalogue does not have"):
        desk.registry().id(b"0" * 16)


def test_threads_share_what_is_known(desk: Desk) -> None:
    desk.fake.holds(*ALL)
    registry = desk.registry(WHOLE)
    wanted = [fingerprint(schema.definition) for schema in ALL] * 4
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(registry.id, wanted))
        assert list(pool.map(registry.fingerprint, ids)) == wanted


# -- away --------------------------------------------------------------------------------------------------------------
AWAY: Mapping[str, tuple[Answer, str]] = {
    "error": ((500, {"error_code": 50001, "message": "store"}), "answers 500"),
    "gone": ((503, b""), "answers 503"),
    "login": ((401, {"error_code": 401, "message": "no"}), "SCHEMA_REGISTRY_PASSWORD"),
    "forbidden": ((403, {}), "does not let us in"),
    "page": ((200, b"<html>welcome</html>"), "no registry's answer"),
    "other": ((200, {"hello": "world"}), "no registry's answer"),
    "deep": ((200, b"[" * 100_000), "no registry's answer"),
    "moved": ((302, b""), "is the path right"),
    "path": ((404, {"error_code": 404, "message": "HTTP 404 Not Found"}), "is the path right"),
    "nginx": ((404, b"<html>not found</html>"), "is the path right"),
}


@pytest.mark.parametrize("fault", AWAY)
def test_while_it_is_away_unknown_ids_wait_and_known_ones_go_on(desk: Desk, fault: str) -> None:
    answer, sentence = AWAY[fault]
    registry = desk.registry()
    id = registry.id(KNOWN)
    desk.fake.fault = lambda method, path: answer
    for call in (lambda: registry.fingerprint(99), lambda: registry.id(fingerprint(NOTED_V1.definition))):
        with pytest.raises(RetriableError, match=sentence):
            call()
    for _ in range(3):
        desk.clock.now += 10 * FRESH
        assert (registry.id(KNOWN), registry.fingerprint(id)) == (id, KNOWN)


def test_while_nobody_listens_known_ids_go_on(desk: Desk) -> None:
    registry = desk.registry()
    id = registry.id(KNOWN)
    desk.fake.close()
    desk.clock.now += FRESH
    assert registry.id(KNOWN) == id
    with pytest.raises(RetriableError, match="no connection"):
        registry.fingerprint(99)


def test_while_it_does_not_answer_one_look_a_minute_is_all_that_known_ids_cost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jietong.adapters.registry.HASTE", 0.1)
    registry, release, waited = desk.registry(timeout=0.1), threading.Event(), []
    known = [fingerprint(schema.definition) for versions in SMALL.schemas.values() for schema in versions]
    ids = [registry.id(each) for each in known]

    def hold(method: str, path: str) -> None:
        desk.fake.lock.release()
        waited.append(path)
        release.wait()
        desk.fake.lock.acquire()

    desk.fake.fault = hold
    with pytest.raises(RetriableError, match=r"no answer within 0\.1 s"):
        registry.fingerprint(99)
    desk.clock.now += FRESH
    assert [registry.id(each) for each in known * 10] == ids * 10
    assert len(waited) == 2
    release.set()


def test_an_answer_that_trickles_in_ends_too(desk: Desk) -> None:
    desk.fake.pause = 0.02
    with pytest.raises(RetriableError, match="takes too long"):
        desk.registry(timeout=0.1).fingerprint(1)


def test_it_is_found_again_when_it_is_back(desk: Desk) -> None:
    registry = desk.registry()
    desk.fake.fault = lambda method, path: (503, b"")
    with pytest.raises(RetriableError):
        registry.id(KNOWN)
    desk.fake.fault = lambda method, path: None
    assert registry.id(KNOWN) == desk.fake.subjects[f"{DECIDED}-value"][0]


# -- built anew --------------------------------------------------------------------------------------------------------
def rebuilt(fake: Fake) -> None:
    fake.emptied()
    fake.put("stranger-value", '"string"')
    fake.holds(NOTED_V1, DECIDED_V1)


def test_a_registry_built_anew_is_noticed_within_a_minute_by_who_writes_and_who_reads(desk: Desk) -> None:
    writer, reader = desk.registry(), desk.registry()
    old = writer.id(KNOWN)
    assert reader.fingerprint(old) == KNOWN
    rebuilt(desk.fake)
    assert writer.id(KNOWN) == old
    desk.clock.now += FRESH
    new = writer.id(KNOWN)
    assert new == desk.fake.subjects[f"{DECIDED}-value"][0] != old
    assert (reader.fingerprint(new), reader.fingerprint(old)) == (KNOWN, fingerprint(json.loads(desk.fake.texts[old])))


def test_an_emptied_registry_holds_back_who_writes_and_not_who_reads(desk: Desk) -> None:
    registry = desk.registry()
    old = registry.id(KNOWN)
    desk.fake.emptied()
    desk.clock.now += FRESH
    before = len(desk.fake.asked)
    assert [registry.fingerprint(old) for _ in range(10)] == [KNOWN] * 10
    assert len(desk.fake.asked) == before + 1
    with pytest.raises(RetriableError, match="jietong schema push"):
        registry.id(KNOWN)
    desk.fake.put("stranger-value", '"string"')
    desk.fake.holds(DECIDED_V1)
    assert registry.id(KNOWN) == 2


def stored(url: str) -> list[list[tuple[Any, ...]]]:
    """What a relay and a consumer leave in their databases, over this registry; ids of events aside, which are drawn."""
    clock = [EPOCH]
    registries = [ConfluentRegistry(SMALL, Access(url, timeout=30)) for _ in range(2)]
    ours, theirs = (Contract(SMALL, registry) for registry in registries)
    platform, reader = MemoryStore("platform", delivery), MemoryStore("reader", delivery, effects)
    log = MemoryLog(TOPICS)
    log.compacted = {HEADS}
    outbox = Outbox(PLATFORM, ours, lambda: clock[0], platform.bell)
    own = Outbox(READER, theirs, lambda: clock[0], reader.bell)
    relay = Relay(PLATFORM, platform, log, ours, lambda: clock[0])
    relay.start()
    relay.beat()
    consumer = Consumer(Recorder(DECIDED, NOTED), reader, log, own)
    consumer.start()
    for n, (type, subject) in enumerate([(DECIDED, A), (NOTED, A), (DECIDED, B), (DECIDED, A)]):
        with platform.transaction() as tx:
            outbox.add(
                tx, Draft(type=type, subject=subject, time=moment(EPOCH), data={"what": str(n)}, about=(str(n),))
            )
    while relay.step().more:
        pass
    while consumer.step(0):
        pass
    tables = (
        (platform, "SELECT id, source, type, aggregateid, sequence, fingerprint, payload FROM outbox ORDER BY n"),
        (
            reader,
            "SELECT id, source, type, subject, sequence, fate, fingerprint, body, digest FROM inbox ORDER BY type, subject, sequence",
        ),
        (reader, "SELECT subject, sequence, what FROM done ORDER BY subject, sequence, what"),
    )
    rows = []
    for store, sql in tables:
        with store.snapshot() as tx:
            rows.append(tx.execute(sql).all())
    for each in (platform, reader, *registries):
        each.close()
    rows.append(
        [(record.value[1:5], len(record.value)) for topic in (DECIDED, NOTED) for record in log.everything(topic)]
    )
    return rows


def test_a_registry_that_numbers_otherwise_changes_nothing_that_is_stored(desk: Desk) -> None:
    one = stored(desk.fake.url)
    rebuilt(desk.fake)
    desk.fake.holds(*SMALL.schemas[RESEND], *SMALL.schemas[HEADS])
    other = stored(desk.fake.url)
    assert len(one[1]) == 4
    assert {row[5] for row in one[1]} == {"applied"}
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1], "the ids on the wire are the registry's own"


# -- what a registry may answer ----------------------------------------------------------------------------------------
HOSTILE = {
    "no JSON": '{"type": "rec', "nothing": "", "deep": "[" * 50_000 + "]" * 50_000, "deep record": '{"type":' * 50_000 + '"int"' + "}" * 50_000,
    "deep field": '{"type":"record","name":"X","fields":[{"name":"a","type":' * 2_000 + '"int"' + "}]}" * 2_000,
    "half a character": '{"type": "record", "name": "\\ud800", "fields": []}', "endless number": "1" * 5_000,
    "fields are none": '{"type": "record", "name": "X", "fields": 7}', "a field is none": '{"type": "record", "name": "X", "fields": [7]}',
    "a field without a type": '{"type": "record", "name": "X", "fields": [{"name": "a"}]}', "another language": 'syntax = "proto3";',
    "huge": json.dumps({"type": "record", "name": "X", "doc": "x" * 2_000_000, "fields": []}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_that_is_no_schema_is_an_unknown_one_and_harms_nobody(desk: Desk, name: str) -> None:
    desk.fake.texts[66] = HOSTILE[name]
    registry = desk.registry()
    assert registry.fingerprint(66) is None
    assert registry.fingerprint(registry.id(KNOWN)) == KNOWN


def test_a_schema_that_contains_itself_is_named_and_is_not_ours(desk: Desk) -> None:
    desk.fake.texts[66] = '{"type": "record", "name": "X", "fields": [{"name": "next", "type": ["null", "X"]}]}'
    known = desk.registry().fingerprint(66)
    assert known
    assert known not in Contract(SMALL)._known


def java(node: Any, space: str = "") -> Any:
    """As Avro's own library writes a schema: no namespace that stands around, no braces round a bare type."""
    match node:
        case {"type": str(only), **rest} if not rest:
            return only
        case {"name": _, "type": "record" | "enum" | "fixed"}:
            here = node.get("namespace", space)
            kept = {k: v for k, v in node.items() if k != "namespace" or v != space}
            fields = (
                {"fields": [f | {"type": java(f["type"], here)} for f in node["fields"]]} if "fields" in node else {}
            )
            return dict(sorted((kept | fields).items(), reverse=True))
        case dict():
            return {k: java(v, space) if k in ("type", "items", "values") else v for k, v in node.items()}
        case list():
            return [java(each, space) for each in node]
        case str():
            return node.removeprefix(f"{space}.")
        case _:
            return node


def wordy(node: Any, space: str = "") -> Any:
    """The other way: every type in braces, every name in full."""
    match node:
        case {"name": str(name), "type": "record" | "enum" | "fixed"}:
            here = node.get("namespace", space)
            full = {k: v for k, v in node.items() if k != "namespace"} | {"name": f"{here}.{name}" if here else name}
            fields = (
                {"fields": [f | {"type": wordy(f["type"], here)} for f in node["fields"]]} if "fields" in node else {}
            )
            return full | fields
        case {"type": str()}:
            return {k: wordy(v, space) if k in ("items", "values") else v for k, v in node.items()}
        case dict():
            return {k: wordy(v, space) if k in ("type", "items", "values") else v for k, v in node.items()}
        case list():
            return [wordy(each, space) for each in node]
        case "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string":
            return {"type": node}
        case _:
            return f"{space}.{node}" if space else node


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "sorted": lambda text: json.dumps(json.loads(text), sort_keys=True, indent=2),
    "avro's own": lambda text: json.dumps(java(json.loads(text))),
    "in full": lambda text: json.dumps(wordy(json.loads(text)), ensure_ascii=True),
    "without words": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k not in ("doc", "zh")}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_schema_is_known_in_every_spelling(desk: Desk, spelling: str) -> None:
    desk.fake.emptied()
    desk.fake.holds(*ALL)
    desk.fake.spelled = SPELLINGS[spelling]
    registry = desk.registry(WHOLE)
    registry.check()
    for schema in ALL:
        known = fingerprint(schema.definition)
        assert registry.fingerprint(registry.id(known)) == known


NAMES = st.sampled_from(["a", "b", "c"])
TYPES = st.recursive(
    st.sampled_from(
        ["int", "string", {"type": "string", "maxLength": 5}, {"type": "long", "logicalType": "timestamp-millis"}]
    ),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda values: {"type": "map", "values": values}, inner),
        st.builds(lambda one: ["null", one], inner.filter(lambda one: not isinstance(one, list))),
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(NAMES, TYPES, min_size=1), st.sampled_from(["", "n", "n.m"]))
def test_spelling_never_decides_and_meaning_always_does(fields: Mapping[str, Any], space: str) -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["UNKNOWN", "x"], "default": "UNKNOWN"}
    listed = [
        *({"name": name, "type": type} for name, type in fields.items()),
        {"name": "e", "type": enum},
        {"name": "f", "type": "E"},
    ]
    definition: dict[str, Any] = {"type": "record", "name": "X", "fields": listed} | (
        {"namespace": space} if space else {}
    )
    made = ConfluentRegistry(Catalog({}, {"x": [Schema("x", 1, definition)]}, {}), Access("http://127.0.0.1:1"))
    known = fingerprint(definition)
    assert [made._print(json.dumps(spell(definition))) for spell in (java, wordy)] == [known, known]
    others = [
        json.dumps(definition).replace("timestamp-millis", "timestamp-micros"),
        json.dumps(definition).replace('"UNKNOWN", "x"', '"UNKNOWN", "y"'),
        json.dumps(definition | {"namespace": "other"}),
        json.dumps(definition | {"fields": list(reversed(listed))}),
    ]
    assert all(made._print(other) != known for other in others if json.loads(other) != definition)
    made.close()


# -- at the start ------------------------------------------------------------------------------------------------------
def complaint(registry: ConfluentRegistry) -> str:
    with pytest.raises(UsageError) as caught:
        registry.check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_registry_passes_past_any_proxy_and_what_was_seen_is_known(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    registry = desk.registry()
    registry.check()
    desk.fake.fault = lambda method, path: (500, {})
    assert registry.fingerprint(registry.id(KNOWN)) == KNOWN


@pytest.mark.parametrize("fault", AWAY)
def test_at_the_start_what_keeps_us_out_is_said_in_a_line(desk: Desk, fault: str) -> None:
    answer, sentence = AWAY[fault]
    desk.fake.fault = lambda method, path: answer
    assert sentence in complaint(desk.registry())


def test_at_the_start_a_registry_that_is_starting_too_is_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fake.fault = lambda method, path: (503, b"")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            desk.fake.fault = lambda method, path: None

    monkeypatch.setattr("jietong.adapters.registry.time.sleep", wait)
    desk.registry().check(30.0)
    assert len(waits) == 3
    desk.fake.fault = lambda method, path: (401, {})
    with pytest.raises(UsageError, match="PASSWORD"):
        desk.registry().check(30.0)
    assert len(waits) == 3, "a wrong password does not mend itself"


def test_at_the_start_a_wrong_address_is_said_in_a_line(desk: Desk) -> None:
    assert "is the path right?" in complaint(desk.registry(url=desk.fake.url.removesuffix(PATH)))
    desk.fake.close()
    assert "no connection" in complaint(desk.registry())
    for host in ("registry.invalid", "a..b", f"{'a' * 70}.invalid"):
        assert "no connection" in complaint(desk.registry(url=f"http://{host}/"))


def test_at_the_start_schemas_that_are_missing_are_counted_and_the_command_is_named(desk: Desk) -> None:
    del desk.fake.subjects[f"{NOTED}-value"], desk.fake.subjects[f"{HEADS}-value"]
    said = complaint(desk.registry())
    assert said.endswith(
        f"2 of 4 schemas are not registered, the first is {NOTED} version 1; run `jietong schema push`"
    )


FOREIGN = {
    "another record": '{"type": "record", "name": "Order", "fields": []}', "a bare type": '"string"', "no schema": "syntax",
    "another topic's": text(NOTED_V1), "another namespace": text(DECIDED_V1).replace('"Test"', '"other.Test"'),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_at_the_start_a_foreign_schema_under_our_subject_is_said_in_a_line(desk: Desk, name: str) -> None:
    desk.fake.put(f"{DECIDED}-value", FOREIGN[name])
    assert f"{DECIDED}-value holds a schema that is not ours (version 2" in complaint(desk.registry())


def test_at_the_start_a_newer_release_may_have_registered_a_version_that_we_lack(desk: Desk) -> None:
    desk.fake.put(f"{DECIDED}-value", newer(DECIDED_V1))
    desk.registry().check()


def newer(schema: Schema, field: str = "more") -> str:
    """A version that could follow: one field more, that may be empty."""
    definition = json.loads(text(schema))
    definition["fields"].append({"name": field, "type": ["null", "string"], "default": None, "doc": "more", "zh": "多"})
    return json.dumps(definition)


# -- who asks ----------------------------------------------------------------------------------------------------------
SECRET = "苏-s3cret:x"  # noqa: S105 — of a fake


def test_a_password_opens_and_a_wrong_one_is_said_without_it(desk: Desk) -> None:
    desk.fake.login = "Basic " + base64.b64encode(f"jietong:{SECRET}".encode()).decode()
    desk.registry(user="jietong", password=SECRET).check()
    wrongs: list[dict[str, Any]] = [{"user": "jietong", "password": "s3cret-wrong"}, {"user": "jietong"}, {}]
    for wrong in wrongs:
        said = complaint(desk.registry(**wrong))
        assert "does not let us in (401); see SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD" in said
        assert "s3cret" not in said
    assert SECRET not in repr(Access("http://x", "jietong", SECRET))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://jietong:s3cret@registry:8080", "user and password belong into SCHEMA_REGISTRY_USER"),
        ("registry:8080", "write it like http://"),
        ("ftp://registry", "write it like http://"),
        ("http://", "write it like http://"),
        ("http://[", "write it like http://"),
        ("http://registry:99999999", "write it like http://"),
        ("http://regi\0stry", "cannot be read as a URL"),
    ],
)
def test_an_address_that_is_none_is_said_in_a_line(url: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        ConfluentRegistry(SMALL, Access(url))
    assert sentence in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, bare = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(pem, pkcs8, bare))
    return files


def test_a_certificate_is_believed_if_its_ca_is_named_and_only_then(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    desk = Desk(Fake(context=context).holds(*(schema for versions in SMALL.schemas.values() for schema in versions)))
    desk.registry(cafile=str(certificate[0])).check()
    assert "from nobody we trust; name its CA with SCHEMA_REGISTRY_CAFILE" in complaint(desk.registry())
    desk.close()
    (tmp_path / "empty.pem").write_text("no certificate")
    for file, sentence in ((tmp_path / "absent.pem", "No such file"), (tmp_path / "empty.pem", "holds no certificate")):
        with pytest.raises(UsageError, match=f"SCHEMA_REGISTRY_CAFILE: .*{sentence}"):
            desk.registry(cafile=str(file))


# -- jietong schema push -----------------------------------------------------------------------------------------------
TWICE = "engineering.approval.decided.v1"
PUSHED = Catalog(WHOLE.topics, {topic: WHOLE.schemas[topic] for topic in (TWICE, HEADS, RESEND)}, {})
MINE = [schema for versions in PUSHED.schemas.values() for schema in versions]


@dataclass
class Shell:
    """`jietong schema push` of three topics to an empty registry; --json unless it is to be read."""

    fake: Fake
    schemas: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = run(["schema", "push", "--schemas", str(self.schemas), *arguments])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, out, err = self("--url", self.fake.url, "--json", *arguments)
        return code, json.loads(out) | {"said": err}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    for file in (file for topic in PUSHED.schemas for file in catalog.SCHEMAS.glob(f"*/{topic}.*")):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / file.parent.name)
    (tmp_path / "ids.yaml").write_text("[]")
    compatibility.write(compatibility.register(tmp_path), tmp_path)
    made = Shell(Fake(), tmp_path, capsys)
    yield made
    made.fake.close()


def test_push_registers_every_version_in_order_and_holds_each_subject_to_full_transitive_compatibility_first(
    shell: Shell,
) -> None:
    code, told = shell.json()
    assert (code, told["counts"], len(told["tightened"])) == (0, {"registered": len(MINE)}, len(PUSHED.schemas))
    assert [shell.fake.texts[id] for id in sorted(shell.fake.texts)] == [text(schema) for schema in MINE]
    assert [path for method, path in shell.fake.writes() if method == "PUT"] == [
        f"config/{t}-value" for t in PUSHED.schemas
    ]
    assert [method for method, _ in shell.fake.writes()] == ["PUT"] * len(PUSHED.schemas) + ["POST"] * len(MINE)
    assert set(shell.fake.levels.values()) == {"FULL_TRANSITIVE"}
    registry = ConfluentRegistry(PUSHED, Access(shell.fake.url))
    registry.check()
    registry.close()


def test_push_said_twice_sends_once(shell: Shell) -> None:
    shell.json()
    before = shell.fake.writes()
    code, told = shell.json()
    assert (code, told["counts"], told["tightened"]) == (0, {"there": len(MINE)}, [])
    assert shell.fake.writes() == before


def test_push_takes_another_spelling_for_what_it_is(shell: Shell) -> None:
    shell.fake.spelled = SPELLINGS["avro's own"]
    shell.json()
    assert shell.json()[1]["counts"] == {"there": len(MINE)}


def test_a_dry_run_tells_and_sends_nothing(shell: Shell) -> None:
    shell.fake.holds(MINE[0])
    code, told = shell.json("--dry-run")
    assert (code, told["counts"]) == (0, {"there": 1, "new": len(MINE) - 1})
    assert len(told["loose"]) == len(PUSHED.schemas)
    code, out, err = shell("--url", shell.fake.url, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["topic\tversion\tstate\tid\twhy", f"{MINE[0].topic}\t1\tthere\t1\t"]
    assert f"would register {len(MINE) - 1}" in out
    assert shell.fake.writes() == []


def strange(change: Callable[[dict[str, Any]], object]) -> str:
    definition = json.loads(text(WHOLE.schemas[TWICE][1]))
    change(definition)
    return json.dumps(definition)


STRANGERS = {
    "another record": '{"type": "record", "name": "Order", "fields": []}', "no schema": "{",
    "no Avro": strange(lambda d: d["fields"][0].update(type="nonsense")),
    "nothing": strange(lambda d: d.update(fields=[])),
    "a field that must be given": strange(lambda d: d["fields"].append({"name": "z", "type": "string"})),
    "recursive": strange(lambda d: d["fields"].append({"name": "z", "type": ["null", d["name"]], "default": 7})),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_push_sends_nothing_where_something_foreign_is_under_a_subject(shell: Shell, name: str) -> None:
    shell.fake.put(f"{TWICE}-value", STRANGERS[name])
    code, told = shell.json()
    [foreign] = [row for row in told["schemas"] if row["state"] == "foreign"]
    assert (code, foreign["topic"], foreign["id"], bool(foreign["why"])) == (1, TWICE, 1, True)
    assert shell.fake.writes() == []
    code, out, err = shell("--url", shell.fake.url)
    assert (code, err, out.splitlines()[-1]) == (1, "", "refused: nothing was sent")


def test_push_goes_on_beside_a_version_of_a_newer_release(shell: Shell) -> None:
    shell.fake.put(f"{TWICE}-value", newer(WHOLE.schemas[TWICE][1]))
    code, told = shell.json()
    assert (code, told["counts"]) == (0, {"registered": len(MINE), "later": 1})


def test_push_asks_the_registry_too_before_it_sends(shell: Shell) -> None:
    first, second = WHOLE.schemas[TWICE]
    shell.fake.holds(first)
    shell.fake.incompatible = lambda sent: sent == text(second)
    code, told = shell.json()
    [row] = [row for row in told["schemas"] if row["state"] == "incompatible"]
    assert (code, row["topic"], row["version"]) == (1, TWICE, 2)
    assert shell.fake.writes() == []


def test_push_refuses_an_incompatible_change_before_it_looks_at_any_registry(shell: Shell) -> None:
    (shell.schemas / "avro" / f"{TWICE}.3.avsc").write_text(STRANGERS["a field that must be given"])
    code, out, err = shell("--url", shell.fake.url)
    assert (code, err, out.splitlines()[-1]) == (1, "", "refused: nothing was sent")
    assert f"avro/{TWICE}.3.avsc: z: compatibility: cannot read version 1: it has no default" in out
    assert shell.fake.asked == []


def test_push_that_is_broken_off_says_how_far_it_came_and_goes_on_the_next_time(shell: Shell) -> None:
    posted = list[str]()

    def third(method: str, path: str) -> Answer | None:
        posted.extend([path] if method == "POST" and path.startswith("subjects") else [])
        return (503, b"") if method == "POST" and len(posted) == 3 else None

    shell.fake.fault = third
    code, told = shell.json()
    assert (code, told["counts"]) == (2, {"registered": 2, "new": len(MINE) - 2})
    assert "answers 503" in told["said"]
    assert f"2 of {len(MINE)} new schemas are registered: mend that and run it again" in told["said"]
    assert len(told["said"].splitlines()) == 1
    assert shell.json()[1]["counts"] == {"there": 2, "registered": len(MINE) - 2}


def test_push_notices_a_registry_that_takes_one_schema_for_another(shell: Shell) -> None:
    first, second = (text(schema) for schema in WHOLE.schemas[TWICE])
    shell.fake.spelled = lambda known: first if known == second else known
    code, told = shell.json()
    assert code == 2
    assert f"{TWICE} version 2: the registry takes it for another schema" in told["said"]


def test_push_says_why_a_registry_refused(shell: Shell) -> None:
    shell.fake.incompatible = lambda sent: sent == text(MINE[0])  # unknown to it before: only the sending shows it
    code, told = shell.json()
    assert (code, told["counts"]["new"]) == (2, len(MINE))
    assert "refused (409): incompatible with an earlier schema; 0 of" in told["said"]


def test_push_finds_the_registry_in_the_environment_and_the_password_in_a_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.fake.login = "Basic " + base64.b64encode(f"jietong:{SECRET}".encode()).decode()
    (secrets := shell.schemas / "secrets").mkdir()
    (secrets / "schema_registry_password").write_text(f"{SECRET}\n")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("JIETONG_SCHEMA_REGISTRY_URL", shell.fake.url)
    monkeypatch.setenv("SCHEMA_REGISTRY_USER", "jietong")
    code, _, err = shell("--dry-run")
    assert (code, err.count("SCHEMA_REGISTRY_PASSWORD")) == (2, 1)
    monkeypatch.setenv("JIETONG_SECRETS_DIR", str(secrets))
    assert shell("--dry-run")[0] == 0
    monkeypatch.delenv("JIETONG_SCHEMA_REGISTRY_URL")
    assert "no connection" in shell("--dry-run")[2]
    monkeypatch.delenv("SCHEMA_REGISTRY_URL")
    assert "set SCHEMA_REGISTRY_URL" in shell("--dry-run")[2]
