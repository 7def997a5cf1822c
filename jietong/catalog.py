"""The catalogue of event types: one file a topic, one file a schema version, one list of registry ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jietong.errors import UsageError

HEADS, RESEND = "jietong.outbox.head", "jietong.resend.requested.v1"
SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic's file says: who may write it, who reads it, what it decides, how long it is kept."""

    topic: str
    title: Mapping[str, str]
    subject: Sequence[str]
    sources: Sequence[str]
    owner: str
    readers: Sequence[str]
    partitions: int
    classification: str
    retention_days: int | None = None
    cleanup: str = "delete"
    personal: Sequence[str] = ()
    authoritative_for: Sequence[str] = ()
    draft: bool = False
    frozen: str | None = None

    def misfit(self, there: int) -> str | None:
        """What is to be said, and done, of a log that has so many partitions of it."""
        if there == self.partitions:
            return None
        has = f"has {there} partitions, its file says {self.partitions}"
        if there < self.partitions:
            return f"{has}: `jietong topics raise {self.topic}`, when everything is read"
        return f"{has}: a topic never gets fewer; say {there} in its file"

    def written_by(self, source: str) -> bool:
        """Whether this source (a URN) is one that may write here: authenticity precedes the inbox."""
        name = source_name(source)
        return any(allowed in ("*", name) or name.startswith(f"{allowed}:") for allowed in self.sources)


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of a topic's schema, as its file has it."""

    topic: str
    version: int
    definition: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every topic, its schema versions oldest first, and the embedded registry's ids."""

    topics: Mapping[str, TopicSpec]
    schemas: Mapping[str, Sequence[Schema]]
    ids: Mapping[tuple[str, int], int]

    def topic(self, name: str) -> TopicSpec:
        """Raises UsageError if the catalogue has no such type."""
        if name not in self.topics:
            raise UsageError(f"no event type {name} in the catalogue; `jietong topics` lists them")
        return self.topics[name]


def source_name(source: str) -> str:
    """`urn:jietong:440700:feed:calgary` → `feed:calgary`: the source without its city."""
    return source.split(":", 3)[3] if source.count(":") >= 3 else source


def load(path: Path | None = None) -> Catalog:
    """Read a schemas folder. Raises UsageError naming the file that cannot be read or lacks a key."""
    root = path or SCHEMAS
    specs = {spec.topic: spec for file in sorted((root / "topics").glob("*.yaml")) for spec in [_spec(file)]}
    schemas: dict[str, list[Schema]] = {name: [] for name in specs}
    for file in (root / "avro").glob("*.avsc"):
        topic, _, version = file.stem.rpartition(".")
        if topic not in specs or not version.isdecimal():
            raise UsageError(f"{file}: belongs to no topic file; name it <topic>.<version>.avsc")
        schemas[topic].append(Schema(topic, int(version), _json(file)))
    ids = {(entry["topic"], entry["version"]): entry["id"] for entry in _yaml(root / "ids.yaml")}
    return Catalog(specs, {name: sorted(found, key=lambda s: s.version) for name, found in schemas.items()}, ids)


def _spec(file: Path) -> TopicSpec:
    try:
        spec = TopicSpec(**_yaml(file))
    except TypeError as error:
        raise UsageError(f"{file}: {str(error).partition('__init__() ')[2] or error}") from error
    if spec.topic != file.stem:
        raise UsageError(f"{file}: says topic {spec.topic}; a topic's file is named after it")
    return spec


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as JSON: {error}") from error
