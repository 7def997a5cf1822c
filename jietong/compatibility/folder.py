"""The schemas folder as it lies there: which files it has, and all there is of each topic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from jietong import catalog
from jietong.catalog import Schema, TopicSpec
from jietong.errors import UsageError

IDS = "ids.yaml"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule broken. `file` is inside the schemas folder; `field` is a path in it, empty if it is the file itself."""

    file: str
    field: str
    rule: str
    sentence: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.field, self.rule, self.sentence) if part)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of `ids.yaml`, the embedded registry."""

    id: int
    topic: str
    version: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Topic:
    """All there is of one topic, its schemas oldest first. `golden` holds the bytes of its frozen versions."""

    spec: TopicSpec
    schemas: Sequence[Schema]
    golden: Mapping[int, bytes]
    example: Any

    @property
    def name(self) -> str:
        return self.spec.topic

    @property
    def newest(self) -> Schema:
        return self.schemas[-1]

    @property
    def frozen(self) -> Sequence[Schema]:
        return [schema for schema in self.schemas if schema.version in self.golden]

    @property
    def file(self) -> str:
        return f"topics/{self.name}.yaml"

    def refusal(self, field: str, rule: str, sentence: str) -> Refusal:
        """Of its newest schema."""
        return Refusal(avsc(self.newest), field, rule, sentence)


def avsc(schema: Schema) -> str:
    return f"avro/{schema.topic}.{schema.version}.avsc"


def golden(schema: Schema) -> str:
    return f"examples/{schema.topic}.{schema.version}.bin"


def join(path: str, name: str) -> str:
    """The dotted path of a field."""
    return f"{path}.{name}" if path else name


def where(error: ValidationError) -> str:
    """The dotted path of the first fault."""
    return ".".join(map(str, error.errors()[0]["loc"]))


def check(root: Path) -> Iterator[Refusal]:
    """Nothing is missing, nothing is left over."""
    files = {f"{room}/{file.name}" for room in ("topics", "avro", "examples") for file in (root / room).glob("*")}
    topics = {Path(name).stem for name in files if name.startswith("topics/") and name.endswith(".yaml")}
    for topic in sorted(topics):
        for name in (f"avro/{topic}.1.avsc", f"examples/{topic}.json"):
            if name not in files:
                yield Refusal(name, "", "missing", f"topics/{topic}.yaml needs it")
    for name in sorted(files):
        if not _belongs(name, topics, files):
            yield Refusal(name, "", "orphan", "belongs to no topic file, or to a version that is not there")


def _belongs(name: str, topics: set[str], files: set[str]) -> bool:
    room, _, file = name.partition("/")
    stem, _, ending = file.rpartition(".")
    topic, _, version = stem.rpartition(".")
    match room, ending:
        case ("topics", "yaml") | ("examples", "json"):
            return stem in topics
        case "avro", "avsc":
            earlier = f"avro/{topic}.{int(version) - 1}.avsc" if version.isdecimal() else ""
            return topic in topics and (version == "1" or earlier in files)
        case "examples", "bin":
            return f"avro/{stem}.avsc" in files
        case _:
            return False


def topics(root: Path) -> list[Topic]:
    """Raises UsageError naming the file that cannot be read, or that belongs to no topic by the topic files' words."""
    found = catalog.load(root)
    return [_topic(root, spec, found.schemas[name]) for name, spec in found.topics.items()]


def _topic(root: Path, spec: TopicSpec, schemas: Sequence[Schema]) -> Topic:
    bodies = {s.version: file.read_bytes() for s in schemas if (file := root / golden(s)).exists()}
    file = root / "examples" / f"{spec.topic}.json"
    try:
        return Topic(spec, schemas, bodies, json.loads(file.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as JSON: {error}") from error


def entries(root: Path) -> list[Entry]:
    """Raises UsageError naming the line that is not one."""
    file = root / IDS
    try:
        text = json.dumps(yaml.safe_load(file.read_text("utf-8")), default=str)
        return TypeAdapter(list[Entry]).validate_json(text, strict=True)
    except ValidationError as error:
        raise UsageError(f"{file}: {where(error)}: {error.errors()[0]['msg']}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error


def ids_text(entries: Sequence[Entry]) -> bytes:
    """`ids.yaml`, a line an id."""
    line = '- {{id: {id}, topic: {topic}, version: {version}, fingerprint: "{fingerprint}"}}\n'
    head = "# The embedded registry: append only, ids from 1. `jietong schema register` writes it.\n"
    return (head + "".join(line.format(**asdict(entry)) for entry in entries)).encode()
