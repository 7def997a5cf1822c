"""The tables of the promise. Every program's database has them; times are milliseconds since 1970 UTC.

`outbox` follows Debezium's outbox router (id, aggregatetype, aggregateid, type, payload), plus ours.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

delivery = MetaData(info={"branch": "delivery", "revisions": Path(__file__).with_name("migrations")})
NUMBER = BigInteger().with_variant(Integer, "sqlite")

STREAM = ("source", "type", "subject")

Table(
    "outbox", delivery,
    Column("n", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("aggregatetype", Text, nullable=False),  # the subject's kind
    Column("aggregateid", Text, nullable=False),  # the subject
    Column("type", Text, nullable=False),
    Column("sequence", NUMBER, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # the Avro body; the relay prefixes the registry's id
    Column("time", NUMBER, nullable=False),
    Column("recorded", NUMBER, nullable=False),
    Column("cause", String(36)),
    Column("supersedes", String(36)),
    Column("operator", Text),
    Column("traceparent", Text),
    Column("format", Integer, nullable=False, server_default="1"),
    UniqueConstraint("source", "type", "aggregateid", "sequence"),
    sqlite_autoincrement=True,
)  # fmt: skip
Table("unsent", delivery, Column("n", NUMBER, primary_key=True, autoincrement=False))
"""The rows of the outbox that wait for the log: a mark is one of these less, and an event is written once."""

Table(
    "counter", delivery,
    *(Column(name, Text, primary_key=True) for name in STREAM),
    Column("sequence", NUMBER, nullable=False),
)  # fmt: skip
Table("total", delivery, Column("source", Text, primary_key=True), Column("type", Text, primary_key=True),
      Column("sequence", NUMBER, nullable=False))  # fmt: skip
Table("idempotency", delivery, Column("key", Text, primary_key=True), Column("result", Text, nullable=False),
      Column("recorded", NUMBER, nullable=False))  # fmt: skip
Table("relayed", delivery, Column("topic", Text, primary_key=True), Column("topic_id", Text, nullable=False))

Table(
    "position", delivery,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("topic_id", Text, nullable=False),
    Column("offset", NUMBER, nullable=False),
    Column("digest", LargeBinary),
)  # fmt: skip
Table("stream", delivery, *(Column(name, Text, primary_key=True) for name in STREAM),
      Column("last", NUMBER, nullable=False), Column("known", NUMBER, nullable=False),
      Column("conflict", Integer, nullable=False, server_default="0"))  # fmt: skip
Table(
    "inbox", delivery,
    *(Column(name, Text, primary_key=True) for name in STREAM),
    Column("sequence", NUMBER, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("fate", Text, nullable=False),
    Column("reason", Text),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("time", NUMBER, nullable=False),
    Column("recorded", NUMBER, nullable=False),
    Column("cause", String(36)),
    Column("supersedes", String(36)),
    Column("operator", Text),
    Column("traceparent", Text),
    Column("settled", NUMBER),
)  # fmt: skip
HELD = text("fate IN ('waiting', 'parked', 'dead')")
Index("held", delivery.tables["inbox"].c.fate, sqlite_where=HELD, postgresql_where=HELD)
CORRECTION = text("supersedes IS NOT NULL")
Index("correction", delivery.tables["inbox"].c.supersedes, sqlite_where=CORRECTION, postgresql_where=CORRECTION)

Table("stray", delivery, Column("topic", Text, primary_key=True), Column("partition", Integer, primary_key=True),
      Column("offset", NUMBER, primary_key=True, autoincrement=False), Column("topic_id", Text, primary_key=True),
      Column("key", LargeBinary), Column("value", LargeBinary), Column("headers", Text), Column("reason", Text, nullable=False),
      Column("seen", NUMBER, nullable=False))  # fmt: skip
Table("attempt", delivery, *(Column(name, Text, primary_key=True) for name in STREAM),
      Column("sequence", NUMBER, primary_key=True, autoincrement=False), Column("deaths", Integer, nullable=False))  # fmt: skip
Table("retry", delivery, *(Column(name, Text, primary_key=True) for name in STREAM),
      Column("tries", Integer, nullable=False), Column("next_at", NUMBER, nullable=False))  # fmt: skip
Table("asked", delivery, *(Column(name, Text, primary_key=True) for name in STREAM),
      Column("next_at", NUMBER, nullable=False), Column("wait", NUMBER, nullable=False))  # fmt: skip
Table("mark", delivery, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
Table("effect", delivery, Column("id", String(36), primary_key=True), Column("outcome", Text, nullable=False),
      Column("since", NUMBER, nullable=False))  # fmt: skip
Table("alarm", delivery, Column("name", Text, primary_key=True), Column("about", Text, primary_key=True),
      Column("detail", Text, nullable=False), Column("since", NUMBER, nullable=False))  # fmt: skip
Table("command", delivery, Column("key", Text, primary_key=True), Column("name", Text, nullable=False),
      Column("arguments", Text, nullable=False), Column("asked", NUMBER, nullable=False), Column("done", NUMBER),
      Column("result", Text))  # fmt: skip

Table("source_position", delivery, Column("source", Text, primary_key=True), Column("position", Text, nullable=False))
Table("source_seen", delivery, Column("row", Text, primary_key=True), Column("digest", Text, nullable=False),
      Column("memo", Text), Column("revision", Integer, nullable=False))  # fmt: skip
Table("source_held", delivery, Column("row", Text, primary_key=True), Column("digest", Text, nullable=False),
      Column("reason", Text, nullable=False), Column("since", NUMBER, nullable=False))  # fmt: skip
