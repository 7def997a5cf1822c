"""The log on Apache Kafka 4: the only file that knows kafka-python, pinned below 3.1.

Its producer has a thread that may deliver long after it was closed, that is dead for ever after an outage longer than its
time-out, and that buffers without a bound. So we write by the protocol itself: one request per leader and batch, with an
idempotent producer's number, answered before the next leaves; what was not answered in time is thrown away together with
that number. Groups are kafka-python's consumer, given raw bytes only; after any exception out of `poll()`, which then spins
and never returns, it is thrown away, and the next records are read by the protocol, where a damaged batch is stepped over
by its header. Decompression is bounded: eleven kilobytes may claim to be half a gigabyte.
"""
# kafka-python is only partly typed
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import crc32c  # noqa: F401  # pyright: ignore[reportUnusedImport] — without it kafka-python takes ten times as long
import zstandard
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CorruptRecordError, KafkaError, for_code
from kafka.net.compat import KafkaNetClient
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest
from kafka.record import default_records
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.structs import OffsetAndMetadata, TopicPartition

from jietong.broker import Assignment, Bounds, Message, Place, Record, Topic, partition_of
from jietong.errors import RetriableError, UsageError

ANSWER = 10.0
"""Seconds a request may take; then its outcome is unknown."""
BATCH_BYTES = 900_000
"""Of one partition in one request: below the topics' `max.message.bytes`."""
HEADERS_BYTES = 1_000
"""More than the headers of one of our records ever take."""
FETCH_BYTES, LOOK_BYTES = 8 * 1024 * 1024, 64 * 1024
MOST_UNPACKED = 16 * 1024 * 1024
LATEST, EARLIEST, NO_SESSION, FINAL_EPOCH, COMMITTED = -1, -2, 0, -1, 1
MOST_ASKED = 200
"""Requests of all our threads under way at one broker: at its own limit the client refuses, as if the broker were away."""
FAILURES = 5
"""In a row, after which a client is taken for broken, and another made."""
SUSPICION = 30.0
"""Seconds a reader that met something unreadable looks at each batch itself."""
GONE = -1

T = TypeVar("T")


class Described(NamedTuple):
    """A topic as it is set up: how many partitions, and its settings in Kafka's words."""

    partitions: int
    configs: Mapping[str, str]


Security = Mapping[str, Any]
"""kafka-python's own words: security_protocol, sasl_…, ssl_…."""


class Lead(NamedTuple):
    """A topic as the cluster has it: its id, and who leads each partition (-1: nobody)."""

    id: str
    leaders: Mapping[int, int]


# -- bounded decompression -----------------------------------------------------------------------------------------------
def _gunzipped(data: memoryview) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    found = unpacker.decompress(data, MOST_UNPACKED)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise CorruptRecordError("unpacks to more than a batch may hold")
    return found


def _unzstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=MOST_UNPACKED).stream_reader(data) as reader:
        found = reader.read(MOST_UNPACKED + 1)
    if len(found) > MOST_UNPACKED:
        raise CorruptRecordError("unpacks to more than a batch may hold")
    return found


default_records.gzip_decode = _gunzipped  # pyright: ignore[reportAttributeAccessIssue]
default_records.zstd_decode = _unzstd  # pyright: ignore[reportAttributeAccessIssue]


# -- one cluster, asked --------------------------------------------------------------------------------------------------
class Wire:
    """One client's connections, driven by its own thread; asked from any. RetriableError while the cluster is away."""

    def __init__(self, servers: str, name: str, security: Security) -> None:
        self._client = KafkaNetClient(bootstrap_servers=servers, client_id=name, request_timeout_ms=int(ANSWER * 1000),
                                      reconnect_backoff_max_ms=1000, receive_message_max_bytes=2 * FETCH_BYTES,
                                      max_in_flight_requests_per_connection=MOST_ASKED, **security)  # fmt: skip
        self._manager, self._net = self._client._manager, self._client._net  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        self._net.start()
        self._manager.bootstrap(int(ANSWER * 1000))

    def ask(self, node: int | None, request: Any, seconds: float = ANSWER) -> Any:
        """The answer of a node (None: any). Raises KafkaError."""
        return self._net.run(self._asked, node, request, seconds)

    def ask_each(self, requests: Sequence[tuple[int, Any]], seconds: float = ANSWER) -> list[Any]:
        """The answers of (node, request), all asked together; a KafkaError stands for an answer that was not given."""
        answers: list[Any] = []
        self._net.run(self._asked_each, requests, answers, seconds)
        return answers

    def layout(self, names: Iterable[str]) -> dict[str, Lead]:
        """Topics, as a node sees them now; one it does not know is left out."""
        wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in sorted(set(names))]
        request = MetadataRequest(topics=wanted, allow_auto_topic_creation=False, include_cluster_authorized_operations=False,
                                  include_topic_authorized_operations=False)  # fmt: skip
        answer = self.ask(None, request)
        self._manager.cluster.update_metadata(answer)
        found: dict[str, Lead] = {}
        for topic in answer.topics:
            if not topic.error_code and topic.partitions:
                found[topic.name] = Lead(
                    str(topic.topic_id), {p.partition_index: p.leader_id for p in topic.partitions}
                )
        return found

    def nodes(self) -> int:
        self.layout(())
        brokers: Any = self._manager.cluster.brokers()
        return len(brokers)

    def close(self) -> None:
        with suppress(Exception):
            self._client.close()

    async def _asked(self, node: int | None, request: Any, seconds: float) -> Any:
        return await self._manager.wait_for(
            self._manager.send(request, node_id=node, request_timeout_ms=seconds * 1000), seconds * 1000
        )

    async def _asked_each(self, requests: Sequence[tuple[int, Any]], answers: list[Any], seconds: float) -> None:
        sent = [
            self._manager.send(request, node_id=node, request_timeout_ms=seconds * 1000) for node, request in requests
        ]
        for future in sent:
            try:
                answers.append(await self._manager.wait_for(future, seconds * 1000))
            except KafkaError as error:
                answers.append(error)


@dataclass(slots=True)
class Numbered:
    """An idempotent producer's number, and the next sequence of each partition."""

    id: int
    epoch: int
    sequences: defaultdict[Place, int] = field(default_factory=lambda: defaultdict(int))


class KafkaLog:
    """See `jietong.broker.Broker`. `poll_interval`: seconds a member may work between two polls."""

    def __init__(
        self, servers: str, name: str = "jietong", security: Security | None = None, poll_interval: float = 300.0
    ) -> None:
        self.servers, self.name, self.security, self.poll_interval = servers, name, dict(security or {}), poll_interval
        self._guard = threading.Lock()
        self._wire: Wire | None = None
        self._numbered: Numbered | None = None
        self._leads: dict[str, Lead] = {}
        self._failed = 0
        self._writing = threading.Lock()

    # -- Broker --------------------------------------------------------------------------------------------------------
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        with self._writing:
            places = self._placed(messages)
            done = [False] * len(messages)
            while places:
                sent = {place: _chunk(those, messages) for place, those in places.items()}
                kept = self._write({place: [messages[n] for n in numbers] for place, numbers in sent.items()})
                for place in kept:
                    for n in sent[place]:
                        done[n] = True
                places = {place: rest for place in kept if (rest := places[place][len(sent[place]) :])}
            return done

    def topic(self, name: str) -> Topic:
        return self.topics([name])[name]

    def topics(self, names: Iterable[str]) -> Mapping[str, Topic]:
        leads = self._layout(names)
        bounds = self._bounds(
            {Place(name, p): node for name, lead in leads.items() for p, node in lead.leaders.items()}
        )
        return {
            name: Topic(name, lead.id, {p: bounds[Place(name, p)] for p in lead.leaders})
            for name, lead in leads.items()
        }

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        found, at, ended = list[Record](), max(offset, 0), False
        while len(found) < limit and not ended:
            records, after = self._fetched({place: at}, FETCH_BYTES).get(place, ((), at))
            found += records
            at, ended = after, after == at
        return found[:limit]

    def records(self, offsets: Mapping[Place, int]) -> Mapping[Place, Record]:
        wanted = {place: offset for place, offset in offsets.items() if offset >= 0}
        found: dict[Place, Record] = {}
        answered = True
        while wanted and answered:
            seen = {
                place: records
                for place, (records, after) in self._fetched(wanted, LOOK_BYTES).items()
                if after > wanted[place]
            }
            answered = bool(seen)
            for place, records in seen.items():
                offset = wanted.pop(place)
                found.update((place, record) for record in records if record.offset == offset)
        return found

    def reader(self, group: str, topics: Sequence[str]) -> KafkaReader:
        return KafkaReader(self, group, topics)

    # -- its own ---------------------------------------------------------------------------------------------------------
    def check(self, names: Iterable[str]) -> None:
        """At start. Raises UsageError, in a line, for an address, a login or a topic that is wrong."""
        try:
            missing = sorted(set(names) - self._asked(lambda wire: wire.layout(names)).keys())
        except RetriableError as error:
            raise UsageError(f"KAFKA_BOOTSTRAP_SERVERS={self.servers}: {error}") from None
        if missing:
            raise UsageError(
                f"the log has no topic {', '.join(missing[:3])}{' …' if missing[3:] else ''}; `jietong topics apply` makes them"
            )

    def described(self) -> dict[str, Described]:
        """Every topic there is, as it is set up."""
        with self._admin() as admin:
            parts = {
                topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics() if not topic["is_internal"]
            }
            asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(parts)]
            found = admin.describe_configs(asked, config_filter="all") if asked else {}
            configs: Any = found.get("topic", {})
        return {
            name: Described(count, {key: str(entry["value"]) for key, entry in configs.get(name, {}).items()})
            for name, count in parts.items()
        }

    def create(self, name: str, partitions: int, replicas: int, configs: Mapping[str, str]) -> None:
        with self._admin() as admin:
            wanted = {"num_partitions": partitions, "replication_factor": replicas, "configs": dict(configs)}
            admin.create_topics({name: wanted}, wait_for_metadata=True)

    def configure(self, name: str, configs: Mapping[str, str]) -> None:
        with self._admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(configs))])

    def grow(self, name: str, partitions: int) -> None:
        """More partitions: keys change theirs, so only when everything is read (`jietong topics raise`)."""
        with self._admin() as admin:
            admin.create_partitions({name: partitions})

    def brokers(self) -> int:
        """How many there are."""
        return self._asked(lambda wire: wire.nodes())

    @contextmanager
    def _admin(self) -> Generator[Any]:
        admin = self.admin()
        try:
            yield admin
        except KafkaError as error:
            raise UsageError(f"log: {_said(error)}") from error
        finally:
            admin.close()

    def admin(self) -> KafkaAdminClient:
        try:
            return KafkaAdminClient(bootstrap_servers=self.servers, client_id=self.name, **self.security)  # pyright: ignore[reportArgumentType]
        except KafkaError as error:
            raise UsageError(f"KAFKA_BOOTSTRAP_SERVERS={self.servers}: {_said(error)}") from None

    def fetch(self, offsets: Mapping[Place, int]) -> dict[Place, tuple[Sequence[Record], int]]:
        """For each place the records from an offset on, and where to go on; damaged batches as one record each."""
        return self._fetched(offsets, FETCH_BYTES)

    def close(self) -> None:
        with self._guard:
            self._lost()

    # -- asking ----------------------------------------------------------------------------------------------------------
    def _asked(self, ask: Callable[[Wire], T]) -> T:
        """Ask the cluster. A client that fails again and again is thrown away, and the next call makes another."""
        with self._guard:
            try:
                wire = self._wire = self._wire or Wire(self.servers, self.name, self.security)
            except Exception as error:
                raise RetriableError(f"log: {_said(error)}") from error
        try:
            answer = ask(wire)
        except (KafkaError, RuntimeError, OSError) as error:
            with self._guard:
                self._failed += 1
                if self._wire is wire and (self._failed >= FAILURES or not isinstance(error, KafkaError)):
                    self._lost()
            raise RetriableError(f"log: {_said(error)}") from error
        self._failed = 0
        return answer

    def _lost(self) -> None:
        wire, self._wire, self._numbered = self._wire, None, None
        self._leads, self._failed = {}, 0
        if wire:
            wire.close()

    def _layout(self, names: Iterable[str]) -> dict[str, Lead]:
        wanted = set(names)
        leads = self._asked(lambda wire: wire.layout(wanted)) if wanted else {}
        if missing := sorted(wanted - leads.keys()):
            raise UsageError(f"the log has no topic {', '.join(missing)}; `jietong topics apply` makes it")
        self._leads |= leads
        return leads

    def _led(self, names: Iterable[str]) -> Mapping[str, Lead]:
        """As `_layout`, from what was heard last; forgotten when a leader says it is none."""
        if missing := {name for name in names if name not in self._leads}:
            self._layout(missing)
        return self._leads

    def _bounds(self, leaders: Mapping[Place, int]) -> dict[Place, Bounds]:
        if leaderless := [place for place, node in leaders.items() if node == GONE]:
            place = min(leaderless)
            raise RetriableError(f"log: {place.topic}/{place.partition} has no leader")
        asked = [(node, which, places) for node, places in _by_node(leaders).items() for which in (EARLIEST, LATEST)]
        requests = [(node, _offsets_request(places, which)) for node, which, places in asked]
        found: dict[tuple[Place, int], int] = {}
        for (_, which, _), answer in zip(asked, self._asked(lambda wire: wire.ask_each(requests)), strict=True):
            if isinstance(answer, KafkaError):
                self._leads = {}
                raise RetriableError(f"log: {_said(answer)}")
            for topic in answer.topics:
                for part in topic.partitions:
                    place = Place(topic.name, part.partition_index)
                    self._good(part.error_code, place)
                    found[place, which] = part.offset
        return {place: Bounds(found[place, EARLIEST], found[place, LATEST]) for place in leaders}

    def _good(self, code: int, place: Place) -> None:
        if code:
            self._leads.pop(place.topic, None)
            raise RetriableError(f"log: {place.topic}/{place.partition}: {for_code(code).__name__}")

    # -- reading ---------------------------------------------------------------------------------------------------------
    def _fetched(self, offsets: Mapping[Place, int], most: int) -> dict[Place, tuple[Sequence[Record], int]]:
        """One look: the records that came, from these offsets on, and the offset after the last batch seen."""
        leads = self._led({place.topic for place in offsets})
        leaders = {place: leads[place.topic].leaders.get(place.partition, GONE) for place in offsets}
        here = {place: node for place, node in leaders.items() if node != GONE}
        requests = [
            (node, _fetch_request({place: offsets[place] for place in places}, most))
            for node, places in _by_node(here).items()
        ]
        found: dict[Place, tuple[Sequence[Record], int]] = {}
        for answer in self._asked(lambda wire: wire.ask_each(requests)):
            if isinstance(answer, KafkaError):
                self._leads = {}
                raise RetriableError(f"log: {_said(answer)}")
            for topic in answer.responses:
                for part in topic.partitions:
                    place = Place(topic.topic, part.partition_index)
                    if for_code(part.error_code).__name__ == "OffsetOutOfRangeError":
                        found[place] = ((), offsets[place])
                        continue
                    self._good(part.error_code, place)
                    found[place] = _parsed(place, part, offsets[place])
        return found

    # -- writing ---------------------------------------------------------------------------------------------------------
    def _placed(self, messages: Sequence[Message]) -> dict[Place, list[int]]:
        leads = self._led({message.topic for message in messages})
        places: defaultdict[Place, list[int]] = defaultdict(list)
        for n, message in enumerate(messages):
            places[Place(message.topic, partition_of(message.key, len(leads[message.topic].leaders)))].append(n)
        return places

    def _write(self, batches: Mapping[Place, Sequence[Message]]) -> set[Place]:
        """One batch a partition, all leaders at once; the places that acknowledged. What is not known to be there ends this
        producer's number: the next one begins anew, and no late answer is ever taken for another's."""
        leads = self._led({place.topic for place in batches})
        leaders = {place: leads[place.topic].leaders.get(place.partition, GONE) for place in batches}
        here = {place: node for place, node in leaders.items() if node != GONE}
        numbered = self._numbered = self._numbered or self._asked(_numbered)
        requests = [
            (node, _produce_request({place: _packed(batches[place], numbered, place) for place in places}))
            for node, places in _by_node(here).items()
        ]
        kept: set[Place] = set()
        for answer in self._asked(lambda wire: wire.ask_each(requests)):
            if not isinstance(answer, KafkaError):
                kept |= {
                    Place(topic.name, part.index)
                    for topic in answer.responses
                    for part in topic.partition_responses
                    if not part.error_code
                }
        for place in kept:
            numbered.sequences[place] += len(batches[place])
        if len(kept) < len(batches):
            self._numbered, self._leads = None, {}
        return kept


class KafkaReader(ConsumerRebalanceListener):
    """See `jietong.broker.Reader`: a member of a Kafka group. What it was not told to read from, it does not read."""

    def __init__(self, log: KafkaLog, group: str, topics: Sequence[str]) -> None:
        self._log, self._group, self._topics = log, group, tuple(topics)
        self._consumer: Any = None
        self._generation = 0
        self._next: dict[Place, int] = {}
        self._suspicious = 0.0

    def poll(self, seconds: float, limit: int) -> Sequence[Record]:
        if self._suspicious and self._next:
            if time.monotonic() < self._suspicious and (records := self._looked(limit)):
                return records
            self._trust()
        found = self._guarded(lambda consumer: _polled(consumer, int(seconds * 1000), limit))
        records = [_record(record) for batch in found.values() for record in batch]
        return [record for record in records if self._follows(record)]

    def assigned(self) -> Assignment:
        places = self._guarded(lambda consumer: consumer.assignment()) if self._consumer else ()
        return Assignment(self._generation, frozenset(Place(*place) for place in places))

    def seek(self, place: Place, offset: int) -> None:
        self._next[place] = offset
        at = TopicPartition(*place)
        self._guarded(lambda consumer: (consumer.seek(at, offset), consumer.resume(at)))

    def commit(self, offsets: Mapping[Place, int]) -> None:
        advice = {TopicPartition(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        with suppress(RetriableError):
            self._guarded(lambda consumer: consumer.commit_async(advice))

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(Exception):
                consumer.close(autocommit=False, timeout_ms=3000)

    # -- of the group's own thread ---------------------------------------------------------------------------------------
    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Its positions are in our database: whoever takes them over begins there."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing is read before it is sought."""
        self._generation += 1
        self._next.clear()
        if assigned and self._consumer is not None:
            self._consumer.pause(*assigned)

    # -- its own ---------------------------------------------------------------------------------------------------------
    def _follows(self, record: Record) -> bool:
        """Whether it comes after what we have taken, not fetched before a seek, nor of a place that was never sought."""
        place = Place(record.topic, record.partition)
        if record.offset < self._next.get(place, record.offset + 1):
            return False
        self._next[place] = record.offset + 1
        return True

    def _looked(self, limit: int) -> list[Record]:
        """A poll by the protocol itself, where a damaged batch is one record that says so."""
        self._guarded(_kept_alive)
        taken: list[Record] = []
        for place, (records, after) in sorted(self._log.fetch(dict(self._next)).items()):
            some = records[: limit - len(taken)]
            taken += some
            self._next[place] = (
                after if len(some) == len(records) else some[-1].offset + 1 if some else self._next[place]
            )
        return taken

    def _trust(self) -> None:
        self._suspicious = 0.0
        for place, offset in self._next.items():
            self.seek(place, offset)

    def _guarded(self, do: Callable[[Any], Any]) -> Any:
        """After any exception the consumer is thrown away: its next `poll()` would spin and never return."""
        try:
            if self._consumer is None:
                self._consumer = self._joined()
            return do(self._consumer)
        except Exception as error:
            self._suspicious = time.monotonic() + SUSPICION
            self._generation += 1
            self._next.clear()
            self.close()
            raise RetriableError(f"log: {_said(error)}") from error

    def _joined(self) -> Any:
        options: dict[str, Any] = {
            "bootstrap_servers": self._log.servers, "client_id": self._log.name, "group_id": self._group, "enable_auto_commit": False,
            "auto_offset_reset": "earliest", "isolation_level": "read_committed", "allow_auto_create_topics": False,
            "bootstrap_timeout_ms": int(ANSWER * 1000), "request_timeout_ms": int(ANSWER * 1000), "session_timeout_ms": 10_000,
            "heartbeat_interval_ms": 3_000, "max_poll_interval_ms": int(self._log.poll_interval * 1000), "reconnect_backoff_max_ms": 1000,
            "partition_assignment_strategy": (RangePartitionAssignor,), "fetch_max_bytes": FETCH_BYTES, "metrics_enabled": False,
            "metadata_max_age_ms": 30_000, **self._log.security,
        }  # fmt: skip
        consumer = KafkaConsumer(**options)
        consumer.subscribe(self._topics, listener=self)
        self._consumer = consumer
        return consumer


# -- requests ------------------------------------------------------------------------------------------------------------
def _kept_alive(consumer: Any) -> None:
    """Membership needs its poll; paused, it fetches nothing."""
    consumer.pause(*consumer.assignment())
    _polled(consumer, 0, 1)


def _polled(consumer: Any, millis: int, most: int) -> Any:
    """A poll. One that ends while a rejoin for changed topics is under way leaves that rejoin done but never taken up: no
    partitions, no heartbeat, no error, for ever. So it is asked for once more."""
    found = consumer.poll(timeout_ms=millis, max_records=most)
    coordinator = consumer._coordinator  # noqa: SLF001
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()
    return found


def _by_node(leaders: Mapping[Place, int]) -> dict[int, list[Place]]:
    found: defaultdict[int, list[Place]] = defaultdict(list)
    for place, node in sorted(leaders.items()):
        found[node].append(place)
    return found


def _by_topic(places: Iterable[Place]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for place in places:
        found[place.topic].append(place.partition)
    return found


def _numbered(wire: Wire) -> Numbered:
    """A number of our own; a broker that has just started first loads those it gave out."""
    until = time.monotonic() + ANSWER
    while True:
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=0, producer_id=-1, producer_epoch=-1, max_version=4
        )
        answer = wire.ask(None, request)
        if not answer.error_code:
            return Numbered(answer.producer_id, answer.producer_epoch)
        error = for_code(answer.error_code)
        if not error.retriable or time.monotonic() > until:
            raise error()
        time.sleep(0.1)


def _packed(messages: Sequence[Message], numbered: Numbered, place: Place) -> bytes:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=2 * BATCH_BYTES)
    for message in messages:
        builder.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
    builder.set_producer_state(numbered.id, numbered.epoch, numbered.sequences[place] & 0x7FFFFFFF, False)
    builder.close()
    return builder.buffer()


def _chunk(numbers: Sequence[int], messages: Sequence[Message]) -> list[int]:
    """As many as one batch may hold; at least one."""
    room, chosen = BATCH_BYTES, list[int]()
    for n in numbers:
        message = messages[n]
        room -= len(message.key) + len(message.value or b"") + HEADERS_BYTES
        if chosen and room < 0:
            break
        chosen.append(n)
    return chosen


def _produce_request(batches: Mapping[Place, bytes]) -> Any:
    topic_data = ProduceRequest.TopicProduceData
    return ProduceRequest(
        transactional_id=None, acks=-1, timeout_ms=int(ANSWER * 1000), max_version=9, min_version=3,
        topic_data=[
            topic_data(name=name, partition_data=[topic_data.PartitionProduceData(index=p, records=batches[Place(name, p)]) for p in partitions])
            for name, partitions in _by_topic(batches).items()
        ],
    )  # fmt: skip


def _offsets_request(places: Sequence[Place], which: int) -> Any:
    topic = ListOffsetsRequest.ListOffsetsTopic
    return ListOffsetsRequest(
        isolation_level=COMMITTED, min_version=2, max_version=6,
        topics=[
            topic(name=name, partitions=[topic.ListOffsetsPartition(partition_index=p, current_leader_epoch=-1, timestamp=which) for p in partitions])
            for name, partitions in _by_topic(places).items()
        ],
    )  # fmt: skip


def _fetch_request(offsets: Mapping[Place, int], most: int) -> Any:
    topic = FetchRequest.FetchTopic
    return FetchRequest(
        max_wait_ms=0, min_bytes=0, max_bytes=FETCH_BYTES, isolation_level=COMMITTED, session_id=NO_SESSION, session_epoch=FINAL_EPOCH,
        forgotten_topics_data=[], rack_id="", min_version=4, max_version=12,
        topics=[
            topic(topic=name, partitions=[
                topic.FetchPartition(partition=p, current_leader_epoch=-1, fetch_offset=offsets[Place(name, p)], last_fetched_epoch=-1,
                                     partition_max_bytes=most)
                for p in partitions
            ])
            for name, partitions in _by_topic(offsets).items()
        ],
    )  # fmt: skip


# -- records -------------------------------------------------------------------------------------------------------------
def _parsed(place: Place, part: Any, offset: int) -> tuple[Sequence[Record], int]:
    """Records at or after an offset, without those of aborted transactions; and the offset after the last whole batch."""
    aborted = sorted(((t.first_offset, t.producer_id) for t in part.aborted_transactions or ()), reverse=True)
    ended: set[int] = set()
    found: list[Record] = []
    after = offset
    for batch in _batches(part.records):
        while aborted and aborted[-1][0] <= batch.last_offset:
            ended.add(aborted.pop()[1])
        after = max(after, batch.next_offset)
        if batch.is_control_batch:
            ended.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in ended):
            found += [record for record in _unpacked(place, batch) if record.offset >= offset]
    return found, after


def _batches(records: bytes | None) -> Iterator[Any]:
    if records:
        yield from MemoryRecords(records)


def _unpacked(place: Place, batch: Any) -> list[Record]:
    """Its records; of a batch that cannot be read, one at its last offset that says so."""
    try:
        records = [_record_of(place, record) for record in batch] if batch.validate_crc() else None
    except Exception as error:  # noqa: BLE001 — whatever the bytes lead the client to
        records, reason = None, type(error).__name__
    else:
        reason = "checksum"
    if records is None:
        damaged = (("damaged", f"batch of {batch.records_count} records: {reason}".encode()),)
        return [Record(place.topic, place.partition, batch.last_offset, b"", None, damaged)]
    return records


def _record_of(place: Place, record: Any) -> Record:
    headers = tuple((name, b"" if value is None else value) for name, value in record.headers)
    return Record(
        place.topic, place.partition, record.offset, record.key or b"", record.value, headers, record.timestamp
    )


def _record(record: Any) -> Record:
    return _record_of(Place(record.topic, record.partition), record)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return (
        f"{type(error).__name__}: {text}" if text and type(error).__name__ not in text else text or type(error).__name__
    )
