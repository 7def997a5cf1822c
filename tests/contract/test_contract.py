"""The codec: bytes and meaning, and every way in which either may be wrong."""

from __future__ import annotations

import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong.broker import Message, Record, murmur2, partition_of
from jietong.catalog import Catalog, Schema, TopicSpec, load
from jietong.contract import MAX_BODY, Contract, EmbeddedRegistry, canonical, fingerprint, to_millis
from jietong.errors import DamagedError, InvalidEventError, RejectedError, UsageError
from jietong.event import Draft, Envelope, Event, Key, digest, void

A = "local:test:1"
SOURCE = "urn:jietong:440700:engineering"
DECIDED, OTHER = "test.decided.v1", "test.other.v1"
NOON = datetime(2026, 4, 21, 16, 40, 5, 250_000, timezone(timedelta(hours=8)))
DECISION: dict[str, Any] = {
    "type": "enum",
    "name": "Decision",
    "symbols": ["UNKNOWN", "APPROVED", "REFUSED"],
    "default": "UNKNOWN",
}
MOOD: dict[str, Any] = {"type": "enum", "name": "Mood", "symbols": ["UNKNOWN", "GLAD"], "default": "UNKNOWN"}
MONEY: dict[str, Any] = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
FIELDS: list[dict[str, Any]] = [
    {"name": "decision", "type": DECISION, "decisive": True},
    {"name": "mood", "type": MOOD, "default": "UNKNOWN"},
    {"name": "flag", "type": "boolean", "default": False},
    {"name": "number", "type": "int", "default": 0},
    {"name": "big", "type": "long", "default": 0},
    {"name": "share", "type": "double", "default": 0.0},
    {"name": "money", "type": ["null", MONEY], "default": None},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
    {"name": "name", "type": ["null", "string"], "default": None, "maxLength": 20},
    {"name": "names", "type": {"type": "array", "items": "string"}, "default": []},
    {"name": "counts", "type": {"type": "map", "values": "long"}, "default": {}},
    {"name": "raw", "type": ["null", "bytes"], "default": None},
]


def record(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": fields}


def with_symbol(symbol: str) -> dict[str, Any]:
    """The next version: one more symbol in both enums."""
    fields = [
        {**f, "type": {**f["type"], "symbols": [*f["type"]["symbols"], symbol]}}
        if f["name"] in ("decision", "mood")
        else f
        for f in FIELDS
    ]
    return record("Decided", fields)


def spec(topic: str) -> TopicSpec:
    return TopicSpec(topic, {}, ["local"], ["engineering", "feed"], "tests", ["*"], 1, "internal")


def catalog(*versions: Mapping[str, Any]) -> Catalog:
    """`test.decided.v1` in these versions, the last being the one its reader follows; and another topic."""
    schemas = [Schema(DECIDED, n, definition) for n, definition in enumerate(versions, 1)]
    other = [Schema(OTHER, 1, record("Other", [{"name": "text", "type": "string"}]))]
    ids = {(DECIDED, n): 100 + n for n, _ in enumerate(versions, 1)} | {(OTHER, 1): 200}
    return Catalog({DECIDED: spec(DECIDED), OTHER: spec(OTHER)}, {DECIDED: schemas, OTHER: other}, ids)


V1 = record("Decided", FIELDS)
CONTRACT = Contract(catalog(V1))


def draft(type: str = DECIDED, time: datetime = NOON, **data: Any) -> Draft:
    return Draft(type=type, subject=A, time=time, data={"decision": "APPROVED", **data} if type == DECIDED else data)


def envelope(sequence: int = 1, contract: Contract = CONTRACT, **more: Any) -> Envelope:
    print_, body = contract.encode(draft(**more.pop("data", {"name": "滨江"})))
    e = Envelope(key=Key(SOURCE, DECIDED, A, sequence), id=UUID(int=7), fingerprint=print_, body=body,
                 time=to_millis(NOON), recorded=to_millis(NOON) + 750)  # fmt: skip
    return replace(e, **more)


def arrived(message: Message, **changed: Any) -> Record:
    return replace(Record(message.topic, 0, 0, message.key, message.value, message.headers), **changed)


def sent(**more: Any) -> Record:
    return arrived(CONTRACT.message(envelope(**more)))


def headed(record: Record, **changed: bytes | None) -> Record:
    """With some headers changed, or (None) left out."""
    names = {name.replace("_", "-") if name.startswith("content") else name: value for name, value in changed.items()}
    kept = [(name, names.get(name, value)) for name, value in record.headers]
    return replace(record, headers=tuple((name, value) for name, value in kept if value is not None))


def test_another_citys_source_is_not_believed_by_a_city_that_says_which_it_is() -> None:
    assert SOURCE.startswith("urn:jietong:440700:")
    assert Contract(catalog(V1), city="440700").envelope(sent()).key.source == SOURCE
    with pytest.raises(DamagedError, match="another city's"):
        Contract(catalog(V1), city="441900").envelope(sent())
    with pytest.raises(DamagedError, match="another city's"):
        Contract(catalog(V1), city="4407").envelope(sent())


# -- the wire ------------------------------------------------------------------------------------------------------------
def test_a_value_is_a_zero_the_registrys_id_in_four_bytes_and_the_avro_body() -> None:
    message = CONTRACT.message(envelope(data={"decision": "APPROVED"}))
    assert message.value is not None
    assert message.value[:5] == b"\0\0\0\0\x65"
    assert message.value[5:] == envelope(data={"decision": "APPROVED"}).body
    assert (message.topic, message.key) == (DECIDED, A.encode())


def test_headers_are_the_cloudevents_kafka_binding_in_binary_mode() -> None:
    e = envelope(
        42,
        cause=UUID(int=8),
        supersedes=UUID(int=9),
        operator="jm-water",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )
    assert dict(CONTRACT.message(e).headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"00000000-0000-0000-0000-000000000007",
        "ce_source": b"urn:jietong:440700:engineering",
        "ce_type": b"test.decided.v1",
        "ce_time": b"2026-04-21T08:40:05.250Z",
        "ce_subject": b"local:test:1",
        "ce_sequence": b"00000000000000000042",
        "ce_digest": e.digest.hex().encode(),
        "ce_recordedtime": b"2026-04-21T08:40:06.000Z",
        "content-type": b"application/avro",
        "ce_causationid": b"00000000-0000-0000-0000-000000000008",
        "ce_supersedes": b"00000000-0000-0000-0000-000000000009",
        "operator": b"jm-water",
        "traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
    }


def test_what_is_not_there_has_no_header() -> None:
    names = {name for name, _ in CONTRACT.message(envelope()).headers}
    assert not names & {"ce_causationid", "ce_supersedes", "operator", "traceparent"}


def test_sequences_sort_as_text_as_they_do_as_numbers() -> None:
    texts = [dict(CONTRACT.message(envelope(n)).headers)["ce_sequence"] for n in (1, 2, 10, 99, 100, 2**63 - 1)]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {20}


def test_an_envelope_comes_back_as_it_was_sent() -> None:
    whole = envelope(
        3,
        cause=UUID(int=8),
        supersedes=UUID(int=9),
        operator="jm-water",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )
    for e in (whole, envelope(), void(Key(SOURCE, DECIDED, A, 5))):
        assert CONTRACT.envelope(arrived(CONTRACT.message(e))) == e


def test_an_event_comes_back_with_its_meaning() -> None:
    data = {"decision": "REFUSED", "mood": "GLAD", "flag": True, "number": -(2**31), "big": 2**63 - 1, "share": 0.5, "money": Decimal("-99999999.99"),
            "day": date(2026, 4, 21), "at": datetime(2026, 4, 21, 8, 40, 5, 250_000, UTC), "name": "滨江新区", "names": ["甲", ""],
            "counts": {"a": 1}, "raw": b"\0\xff"}  # fmt: skip
    event = CONTRACT.decode(envelope(data=data, operator="jm-water"))
    assert event.data == data
    assert event == Event(type=DECIDED, subject=A, time=NOON, data=data, id=UUID(int=7), source=SOURCE, sequence=1,
                          recorded=NOON + timedelta(milliseconds=750), operator="jm-water")  # fmt: skip


def test_what_a_draft_leaves_out_has_its_default() -> None:
    data = CONTRACT.decode(envelope(data={"decision": "APPROVED"})).data
    assert (data["mood"], data["number"], data["day"], data["names"]) == ("UNKNOWN", 0, None, [])


@given(
    st.decimals(min_value="-99999999.99", max_value="99999999.99", places=2),
    st.integers(-(2**63), 2**63 - 1),
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_value_that_is_let_in_comes_back(money: Decimal, big: int, at: datetime, name: str) -> None:
    at = at.astimezone(UTC).replace(microsecond=at.microsecond // 1000 * 1000)
    e = CONTRACT.envelope(
        arrived(
            CONTRACT.message(envelope(data={"money": money, "big": big, "at": at, "name": name}, time=to_millis(at)))
        )
    )
    event = CONTRACT.decode(e)
    assert (event.data["money"], event.data["big"], event.data["at"], event.data["name"]) == (money, big, at, name)
    assert event.time == at


@given(st.integers(0, 8_000_000_000_000))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_time_travels_to_the_millisecond(millis: int) -> None:
    assert CONTRACT.envelope(sent(time=millis)).time == millis


def test_even_a_distant_time_travels_to_the_millisecond() -> None:
    assert CONTRACT.envelope(sent(time=8_590_337_996_442)).time == 8_590_337_996_442


# -- values that are refused before they are written -----------------------------------------------------------------------
def test_fastavro_itself_writes_what_was_not_said() -> None:
    """Why values pass strict types first."""

    def written(kind: str, value: object) -> object:
        schema = fastavro.parse_schema(record("X", [{"name": "x", "type": kind}]))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, {"x": value})
        return fastavro.schemaless_reader(io.BytesIO(out.getvalue() + b"left over"), schema, None)["x"]  # pyright: ignore

    assert written("boolean", "false") is True
    assert written("int", 3.9) == 3


REFUSED: dict[str, tuple[str, Any]] = {
    "a word for a truth": ("flag", "false"),
    "a number for a truth": ("flag", 1),
    "a truth for a number": ("number", True),
    "a fraction for a number": ("number", 3.9),
    "a whole fraction for a number": ("number", 3.0),
    "a text for a number": ("number", "3"),
    "2**40 in an int": ("number", 2**40),
    "2**31 in an int": ("number", 2**31),
    "2**63 in a long": ("big", 2**63),
    "not a number": ("share", float("nan")),
    "infinity": ("share", float("inf")),
    "a fraction for money": ("money", 1.5),
    "a text for money": ("money", "1.50"),
    "a whole number for money": ("money", 1),
    "three places in scale 2": ("money", Decimal("1.005")),
    "eleven digits in precision 10": ("money", Decimal("123456789.01")),
    "not a number for money": ("money", Decimal("NaN")),
    "infinite money": ("money", Decimal("Infinity")),
    "a naive time": ("at", datetime(2026, 1, 1)),  # noqa: DTZ001
    "a text for a time": ("at", "2026-01-01T00:00:00Z"),
    "a number for a time": ("at", 1_700_000_000_000),
    "a text for a day": ("day", "2026-01-01"),
    "a time for a day": ("day", datetime(2026, 1, 1, tzinfo=UTC)),
    "a NUL": ("name", "a\0b"),
    "a line break": ("name", "a\nb"),
    "a line break at the end": ("name", "a\n"),
    "an escape": ("name", "\x1b[31m"),
    "a C1 control": ("name", "a\x85b"),
    "half a character": ("name", "\ud800"),
    "a text too long": ("name", "x" * 21),
    "a number for a text": ("name", 5),
    "bytes for a text": ("name", b"x"),
    "null for a text in a list": ("names", [None]),
    "a NUL in a list": ("names", ["\0"]),
    "a tuple for a list": ("names", ("a",)),
    "a list too long": ("names", ["x"] * 10_001),
    "a NUL in a map's key": ("counts", {"\0": 1}),
    "a number for a map's key": ("counts", {1: 1}),
    "a text for bytes": ("raw", "x"),
    "an unknown symbol": ("decision", "MAYBE"),
    "null for a symbol": ("decision", None),
    "an unknown field": ("surprise", 1),
}


@pytest.mark.parametrize(("field", "value"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_is_not_its_fields_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidEventError) as refused:
        CONTRACT.encode(draft(**{field: value}))
    assert f": {field}" in str(refused.value)
    assert "input_value" not in str(refused.value)


def test_a_refusal_never_shows_a_value() -> None:
    with pytest.raises(InvalidEventError) as refused:
        CONTRACT.encode(draft(name="13800000000\n", flag="91440703MA4WQ7K28M"))
    assert "13800000000" not in str(refused.value)
    assert "91440703" not in str(refused.value)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="decision"):
        CONTRACT.encode(Draft(type=DECIDED, subject=A, time=NOON, data={}))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="zone"):
        CONTRACT.encode(draft(time=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_a_type_outside_the_catalogue_is_a_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"nobody\.v1"):
        CONTRACT.encode(Draft(type="nobody.v1", subject=A, time=NOON, data={}))


def test_an_event_carries_at_most_256_kib() -> None:
    most = MAX_BODY - len(CONTRACT.encode(draft(raw=b"x" * 250_000))[1]) + 250_000
    assert len(CONTRACT.encode(draft(raw=b"x" * most))[1]) == MAX_BODY
    with pytest.raises(InvalidEventError, match="262145 bytes"):
        CONTRACT.encode(draft(raw=b"x" * (most + 1)))
    big = b"\0\0\0\0\x65" + b"x" * (MAX_BODY + 1)
    with pytest.raises(DamagedError, match="over"):
        CONTRACT.envelope(headed(replace(sent(), value=big), ce_digest=digest(fingerprint(V1), big[5:]).hex().encode()))


FAR = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5)))


def test_a_time_that_cannot_be_written_is_refused_where_it_is_born() -> None:
    with pytest.raises(InvalidEventError):
        CONTRACT.encode(draft(time=FAR))


def test_a_timestamp_that_cannot_be_read_is_refused_where_it_is_born() -> None:
    with pytest.raises(InvalidEventError):
        CONTRACT.encode(draft(at=FAR))


# -- decisive words ----------------------------------------------------------------------------------------------------------
def test_a_decisive_word_nobody_knows_is_never_written() -> None:
    with pytest.raises(InvalidEventError, match="decision: UNKNOWN"):
        CONTRACT.encode(draft(decision="UNKNOWN"))
    CONTRACT.encode(draft(mood="UNKNOWN"))


def test_a_decisive_word_that_is_left_out_is_not_written_as_unknown() -> None:
    """A second version may add fields only with defaults, decisive ones too."""
    contract = Contract(catalog(record("Decided", [{**FIELDS[0], "default": "UNKNOWN"}])))
    with pytest.raises(InvalidEventError, match="decision"):
        contract.encode(Draft(type=DECIDED, subject=A, time=NOON, data={}))


def test_a_newer_writers_decisive_word_waits_and_any_other_new_word_does_not() -> None:
    writer = Contract(catalog(with_symbol("POSTPONED")))
    reader = Contract(replace(catalog(with_symbol("POSTPONED"), V1), ids={(DECIDED, 1): 101, (OTHER, 1): 200}))
    with pytest.raises(RejectedError, match="decision"):
        reader.decode(
            reader.envelope(arrived(writer.message(envelope(contract=writer, data={"decision": "POSTPONED"}))))
        )
    event = reader.decode(
        reader.envelope(arrived(writer.message(envelope(contract=writer, data={"mood": "POSTPONED"}))))
    )
    assert (event.data["decision"], event.data["mood"]) == ("APPROVED", "UNKNOWN")


# -- damage --------------------------------------------------------------------------------------------------------------
REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "ce_sequence", "ce_digest", "ce_recordedtime")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_header_that_is_missing_or_unreadable_is_damage(name: str) -> None:
    with pytest.raises(DamagedError, match=name):
        CONTRACT.envelope(headed(sent(), **{name: None}))
    for value in (b"", b"?", b"\xff\xfe"):
        with pytest.raises(DamagedError):
            CONTRACT.envelope(headed(sent(), **{name: value}))


@pytest.mark.parametrize("name", ["ce_causationid", "ce_supersedes"])
def test_an_optional_header_that_is_unreadable_is_damage(name: str) -> None:
    with pytest.raises(DamagedError):
        CONTRACT.envelope(headed(sent(cause=UUID(int=1), supersedes=UUID(int=2)), **{name: b"?"}))


@pytest.mark.parametrize("value", [b"0", b"-1", b"9223372036854775808", b"1.0", b"99999999999999999999"])
def test_a_sequence_that_is_none_is_damage(value: bytes) -> None:
    with pytest.raises(DamagedError):
        CONTRACT.envelope(headed(sent(), ce_sequence=value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("ce_specversion", b"0.3"), ("content-type", b"text/plain"), ("ce_sequence", b"1"), ("ce_sequence", b"1_0"), ("ce_sequence", "١".encode()),
     ("ce_source", b"engineering"), ("ce_source", b"a:b:c:engineering")],
)  # fmt: skip
def test_a_header_that_is_not_as_the_convention_has_it_is_damage(name: str, value: bytes) -> None:
    with pytest.raises(DamagedError):
        CONTRACT.envelope(headed(sent(), **{name: value}))


@pytest.mark.parametrize("operator", ["", "供水", "jm water", "jm-water\n", "x" * 65, "JM"])
def test_an_operator_that_is_none_is_damage(operator: str) -> None:
    record = sent(operator="jm-water")
    assert CONTRACT.envelope(record).operator == "jm-water"
    with pytest.raises(DamagedError, match="operator"):
        CONTRACT.envelope(headed(record, operator=operator.encode()))


@pytest.mark.parametrize("traceparent", ["", "00", "x" * 15_000, "00-" + "A" * 32 + "-" + "b" * 16 + "-01"])
def test_a_trace_that_is_none_is_dropped(traceparent: str) -> None:
    record = sent(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert CONTRACT.envelope(record).traceparent
    assert CONTRACT.envelope(headed(record, traceparent=traceparent.encode())).traceparent is None


def test_a_record_under_another_key_topic_or_source_is_damage() -> None:
    for damaged in (
        replace(sent(), key=b"local:test:2"),
        replace(sent(), topic=OTHER),
        headed(sent(), ce_subject=b"local:test:2"),
        headed(sent(), ce_type=OTHER.encode()),
        headed(sent(), ce_source=b"urn:jietong:440700:hookup"),
        headed(sent(), ce_source=b"urn:jietong:440700:engineering2"),
    ):
        with pytest.raises(DamagedError):
            CONTRACT.envelope(damaged)


def test_a_source_of_a_family_may_write_where_the_family_may() -> None:
    assert CONTRACT.envelope(headed(sent(), ce_source=b"urn:jietong:440700:feed:calgary")).key.source.endswith(
        "calgary"
    )


def test_every_damaged_byte_of_a_value_is_noticed() -> None:
    """But for the schema id's: then nobody can say yet, the claim is kept, and settled when the id is known."""
    record = sent()
    assert record.value is not None
    for n in range(len(record.value)):
        for bit in (1, 128):
            value = bytearray(record.value)
            value[n] ^= bit
            if 1 <= n <= 4:
                assert CONTRACT.envelope(replace(record, value=bytes(value))).claimed
            else:
                with pytest.raises(DamagedError):
                    CONTRACT.envelope(replace(record, value=bytes(value)))


def test_a_value_cut_short_or_grown_is_damage() -> None:
    record = sent()
    assert record.value is not None
    for value in (b"", b"\0", b"\0\0\0\0", record.value[:5], record.value[:-1], record.value + b"!", None):
        with pytest.raises(DamagedError):
            CONTRACT.envelope(replace(record, value=value))


def test_every_damaged_digit_of_a_digest_is_noticed() -> None:
    text = dict(sent().headers)["ce_digest"]
    for n in range(len(text)):
        with pytest.raises(DamagedError):
            CONTRACT.envelope(
                headed(sent(), ce_digest=text[:n] + (b"0" if text[n : n + 1] != b"0" else b"1") + text[n + 1 :])
            )
    for other in (text[:-2], text + b"00", b"zz" * 32):
        with pytest.raises(DamagedError):
            CONTRACT.envelope(headed(sent(), ce_digest=other))


def test_a_tombstone_is_no_event() -> None:
    with pytest.raises(DamagedError, match="tombstone"):
        CONTRACT.envelope(replace(sent(), value=None))


def test_an_empty_value_is_a_void_only_if_its_digest_says_so() -> None:
    lost = void(Key(SOURCE, DECIDED, A, 5))
    assert CONTRACT.envelope(arrived(CONTRACT.message(lost))).void
    with pytest.raises(DamagedError):
        CONTRACT.envelope(replace(sent(), value=b""))


def test_ten_thousand_headers_are_damage_and_no_work() -> None:
    many = tuple((f"header-{n}", b"x") for n in range(10_000))
    with pytest.raises(DamagedError, match="headers"):
        CONTRACT.envelope(replace(sent(), headers=(*sent().headers, *many)))


def test_a_header_without_a_value_is_damage() -> None:
    """Kafka lets a header's value be null."""
    nothing: Any = None
    with pytest.raises(DamagedError):
        CONTRACT.envelope(replace(sent(), headers=(*sent().headers, ("note", nothing))))


def test_a_time_nobody_can_read_is_damage() -> None:
    with pytest.raises(DamagedError):
        CONTRACT.decode(CONTRACT.envelope(headed(sent(), ce_time=FAR.isoformat().encode())))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_the_bytes_of_a_body_only_the_events_own_fault_comes_out(body: bytes) -> None:
    with contextlib.suppress(InvalidEventError, RejectedError):
        CONTRACT.decode(replace(envelope(), body=body))


def test_every_byte_of_a_body_must_be_its_schemas() -> None:
    with pytest.raises(InvalidEventError, match="left over"):
        CONTRACT.decode(replace(envelope(), body=envelope().body + b"\0"))
    with pytest.raises(InvalidEventError, match="not the bytes"):
        CONTRACT.decode(replace(envelope(), body=envelope().body[:-1]))


def test_a_decimal_longer_than_its_schema_has_is_no_value() -> None:
    loose = Contract(catalog(record("Decided", [FIELDS[0], {"name": "money", "type": "bytes"}])))
    _, body = loose.encode(
        Draft(type=DECIDED, subject=A, time=NOON, data={"decision": "APPROVED", "money": b"\x7f" * 100_000})
    )
    narrow = record("Decided", [FIELDS[0], {"name": "money", "type": MONEY}])
    with pytest.raises(InvalidEventError, match="not the bytes"):
        Contract(catalog(narrow)).decode(replace(envelope(), fingerprint=fingerprint(narrow), body=body))


# -- schemas -------------------------------------------------------------------------------------------------------------
class Growing(EmbeddedRegistry):
    """A registry that learns an id later."""

    def learn(self, id: int, known: bytes) -> None:
        self._fingerprints[id] = known


def unknown() -> Record:
    """An event whose schema id the registry does not know yet."""
    record = sent()
    assert record.value is not None
    return replace(record, value=b"\0\0\0\0\x63" + record.value[5:])


def test_an_id_nobody_knows_is_kept_with_its_claim_and_resolved_once_it_is_known() -> None:
    registry = Growing({101: fingerprint(V1)})
    contract = Contract(catalog(V1), registry)
    e = contract.envelope(unknown())
    assert (e.fingerprint, e.claimed, e.digest) == (b"\0\0\0\0\x63", envelope().digest, envelope().digest)
    with pytest.raises(RejectedError, match="not known"):
        contract.decode(e)
    registry.learn(99, fingerprint(V1))
    assert contract.decode(e).data["name"] == "滨江"


def test_a_claim_that_turns_out_wrong_is_the_events_own_fault() -> None:
    registry = Growing({101: fingerprint(V1)})
    contract = Contract(catalog(V1), registry)
    record = unknown()
    assert record.value is not None
    e = contract.envelope(replace(record, value=record.value + b"!"))
    registry.learn(99, fingerprint(V1))
    with pytest.raises(InvalidEventError, match="digest"):
        contract.decode(e)


def test_a_schema_of_another_topic_is_the_events_own_fault() -> None:
    print_, body = CONTRACT.encode(draft(OTHER, text="x"))
    e = CONTRACT.envelope(arrived(CONTRACT.message(replace(envelope(), fingerprint=print_, body=body))))
    with pytest.raises(InvalidEventError, match="not one of this topic"):
        CONTRACT.decode(e)


def test_two_topics_of_one_definition_are_told_apart_or_refused() -> None:
    same = replace(catalog(V1), schemas={DECIDED: [Schema(DECIDED, 1, V1)], OTHER: [Schema(OTHER, 1, V1)]})
    try:
        contract = Contract(same)
    except UsageError:
        return
    contract.decode(envelope(contract=contract))


@pytest.mark.parametrize(
    ("kind", "default", "meaning"),
    [({"type": "int", "logicalType": "date"}, 0, date(1970, 1, 1)), (MONEY, "\x01", Decimal("0.01")),
     ({"type": "long", "logicalType": "timestamp-millis"}, 0, datetime(1970, 1, 1, tzinfo=UTC))],
)  # fmt: skip
def test_an_older_event_is_read_with_the_meaning_of_a_new_fields_default(
    kind: Any, default: Any, meaning: object
) -> None:
    try:
        reader = Contract(catalog(V1, record("Decided", [*FIELDS, {"name": "more", "type": kind, "default": default}])))
    except UsageError:
        return  # refused: as good
    assert reader.decode(envelope()).data["more"] == meaning


def test_a_fingerprint_tells_milliseconds_from_microseconds_and_ignores_our_words() -> None:
    millis = record("X", [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}])
    micros = record("X", [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}])
    assert canonical(millis) == canonical(micros)
    assert fingerprint(millis) != fingerprint(micros)
    assert fingerprint({**millis, "doc": "when", "zh": "时间"}) == fingerprint(millis)
    assert len(fingerprint(millis)) == 16


def test_a_schema_without_an_id_cannot_be_sent() -> None:
    contract = Contract(replace(catalog(V1), ids={}))
    with pytest.raises(UsageError, match=r"ids\.yaml"):
        contract.message(envelope())


def test_the_real_catalogue_gives_every_version_its_id() -> None:
    whole = load()
    assert set(whole.ids) == {(topic, schema.version) for topic, schemas in whole.schemas.items() for schema in schemas}
    assert len(set(whole.ids.values())) == len(whole.ids)
    Contract(whole)


# -- one machine and another ---------------------------------------------------------------------------------------------
@pytest.fixture
def living_in() -> Iterator[Callable[[str], None]]:
    before = os.environ.get("TZ")

    def move(zone: str) -> None:
        os.environ["TZ"] = zone
        time.tzset()

    yield move
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


def test_bytes_do_not_depend_on_the_machines_zone(living_in: Callable[[str], None]) -> None:
    found: set[Any] = set()
    for zone in ("UTC", "Asia/Shanghai", "America/St_Johns"):
        living_in(zone)
        message = CONTRACT.message(envelope(data={"at": NOON, "day": date(2026, 4, 21)}))
        event = CONTRACT.decode(CONTRACT.envelope(arrived(message)))
        found.add((message, event.time, event.data["at"], event.data["day"]))
    assert len(found) == 1


def kafkas_murmur2(key: bytes) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the way it loads its protocol files
        from kafka.partitioner.default import murmur2 as theirs
    return theirs(key)


KEYS = st.binary(max_size=40) | st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))


@given(KEYS, st.integers(1, 50))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_key_goes_where_kafkas_own_clients_put_it(key: bytes, partitions: int) -> None:
    assert murmur2(key) == kafkas_murmur2(key) & 0xFFFFFFFF
    assert partition_of(key, partitions) == (kafkas_murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "hash_"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"a-little-bit-longer-string", -1486304829),
     (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971), (b"abc", 479470107)],
)  # fmt: skip
def test_the_hash_is_that_of_kafkas_own_tests(key: bytes, hash_: int) -> None:
    """The vectors of org.apache.kafka.common.utils.UtilsTest#testMurmur2."""
    assert murmur2(key) == hash_ & 0xFFFFFFFF
