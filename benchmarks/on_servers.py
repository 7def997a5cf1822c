"""`make bench-city`: ratios on the real servers, each pair in turns within one run.

Servers are started for it; the peers are FastStream services in `benchmarks/peers/`. A figure under its target is shown as such
and fails nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as Foreign
from confluent_kafka import TopicPartition
from kafka import KafkaProducer

from benchmarks import workload
from benchmarks.city import BATCH, ROOT, WITHIN, Bench, bench, timed
from benchmarks.city_latency import latency
from benchmarks.city_scale import scale
from benchmarks.city_stages import stages
from benchmarks.scale import Idle
from benchmarks.table import Line, markdown
from jietong.adapters.postgres import PostgresStore
from jietong.broker import Message, partition_of
from jietong.delivery import outbox
from jietong.delivery.consumer import Consumer
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.event import Event
from jietong.service import Learned
from jietong.store import Transaction
from services.hookup.tables import hookup

TOPICS = [workload.APPROVAL]


# -- the relay -------------------------------------------------------------------------------------------------------------
def relay(b: Bench, events: int = 20_000, rounds: int = 5) -> list[Line]:
    """From rows committed in an outbox to acknowledged and marked; beside kafka-python's own producer in the loop of its
    documentation, the same records, flushed every thousand."""
    rows = b.approvals(events, 1)
    messages = [b.engine.contract.message(e) for e in rows]
    pairs = [(m, list(m.headers), partition_of(m.key, 6)) for m in messages]
    producer = KafkaProducer(bootstrap_servers=b.city.kafka.bootstrap, acks="all", enable_idempotence=True, linger_ms=5,
                             batch_size=256 * 1024)  # fmt: skip
    values: list[float] = []
    gc.collect()
    gc.freeze()  # the rows of this bench are neither side's garbage to look through
    for _ in range(rounds):
        bare, _ = timed(lambda: _bare(producer, pairs))
        source = f"urn:jietong:{workload.CITY}:{b.fresh('engineering')}"
        store = b.store(source.rpartition(":")[2])
        with store.transaction() as tx:
            outbox.insert(tx, rows)
        ours = Relay(source, store, b.engine.log, b.engine.contract, b.engine.clock, batch=BATCH, servers=True)
        ours.start()
        spent, _ = timed(lambda ours=ours: _emptied(ours))
        values.append(bare / spent)
    producer.close(5)
    return [Line("relay, commit to acknowledged / bare acknowledged loop", values, least=0.8)]


def _bare(producer: KafkaProducer, pairs: Sequence[tuple[Message, Any, int]]) -> None:
    for start in range(0, len(pairs), BATCH):
        for message, headers, partition in pairs[start : start + BATCH]:
            producer.send(message.topic, value=message.value, key=message.key, headers=headers, partition=partition)
        producer.flush()


def _emptied(ours: Relay) -> None:
    while ours.step().more:
        pass


# -- hookup and the peers ----------------------------------------------------------------------------------------------------
def peers(b: Bench, events: int = 5_000, rounds: int = 3) -> list[Line]:
    """The same approvals through hookup, through a FastStream handler of one message, and through one of a batch."""
    messages = [b.engine.contract.message(e) for e in b.approvals(events, 2)]
    b.send(messages)
    rates: dict[str, list[float]] = {"ours": [], "per_message": [], "batch": []}
    for _ in range(rounds):
        for side, found in rates.items():
            name = b.fresh(side)
            b.store(name, hookup)
            module = "benchmarks.ours" if side == "ours" else f"benchmarks.peers.{side}"
            said = _run(b, module, name)
            found.append(said["events"] / said["seconds"])
    each = zip(rates["ours"], rates["per_message"], rates["batch"], strict=True)
    ratios = [(ours / one, ours / many) for ours, one, many in each]
    return [
        Line("hookup / FastStream, a message a time", [one for one, _ in ratios], least=2.5),
        Line("hookup / FastStream, batches and the same inbox", [many for _, many in ratios], least=1.0),
    ]


def _run(b: Bench, module: str, name: str) -> dict[str, Any]:
    where = [
        "--bootstrap",
        b.city.kafka.bootstrap,
        "--database",
        b.city.postgres.url,
        "--registry",
        b.city.registry.url,
    ]
    command = [sys.executable, "-W", "ignore", "-m", module, "--name", name, "--now", "0", "--topics", *TOPICS]
    command += [] if module == "benchmarks.ours" else where
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **b.env}, stdout=subprocess.PIPE, text=True) as process:
        _at_the_end(b, name)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    return json.loads(said.splitlines()[-1])


def _at_the_end(b: Bench, group: str) -> None:
    """Until a group has committed all there is."""
    ends = {Place: bounds.end for Place, bounds in b.engine.log.topic(TOPICS[0]).bounds.items()}
    asked = Foreign({"bootstrap.servers": b.city.kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        found = asked.committed([TopicPartition(TOPICS[0], p) for p in ends], timeout=30)
        if all(max(at.offset, 0) == ends[at.partition] for at in found):
            asked.close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"{group} did not reach the end")


# -- copies ------------------------------------------------------------------------------------------------------------------
class Waits(Idle):
    """A service whose every event takes five milliseconds of somebody else's time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def learn(self, tx: Transaction, event: Event) -> Learned:
        time.sleep(0.005)  # the work itself, not a wait for anything
        return super().learn(tx, event)


def copies(b: Bench, events: int = 3_000, rounds: int = 3) -> list[Line]:
    """Two members of a group / one, where a handler waits five milliseconds an event."""
    messages = [b.engine.contract.message(e) for e in b.approvals(events, 3)]
    b.send(messages)
    values: list[float] = []
    for _ in range(rounds):
        one, two = (_drained(b, count) for count in (1, 2))
        values.append(one / two)
    return [Line("two copies / one, a handler that waits 5 ms", values, least=1.8)]


def _drained(b: Bench, count: int) -> float:
    """Seconds from when every member is in until all is read."""
    name = b.fresh("waits")
    b.store(name)
    store = PostgresStore(b.engine.backend.database, name, delivery)  # type: ignore[attr-defined]
    service: Any = Waits(name)
    members = [
        Consumer(service, store, b.engine.log, b.engine.outbox(store), batch=100, member=str(n)) for n in range(count)
    ]
    _join(members)
    begun = time.monotonic()
    done = threading.Event()

    def work(member: Consumer) -> None:
        while not done.is_set():
            member.step(0.1)

    threads = [threading.Thread(target=work, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    total = sum(bounds.end for bounds in b.engine.log.topic(workload.APPROVAL).bounds.values())
    while _read(store) < total:
        time.sleep(0.05)
    spent = time.monotonic() - begun
    done.set()
    for thread in threads:
        thread.join()
    for member in members:
        member.stop()
    return spent


def _join(members: Sequence[Consumer]) -> None:
    """Until the group has let every one of them in, and shared the partitions out among them; nothing is read yet."""
    for member in members:
        member.start()
    readers = [member._reader for member in members]  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    while sum(len(reader.assigned().places) for reader in readers) != 6 or not all(
        reader.assigned().places for reader in readers
    ):
        for reader in readers:
            reader.poll(0.1, 1)


def _read(store: PostgresStore) -> int:
    with store.snapshot() as tx:
        return int(tx.execute('SELECT coalesce(sum("offset"), 0) FROM position').all()[0][0])


ALL: Mapping[str, tuple[Callable[[Bench], list[Line]], Callable[[Bench], list[Line]]]] = {
    "relay": (relay, lambda b: relay(b, 5_000, 3)),
    "peers": (peers, lambda b: peers(b, 1_500, 1)),
    "copies": (copies, lambda b: copies(b, 1_000, 1)),
    "latency": (latency, lambda b: latency(b, 500, 5_000, 100, 1)),
    "stages": (stages, lambda b: stages(b, 2_000, 1)),
    "scale": (scale, lambda b: scale(b, 50_000, 5_000, 1)),
}
"""Name → in full, quick."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.on_servers", description="Ratios on real servers, as a table."
    )
    parser.add_argument("names", nargs="*", help=f"only these of {', '.join(ALL)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, not a measurement")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - ALL.keys():
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    lines: list[Line] = []
    for name, (full, quick) in ALL.items():
        if not chosen.names or name in chosen.names:
            print(f"measuring: {name}", file=sys.stderr)
            with bench() as b:
                lines += (quick if chosen.quick else full)(b)
    print(markdown(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
