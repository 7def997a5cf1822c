"""The real servers start, answer independent clients, are killed and come back, and can be spoiled through a proxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from simulation.servers import (
    City,
    Proxy,
    ServerError,
    database,
    kafka,
    missing,
    postgres,
    process,
    prometheus,
    proxy,
    registry,
    servers,
    software,
)

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)  # starts that take seconds take minutes on a machine that is busy
SCHEMA = {"type": "record", "name": "A", "fields": [{"name": "x", "type": "string"}]}


def needs(lack: str | None) -> None:
    """Skip with one sentence; where CI=true a missing server is a failure."""
    if lack:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)


def until(what: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """Where servers are started; whatever a test leaves running is ended, by its pid."""
    needs(missing())
    before = len(process.ours)
    yield tmp_path
    for server in process.ours[before:]:
        server.kill()


@pytest.fixture
def behind() -> Generator[Callable[[tuple[str, int]], Proxy]]:
    """Makes proxies that are closed at the end."""
    made: list[Proxy] = []

    def make(target: tuple[str, int]) -> Proxy:
        made.append(proxy(target))
        return made[-1]

    yield make
    for one in made:
        one.close()


def topic(bootstrap: str, name: str, login: Mapping[str, Any] = {}, copies: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **login})
    admin.create_topics([NewTopic(name, 1, copies)], operation_timeout=30)[name].result(30)


def produced(bootstrap: str, name: str, value: bytes, seconds: float = 30, **settings: Any) -> KafkaError | None:
    """Acknowledged by all replicas: None, or the client's last word."""
    said: list[KafkaError | None] = []
    own = {"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0, "delivery.timeout.ms": int(seconds * 1000)}
    producer = Producer({**own, **settings})
    producer.produce(name, value, on_delivery=lambda error, _: said.append(error))
    producer.flush(seconds + 10)
    return said[0]


def logged(bootstrap: str, name: str, count: int, seconds: float = 30) -> list[bytes]:
    """The first so many values of partition 0."""
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "outside", "enable.auto.commit": False, "log_level": 0}
    )
    reader.assign([TopicPartition(name, 0, 0)])
    found: list[bytes] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        message = reader.poll(0.2)
        if message and not message.error():
            found.append(message.value() or b"")
    reader.close()
    return found


def asked(url: str, body: object = None) -> Any:
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 — our own http address
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def registered(url: str, subject: str, name: str) -> int:
    return asked(f"{url}/subjects/{subject}/versions", {"schema": json.dumps({**SCHEMA, "name": name})})["id"]


@pytest.mark.city
def test_a_city_stands_on_three_servers_that_start_together_and_leave_nothing_running(folder: Path) -> None:
    began = time.monotonic()
    with servers(folder) as city:
        assert isinstance(city, City)
        sys.stdout.write(f"  the whole set answered after {time.monotonic() - began:.1f} s\n")
        topic(city.kafka.bootstrap, "t")
        assert produced(city.kafka.bootstrap, "t", b"one") is None
        assert logged(city.kafka.bootstrap, "t", 1) == [b"one"]
        assert asked(f"{city.registry.url}/subjects") == []
        with psycopg.connect(city.postgres.url) as db:
            assert db.execute("SELECT current_user, current_database()").fetchone() == ("jietong", "jietong")
            assert db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        pids = [node.pid for node in city.kafka.nodes] + [city.registry.pid, city.postgres.pid]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.city
def test_a_kafka_that_was_paused_or_killed_comes_back_with_all_it_acknowledged(folder: Path) -> None:
    log = kafka(folder)
    topic(log.bootstrap, "t")
    assert produced(log.bootstrap, "t", b"one") is None
    log.kill(signal.SIGSTOP)
    assert log.alive()
    assert produced(log.bootstrap, "t", b"never", seconds=1) is not None
    log.kill(signal.SIGCONT)
    assert produced(log.bootstrap, "t", b"two") is None
    log.kill()
    assert not log.alive()
    log.start()
    assert produced(log.bootstrap, "t", b"three") is None
    log.kill(signal.SIGSTOP)
    log.stop()
    assert not log.alive()
    again = kafka(folder)  # the same folder in another run
    assert [value for value in logged(again.bootstrap, "t", 3) if value != b"never"] == [b"one", b"two", b"three"]


@pytest.mark.city
def test_three_nodes_go_on_acknowledging_when_one_is_killed(folder: Path) -> None:
    log = kafka(folder, nodes=3, heap="256m")
    topic(log.bootstrap, "t", copies=3)
    assert produced(log.bootstrap, "t", b"one") is None
    cluster = AdminClient({"bootstrap.servers": log.bootstrap, "log_level": 0})
    leader = cluster.list_topics("t", timeout=30).topics["t"].partitions[0].leader
    log.nodes[leader - 1].kill()
    assert produced(log.bootstrap, "t", b"two") is None
    log.kill()
    log.start()
    assert logged(log.bootstrap, "t", 2) == [b"one", b"two"]


@pytest.mark.city
def test_clients_behind_a_proxy_cannot_know_what_its_lost_answers_said(
    folder: Path, behind: Callable[[tuple[str, int]], Proxy]
) -> None:
    log = kafka(folder, advertised=behind)
    (way,) = log.proxies
    topic(log.bootstrap, "t")
    assert AdminClient({"bootstrap.servers": log.bootstrap}).list_topics(timeout=30).brokers[1].port == way.address[1]
    producer = Producer({"bootstrap.servers": log.bootstrap, "log_level": 0, "retries": 0, "delivery.timeout.ms": 3000})
    assert producer.list_topics("t", timeout=30).topics["t"].error is None
    said: list[KafkaError | None] = []
    way.lose_answers = True
    producer.produce("t", b"one", on_delivery=lambda error, _: said.append(error))
    producer.flush(20)
    assert said[0] is not None
    assert logged(log.direct, "t", 1) == [b"one"]
    assert way.lost
    way.heal()
    assert produced(log.bootstrap, "t", b"two") is None
    assert logged(log.bootstrap, "t", 2) == [b"one", b"two"]


@pytest.mark.city
def test_with_users_a_stranger_is_refused_and_acls_decide(folder: Path) -> None:
    log = kafka(folder, users={"admin": "a-secret", "water": "another"})
    login: dict[str, Any] = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512"}
    topic(log.bootstrap, "t", {**login, "sasl.username": "admin", "sasl.password": "a-secret"})
    topic(log.direct, "u")
    stranger = produced(log.bootstrap, "t", b"x", 3, **login, **{"sasl.username": "admin", "sasl.password": "wrong"})
    assert stranger is not None
    water = produced(log.bootstrap, "t", b"x", 10, **login, **{"sasl.username": "water", "sasl.password": "another"})
    assert water is not None
    assert water.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    with pytest.raises(KafkaException):
        topic(log.bootstrap, "v", {**login, "sasl.username": "water", "sasl.password": "another"})


@pytest.mark.city
def test_a_registry_keeps_its_ids_over_a_kill_and_numbers_anew_when_rebuilt(folder: Path) -> None:
    names = registry(folder)
    first, second = registered(names.url, "a-value", "A"), registered(names.url, "b-value", "B")
    names.kill()
    names.start()
    assert registered(names.url, "b-value", "B") == second
    names.stop()
    names.start(empty=True)
    assert asked(f"{names.url}/subjects") == []
    assert registered(names.url, "b-value", "B") == first


@pytest.mark.city
def test_a_killed_postgres_comes_back_with_what_was_committed(folder: Path) -> None:
    base = postgres(folder, {"max_connections": "20"})
    with psycopg.connect(base.url) as db:
        assert db.execute("SHOW max_connections").fetchone() == ("20",)
        db.execute("CREATE TABLE t (x int)")
        db.execute("INSERT INTO t VALUES (1)")
        db.commit()
        db.execute("INSERT INTO t VALUES (2)")
        base.kill()
        with pytest.raises(psycopg.OperationalError):
            db.execute("SELECT 1")
    base.start()
    with psycopg.connect(base.url) as db:
        assert db.execute("SELECT x FROM t").fetchall() == [(1,)]
    base.stop()
    with psycopg.connect(postgres(folder).admin) as db:  # the same folder in another run
        assert db.execute("SELECT x FROM t").fetchall() == [(1,)]


@pytest.mark.city
def test_a_paused_postgres_answers_nobody_until_it_goes_on(folder: Path) -> None:
    base = postgres(folder)
    with psycopg.connect(base.url, autocommit=True) as db:
        base.kill(signal.SIGSTOP)
        answer: list[Any] = []
        asker = threading.Thread(target=lambda: answer.append(db.execute("SELECT 1").fetchone()))
        asker.start()
        asker.join(0.3)
        assert answer == []
        base.kill(signal.SIGCONT)
        asker.join(10)
        assert answer == [(1,)]


@pytest.mark.city
def test_a_database_behind_a_proxy_is_away_and_comes_back(
    folder: Path, behind: Callable[[tuple[str, int]], Proxy]
) -> None:
    base = postgres(folder)
    host, port = base.url.rpartition("@")[2].partition("/")[0].split(":")
    way = behind((host, int(port)))
    url = base.url.replace(f"{host}:{port}", f"{way.address[0]}:{way.address[1]}")
    with psycopg.connect(url, autocommit=True) as db:
        way.refuse = True
        way.reset()
        with pytest.raises(psycopg.OperationalError):
            db.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    way.heal()
    with psycopg.connect(url) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


class Figures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"jietong_lag 7\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.city
def test_prometheus_scrapes_what_it_was_pointed_at(folder: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Figures) as target:
        threading.Thread(target=target.serve_forever, daemon=True).start()
        try:
            seen = prometheus(folder, {"jietong": [f"127.0.0.1:{target.server_address[1]}"]})
        except ServerError as error:
            needs(str(error) if "install" in str(error) else None)
            raise
        url = f"{seen.url}/api/v1/query?query=jietong_lag"
        until(lambda: [one["value"][1] for one in asked(url)["data"]["result"]] == ["7"])
        target.shutdown()
        seen.stop()


@pytest.mark.city
def test_servers_end_with_the_process_that_started_them_also_when_it_is_killed(folder: Path) -> None:
    story = (
        "import sys; from pathlib import Path; from simulation.servers import kafka, postgres; from simulation.servers.process import together\n"
        f"a, b = together(lambda: kafka(Path({str(folder)!r}) / 'a').nodes[0], lambda: postgres(Path({str(folder)!r}) / 'b'))\n"
        "print(a.pid, b.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", story], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        parent.kill()
    try:
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.city
def test_a_port_taken_between_choosing_and_binding_is_chosen_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        taken = rival.getsockname()[1]
        chosen = iter([taken])
        monkeypatch.setattr(database, "free_port", lambda: next(chosen, None) or process.free_port())
        base = postgres(folder)
        assert f":{taken}/" not in base.url
        with psycopg.connect(base.url) as db:
            assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.city
def test_a_server_that_cannot_start_says_so_in_one_sentence_and_where_its_log_is(folder: Path) -> None:
    with pytest.raises(ServerError, match=r"^[^\n]*Exception: Invalid value soon for configuration[^\n]*$"):
        kafka(folder, config={"log.retention.ms": "soon"})
    with pytest.raises(
        ServerError, match=r"^kafka-1 ended while starting: .*Exception: .*; its log is .*kafka-1\.log$"
    ):
        kafka(folder, config={"authorizer.class.name": "no.such.Class"})
    with pytest.raises(ServerError, match=r"^postgres ended while starting: .*; its log is .*postgres\.log$"):
        postgres(folder / "base", {"shared_buffers": "none"})


def test_what_a_machine_lacks_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(software, "JAVAS", tmp_path)
    monkeypatch.setattr(software, "POSTGRESES", tmp_path)
    lack = missing()
    assert lack
    assert lack.startswith("the real servers need Java 21 or newer (Kafka alone: 17), Maven")
    assert "PostgreSQL 15 or newer" in lack
    assert "\n" not in lack
    for start in (lambda: kafka(tmp_path / "k"), lambda: postgres(tmp_path / "p"), lambda: registry(tmp_path / "r")):
        with pytest.raises(ServerError, match="install"):
            start()
    with pytest.raises(ServerError, match="Prometheus is not on this machine: install it"):
        prometheus(tmp_path / "m", {})


def fake_maven(folder: Path, does: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "mvn").write_text(f'#!/bin/sh\necho run >> "{folder}/runs"\n{does}\n')
    (folder / "mvn").chmod(0o755)


def test_software_is_fetched_once_for_all_who_want_it_at_once_and_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fake_maven(tmp_path / "bin", 'mkdir whole; echo half > whole/kafka.jar; echo "[ERROR] no network"; exit 1')
    with pytest.raises(ServerError, match=r"^Maven's download failed: \[ERROR\] no network$"):
        software.kafka_jars()
    assert not list((tmp_path / "cache" / "jietong-servers").glob("*/"))
    fake_maven(tmp_path / "bin", "mkdir whole; echo jar > whole/kafka.jar")
    found = process.together(*([software.kafka_jars] * 4))
    assert {(place / "kafka.jar").read_text() for place in found} == {"jar\n"}
    assert (tmp_path / "bin" / "runs").read_text().split() == ["run", "run"]


class Loud(socketserver.BaseRequestHandler):
    """Answers every byte with itself in capitals, and notes it."""

    heard = b""

    def handle(self) -> None:
        while said := self.request.recv(4096):
            Loud.heard += said
            self.request.sendall(said.upper())


@pytest.fixture
def way(behind: Callable[[tuple[str, int]], Proxy]) -> Generator[Proxy]:
    """A proxy before a loud server."""
    Loud.heard = b""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Loud) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        way = behind(server.server_address)  # pyright: ignore[reportArgumentType]
        yield way
        way.close()
        server.shutdown()


def call(way: Proxy, seconds: float = 5) -> socket.socket:
    return socket.create_connection(way.address, timeout=seconds)


def test_a_good_way_passes_everything_in_order(way: Proxy) -> None:
    with call(way) as line:
        sent = bytes(range(97, 123)) * 40_000
        threading.Thread(target=line.sendall, args=(sent,)).start()
        got = b""
        while len(got) < len(sent):
            got += line.recv(1 << 16)
        assert got == sent.upper()
    assert (way.connections, way.lost, way.resets) == (1, 0, 0)


def test_a_slow_way_takes_its_time_each_way(way: Proxy) -> None:
    with call(way) as line:
        way.delay = 0.1
        began = time.monotonic()
        line.sendall(b"a")
        assert line.recv(10) == b"A"
        assert time.monotonic() - began >= 0.2


def test_lost_answers_leave_the_request_done_and_the_connection_useless(way: Proxy) -> None:
    with call(way) as line:
        way.lose_answers = True
        line.sendall(b"a")
        until(lambda: way.lost == 1)
        assert Loud.heard == b"a"
        way.lose_answers = False
        line.sendall(b"b")
        with pytest.raises(ConnectionResetError):
            line.recv(10)
    with call(way) as line:
        line.sendall(b"c")
        assert line.recv(10) == b"C"


def test_lost_requests_are_never_heard(way: Proxy) -> None:
    with call(way) as line:
        way.lose_requests = True
        line.sendall(b"a")
        until(lambda: way.lost == 1)
        assert Loud.heard == b""
        way.heal()
        with pytest.raises(ConnectionResetError):
            line.recv(10)


def test_held_answers_come_when_they_are_let_go(way: Proxy) -> None:
    with call(way) as line:
        way.hold_answers = True
        line.sendall(b"a")
        until(lambda: way.held == 1)
        line.settimeout(0.1)
        with pytest.raises(TimeoutError):
            line.recv(10)
        line.settimeout(5)
        way.hold_answers = False
        assert line.recv(10) == b"A"


def test_a_cut_lets_so_many_bytes_of_answer_pass_and_resets(way: Proxy) -> None:
    with call(way) as line:
        line.sendall(b"before")
        assert line.recv(10) == b"BEFORE"
        way.cut_after = 4
        line.sendall(b"ab")
        assert line.recv(10) == b"AB"
        line.sendall(b"cdef")
        assert line.recv(10) == b"CD"
        with pytest.raises(ConnectionResetError):
            line.recv(10)
    assert way.resets == 1
    way.cut_after = None
    with call(way) as line:
        line.sendall(b"again")
        assert line.recv(10) == b"AGAIN"


def test_a_refusing_way_resets_who_comes_and_a_dead_server_looks_the_same(way: Proxy) -> None:
    way.refuse = True
    with pytest.raises(ConnectionResetError), call(way) as line:
        line.recv(10)
    way.heal()
    way.target = ("127.0.0.1", process.free_port())
    with pytest.raises(ConnectionResetError), call(way) as line:
        line.recv(10)
    assert way.resets == 2


def test_a_closed_proxy_is_gone_with_all_its_connections(way: Proxy) -> None:
    with call(way) as line:
        line.sendall(b"a")
        assert line.recv(10) == b"A"
        way.hold_answers = True
        line.sendall(b"b")
        way.close()
        with pytest.raises(ConnectionResetError):
            line.recv(10)
        with pytest.raises(ConnectionRefusedError):
            call(way)


def test_a_chosen_port_is_none_that_the_system_gives_to_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(process.free_port() < low for _ in range(50))
