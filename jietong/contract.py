"""Bytes and meaning: Avro bodies, fingerprints, the five registry bytes, the CloudEvents headers.

The only file that knows fastavro, which turns "false" into True, 3.9 into 3, and ignores trailing bytes: so values pass
strict pydantic types before they are written, and every byte must be consumed when they are read.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired, Protocol, Union, cast
from uuid import UUID

import fastavro
import fastavro.read
import fastavro.schema
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from jietong.broker import Headers, Message, Record
from jietong.catalog import Catalog, TopicSpec
from jietong.errors import DamagedError, InvalidEventError, RejectedError, UsageError
from jietong.event import Draft, Envelope, Event, Key
from jietong.identifiers import kind_of

MAX_BODY = 256 * 1024
MAX_HEADERS = 16 * 1024
MAX_TEXT, MAX_ITEMS = 1000, 10_000
LONGEST_DECIMAL = 17
"""Bytes: 38 digits and a sign."""
MAGIC = b"\0"
OPERATOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SEQUENCE = re.compile(r"[0-9]{20}", re.ASCII)
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Between these a moment has a date in every zone."""
OURS = ("doc", "zh", "column", "decisive", "maxLength", "unit", "examples")
TEXT = r"^[^\x00-\x1f\x7f-\x9f]*$"
CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def _decimal_of(data: bytes, writer: Mapping[str, Any], _reader: object = None) -> Decimal:
    """A decimal that is longer than its schema allows is no value: fastavro would round it, after seconds of work."""
    unscaled = int.from_bytes(data, signed=True) if len(data) <= LONGEST_DECIMAL else None
    if unscaled is None or abs(unscaled) >= 10 ** writer["precision"]:
        raise ValueError("a decimal with more digits than its schema has")
    return Decimal(unscaled).scaleb(-writer.get("scale", 0))


fastavro.read.LOGICAL_READERS["bytes-decimal"] = cast("Any", _decimal_of)


class Registry(Protocol):
    """Port: schema ids. `fingerprint` is None for an id a reachable registry does not know; RetriableError while away."""

    def id(self, fingerprint: bytes) -> int: ...
    def fingerprint(self, id: int) -> bytes | None: ...


def canonical(schema: Mapping[str, Any] | list[Any] | str) -> str:
    """Avro's parsing canonical form (Avro 1.12 specification, "Parsing Canonical Form for Schemas")."""
    return fastavro.schema.to_parsing_canonical_form(cast("Any", schema))


def fingerprint(schema: Mapping[str, Any]) -> bytes:
    """Names a schema version: 16 bytes of SHA-256 over all that decides its meaning.

    Not of the parsing canonical form, which drops logical types and defaults: timestamp-millis and -micros would be one.
    """
    text = json.dumps(_bare(schema), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()[:16]


def _bare(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _bare(v) for k, v in cast("Mapping[str, Any]", node).items() if k not in OURS}
    return [_bare(item) for item in cast("list[Any]", node)] if isinstance(node, list) else node


@dataclass(frozen=True, slots=True)
class _Version:
    """One schema version, ready: parsed for fastavro, and what its values must be."""

    topic: str
    version: int
    fingerprint: bytes
    parsed: Any
    adapter: TypeAdapter[Any]
    decisive: tuple[str, ...]


class Contract:
    """Encodes and decodes the events of one catalogue. Immutable, shared by all threads."""

    def __init__(self, catalog: Catalog, registry: Registry | None = None, city: str | None = None) -> None:
        """`city`: whose sources alone are believed; None: anybody's."""
        self.catalog = catalog
        self._ours = f"urn:jietong:{city}:" if city else ""
        self._current: dict[str, _Version] = {}
        self._known: dict[bytes, _Version] = {}
        self._embedded_ids: dict[int, bytes] = {}
        for topic, schemas in catalog.schemas.items():
            for schema in schemas:
                version = _version(topic, schema.version, schema.definition)
                if (other := self._known.get(version.fingerprint)) and other.topic != topic:
                    raise UsageError(f"{topic} and {other.topic} have one schema: give each record its topic's name")
                self._known[version.fingerprint] = self._current[topic] = version
                if number := catalog.ids.get((topic, schema.version)):
                    self._embedded_ids[number] = version.fingerprint
        self._registry = registry or EmbeddedRegistry(self._embedded_ids)

    def spec(self, topic: str) -> TopicSpec:
        return self.catalog.topic(topic)

    # -- meaning → bytes ---------------------------------------------------------------------------------------------
    def encode(self, draft: Draft) -> tuple[bytes, bytes]:
        """(fingerprint, body). Raises InvalidEventError naming each field and its fault, never a value; UsageError for
        a type outside the catalogue."""
        version = self._current.get(draft.type)
        if version is None:
            raise UsageError(f"no event type {draft.type} in the catalogue")
        if draft.time.tzinfo is None:
            raise InvalidEventError(f"{draft.type}: time: must say its zone")
        if not EARLIEST <= draft.time <= LATEST:
            raise InvalidEventError(f"{draft.type}: time: no moment that has a date everywhere")
        try:
            version.adapter.validate_python(draft.data)
        except ValidationError as error:
            raise InvalidEventError(f"{draft.type}: {_faults(error)}") from None
        for name in version.decisive:
            if draft.data.get(name, "UNKNOWN") == "UNKNOWN":
                raise InvalidEventError(f"{draft.type}: {name}: UNKNOWN decides nothing; name one of the symbols")
        out = io.BytesIO()
        try:
            fastavro.schemaless_writer(out, version.parsed, cast("Any", draft.data))
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidEventError(
                f"{draft.type}: cannot be written as its schema says ({type(error).__name__})"
            ) from None
        if out.tell() > MAX_BODY:
            raise InvalidEventError(f"{draft.type}: {out.tell()} bytes; an event carries at most {MAX_BODY}")
        return version.fingerprint, out.getvalue()

    # -- bytes → meaning ---------------------------------------------------------------------------------------------
    def resolve(self, envelope: Envelope) -> bytes:
        """The fingerprint of an envelope's schema. RejectedError while a reachable registry does not know its id;
        InvalidEventError if its bytes turn out not to be what their header claims."""
        if envelope.claimed is None:
            return envelope.fingerprint
        known = self._registry.fingerprint(int.from_bytes(envelope.fingerprint[1:]))
        if known is None:
            raise RejectedError("schema: its id is not known to the registry")
        if hashlib.sha256(known + envelope.body).digest() != envelope.claimed:
            raise InvalidEventError("digest: not that of its schema and body")
        return known

    def decode(self, envelope: Envelope) -> Event:
        """The event, read as today's schema has it.

        Raises InvalidEventError if its body is not, to the last byte, its schema's, or the schema is not this topic's;
        RejectedError if a decisive field holds a word we do not know yet, or its schema is not known yet.
        """
        key = envelope.key
        written, current = self._known.get(self.resolve(envelope)), self._current.get(key.type)
        if written is None or current is None or written.topic != key.type:
            raise InvalidEventError("schema: not one of this topic's")
        source = io.BytesIO(envelope.body)
        try:
            reader = None if written is current else current.parsed
            data = cast("dict[str, Any]", fastavro.schemaless_reader(source, written.parsed, reader))
        except Exception as error:  # noqa: BLE001 — fastavro raises whatever the bytes lead it to
            raise InvalidEventError(f"decode: not the bytes of its schema ({type(error).__name__})") from None
        if source.tell() != len(envelope.body):
            raise InvalidEventError("decode: bytes left over")
        for name in current.decisive:
            if data[name] == "UNKNOWN":
                raise RejectedError(f"{name}: a word that this version does not know")
        return Event(
            type=key.type, subject=key.subject, time=_moment(envelope.time), data=data, supersedes=envelope.supersedes,
            operator=envelope.operator, id=envelope.id, source=key.source, sequence=key.sequence,
            recorded=_moment(envelope.recorded), cause=envelope.cause, traceparent=envelope.traceparent,
        )  # fmt: skip

    # -- envelope ↔ record -------------------------------------------------------------------------------------------
    def message(self, envelope: Envelope) -> Message:
        """As it goes on the wire: Confluent's five bytes, CloudEvents 1.0 Kafka binding in binary mode."""
        key = envelope.key
        headers: list[tuple[str, bytes]] = [
            ("ce_specversion", b"1.0"), ("ce_id", str(envelope.id).encode()), ("ce_source", key.source.encode()),
            ("ce_type", key.type.encode()), ("ce_time", _iso(envelope.time).encode()), ("ce_subject", key.subject.encode()),
            ("ce_sequence", b"%020d" % key.sequence), ("ce_digest", envelope.digest.hex().encode()),
            ("ce_recordedtime", _iso(envelope.recorded).encode()), ("content-type", b"application/avro"),
        ]  # fmt: skip
        if envelope.cause:
            headers.append(("ce_causationid", str(envelope.cause).encode()))
        if envelope.supersedes:
            headers.append(("ce_supersedes", str(envelope.supersedes).encode()))
        if envelope.operator:
            headers.append(("operator", envelope.operator.encode()))
        if envelope.traceparent:
            headers.append(("traceparent", envelope.traceparent.encode()))
        value = b"" if envelope.void else MAGIC + self._registry.id(envelope.fingerprint).to_bytes(4) + envelope.body
        return Message(key.type, key.subject.encode(), value, tuple(headers))

    def envelope(self, record: Record) -> Envelope:
        """Raises DamagedError if these are not the bytes that an owner of this topic wrote."""
        headers = _headers(record.headers)
        try:
            sequence = headers["ce_sequence"]
            key = Key(headers["ce_source"], headers["ce_type"], headers["ce_subject"], int(sequence))
            id, claimed = UUID(headers["ce_id"]), bytes.fromhex(headers["ce_digest"])
            cause, supersedes = (
                UUID(v) if (v := headers.get(f"ce_{n}")) else None for n in ("causationid", "supersedes")
            )
            time, recorded = _millis(headers["ce_time"]), _millis(headers["ce_recordedtime"])
        except KeyError as error:
            raise DamagedError(f"envelope: no {error.args[0]}") from None
        except (ValueError, OverflowError):
            raise DamagedError("envelope: a header that cannot be read") from None
        form = headers.get("ce_specversion"), headers.get("content-type")
        if not SEQUENCE.fullmatch(sequence) or form != ("1.0", "application/avro") or kind_of(key.source) != "source":
            raise DamagedError("envelope: not in the CloudEvents form that our outboxes write")
        self._authentic(record, key)
        if len(claimed) != 32:
            raise DamagedError("digest: not one")
        operator, traceparent = headers.get("operator"), headers.get("traceparent")
        if operator is not None and not OPERATOR.fullmatch(operator):
            raise DamagedError("operator: no operator's id")
        value = record.value
        if value is None:
            raise DamagedError("tombstone: an event has a body")
        print_, body = self._opened(value)
        envelope = Envelope(
            key=key, id=id, fingerprint=print_, body=body, time=time, recorded=recorded, cause=cause, supersedes=supersedes,
            operator=operator, traceparent=traceparent if traceparent and TRACEPARENT.fullmatch(traceparent) else None,
            claimed=claimed if print_[:1] == MAGIC and len(print_) == 5 else None,
        )  # fmt: skip
        if envelope.digest != claimed:
            raise DamagedError("digest: not that of its schema and body")
        return envelope

    def _authentic(self, record: Record, key: Key) -> None:
        if key.type != record.topic or key.subject.encode() != record.key or not 0 < key.sequence < 2**63:
            raise DamagedError("envelope: type, subject or sequence are not this record's")
        spec = self.catalog.topics.get(key.type)
        if spec is None or not spec.written_by(key.source):
            raise DamagedError("source: may not write this topic")
        if not key.source.startswith(self._ours):
            raise DamagedError("source: another city's")

    def _opened(self, value: bytes) -> tuple[bytes, bytes]:
        """(fingerprint, body) of a wire value; a schema id nobody knows stands in for its fingerprint."""
        if not value:
            return b"", b""
        if value[:1] != MAGIC or len(value) < 5:
            raise DamagedError("value: not in the registry's wire format")
        if len(value) > MAX_BODY + 5:
            raise DamagedError(f"value: over {MAX_BODY} bytes")
        known = self._registry.fingerprint(int.from_bytes(value[1:5]))
        return (value[:5] if known is None else known), value[5:]


class EmbeddedRegistry:
    """The ids that `schemas/ids.yaml` gives, for an engine without a registry server."""

    def __init__(self, ids: Mapping[int, bytes]) -> None:
        self._fingerprints = dict(ids)
        self._ids = {known: id for id, known in ids.items()}

    def id(self, fingerprint: bytes) -> int:
        if fingerprint not in self._ids:
            raise UsageError("a schema without an id in schemas/ids.yaml; `jietong schema check` names it")
        return self._ids[fingerprint]

    def fingerprint(self, id: int) -> bytes | None:
        return self._fingerprints.get(id)


def _headers(headers: Headers) -> dict[str, str]:
    if sum(len(name) + len(value or b"") for name, value in headers) > MAX_HEADERS:
        raise DamagedError(f"headers: over {MAX_HEADERS} bytes")
    try:
        return {name: value.decode() for name, value in headers}
    except (UnicodeDecodeError, AttributeError):
        raise DamagedError("headers: not text") from None


def _iso(millis: int) -> str:
    second, rest = divmod(millis, 1000)
    return f"{_second(second)}.{rest:03}Z"


@lru_cache(4096)
def _second(second: int) -> str:
    """Events of one batch share most of theirs."""
    return _moment(second * 1000).isoformat(timespec="seconds").removesuffix("+00:00")


def _moment(millis: int) -> datetime:
    return EPOCH + millis * MILLISECOND


def _millis(text: str) -> int:
    """Raises ValueError for a moment without a zone, or one that has no date everywhere."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not EARLIEST <= moment <= LATEST:
        raise ValueError("no moment")
    return to_millis(moment)


def to_millis(moment: datetime) -> int:
    """Milliseconds since 1970 UTC, as rows and headers keep time."""
    return (moment - EPOCH) // MILLISECOND


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)[:5]
    )


# -- what a value must be, from its schema -------------------------------------------------------------------------------
def _version(topic: str, number: int, definition: Mapping[str, Any]) -> _Version:
    """Raises UsageError for a schema that is none, or holds a type that events do not carry."""
    decisive = tuple(f["name"] for f in definition["fields"] if f.get("decisive"))
    try:
        parsed = fastavro.parse_schema(json.loads(json.dumps(definition)))
        adapter = TypeAdapter[Any](_python(definition, {}))
    except Exception as error:
        raise UsageError(f"schemas/avro/{topic}.{number}.avsc: not a schema that events can have: {error}") from error
    return _Version(topic, number, fingerprint(definition), parsed, adapter, decisive)


PRIMITIVES: dict[str, Any] = {
    "null": None, "boolean": bool, "int": Annotated[int, Field(ge=-(2**31), lt=2**31)],
    "long": Annotated[int, Field(ge=-(2**63), lt=2**63)], "float": float, "double": float,
    "bytes": Annotated[bytes, Field(max_length=MAX_BODY)],
}  # fmt: skip
LOGICAL: dict[str, Any] = {
    "timestamp-millis": Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST)],
    "date": date,
    "uuid": UUID,
}


def _python(schema: Any, named: dict[str, Any], max_text: int = MAX_TEXT) -> Any:
    """The Python type whose values, and no others, this schema carries."""
    if isinstance(schema, list):
        members = tuple(_python(member, named, max_text) for member in cast("list[Any]", schema))
        return Union[members]  # noqa: UP007 — known only at run time
    if isinstance(schema, str):
        return _text(max_text) if schema == "string" else PRIMITIVES[schema] if schema in PRIMITIVES else named[schema]
    if logical := schema.get("logicalType"):
        return _decimal(schema) if logical == "decimal" else LOGICAL[logical]
    match schema["type"]:
        case "record":
            return _record(schema, named)
        case "enum":
            named[schema["name"]] = Literal[tuple(schema["symbols"])]
            return named[schema["name"]]
        case "array":
            return Annotated[list[_python(schema["items"], named, max_text)], Field(max_length=MAX_ITEMS)]
        case "map":
            return Annotated[
                dict[_text(MAX_TEXT), _python(schema["values"], named, max_text)], Field(max_length=MAX_ITEMS)
            ]
        case inner:
            return _python(inner, named, schema.get("maxLength", max_text))


def _record(schema: Mapping[str, Any], named: dict[str, Any]) -> Any:
    fields: dict[str, Any] = {}
    for f in schema["fields"]:
        if "default" in f and not _plain_default(f["type"], f["default"]):
            raise ValueError(
                f"{f['name']}: a default that a reader cannot make sense of; make it nullable with default null"
            )
        kind = _python(f["type"], named, f.get("maxLength", MAX_TEXT))
        fields[f["name"]] = NotRequired[kind] if "default" in f else kind
    made = cast("Any", TypedDict(schema["name"], fields))  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    made.__pydantic_config__ = CONFIG
    named[schema["name"]] = made
    return made


def _plain_default(kind: Any, default: Any) -> bool:
    """Whether a reader fills this default in as a value of its type: fastavro gives bare JSON, even for a decimal."""
    if default is None or default in ([], {}):
        return not (isinstance(kind, Mapping) and cast("Mapping[str, Any]", kind).get("type") == "record")
    return kind in ("string", "boolean", "int", "long", "float", "double") or (
        isinstance(kind, Mapping)
        and "logicalType" not in kind
        and cast("Mapping[str, Any]", kind)["type"] in ("string", "enum", "int", "long")
    )


def _text(longest: int) -> Any:
    return Annotated[str, StringConstraints(max_length=longest, pattern=TEXT)]


def _decimal(schema: Mapping[str, Any]) -> Any:
    return Annotated[
        Decimal, Field(max_digits=schema["precision"], decimal_places=schema.get("scale", 0), allow_inf_nan=False)
    ]
