"""Records in: Confluent's wire format through the schema registry, and the CloudEvents headers of Kafka's binary mode.

FastStream, "Custom Codec" (getting-started/serialization/codec): one class for both directions takes the place of the
older `decoder=`, and is where a schema registry belongs. "Serialization examples", Avro: fastavro's `schemaless_reader`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

import fastavro
from confluent_kafka.schema_registry import SchemaRegistryClient
from faststream.message import StreamMessage

from jietong.contract import fingerprint
from jietong.event import Event


class Schema(NamedTuple):
    """A schema of the registry, ready for fastavro, and the fingerprint that stored rows name it by."""

    parsed: Any
    fingerprint: bytes


class Arrival(NamedTuple):
    """An event, and what the inbox keeps of its record."""

    event: Event
    fingerprint: bytes
    body: bytes
    digest: bytes


class Schemas:
    """Each schema is asked for once; later a registry that is away is not missed."""

    def __init__(self, url: str) -> None:
        self._registry = SchemaRegistryClient({"url": url})
        self.written = cache(self._written)
        self.current = cache(self._current)

    def _written(self, id: int) -> Schema:
        """That of a record's five bytes."""
        return _schema(self._registry.get_schema(id).schema_str)

    def _current(self, topic: str) -> Schema:
        """The newest of a topic: what is read as, and what is written."""
        return _schema(self._registry.get_latest_version(f"{topic}-value").schema.schema_str)


def _schema(text: str | None) -> Schema:
    definition = json.loads(text or "null")
    return Schema(fastavro.parse_schema(definition), fingerprint(definition))


class EventCodec:
    """`decode` for one message, `decode_batch` for a batch. Nothing is published from here: the outbox is in the database."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    async def decode(self, msg: StreamMessage[Any]) -> Any:
        return self._arrival(msg.body, msg.headers)

    async def decode_batch(self, msg: StreamMessage[Any]) -> list[Any]:
        bodies = cast("Sequence[bytes]", msg.body)
        return [self._arrival(value, headers) for value, headers in zip(bodies, msg.batch_headers, strict=True)]

    async def encode(self, msg: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        raise NotImplementedError  # the library's codec has it; a peer writes to its outbox alone

    async def encode_batch(self, msgs: Sequence[Any], serializer: Any = None) -> list[tuple[bytes, str | None]]:
        raise NotImplementedError

    def _arrival(self, value: bytes, headers: dict[str, Any]) -> Arrival:
        if value[:1] != b"\0":
            raise ValueError("not in the registry's wire format")
        type, body = headers["ce_type"], value[5:]
        written, current = self._schemas.written(int.from_bytes(value[1:5])), self._schemas.current(type)
        reader = None if written.fingerprint == current.fingerprint else current.parsed
        data = cast("dict[str, Any]", fastavro.schemaless_reader(io.BytesIO(body), written.parsed, reader))
        cause, supersedes = headers.get("ce_causationid"), headers.get("ce_supersedes")
        event = Event(
            type=type, subject=headers["ce_subject"], time=datetime.fromisoformat(headers["ce_time"]), data=data,
            supersedes=UUID(supersedes) if supersedes else None, operator=headers.get("operator"), id=UUID(headers["ce_id"]),
            source=headers["ce_source"], sequence=int(headers["ce_sequence"]),
            recorded=datetime.fromisoformat(headers["ce_recordedtime"]), cause=UUID(cause) if cause else None,
            traceparent=headers.get("traceparent"),
        )  # fmt: skip
        return Arrival(event, written.fingerprint, body, bytes.fromhex(headers["ce_digest"]))
