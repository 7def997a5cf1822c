"""Tools we did not write read what we write, and we read theirs: kcat, Confluent's Avro serializers, the CloudEvents SDK."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.http import CloudEvent
from cloudevents.kafka import KafkaMessage, from_binary, to_binary
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import connectors.investment.__main__ as investment
from connectors.investment.platform import Application
from jietong.broker import Place, Record, partition_of
from jietong.engine import Engine, Running
from jietong.event import Event
from simulation import servers

pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]
REGISTERED = "investment.project.registered.v1"
MORNING = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@pytest.fixture
def engine(on_servers: Callable[[], Engine]) -> Iterator[Engine]:
    """A city in which one company has registered its project, and the platform has sent it."""
    engine = on_servers()
    platform, program = investment.build(engine)
    running = Running(engine, [program]).start()
    application = Application(name="蓬江智造园", site_regions=("440703",), authority_region="440703", contact_name="张三",
                              contact_phone="13800138000", contact_consent=True)  # fmt: skip
    platform.register(application, now=MORNING)
    for _ in range(600):
        if ours(engine):
            break
        engine.stopping.wait(0.1)
    yield engine
    running.stop()


def ours(engine: Engine) -> list[Record]:
    topic = engine.log.topic(REGISTERED)
    return [record for p in topic.bounds for record in engine.log.read(Place(REGISTERED, p), 0, 10)]


def decoded(engine: Engine, record: Record) -> Event:
    return engine.contract.decode(engine.contract.envelope(record))


def theirs(real: servers.City, place: Place, offset: int) -> Any:
    """The same record through librdkafka."""
    consumer = Consumer({"bootstrap.servers": real.kafka.bootstrap, "group.id": "outside", "enable.auto.commit": False})
    consumer.assign([TopicPartition(place.topic, place.partition, offset)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def test_kcat_reads_our_topics_keys_and_headers(real: servers.City, engine: Engine) -> None:
    if shutil.which("kcat") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("kcat is not installed: apt-get install kcat")
    asked = ["kcat", "-b", real.kafka.bootstrap, "-C", "-t", REGISTERED, "-e", "-q", "-f", "%k|%h|%S\n"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    [record] = ours(engine)
    key, headers, size = shown.strip().split("|")
    told = dict(pair.split("=", 1) for pair in headers.split(","))
    assert (key, int(size)) == (record.key.decode(), len(record.value or b""))
    assert told["ce_type"] == REGISTERED
    assert told["ce_subject"] == key
    assert told["ce_sequence"] == "1".zfill(20)
    assert told["content-type"] == "application/avro"


def test_confluents_deserializer_with_the_real_registry_decodes_our_events(real: servers.City, engine: Engine) -> None:
    [record] = ours(engine)
    message = theirs(real, Place(REGISTERED, record.partition), record.offset)
    with SchemaRegistryClient({"url": real.registry.url}) as registry:
        data = AvroDeserializer(registry)(message.value(), SerializationContext(REGISTERED, MessageField.VALUE))
    assert data == decoded(engine, record).data
    assert data["project"]["name"] == "蓬江智造园"


def test_an_event_of_confluents_serializer_is_accepted_by_us_and_the_cloudevents_sdk_writes_its_headers(
    real: servers.City, engine: Engine
) -> None:
    [record] = ours(engine)
    event = decoded(engine, record)
    with SchemaRegistryClient({"url": real.registry.url}) as registry:
        definition = registry.get_latest_version(f"{REGISTERED}-value").schema
        write = AvroSerializer(registry, definition, conf={"auto.register.schemas": False})
        value = write(dict(event.data), SerializationContext(REGISTERED, MessageField.VALUE))
    assert value is not None
    fingerprint = engine.contract.envelope(record).fingerprint
    told = {
        "specversion": "1.0", "id": "01890a5d-ac96-774b-bcce-b302099a8057", "source": event.source, "type": REGISTERED, "subject": event.subject,
        "time": "2026-03-02T02:00:00.000Z", "sequence": "2".zfill(20), "recordedtime": "2026-03-02T02:00:00.000Z",
        "digest": hashlib.sha256(fingerprint + value[5:]).hexdigest(), "datacontenttype": "application/avro",
    }  # fmt: skip
    made = to_binary(CloudEvent(told, value), data_marshaller=lambda data: data, key_mapper=lambda e: e["subject"])
    place = Place(REGISTERED, partition_of(event.subject.encode(), len(engine.log.topic(REGISTERED).bounds)))
    producer = Producer({"bootstrap.servers": real.kafka.bootstrap})
    producer.produce(
        place.topic, key=made.key, value=made.value, headers=list(made.headers.items()), partition=place.partition
    )
    assert producer.flush(30) == 0
    [_, taken] = ours(engine)
    accepted = decoded(engine, taken)
    assert (accepted.sequence, accepted.subject, accepted.data) == (2, event.subject, event.data)


def test_the_cloudevents_sdk_reads_our_kafka_messages(real: servers.City, engine: Engine) -> None:
    [record] = ours(engine)
    message = theirs(real, Place(REGISTERED, record.partition), record.offset)
    read = from_binary(
        KafkaMessage(dict(message.headers()), message.key(), message.value()), data_unmarshaller=lambda data: data
    )
    event = decoded(engine, record)
    assert (read["id"], read["source"], read["type"], read["subject"]) == (
        str(event.id),
        event.source,
        REGISTERED,
        event.subject,
    )
    assert datetime.fromisoformat(read["time"]) == event.time
    assert (read["datacontenttype"], read.data) == ("application/avro", record.value)
