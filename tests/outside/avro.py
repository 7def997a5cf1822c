"""Avro bodies by the specification alone (Apache Avro 1.12, "Binary Encoding"): a second opinion on the bytes."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"
Named = dict[str, Any]


def decoded(topic: str, body: bytes) -> dict[str, Any]:
    """The fields of an event, by its topic's newest schema that consumes every byte. ValueError if none does."""
    for schema in _schemas(topic):
        with suppress(ValueError):
            return read(schema, body)
    raise ValueError(f"{topic}: no schema of this topic reads these {len(body)} bytes")


def read(schema: Any, body: bytes) -> dict[str, Any]:
    """The fields of an event by the schema it was written with. ValueError if that does not consume every byte."""
    source = io.BytesIO(body)
    try:
        found = _value(schema, {}, source)
    except (IndexError, struct.error, KeyError) as error:
        raise ValueError(f"not its schema: {error}") from error
    if source.tell() != len(body):
        raise ValueError(f"{len(body) - source.tell()} bytes are left over")
    return found


@lru_cache
def _schemas(topic: str) -> list[Any]:
    files = SCHEMAS.glob(f"{topic}.*.avsc")
    versions = {int(file.stem.rpartition(".")[2]): file for file in files if file.stem.rpartition(".")[0] == topic}
    return [json.loads(versions[n].read_text("utf-8")) for n in sorted(versions, reverse=True)]


def _value(schema: Any, named: Named, source: io.BytesIO) -> Any:
    if isinstance(schema, list):
        return _value(schema[_long(source)], named, source)
    if isinstance(schema, str):
        return _value(named[schema], named, source) if schema in named else _primitive(schema, source)
    named |= {schema["name"]: schema} if "name" in schema else {}
    match schema["type"]:
        case "record":
            return {field["name"]: _value(field["type"], named, source) for field in schema["fields"]}
        case "enum":
            return schema["symbols"][_long(source)]
        case "array":
            return [_value(schema["items"], named, source) for _ in _blocks(source)]
        case "map":
            return {_primitive("string", source): _value(schema["values"], named, source) for _ in _blocks(source)}
        case inner:
            return _value(inner, named, source)


def _primitive(name: str, source: io.BytesIO) -> Any:
    match name:
        case "null":
            return None
        case "boolean":
            return _taken(source, 1) != b"\0"
        case "int" | "long":
            return _long(source)
        case "float" | "double":
            form = "<f" if name == "float" else "<d"
            return struct.unpack(form, _taken(source, struct.calcsize(form)))[0]
        case "bytes":
            return _taken(source, _long(source))
        case "string":
            return _taken(source, _long(source)).decode()
        case _:
            raise ValueError(f"{name}: no type of Avro")


def _blocks(source: io.BytesIO) -> Any:
    while count := _long(source):
        if count < 0:
            _long(source)  # the block's size in bytes
        yield from range(abs(count))


def _long(source: io.BytesIO) -> int:
    """Variable length, zig-zag."""
    number, shift = 0, 0
    while True:
        [byte] = _taken(source, 1)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
        shift += 7


def _taken(source: io.BytesIO, size: int) -> bytes:
    if size < 0 or len(found := source.read(size)) != size:
        raise ValueError("the bytes end too early")
    return found
