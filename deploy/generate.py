"""`python -m deploy.generate`: writes what follows from other files; with `--check` it only says whether what is there is fresh.

* `deploy/k8s/topics.yaml`: a `KafkaTopic` per file in `schemas/topics/`
* `deploy/k8s/users.yaml`: a `KafkaUser` per program, who may read and write what those files say, and nothing else
* `deploy/grafana/delivery.json`: the dashboard of `deploy/grafana/delivery.py`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana.delivery import encoded
from jietong.catalog import TopicSpec, load
from jietong.cli.topics import REPLICAS, wanted
from jietong.up import PROGRAMS

DEPLOY = Path(__file__).parent
CLUSTER = "city"
"""The name of the `Kafka` in deploy/k8s/kafka.yaml."""


def main(arguments: list[str]) -> int:
    """Exit code: 0, or 1 if something was not fresh; then it is named."""
    stale = [name for name, text in MADE.items() if _now(name) != text()]
    for name in stale:
        if "--check" not in arguments:
            (DEPLOY / name).write_text(MADE[name](), "utf-8")
        sys.stdout.write(f"{'stale' if '--check' in arguments else 'written'}: deploy/{name}\n")
    return int(bool(stale) and "--check" in arguments)


def _now(name: str) -> str | None:
    path = DEPLOY / name
    return path.read_text("utf-8") if path.exists() else None


def topics() -> str:
    """Strimzi's resources for every topic, set as `jietong topics apply` would set it on three brokers."""
    return _written(_topic(spec) for _, spec in sorted(load().topics.items()))


def users() -> str:
    """Strimzi's resources for every program: what its topic files name it for, and its own consumer group."""
    return _written(_user(program) for program in sorted(PROGRAMS))


def _written(resources: Iterable[Mapping[str, Any]]) -> str:
    text = "---\n".join(yaml.safe_dump(one, allow_unicode=True, sort_keys=False) for one in resources)
    return "# Made by `python -m deploy.generate` from schemas/topics. Do not edit.\n" + text


def _topic(spec: TopicSpec) -> Mapping[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {
            "name": spec.topic,
            "labels": {"strimzi.io/cluster": CLUSTER},
            "annotations": {"jietong/title": spec.title["zh"]},
        },
        "spec": {"partitions": spec.partitions, "replicas": REPLICAS, "config": wanted(spec, REPLICAS)},
    }


def _user(program: str) -> Mapping[str, Any]:
    name = program.partition(".")[2]
    group = {"type": "group", "name": name, "patternType": "literal"}
    if name == "utility":  # one group per operator
        group = {"type": "group", "name": "utility:", "patternType": "prefix"}
    acls = [{"resource": group, "operations": ["Describe", "Read"]}]
    # at its start a program looks whether every topic is there
    acls.append({"resource": {"type": "topic", "name": "*", "patternType": "literal"}, "operations": ["Describe"]})
    for topic, spec in sorted(load().topics.items()):
        if doing := _operations(spec, name):
            acls.append({"resource": {"type": "topic", "name": topic, "patternType": "literal"}, "operations": doing})
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": program.replace(".", "-"), "labels": {"strimzi.io/cluster": CLUSTER}},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        },
    }


def _operations(spec: TopicSpec, name: str) -> list[str]:
    """What a program of this name does with a topic: reads it, writes it, both, or nothing."""
    return [
        doing for doing, those in (("Read", spec.readers), ("Write", spec.sources)) if name in those or "*" in those
    ]


MADE: Mapping[str, Callable[[], str]] = {
    "k8s/topics.yaml": topics,
    "k8s/users.yaml": users,
    "grafana/delivery.json": encoded,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
