"""The readable example: one complete event, through the codec and back, today and with every frozen version."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from jietong.catalog import Catalog, Schema
from jietong.compatibility.folder import Refusal, Topic, join
from jietong.compatibility.structure import UNION, Definition, resolve, walk
from jietong.compatibility.versions import differences, misread, read
from jietong.contract import Contract, fingerprint
from jietong.errors import JietongError, UsageError
from jietong.event import Draft, Envelope, Key
from jietong.identifiers import subject

JSON_FORMS: Mapping[str, Callable[[str], Any]] = {
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "decimal": Decimal,
    "date": date.fromisoformat,
    "timestamp-millis": datetime.fromisoformat,
    "uuid": UUID,
}


def check(topic: Topic) -> Iterator[Refusal]:
    file, contract = _file(topic), codec(topic)
    try:
        event = draft(topic)
        kind = subject(event.subject)
        body = contract.encode(event)[1]
        data = contract.decode(_envelope(topic.newest, body)).data
    except JietongError as error:
        for fault in str(error).removeprefix(f"{file}: ").removeprefix(f"{topic.name}: ").split("; "):
            field, _, sentence = fault.rpartition(": ")
            yield Refusal(file, field, "example", sentence)
        return
    if kind not in topic.spec.subject:
        yield Refusal(file, "subject", "example", f"is of the kind {kind}, which the topic's file does not name")
    for path in sorted({node.path for node in walk(topic.newest.definition, {})} - set(_given(event.data))):
        yield Refusal(file, path, "example", "has no value: its bytes stand for the version, so it fills every field")
    for path in differences(event.data, data):
        yield Refusal(file, path, "example", "comes back from the codec as another value")
    yield from _frozen(topic, contract, body)


def _frozen(topic: Topic, contract: Contract, body: bytes) -> Iterator[Refusal]:
    meant = read(topic.newest, topic.newest, body)
    for frozen in topic.frozen:
        for path, why in misread(frozen, topic.newest, meant, body):
            yield topic.refusal(path, "golden", f"bytes of today's example {why}")
        try:
            contract.decode(_envelope(frozen, topic.golden[frozen.version]))
        except JietongError as error:
            yield topic.refusal("", "golden", f"bytes of version {frozen.version} cannot be read by the codec: {error}")


def draft(topic: Topic) -> Draft:
    """The example as domain code would state it. Raises UsageError if it lacks a part."""
    raw, named = topic.example, dict[str, Definition]()
    for _ in walk(topic.newest.definition, named):
        pass
    try:
        data = _meant(topic.newest.definition, raw["data"], named)
        return Draft(type=topic.name, subject=raw["subject"], time=datetime.fromisoformat(raw["time"]), data=data)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{_file(topic)}: needs `subject`, `time` (ISO 8601 with its zone) and `data`") from error


def codec(topic: Topic) -> Contract:
    """One that knows this topic alone."""
    return Contract(Catalog({topic.name: topic.spec}, {topic.name: topic.schemas}, {}))


def _meant(schema: Any, value: Any, named: Mapping[str, Definition]) -> Any:
    """The value that a JSON form stands for. One that stands for none stays as it is: the codec will name it."""
    node = resolve(schema, named)
    match node.kind, value:
        case kind, str() if kind in JSON_FORMS:
            try:
                return JSON_FORMS[kind](value)
            except (ValueError, ArithmeticError):
                return value
        case "record", dict():
            types = {field["name"]: field["type"] for field in node.fields}
            fields = cast("dict[str, Any]", value)
            return {name: _meant(types[name], v, named) if name in types else v for name, v in fields.items()}
        case "array", [*items]:
            return [_meant(node.items, item, named) for item in items]
        case kind, v if kind == UNION and v is not None:
            return _meant(next(branch for branch in schema if branch != "null"), value, named)
        case _:
            return value


def _given(value: Any, path: str = "") -> Iterator[str]:
    """The path of every field that has a value."""
    if value is not None and value not in ([], {}):
        yield path
    match value:
        case dict():
            for name, inner in cast("dict[str, Any]", value).items():
                yield from _given(inner, join(path, name))
        case [*items]:
            for item in items:
                yield from _given(item, path)
        case _:
            pass


def _file(topic: Topic) -> str:
    return f"examples/{topic.name}.json"


def _envelope(schema: Schema, body: bytes) -> Envelope:
    key = Key("urn:jietong:440700:example", schema.topic, "", 1)
    return Envelope(key=key, id=UUID(int=0), fingerprint=fingerprint(schema.definition), body=body, time=0, recorded=0)
