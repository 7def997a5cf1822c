"""No version breaks another: full transitive compatibility, by layout and by the meaning of bytes.

The only file that knows the avro package. Its checker compares layouts and passes timestamp-millis → timestamp-micros;
so the bytes written when a version was frozen (golden bytes) are read as well, and must mean what they meant.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType, lookup_writer_field
from avro.io import BinaryDecoder, BinaryEncoder, DatumReader, DatumWriter

from jietong.catalog import Schema
from jietong.compatibility.folder import Refusal, Topic, golden, join
from jietong.compatibility.structure import walk


def fault(schema: Schema) -> str:
    """Why this is not the Avro schema of a record; empty if it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a logical type that would be ignored
        try:
            kind = _parse(schema.definition).type
        except Exception as error:  # noqa: BLE001 - avro raises whatever the schema leads it to
            return f"not an Avro schema: {' '.join(str(error).split())}"
    return "" if kind == "record" else "an event is a record"


def check(topic: Topic) -> Iterator[Refusal]:
    for frozen in topic.frozen:
        yield from _pair(topic, frozen)
        try:
            meant = read(frozen, frozen, body := topic.golden[frozen.version])
        except Exception as error:  # noqa: BLE001 - avro raises whatever the bytes lead it to
            yield Refusal(golden(frozen), "", "golden", f"not the bytes of its schema ({type(error).__name__})")
            continue
        for path, why in misread(topic.newest, frozen, meant, body):
            yield topic.refusal(path, "golden", f"bytes of version {frozen.version} {why}")


def _pair(topic: Topic, frozen: Schema) -> Iterator[Refusal]:
    today, before = _parse(topic.newest.definition), _parse(frozen.definition)
    for path, why in unreadable(today, before):
        yield topic.refusal(path, "compatibility", f"cannot read version {frozen.version}: {why}")
    for path, why in unreadable(before, today):
        yield topic.refusal(path, "compatibility", f"version {frozen.version} cannot read it: {why}")
    now = _symbols(topic.newest)
    for path, symbols in _symbols(frozen).items():
        if lost := symbols - now.get(path, symbols):
            why = f"lost {', '.join(sorted(lost))}, which version {frozen.version} has"
            yield topic.refusal(path, "compatibility", why)


def _symbols(schema: Schema) -> Mapping[str, frozenset[str]]:
    return {n.path: frozenset(n.definition["symbols"]) for n in walk(schema.definition, {}) if n.kind == "enum"}


# -- layout ----------------------------------------------------------------------------------------------------------
def unreadable(reader: Any, writer: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(field, why) wherever `reader` cannot read what `writer` writes, as `avro.compatibility` judges it."""
    result = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return
    inner, outer = _record(reader), _record(writer)
    found = list(_unreadable_fields(inner, outer, path)) if inner and outer else []
    yield from found or [(path, ", ".join(sorted(map(str, result.messages))))]


def _unreadable_fields(reader: Any, writer: Any, path: str) -> Iterator[tuple[str, str]]:
    for field in reader.fields:
        written = lookup_writer_field(writer_schema=writer, reader_field=field)
        if written is not None:
            yield from unreadable(field.type, written.type, join(path, field.name))
        elif not field.has_default:
            yield join(path, field.name), "it has no default"


def _record(schema: Any) -> Any:
    """The record that a schema is, or is a nullable one of."""
    branches = [branch for branch in schema.schemas if branch.type != "null"] if schema.type == "union" else [schema]
    return branches[0] if len(branches) == 1 and branches[0].type == "record" else None


# -- meaning ---------------------------------------------------------------------------------------------------------
def misread(reader: Schema, writer: Schema, meant: Any, body: bytes) -> Iterator[tuple[str, str]]:
    """(field, why) for each value that `reader` takes for another than `meant`."""
    try:
        taken = read(reader, writer, body)
    except Exception as error:  # noqa: BLE001 - avro raises whatever the bytes lead it to
        yield "", f"cannot be read by version {reader.version} ({type(error).__name__})"
        return
    for path in differences(meant, taken):
        yield path, f"mean another value to version {reader.version}"


def read(reader: Schema, writer: Schema, body: bytes) -> Any:
    """What a reader that trusts its own schema makes of the bytes.

    Libraries differ in whose logical types they apply, and the reader's is the worst case: so the layout is resolved
    without them, written again in the reader's layout, and read with all that the reader's schema says.
    """
    if reader is writer:
        return _datum(_Reader(_parse(reader.definition)), body)
    written, wanted = _parse(_plain(writer.definition)), _parse(_plain(reader.definition))
    out = io.BytesIO()
    DatumWriter(wanted).write(_datum(_Reader(written, wanted), body), BinaryEncoder(out))
    return read(reader, reader, out.getvalue())


def _datum(reader: DatumReader, body: bytes) -> object:
    source = io.BytesIO(body)
    datum = reader.read(BinaryDecoder(source))
    if source.tell() != len(body):
        raise ValueError("bytes left over")
    return datum


class _Reader(DatumReader):
    """Avro's own reader, with the enum default it leaves out (Avro 1.12 specification, "Schema Resolution")."""

    def read_enum(
        self, writers_schema: avro.schema.EnumSchema, readers_schema: avro.schema.EnumSchema, decoder: BinaryDecoder
    ) -> str:
        symbol = str(writers_schema.symbols[decoder.read_int()])
        return symbol if symbol in readers_schema.symbols else str(readers_schema.props["default"])


def differences(meant: Any, taken: Any, path: str = "") -> Iterator[str]:
    """Fields that both have and that differ. A word its reader does not know reads as UNKNOWN, as it should."""
    match meant, taken:
        case dict(), dict():
            ours, theirs = cast("dict[str, Any]", meant), cast("dict[str, Any]", taken)
            for name in ours:
                if name in theirs:
                    yield from differences(ours[name], theirs[name], join(path, name))
        case [*ones], [*others] if len(ones) == len(others):
            for one, other in zip(ones, others, strict=True):
                yield from differences(one, other, path)
        case _:
            if meant != taken and taken != "UNKNOWN":
                yield path


def _parse(definition: Any) -> Any:
    return avro.schema.parse(json.dumps(definition))


def _plain(node: Any) -> Any:
    """A schema without logical types."""
    match node:
        case dict():
            return {k: _plain(v) for k, v in cast("dict[str, Any]", node).items() if k != "logicalType"}
        case [*items]:
            return [_plain(item) for item in items]
        case _:
            return node
