"""The deployment on real servers: set-up as compose runs it, and each program under a Kafka user with the rights that
deploy/k8s gives it, those and no others."""
# confluent_kafka.admin gives out its names without saying so
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from jietong import city as pack
from jietong.catalog import HEADS, load
from simulation.servers import kafka, missing, postgres, registry
from simulation.servers.process import free_port

ROOT = Path(__file__).parents[2]
JIETONG = [sys.executable, "-c", "from jietong.cli import main; main()"]
pytestmark = [pytest.mark.city, pytest.mark.timeout(400)]  # seven programs and three servers on two cores
USERS = {u["metadata"]["name"]: u for u in yaml.safe_load_all((ROOT / "deploy/k8s/users.yaml").read_text("utf-8"))}
FEED = "feed:permits"
"""Something was imported."""
MOVING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
STARTS, LEAVES = 150.0, 30.0
"""Seconds. The second is Kubernetes' and compose's: after it they kill."""


@dataclass(frozen=True)
class City:
    """Servers that are set up, what the environment of a program must say, and Kafka's `admin`."""

    folder: Path
    environment: Mapping[str, str]
    admin: Mapping[str, str]

    def run(self, program: str, user: str) -> tuple[subprocess.Popen[bytes], str]:
        """A started program with this user's login, and its address."""
        port = str(free_port())
        login = {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": word(user), "JIETONG_PORT": port}
        with (self.folder / f"{program}.log").open("w") as log:
            command = [*JIETONG, "run", program]
            started = subprocess.Popen(command, env={**self.environment, **login}, cwd=ROOT, stdout=log, stderr=log)
        return started, f"http://127.0.0.1:{port}"

    def said(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text("utf-8")


def word(user: str) -> str:
    return f"the word of {user}"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    if lack := missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    folder = tmp_path_factory.mktemp("city")
    logins = {user: word(user) for user in (*USERS, "admin")}
    log = kafka(folder / "kafka", users=logins)
    database, schemas = postgres(folder / "postgres"), registry(folder / "registry")
    own = {key: value for key, value in os.environ.items() if not key.startswith(("JIETONG_", "KAFKA_", "SCHEMA_"))}
    environment = {
        **own, "JIETONG_ENGINE": "city", "JIETONG_DATA": str(folder / "data"), "DATABASE_URL": database.url,
        "KAFKA_BOOTSTRAP_SERVERS": log.bootstrap, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SCHEMA_REGISTRY_URL": schemas.url,
    }  # fmt: skip
    try:
        set_up(environment)
        admin = {
            "bootstrap.servers": log.bootstrap, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "admin", "sasl.password": word("admin"),
        }  # fmt: skip
        allow(AdminClient(dict(admin)))
        yield City(folder, environment, admin)
    finally:
        for server in (log, database, schemas):
            server.stop()


def set_up(environment: Mapping[str, str]) -> None:
    """The commands of the service `setup`, and what an import makes."""
    [steps] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["setup"]["command"]
    admin = {**environment, "KAFKA_SASL_USERNAME": "admin", "KAFKA_SASL_PASSWORD": word("admin")}
    for step in (*steps.split("; "), f"jietong db upgrade --store {FEED}"):
        done = subprocess.run(
            [*JIETONG, *step.split()[1:]], env=admin, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (step, done.stdout, done.stderr)


def allow(admin: AdminClient) -> None:
    """What Strimzi's user operator makes of the `KafkaUser`s."""
    bindings = [
        binding(user, acl["resource"], operation)
        for user, resource in USERS.items()
        for acl in resource["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    ]
    for done in cast("dict[Any, Future[None]]", admin.create_acls(bindings)).values():
        done.result(60)


def binding(user: str, resource: Mapping[str, str], operation: str) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if resource["patternType"] == "prefix" else ResourcePatternType.LITERAL
    kind = ResourceType[resource["type"].upper()]
    return AclBinding(
        kind, resource["name"], pattern, f"User:{user}", "*", AclOperation[operation.upper()], AclPermissionType.ALLOW
    )


def ready(address: str) -> dict[str, Any]:
    """What /readyz says; empty while nobody answers."""
    try:
        with urlopen(f"{address}/readyz", timeout=5) as response:  # noqa: S310 — our own address
            return json.load(response)
    except HTTPError as error:
        return json.load(error)
    except OSError:
        return {}


def held(admin: AdminClient, groups: Iterable[str]) -> dict[str, int]:
    """Group → the partitions its members hold; without those whose coordinator is on its way to its place."""
    asked = cast("dict[str, Future[Any]]", admin.describe_consumer_groups(list(groups), request_timeout=20))
    counts = dict[str, int]()
    for group, done in asked.items():
        try:
            counts[group] = sum(len(member.assignment.topic_partitions) for member in done.result(20).members)
        except KafkaException as error:
            if error.args[0].code() not in MOVING:
                raise
    return counts


def heads(admin: Mapping[str, str]) -> set[str]:
    """The sources whose relay has announced its head: it may write, and read what it wrote."""
    consumer = Consumer({**admin, "group.id": "looking"})
    consumer.assign([TopicPartition(HEADS, 0, OFFSET_BEGINNING)])
    try:
        records = consumer.consume(500, timeout=2)
        return {key.decode().split(":", 3)[3] for record in records if isinstance(key := record.key(), bytes)}
    finally:
        consumer.close()


def until(what: Callable[[], bool], seconds: float = STARTS) -> bool:
    end = time.monotonic() + seconds
    while not (true := what()) and time.monotonic() < end:
        time.sleep(0.5)  # looks, with a deadline
    return true


def test_every_program_works_with_the_rights_of_its_own_user_and_leaves_when_told(city: City) -> None:
    topics, admin = load().topics.values(), AdminClient(dict(city.admin))
    names = [user.partition("-")[2] for user in USERS]
    operators = [f"utility:{operator}" for operator in pack.load("jiangmen", load()).operators]
    reading = {name: sum(spec.partitions for spec in topics if name in spec.readers) for name in names}
    groups = {name: count for name, count in reading.items() if count and name != "utility"}
    groups |= dict.fromkeys(operators, reading["utility"])
    started = {user.replace("-", ".", 1): city.run(user.replace("-", ".", 1), user) for user in USERS}
    try:
        assert until(lambda: held(admin, groups) == groups), held(admin, groups)
        sources = {*names, *operators, FEED} - {"utility", "feed"}
        assert until(lambda: heads(city.admin) == sources), sources - heads(city.admin)
        assert until(lambda: all(ready(address).get("ready") for _, address in started.values()))
        for process, _ in started.values():
            process.terminate()
        assert {program: process.wait(LEAVES) for program, (process, _) in started.items()} == dict.fromkeys(started, 0)
    finally:
        for process, _ in started.values():
            process.kill()
            process.wait()


def test_with_the_rights_of_another_it_waits_and_says_why(city: City) -> None:
    process, address = city.run("services.transfer", "connectors-investment")
    try:
        assert until(lambda: "AuthorizationFailed" in str(ready(address).get("waiting"))), city.said(
            "services.transfer"
        )
        assert process.poll() is None
        assert "Traceback" not in city.said("services.transfer")
    finally:
        process.kill()
        process.wait()


def test_roles_own_their_database_enter_no_other_and_are_nothing_more(tmp_path: Path) -> None:
    """The script that the database's image runs once, on a database that has neither."""
    base = postgres(tmp_path / "postgres")
    there = base.admin.rpartition("/")[0]
    with psycopg.connect(f"{there}/postgres", autocommit=True) as db:
        db.execute("DROP DATABASE jietong")
        db.execute("DROP ROLE jietong")
    for name in ("jietong", "registry"):
        (tmp_path / f"{name}_db_password").write_text(f'{name}\'s "word"\n', "utf-8")
    at = psycopg.conninfo.conninfo_to_dict(base.admin)
    env = {"PGHOST": str(at["host"]), "PGPORT": str(at["port"]), "POSTGRES_USER": "postgres", "SECRETS": str(tmp_path)}
    subprocess.run([ROOT / "deploy/postgres/roles.sh"], env={**os.environ, **env}, check=True)
    for name, other in (("jietong", "registry"), ("registry", "jietong")):
        own = there.replace("postgres@", f"{name}@")
        with psycopg.connect(f"{own}/{name}") as db:
            db.execute("CREATE SCHEMA its_own")
            asked = (
                "SELECT rolsuper, rolcreaterole, rolcreatedb, pg_has_role(current_user, 'pg_read_all_stats', 'member')"
            )
            assert db.execute(f"{asked} FROM pg_roles WHERE rolname = current_user").fetchone() == (
                False, False, False, name == "jietong",
            )  # fmt: skip
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(f"{own}/{other}")
    base.stop()
