"""Apache Kafka as child processes: one node or three, each broker and controller."""

from __future__ import annotations

import base64
import signal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .network import Address, Proxy
from .process import HOST, Server, free_port, on_free_ports, run, together
from .software import KAFKA_JAVA, jvm, kafka_jars

SCRAM = "SCRAM-SHA-512"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass
class Kafka:
    """A cluster. `bootstrap` is the clients' door (through the proxies, if any; a login, if there are users); `direct`
    never goes through a proxy and asks no login: for brokers among themselves, administrators and checkers."""

    bootstrap: str
    direct: str
    nodes: list[Server]
    proxies: list[Proxy] = field(default_factory=list[Proxy])
    """The one before each node, in the order of the nodes."""

    def start(self) -> None:
        """All nodes, at once: a quorum comes up together. Raises ServerError."""
        together(*(node.start for node in self.nodes))

    def stop(self) -> None:
        """All nodes, politely."""
        together(*(node.stop for node in self.nodes))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """The same signal to all nodes."""
        together(*(lambda node=node: node.kill(number) for node in self.nodes))

    def alive(self) -> bool:
        """Whether every node is there."""
        return all(node.alive() for node in self.nodes)


@dataclass(frozen=True)
class _Wanted:
    """A cluster as it was asked for."""

    folder: Path
    nodes: int
    config: Mapping[str, str]
    heap: str
    advertised: Callable[[Address], Proxy] | None
    users: Mapping[str, str]

    def homes(self) -> list[Path]:
        return [self.folder / f"node-{node}" for node in range(1, self.nodes + 1)]


@dataclass(frozen=True)
class _Ports:
    client: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)


def kafka(
    folder: Path,
    nodes: int = 1,
    config: Mapping[str, str] = {},
    heap: str = "512m",
    *,
    advertised: Callable[[Address], Proxy] | None = None,
    users: Mapping[str, str] = {},
) -> Kafka:
    """A started and answering cluster.

    Args:
        folder: its logs and data; a folder that holds a cluster is started again, on other ports.
        nodes: 1 or 3; with three, replication factor 3 and min.insync.replicas 2.
        config: broker settings on top of ours.
        heap: of each node, as Java writes it.
        advertised: makes the proxy that stands before an address; `advertised=proxy` puts one before every node, and
            it is the proxy's address that a broker names to clients.
        users: name → password. With any, clients log in (SASL_PLAINTEXT, SCRAM-SHA-512) and ACLs decide: only `admin`
            may do everything. Taken when the folder is new.

    Raises:
        ServerError: it cannot be had or does not come up.
    """
    wanted = _Wanted(folder, nodes, config, heap, advertised, users)
    return on_free_ports(lambda: _kafka(wanted))


def _kafka(wanted: _Wanted) -> Kafka:
    ports = [_Ports() for _ in range(wanted.nodes)]
    proxies = [wanted.advertised((HOST, each.client)) for each in ports] if wanted.advertised else []
    doors = [proxy.address for proxy in proxies] or [(HOST, each.client) for each in ports]
    nodes: list[Server] = []
    try:
        for node, (home, own, door) in enumerate(zip(wanted.homes(), ports, doors, strict=True), 1):
            voters = ",".join(f"{voter}@{HOST}:{each.controller}" for voter, each in enumerate(ports, 1))
            _write(home, {"node.id": str(node), "controller.quorum.voters": voters} | _doors(own, door), wanted)
            command = [*_java(home, wanted.heap), "kafka.Kafka", "server.properties"]
            nodes.append(Server(f"kafka-{node}", home, command, _started))
        _format(wanted)
        made = Kafka(_bootstrap(doors), _bootstrap([(HOST, each.internal) for each in ports]), nodes, proxies)
        made.start()
    except BaseException:
        for part in (*nodes, *proxies):
            part.kill() if isinstance(part, Server) else part.close()
        raise
    return made


def _started(node: Server) -> bool:
    """Printed once the node has caught up, is unfenced, and takes requests at every door."""
    return "Kafka Server started" in node.log()


def _bootstrap(doors: list[Address]) -> str:
    return ",".join(f"{host}:{port}" for host, port in doors)


def _doors(own: _Ports, door: Address) -> dict[str, str]:
    return {
        "listeners": f"CLIENT://{HOST}:{own.client},INTERNAL://{HOST}:{own.internal},CONTROLLER://{HOST}:{own.controller}",
        "advertised.listeners": f"CLIENT://{door[0]}:{door[1]},INTERNAL://{HOST}:{own.internal}",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
    }


def _write(home: Path, own: Mapping[str, str], wanted: _Wanted) -> None:
    home.mkdir(parents=True, exist_ok=True)
    settings = {"log.dirs": str(home / "log"), **own, **_settled(wanted.nodes), **_guard(wanted.users), **wanted.config}
    (home / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _settled(nodes: int) -> dict[str, str]:
    """What every cluster of ours has."""
    least = str(min(nodes, 2))
    internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        "process.roles": "broker,controller",
        "default.replication.factor": str(nodes),
        "min.insync.replicas": least,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        **{f"{topic}.replication.factor": str(nodes) for topic in internal},
        **{f"{topic}.num.partitions": "4" for topic in internal},  # fewer come up sooner
        "transaction.state.log.min.isr": least,
        "share.coordinator.state.topic.min.isr": least,
        # a killed node is let in again, and its partitions get another leader, only when its session has run out (9 s)
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
    }


def _guard(users: Mapping[str, str]) -> dict[str, str]:
    """Who may come in at the clients' door."""
    door = "SASL_PLAINTEXT" if users else "PLAINTEXT"
    doors = {"listener.security.protocol.map": f"CLIENT:{door},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"}
    if not users:
        return doors
    return {
        **doors,
        "sasl.enabled.mechanisms": SCRAM,
        f"listener.name.client.{SCRAM.lower()}.sasl.jaas.config": f"{LOGIN} required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",  # anonymous: the two inner doors, which only loopback reaches
    }


def _format(wanted: _Wanted) -> None:
    """Give every node that has none its empty log, all of one cluster."""
    new = [home for home in wanted.homes() if not (home / "log" / "meta.properties").exists()]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
    orders = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", "server.properties"]
    for name, password in wanted.users.items():
        orders += ["--add-scram", f"{SCRAM}=[name={name},password={password}]"]
    together(*(lambda home=home: run("formatting Kafka's log", [*_java(home, "256m"), *orders], home) for home in new))


def _java(home: Path, heap: str) -> list[str]:
    level = "-Dorg.apache.logging.log4j.level=INFO"
    return [*jvm(KAFKA_JAVA, heap, home), level, "-cp", f"{kafka_jars()}/*"]
