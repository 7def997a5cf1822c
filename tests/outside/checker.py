"""The outside checker: whether the promise was kept, from tables and bytes alone. It imports nothing of ours.

`python -m tests.outside.checker DATA`, a data folder, or `--database URL --bootstrap HOST:PORT[,…] [--registry URL]`, the
servers of a city; `[--history FILE] [--within SECONDS] [--pid N …] [--json]`. It prints numbers and a verdict for
* I1 none lost: every committed event a consumer reads has one final fate there; set aside is what was predicted; of
  a topic that was made anew everything was sent again;
* I2 none twice: one effect for a platform's row at a receiver, one meaning for an event, rounds of a case 1 … n;
* I3 order: sequences of each stream 1 … n without a gap or an inversion, where n is the platform's own count;
* I5 no phantom: the digest of every effect is that of a committed row;
* I6 lives: nothing unsent, nothing waiting, every position at its topic's end, nothing halted, within the time given;
* I8 bounded: files, write-ahead logs, strays, attempts, and memory, descriptors, threads of a process under their caps.
What is legal and must be counted, so that a fault can show it did something, is among the numbers: duplicates, strays,
attempts, deaths, records of no committed row, the ids of topics.
Exit code 0 if all hold, 1 if one does not, 2 if there is nothing to check: a table is missing, a server is away.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.outside import avro, tables
from tests.outside.servers import Servers
from tests.outside.tables import City, Consumer, Files, History, Key, Operation, Operator, Seen, Sent, Topic

INVARIANTS = ("I1", "I2", "I3", "I5", "I6", "I8")
REQUESTED = "utility.connection.requested.v1"
TOOK, FINAL = ("applied", "filtered"), ("applied", "filtered", "superseded", "skipped")
SHOWN = 5
Stream = tuple[str, str, str]
Found = Iterator[str]


@dataclass(frozen=True)
class Caps:
    """What bounds are (I8). Sizes in bytes; `pid`: a process that is looked at too, or several."""

    wal: int = 128 * 1024**2
    files: int = 200
    strays: int = 1000
    deaths: int = 5
    pid: int | Sequence[int] | None = None
    rss: int = 512 * 1024**2
    descriptors: int = 512
    threads: int = 128


@dataclass
class Verdict:
    """`faults`: invariant → sentences, empty where it holds."""

    numbers: dict[str, Any]
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        return [name for name in INVARIANTS if self.faults[name]]

    @property
    def clean(self) -> bool:
        return not self.broken

    def __str__(self) -> str:
        lines = [f"{name:<24} {value}" for name, value in self.numbers.items()]
        for name in INVARIANTS:
            faults = self.faults[name]
            lines.append(f"{name} {f'BROKEN ({len(faults)})' if faults else 'holds'}")
            lines += [f"   {fault}" for fault in faults[:SHOWN]]
        return "\n".join(lines)


def check(city: City | Path, history: Path | None = None, *, within: float = 0.0, caps: Caps = Caps()) -> Verdict:
    """Look at a city, or a data folder, as soon as it is quiet, at the latest after `within` seconds; while a city still
    writes, only the last moment counts. Without a history nothing was predicted to be held."""
    city = Files(city) if isinstance(city, Path) else city
    until = time.monotonic() + within
    seen, stayed = city.look(), 0
    while stayed < 2 and time.monotonic() < until:  # twice running: between two stores something may be on its way
        stayed = 0 if any(_unquiet(seen, History([], _held_of(history)))) else stayed + 1
        time.sleep(0.1)
        seen = city.look()
    return _judged(city, seen, tables.history(history) if history else History([], []), caps)


def _held_of(history: Path | None) -> list[dict[str, Any]]:
    return tables.history(history).held if history else []


def _judged(city: City, seen: Seen, told: History, caps: Caps) -> Verdict:
    rows = {operation.name: tables.committed(city, operation) for operation in told.operations}
    requests, unreadable = _requests(city, seen)
    faults = {
        "I1": [*_lost(seen, told), *_unkept(told, rows), *_without_effect(seen, told, rows), *_unlogged(seen, told)],
        "I2": [*_twice(seen), *_rounds(seen, requests), *_done_twice(seen), *_repeated(seen, told, rows)],
        "I3": [*_disordered(seen), *_miscounted(seen, told, rows)],
        "I5": [*_phantoms(seen), *_unasked(seen, told, rows), *unreadable],
        "I6": list(_unquiet(seen, told)),
        "I8": [*_unbounded(seen, caps), *_processes(caps)],
    }
    return Verdict(_numbers(seen, told, rows), faults)


def _requests(city: City, seen: Seen) -> tuple[dict[Key, dict[str, Any]], list[str]]:
    """What was asked of operators, by the schema that the log's own record names where there is a registry; and which of
    it cannot be read."""
    found, faults = dict[Key, dict[str, Any]](), list[str]()
    copies = seen.topics[REQUESTED].copies if seen.topics and REQUESTED in seen.topics else ()
    prefixes = {(copy.key, copy.body): copy.prefix for copy in copies}
    for key, row in seen.outbox.items():
        if key.type == REQUESTED and row.body:
            prefix = prefixes.get((key, tables.short(row.body)))
            schema = city.schema(prefix) if prefix else None
            try:
                found[key] = avro.read(schema, row.body) if schema else avro.decoded(key.type, row.body)
            except ValueError as error:
                faults.append(f"{_text(key)}: {error}")
    return found, faults


# -- I1 none lost ------------------------------------------------------------------------------------------------------
def _lost(seen: Seen, told: History) -> Found:
    predicted = _predicted(told)
    aside = {
        (c.name, *key, taken.fate) for c in seen.consumers for key, taken in c.inbox.items() if taken.fate not in TOOK
    }
    yield from _differences(
        "is set aside, and was not predicted", aside - predicted, "was predicted, and is not", predicted - aside
    )
    sources = {(p["file"], p["row"]) for p in told.held if "row" in p}
    yield from _differences("cannot become an event, and was not predicted", seen.source_held - sources,
                            "was predicted to be held at a source, and is not", sources - seen.source_held)  # fmt: skip
    for consumer in seen.consumers:
        due = {key for key in seen.outbox if key.type in consumer.topics}
        yield from (f"{consumer.name}: lost {_text(key)}" for key in sorted(due - consumer.inbox.keys()))
        fates = Counter(taken.fate for key, taken in consumer.inbox.items() if key in due)
        if (known := len(due & consumer.inbox.keys())) != sum(fates.values()):
            yield f"{consumer.name}: {known} known, and fates of {sum(fates.values())}"
        yield from _undone(consumer)
    for operator in seen.operators:
        yield from _undelivered(seen, operator)


def _predicted(told: History) -> set[tuple[Any, ...]]:
    return {
        (tables.stem(p["consumer"]), p["source"], p["type"], p["subject"], p["sequence"], p["fate"])
        for p in told.held
        if "fate" in p
    }


def _undone(consumer: Consumer) -> Found:
    if consumer.done is not None:
        done = {one.key for one in consumer.done}
        applied = {key for key, taken in consumer.inbox.items() if taken.fate == "applied"}
        yield from (f"{consumer.name}: {_text(key)} applied without its effect" for key in sorted(applied - done))


def _undelivered(seen: Seen, operator: Operator) -> Found:
    """What was addressed to an operator was taken by its own consumer, and stands in its own system."""
    receipts = {receipt.id for receipt in operator.receipts} | operator.booked
    for consumer in _of_operator(seen, operator):
        for key, taken in consumer.inbox.items():
            row = seen.outbox.get(key)
            mine = row is not None and row.operator == operator.name
            if taken.fate in TOOK and (taken.fate == "applied") != mine:
                yield f"{consumer.name}: {_text(key)} is {taken.fate}, addressed to {row.operator if row else 'nobody'}"
            if mine and taken.fate == "applied" and taken.id not in receipts:
                yield f"{operator.name}: {_text(key)} was delivered, and is not in its system"


def _unkept(told: History, rows: dict[str, list[str]]) -> Found:
    for operation in told.operations:
        if operation.outcome == "ok" and not rows[operation.name]:
            yield f"{operation.name}: was ok, and its row is not on the platform"


def _without_effect(seen: Seen, told: History, rows: dict[str, list[str]]) -> Found:
    leads = _leads(seen)
    for operation, subject, effect in _expected(told, rows):
        if not leads[(effect[0], subject, *effect[1:])]:
            yield f"{operation}: {effect[0]} has no {effect[1]} of {subject}"


def _unlogged(seen: Seen, told: History) -> Found:
    """A topic loses its beginning by retention alone, or because it was made anew: then all must have been sent again, and
    what is older than the oldest that is there was not. What was cut off at its end is asked for if anyone lacks it. A row
    without a body says of a sequence that it was lost (a void), and leaves only when somebody asks."""
    topics = {n: t for n, t in (seen.topics or {}).items() if not t.forgot and n not in told.forgotten}
    said = {(copy.key, copy.body) for name, topic in topics.items() for copy in topic.copies if copy.key.type == name}
    missing, oldest = list[tuple[Key, Sent]](), dict[tuple[str, str], int]()
    for key, row in seen.outbox.items():
        topic, of = topics.get(key.type), (row.store, key.type)
        if topic and row.body and seen.relayed.get(of, topic.id) == topic.id:
            if (key, tables.short(row.body)) in said:
                oldest[of] = min(row.n, oldest.get(of, row.n))
            elif row.sent:
                missing.append((key, row))
    for key, row in missing:
        if row.n < oldest.get((row.store, key.type), row.n + 1):
            yield f"log: lost {_text(key)}, which {row.store} says was sent"


# -- I2 none twice -----------------------------------------------------------------------------------------------------
def _twice(seen: Seen) -> Found:
    meanings: defaultdict[str, set[tuple[Key, bytes]]] = defaultdict(set)
    for key, row in seen.outbox.items():
        meanings[row.id].add((key, row.digest))
    for consumer in seen.consumers:
        for key, taken in consumer.inbox.items():
            if key in seen.outbox:  # what is not there is a phantom, not a second meaning
                meanings[taken.id].add((key, taken.digest))
    yield from (
        f"event {event} has {len(found)} meanings" for event, found in sorted(meanings.items()) if len(found) > 1
    )
    for (receiver, subject, kind, phase), cases in _leads(seen).items():
        if len(cases) != len(set(cases)):
            yield f"{receiver}: {len(cases)} cases of {kind} (phase {phase}) for {subject}"
    for operator in seen.operators:
        ids = Counter(receipt.id for receipt in operator.receipts)
        yield from (f"{operator.name}: event {event} was taken {n} times" for event, n in ids.items() if n > 1)


def _done_twice(seen: Seen) -> Found:
    for consumer in seen.consumers:
        keys = Counter(one.key for one in consumer.done or ())
        yield from (f"{consumer.name}: {_text(key)} had its effect {n} times" for key, n in keys.items() if n > 1)


def _rounds(seen: Seen, requests: dict[Key, dict[str, Any]]) -> Found:
    """What was asked of each operator about each case: rounds 1 … n, as its asker and its operator count them."""
    rounds: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    asked: dict[str, str] = {}
    for key, data in requests.items():
        rounds[data["operator"], data["case"]].append(data["round"])
        asked[data["case"]] = seen.outbox[key].store
    for (operator, case), numbers in rounds.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"case {case} of {operator}: rounds {sorted(numbers)}"
        own = seen.rounds.get(asked[case])
        if own is not None and own.get(case) != len(numbers):
            yield f"case {case} of {operator}: {len(numbers)} rounds were asked, {asked[case]} counts {own.get(case)}"
    for operator in seen.operators:
        counts = Counter(receipt.case for receipt in operator.receipts)
        for lead in operator.leads:
            if counts[lead.case] > lead.round:
                yield f"{operator.name}: case {lead.case} was asked {counts[lead.case]} times in {lead.round} rounds"


def _repeated(seen: Seen, told: History, rows: dict[str, list[str]]) -> Found:
    yield from (f"{name}: stands {len(found)} times on its platform" for name, found in rows.items() if len(found) > 1)
    leads = _leads(seen)
    expected = Counter((effect[0], subject, *effect[1:]) for _, subject, effect in _expected(told, rows))
    for (operator, subject, *what), times in sorted(expected.items()):
        if len(cases := leads[(operator, subject, *what)]) > times:
            yield f"{operator} has {len(cases)} cases of {what[0]} for {subject}, where {times} were opened"


# -- I3 order ----------------------------------------------------------------------------------------------------------
def _disordered(seen: Seen) -> Found:
    counts = _streams(seen.outbox)
    for stream, numbers in counts.items():
        yield from _hole("outbox", stream, numbers, len(numbers))
        if seen.counters.get(stream) != len(numbers):
            yield f"outbox: {'/'.join(stream)} counts {seen.counters.get(stream)} and has {len(numbers)}"
    for consumer in seen.consumers:
        mine = _streams(consumer.inbox)
        for stream, numbers in counts.items():
            if stream[1] in consumer.topics:
                yield from _behind(consumer, stream, mine.get(stream, []), len(numbers))
        yield from _inverted(consumer)
    for operator in seen.operators:
        yield from _stale(operator)


def _behind(consumer: Consumer, stream: Stream, numbers: list[int], platform: int) -> Found:
    yield from _hole(consumer.name, stream, numbers, platform)
    last, known, conflict = consumer.streams.get(stream, (0, 0, 0))
    if known != platform:
        yield f"{consumer.name}: {'/'.join(stream)} is known to {known}, its platform counts {platform}"
    unsettled = [n for n in numbers if consumer.inbox[Key(*stream, n)].fate not in FINAL]
    if last != min(unsettled, default=platform + 1) - 1:
        yield f"{consumer.name}: {'/'.join(stream)} is settled to {last} of {platform}"
    if conflict:
        yield f"{consumer.name}: {'/'.join(stream)} has two meanings of one sequence"


def _inverted(consumer: Consumer) -> Found:
    latest: dict[Stream, tuple[int, int]] = {}
    for key in sorted(consumer.inbox):
        taken = consumer.inbox[key]
        if taken.fate in TOOK and taken.settled is not None:
            n, when = latest.get(key.stream, (0, 0))
            if taken.settled < when:
                yield f"{consumer.name}: {_text(key)} was settled before {n}"
            latest[key.stream] = key.sequence, max(taken.settled, when)
    order: dict[Stream, int] = {}
    for key, _ in consumer.done or ():
        if key.sequence < order.get(key.stream, 0):
            yield f"{consumer.name}: {_text(key)} had its effect after {order[key.stream]}"
        order[key.stream] = max(key.sequence, order.get(key.stream, 0))


def _stale(operator: Operator) -> Found:
    order: dict[str, int] = {}
    for receipt in operator.receipts:
        if receipt.effect == "stale" or receipt.sequence < order.get(receipt.case, 0):
            yield f"{operator.name}: case {receipt.case} got sequence {receipt.sequence} after a later one"
        order[receipt.case] = receipt.sequence


def _hole(where: str, stream: Stream, numbers: list[int], count: int) -> Found:
    if missing := sorted(set(range(1, count + 1)) - set(numbers)):
        yield f"{where}: {'/'.join(stream)} lacks {missing[:SHOWN]}"


def _miscounted(seen: Seen, told: History, rows: dict[str, list[str]]) -> Found:
    """Events of a stream against committed rows of the platform, where the history tells of both."""
    wanted = _wanted(told, rows)
    counts = _streams(seen.outbox)
    for stream, n in wanted.items():
        if (have := len(counts.get(stream, []))) != n:
            yield f"{'/'.join(stream)}: {n} rows on the platform, {have} events"


# -- I5 no phantom -----------------------------------------------------------------------------------------------------
def _phantoms(seen: Seen) -> Found:
    ids = {row.id for row in seen.outbox.values()}
    for consumer in seen.consumers:
        for key, taken in consumer.inbox.items():
            row = seen.outbox.get(key)
            if row is None or row.digest != taken.digest:
                yield f"{consumer.name}: {_text(key)} {'has another digest than' if row else 'is not'} a committed row"
        for one in consumer.done or ():
            if (row := seen.outbox.get(one.key)) is None or row.id != one.id:
                yield f"{consumer.name}: an effect of {_text(one.key)} that no committed row has"
    for operator in seen.operators:
        yield from (f"{operator.name}: event {r.id} is no committed row" for r in operator.receipts if r.id not in ids)
        yield from (f"{operator.name}: event {id} is no committed row" for id in sorted(operator.booked - ids))
        taken = {receipt.case for receipt in operator.receipts}
        yield from (
            f"{operator.name}: case {lead.case} without a request" for lead in operator.leads if lead.case not in taken
        )


def _unasked(seen: Seen, told: History, rows: dict[str, list[str]]) -> Found:
    for operation in told.operations:
        if operation.outcome == "failed" and rows[operation.name]:
            yield f"{operation.name}: failed, and its row is on the platform"
    wanted = _wanted(told, rows)
    covered = {stream[:2] for stream in wanted}
    strange = {key.stream for key in seen.outbox if key.stream[:2] in covered} - wanted.keys()
    yield from (f"{'/'.join(stream)}: events that no operation made" for stream in sorted(strange))


# -- I6 lives, I8 bounded ----------------------------------------------------------------------------------------------
def _unquiet(seen: Seen, told: History) -> Found:
    predicted = {p[:-1] for p in _predicted(told)}
    yield from (f"{name}: {n} rows unsent, under way or asked for" for name, n in seen.pending.items() if n)
    yield from (f"{name}: {n} records of {topic} behind" for (name, topic), n in seen.lag.items() if n)
    for (name, topic), topic_id in seen.relayed.items():
        if seen.topics is not None and (topic not in seen.topics or seen.topics[topic].id != topic_id):
            yield f"{name}: {topic} is gone or was made anew, and its relay has not seen it"
    for consumer in seen.consumers:
        waiting = [
            key
            for key, taken in consumer.inbox.items()
            if taken.fate == "waiting" and (consumer.name, *key) not in predicted
        ]
        if waiting:
            yield f"{consumer.name}: {len(waiting)} waiting, the first {_text(min(waiting))}"
        due = {key for key in seen.outbox if key.type in consumer.topics}
        if missing := len(due - consumer.inbox.keys()):
            yield f"{consumer.name}: {missing} not yet seen"
    for store, name, about, detail in seen.alarms:
        if name == "halted":
            yield f"{store}: {about} is halted: {detail}"


def _unbounded(seen: Seen, caps: Caps) -> Found:
    yield from _over("files in the folder", seen.files, caps.files)
    for name, size in seen.wal.items():
        yield from _over(f"{name}: bytes of its write-ahead log", size, caps.wal)
    yield from _over("strays", sum(seen.strays.values()), caps.strays)
    for name, deaths in seen.deaths.items():
        yield from _over(f"{name}: deaths attempting one event", deaths, caps.deaths)


def _processes(caps: Caps) -> Found:
    for pid in [caps.pid] if isinstance(caps.pid, int) else caps.pid or ():
        process = Path(f"/proc/{pid}")
        said = dict(line.split(":", 1) for line in (process / "status").read_text("ascii", "replace").splitlines())
        yield from _over(f"{pid}: bytes of memory", int(said["VmRSS"].split()[0]) * 1024, caps.rss)
        yield from _over(f"{pid}: threads", int(said["Threads"]), caps.threads)
        yield from _over(f"{pid}: file descriptors", sum(1 for _ in (process / "fd").iterdir()), caps.descriptors)


def _over(what: str, value: int, cap: int) -> Found:
    if value > cap:
        yield f"{what}: {value}, over {cap}"


# -- what is seen, put together --------------------------------------------------------------------------------
def _numbers(seen: Seen, told: History, rows: dict[str, list[str]]) -> dict[str, Any]:
    fates = Counter(taken.fate for consumer in seen.consumers for taken in consumer.inbox.values())
    outcomes = Counter(operation.outcome for operation in told.operations)
    unknown = [operation.name for operation in told.operations if operation.outcome == "unknown"]
    topics = seen.topics or {}
    duplicates = {name: n for name, topic in sorted(topics.items()) if (n := _duplicates(name, topic))}
    return {
        "operations": dict(outcomes), "unknown but committed": sum(bool(rows[name]) for name in unknown),
        "events": len(seen.outbox), "by type": dict(sorted(Counter(key.type for key in seen.outbox).items())),
        "consumers": len(seen.consumers), "fates": dict(sorted(fates.items())), "known": sum(fates.values()),
        "leads": {operator.name: len(operator.leads) for operator in seen.operators},
        "effects written down": sum(len(consumer.done or ()) for consumer in seen.consumers),
        "records in the log": sum(topic.records for topic in topics.values()),
        "duplicates in the log": sum(duplicates.values()), "duplicates by topic": duplicates,
        "records of no row": sum(_foreign(seen, name, topic) for name, topic in topics.items()),
        "unreadable partitions": sum(topic.unreadable for topic in topics.values()),
        "topics": {name: topic.id for name, topic in sorted(topics.items())}, "lag": sum(seen.lag.values()),
        "strays": sum(seen.strays.values()), "held at a source": len(seen.source_held),
        "attempts": sum(seen.attempts.values()), "deaths": max(seen.deaths.values(), default=0),
        "alarms": sorted({name for _, name, _, _ in seen.alarms}),
        "alarms standing": sorted(f"{store}: {name} {about}" for store, name, about, _ in seen.alarms),
        "largest write-ahead log": max(seen.wal.values(), default=0),
    }  # fmt: skip


def _duplicates(name: str, topic: Topic) -> int:
    return 0 if name.startswith(tables.OURS) else topic.named - len({copy.key for copy in topic.copies})


def _foreign(seen: Seen, name: str, topic: Topic) -> int:
    """Records that name no event, and copies that do not say what the committed row says."""
    if name.startswith(tables.OURS):
        return 0
    said = {key: tables.short(row.body) for key, row in seen.outbox.items() if key.type == name}
    return topic.records - topic.named + sum(said.get(copy.key) != copy.body for copy in topic.copies)


def _of_operator(seen: Seen, operator: Operator) -> Iterable[Consumer]:
    return [c for c in seen.consumers if c.name.endswith(f"-{operator.name}") and REQUESTED in c.topics]


def _leads(seen: Seen) -> defaultdict[tuple[Any, ...], list[str]]:
    """(receiver, subject, business kind, phase) → the 工程 of each case there."""
    found: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for operator in seen.operators:
        for lead in operator.leads:
            found[operator.name, lead.subject, lead.business_kind, lead.phase].append(lead.work)
    return found


def _expected(told: History, rows: dict[str, list[str]]) -> Iterator[tuple[str, str, list[Any]]]:
    for operation in told.operations:
        for subject in rows[operation.name]:
            yield from ((operation.name, subject, effect) for effect in operation.effects)


def _wanted(told: History, rows: dict[str, list[str]]) -> Counter[Stream]:
    def of(operation: Operation) -> Iterator[Stream]:
        for subject in rows[operation.name]:
            yield from ((source, kind, subject) for source, kind in operation.events)

    return Counter(stream for operation in told.operations for stream in of(operation))


def _streams(keys: Iterable[Key]) -> dict[Stream, list[int]]:
    found: defaultdict[Stream, list[int]] = defaultdict(list)
    for key in sorted(keys):
        found[key.stream].append(key.sequence)
    return found


def _differences(more: str, extra: Iterable[tuple[Any, ...]], less: str, lacking: Iterable[tuple[Any, ...]]) -> Found:
    yield from (f"{' '.join(map(str, one))} {more}" for one in sorted(extra))
    yield from (f"{' '.join(map(str, one))} {less}" for one in sorted(lacking))


def _text(key: Key) -> str:
    return f"{key.source} {key.type} {key.subject} {key.sequence}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="checker", description="Whether the promise was kept, from tables and bytes alone."
    )
    parser.add_argument("data", type=Path, nargs="?", help="a data folder; or, of a city on servers:")
    parser.add_argument("--database", help="address of its PostgreSQL database")
    parser.add_argument("--bootstrap", help="HOST:PORT[,...] of its Kafka")
    parser.add_argument("--registry", help="address of its schema registry; without, schemas are those in schemas/avro")
    parser.add_argument("--history", type=Path, help="the workload's own history, NDJSON")
    parser.add_argument("--within", type=float, default=0.0, help="seconds it may take to become quiet")
    parser.add_argument("--pid", type=int, nargs="+", help="processes whose memory, descriptors, threads are looked at")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    servers = [given.database, given.bootstrap, given.registry]
    if any(servers) if given.data else not all(servers[:2]):
        parser.error("a data folder, or --database and --bootstrap")
    try:
        with ExitStack() as open_:
            city = Files(given.data) if given.data else open_.enter_context(closing(Servers(*servers)))
            verdict = check(city, given.history, within=given.within, caps=Caps(pid=given.pid))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"checker: {error}\n")
        return 2
    said = {"clean": verdict.clean, "broken": verdict.broken, "numbers": verdict.numbers, "faults": verdict.faults}
    sys.stdout.write(f"{json.dumps(said, ensure_ascii=False, default=str) if given.json else verdict}\n")
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
