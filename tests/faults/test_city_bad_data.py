"""FAULTS.md, F on real servers: bytes and events that are not what they should be."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from jietong import compatibility
from jietong.broker import Message
from jietong.contract import MAX_BODY
from jietong.delivery.limits import Limit
from jietong.engine import Program, Running
from jietong.errors import InvalidEventError, LimitError
from jietong.event import Key
from tests.faults.bench import APPROVAL, draft
from tests.faults.bench_city import CityBench, Ground, placed
from tests.faults.harness import FULL, told, until
from tests.faults.recorder import Recorder
from tests.faults.test_bad_data import ACCEPTANCE, UNREADABLE, fails, mingled, redriven, results, spoiled, with_value

pytestmark = [
    pytest.mark.city, pytest.mark.timeout(300), pytest.mark.xdist_group("ground"),
    pytest.mark.filterwarnings("ignore:read_text is deprecated"),  # kafka-python
]  # fmt: skip


@pytest.fixture
def bench(city_bench: CityBench) -> CityBench:
    """Everything here is on real servers."""
    return city_bench


# -- F37, F38, F40: raw records ------------------------------------------------------------------------------------------
def test_f37_random_truncated_and_trailing_bytes_hurt_no_neighbour_in_their_batch(bench: CityBench) -> None:
    chance = random.Random("F37")
    numbers = list(islice(bench.numbers(), 15))
    good = bench.keep(*bench.commit(*(draft(n) for n in numbers[:12])))
    dead = bench.commit_as(
        *(spoiled(bench, n, chance.randbytes(40)) for n in numbers[12:14]),
        spoiled(bench, numbers[14], bench.outbox.prepare(draft()).body + b"!"),
    )
    value = good[0].value or b""
    foul = [
        with_value(good[0], chance.randbytes(200)),
        with_value(good[1], value[:-3]),
        with_value(good[2], value + b"\0"),
        Message(APPROVAL, chance.randbytes(8), chance.randbytes(8)),
        Message(APPROVAL, good[4].key, value, good[4].headers[:4]),
    ]
    mixed = [*mingled(foul, good), *bench.keep(*dead)]
    bench.write(*mixed, into=0)
    bench.take()
    assert max(bench.steps) == len(mixed), "all in one batch"
    assert len(bench.done()) == 12
    assert len(bench.strays()) == len(foul)
    assert all("decode" in reason for reason in bench.reasons("dead"))
    told(good=12, strays=bench.strays(), dead=len(dead))
    assert bench.judged(dead=tuple(dead)).numbers["fates"] == {"applied": 12, "dead": 3}


def test_f38_a_schema_id_that_is_not_the_topics_is_refused(bench: CityBench) -> None:
    foreign = bench.contract.encode(compatibility.example(ACCEPTANCE))[0]
    number = bench.engine.contract._registry.id(foreign)
    [before] = bench.commit(draft(1))
    wrong = bench.commit_as(*(spoiled(bench, n, before.body, fingerprint=foreign) for n in (1, 2)))
    [behind] = bench.commit(draft(2))
    messages = bench.keep(before, *wrong, behind)
    bench.write(with_value(messages[0], b"\0" + number.to_bytes(4) + before.body), *messages)
    bench.take()
    assert [key.sequence for key in bench.done()] == [1], "its twin with another id in its first bytes is a stray"
    assert bench.reasons("dead") == {"schema: not one of this topic's"}
    assert bench.strays() == ["digest: not that of its schema and body"]
    told(foreign_id=number)
    bench.judged(dead=tuple(wrong), waiting=(behind,))


def test_f39_while_the_registry_is_away_known_ids_go_on_and_unknown_ones_wait_then_are_parked_and_healed(
    ground: Ground, bench: CityBench
) -> None:
    bench.commit(draft(1))
    bench.flow()
    bench.reader.stop()
    away = 300.0 if FULL else 8.0
    known, foul = bench.commit(draft(2)), bench.commit(draft(3), draft(3))
    kept = bench.keep(*known, *foul)
    with running(bench) as movements:
        consume = movements.health["consume reader"]
        ground.city.registry.stop()
        try:
            bench.write(kept[0])
            until(lambda: len(bench.done()) == 2)
            unknown = with_value(kept[1], b"\0" + (999_999).to_bytes(4) + foul[0].body)
            bench.write(unknown, kept[2])
            until(lambda: consume.waiting and "registry" in consume.waiting)
            cpu, begun, tries = time.process_time(), time.monotonic(), 0
            while time.monotonic() < begun + away:
                assert set(bench.fates().values()) == {"applied"}, "nothing is held while it is away"
                tries += bool(consume.waiting)
                time.sleep(0.1)
            spun = (time.process_time() - cpu) / away
            assert spun < 0.9, f"it spins: {spun:.0%} of a core"
        finally:
            ground.city.registry.start()
        until(lambda: movements.consumers()[0].counts.fates["parked", "schema"] == 1)
        until(lambda: len(bench.done()) == 4)
        parked = dict(movements.consumers()[0].counts.fates)
    assert [key.sequence for key in bench.done() if key.subject == draft(3).subject] == [1, 2]
    told(away_s=away, spun=f"{spun:.0%}", waiting_seen=tries, parked=parked["parked", "schema"])
    numbers = bench.judged().numbers
    assert numbers["duplicates in the log"] >= 1, "its owner was not asked for a copy"


@contextmanager
def running(bench: CityBench) -> Generator[Running]:
    """The reader and both relays as threads, as in a program; left with everything written down."""
    outbox = bench.engine.outbox(bench.store)
    reading = bench.engine.consume(Recorder("reader", APPROVAL, verdict=bench._verdict), bench.store, outbox)
    program = Program("reader", [reading, bench.relay, bench.backwards])
    movements = Running(bench.engine, [program], beat=0.5).start()
    try:
        yield movements
    finally:
        movements.stop()
    assert movements.bug() is None


def test_f40_what_is_too_big_is_refused_in_its_own_transaction(bench: CityBench) -> None:
    with pytest.raises(InvalidEventError, match="at most 262144"):
        bench.commit(draft(), draft(missing=["x" * 190] * 1600))
    with bench.platform.snapshot() as tx:
        assert tx.execute("SELECT (SELECT count(*) FROM approval), (SELECT count(*) FROM outbox)").all() == [(0, 0)]
    bench.commit(draft(missing=["x" * 190] * 1300))
    bench.flow()
    assert len(bench.done()) == 1
    bench.judged()


def test_f40_giants_nothing_tombstones_and_ten_thousand_headers_say_nothing_of_a_stream(bench: CityBench) -> None:
    good = bench.keep(*bench.commit(*(draft(n) for n in range(8))))
    headers = tuple((f"h{n}", b"x") for n in range(10_000))
    foul = [
        with_value(good[0], b"\0\0\0\0\2" + bytes(500_000)),
        with_value(good[1], b""),
        with_value(good[2], None),
        replace(good[3], headers=good[3].headers + headers),
        with_value(good[4], b"\0" * (MAX_BODY + 6)),
        replace(good[5], headers=(*good[5].headers, ("ce_sequence", b"9" * 30))),
    ]
    assert bench.refused(with_value(good[6], bytes(1024 * 1024 + 1))) == "MSG_SIZE_TOO_LARGE", "the broker takes it"
    bench.write(*mingled(foul, good), into=3)
    bench.take()
    assert len(bench.strays()) == len(foul), bench.strays()
    assert len(bench.done()) == 8
    assert bench.rows("SELECT max(length(value)), max(length(headers)) <= 4096 FROM stray") == [(4096, True)]
    told(strays=bench.strays())
    bench.judged()


# -- F41 -------------------------------------------------------------------------------------------------------------------
BOMB = """
import sys
from confluent_kafka import Producer
said = []
producer = Producer({"bootstrap.servers": sys.argv[1], "compression.type": "zstd", "message.max.bytes": 900_000_000,
                     "linger.ms": 0, "log_level": 0, "delivery.timeout.ms": 60_000})
producer.produce(sys.argv[2], bytes(int(sys.argv[3]) << 20), b"bomb", int(sys.argv[4]), on_delivery=lambda error, _: said.append(error))
producer.flush(90)
print(said[0].name() if said and said[0] else "delivered" if said else "nothing")
"""
"""Its memory is its own: only what the reader takes is measured."""


def bomb(bench: CityBench, megabytes: int, partition: int) -> str:
    """A record that is a few kilobytes on its way and unpacks to this; what became of it."""
    where = [bench.ground.city.kafka.direct, APPROVAL, str(megabytes), str(partition)]
    done = subprocess.run(
        [sys.executable, "-c", BOMB, *where], check=False, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() or done.stderr


def test_f41_a_broker_refuses_what_unpacks_to_more_than_a_topic_of_ours_may_hold(bench: CityBench) -> None:
    said = {megabytes: bomb(bench, megabytes, 0) for megabytes in (2, 32, 256)}
    assert "delivered" not in said.values(), said
    assert said[2] == said[32] == "MSG_SIZE_TOO_LARGE", said
    bench.commit(*(draft(n) for n in range(6)))
    bench.flow()
    assert (len(bench.done()), bench.strays()) == (6, [])
    told(refused=said)  # a small heap has no room for the largest and says UNKNOWN; the broker lives, as the flow shows
    bench.judged()


def test_f41_a_bomb_in_the_log_is_stepped_over_in_bounded_memory_and_held_as_a_stray(bench: CityBench) -> None:
    bench.log.configure(APPROVAL, {"compression.type": "producer"})  # pyright: ignore[reportAttributeAccessIssue]
    numbers = list(islice(bench.numbers(partition=2), 40))
    first = bench.keep(*bench.commit(*(draft(n) for n in numbers[:20])))
    then = bench.keep(*bench.commit(*(draft(n) for n in numbers[20:])))
    bench.write(*first)
    assert bomb(bench, 256, 2) == "delivered"
    assert bomb(bench, 256, 3) == "delivered"
    bench.write(*then)
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest it ever was
    before, begun = memory("VmRSS"), time.process_time()
    bench.take(120)
    grown, cpu = memory("VmHWM") - before, time.process_time() - begun
    assert len(bench.done()) == 40
    assert len(bench.strays()) == 2
    assert all("batch of 1 records" in row[0] for row in bench.rows("SELECT headers FROM stray")), (
        "not as damaged batches"
    )
    assert grown < 128, f"{grown} MiB for two bombs of 256 MiB"
    told(strays=bench.strays(), grown_mib=grown, cpu_s=round(cpu, 1))
    bench.judged()


def memory(what: str) -> int:
    """MiB of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith(what)]
    return int(line.split()[1]) // 1024


# -- F47–F50: deliveries -----------------------------------------------------------------------------------------------------
def test_f47_the_same_events_five_times_in_reverse_have_their_effect_once_and_in_order(bench: CityBench) -> None:
    messages = bench.keep(*bench.commit(*(draft(n % 3) for n in range(12))))
    for _ in range(5):
        bench.write(*messages[::-1])
    bench.take()
    assert len(bench.done()) == 12
    assert bench.reader.counts.duplicates == 48
    assert bench.judged().numbers["duplicates in the log"] == 48
    told(duplicates=bench.reader.counts.duplicates)


def test_f48_a_project_that_always_fails_is_parked_alone_and_released_in_order(bench: CityBench) -> None:
    refused = draft(1).subject
    bench.verdict = lambda event: fails(event, refused)
    events = bench.commit(*(draft(n % 3) for n in range(15)))
    bench.flow()
    mine = [envelope for envelope in events if envelope.key.subject == refused]
    assert {key.subject for key in bench.done()} == {draft(0).subject, draft(2).subject}
    bench.judged(parked=(mine[0],), waiting=tuple(mine[1:]))
    for minutes in (1, 2, 4):  # tried again by itself, and refused again
        bench.beat(60 * minutes + 1)
        assert bench.fates()[mine[0].key] == "parked"
    bench.verdict = lambda _: None
    bench.beat(9 * 60)
    assert [key.sequence for key in bench.done() if key.subject == refused] == [1, 2, 3, 4, 5]
    bench.judged()
    told(held=1, behind_it=len(mine) - 1, tries=4)


def test_f49_two_redrives_at_once_by_two_members_have_one_effect(ground: Ground, bench: CityBench) -> None:
    """Two copies of the reader, and two people whose wishes each of them may find."""
    bench.verdict = lambda event: fails(event, draft(1).subject)
    bench.commit(*(draft(1) for _ in range(40)), *(draft(n) for n in range(2, 10)))
    bench.flow()
    assert len(bench.done()) == 8
    bench.verdict = lambda _: None
    bench.reader.stop()
    with bench.member("1"), bench.member("2"):
        gate = threading.Barrier(2)
        threads = [threading.Thread(target=redriven, args=(bench, gate, name)) for name in ("first", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len(bench.done()) == 48)
        until(lambda: all(said is not None for said in results(bench)))
    bench.judged()
    told(redrives=len(results(bench)), said=sorted(set(filter(None, results(bench)))))
    assert len(results(bench)) == 20


def test_f50_a_bad_deploy_stops_the_reader_and_drains_nothing(bench: CityBench) -> None:
    chance = random.Random("F50")
    envelopes = [spoiled(bench, n) if chance.random() < 0.3 else bench.outbox.prepare(draft(n)) for n in range(400)]
    events = bench.commit_as(*envelopes)
    bench.send()
    bench.read(Limit(), batch=100)
    tripped = stopped(bench)
    assert len(tripped) <= Limit().least, "batches before the one that tripped the limit are kept, no others"
    for _ in range(3):
        bench.read(Limit(), batch=100)
        assert len(stopped(bench)) <= Limit().least, "a restart is no way round it"
    assert bench.ask("go on", "resume", type=APPROVAL, allow=400) == f"{APPROVAL}: up to 400 invalid events may pass"
    bench.read(Limit(), batch=100)
    bench.flow()
    dead = tuple(envelope for envelope in events if envelope.body == UNREADABLE)
    told(events=400, invalid=len(dead), kept_before_the_stop=len(tripped))
    assert bench.judged(dead=dead).numbers["fates"]["dead"] == len(dead) > 80


def stopped(bench: CityBench) -> dict[Key, str]:
    """Read until the limit stops it: what it had before is what it has."""
    for _ in range(200):
        before, positions = bench.fates(), placed(bench)
        try:
            bench.step()
        except LimitError:
            break
    else:
        raise AssertionError("the limit never tripped")
    assert bench.fates() == before, "the batch that tripped the limit left something"
    assert placed(bench) == positions
    return before
