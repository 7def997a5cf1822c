"""A new reader while its owners write and their relays run: nothing is lost, doubled, or asked for from before the cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jietong import failpoint
from jietong.adapters.sqlite import SqliteTransaction
from jietong.broker import Message, Place, Record, Topic
from jietong.catalog import HEADS
from jietong.delivery import heads, inbox
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.outbox import Outbox
from jietong.delivery.provision import Owner, Provision, Provisioned
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.errors import RewoundError, UsageError
from jietong.event import Draft
from jietong.failpoint import Crash
from jietong.testing import MemoryLog, MemoryStore
from tests.property.test_delivery import CONTRACT, EPOCH, NO_LIMIT, PARTITIONS, PROJECTS, TOPICS, Recorder, effects

OWNERS, TYPES = ("e1", "e2"), ("approval", "project")
DATA = {
    "approval": {"row": "", "kind": "plan", "granted": True},
    "project": {"row": "", "area": "north", "alive": True},
    "request": {"operator": "o", "kind": "k", "round": 1, "open": True},
}
SEEN: defaultdict[str, int] = defaultdict(int)


class Log(MemoryLog):
    """The city moves whenever somebody looks at it."""

    move: Callable[[], object] = staticmethod(lambda: None)

    def topic(self, name: str) -> Topic:
        found = super().topic(name)
        self.move()
        return found

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        self.move()
        return super().read(place, offset, limit)

    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        done = super().append(messages)
        self.move()
        return done


class Owned(MemoryStore):
    """The city moves before and after each look at an owner's database."""

    move: Callable[[], object] = staticmethod(lambda: None)

    @contextmanager
    def snapshot(self) -> Generator[SqliteTransaction]:
        self.move()
        with super().snapshot() as tx:
            yield tx
        self.move()


class Town:
    """Two owners, their relays, and a reader that is not there yet. `moves`: what happens at the next looks."""

    def __init__(self, moves: Sequence[tuple[str, str, str, str]], running: Mapping[str, bool]) -> None:
        self.now, self.row, self.running = EPOCH, 0, running
        self.log = Log(TOPICS)
        self.log.compacted = {HEADS}
        self.stores = {name: Owned(name, delivery) for name in OWNERS}
        self.reader = MemoryStore("late", delivery, effects)
        self.outboxes = {store.name: self.outbox(store) for store in (*self.stores.values(), self.reader)}
        self.moves = iter(moves)
        self.service: Any = Recorder("late", *TYPES)

    def outbox(self, store: MemoryStore) -> Outbox:
        return Outbox(f"urn:jietong:440700:{store.name}", CONTRACT, lambda: self.now, store.bell)

    # -- what moves ----------------------------------------------------------------------------------------------------
    def emit(self, owner: str, type: str, subject: str) -> None:
        self.row += 1
        data = {**DATA[type], "row": f"{owner}-{self.row}"} if "row" in DATA[type] else DATA[type]
        with self.stores[owner].transaction() as tx:
            self.outboxes[owner].add(
                tx, Draft(type=type, subject=subject, time=datetime.fromtimestamp(self.now / 1000, UTC), data=data)
            )

    def relay(self, name: str) -> None:
        store = self.stores.get(name, self.reader)
        relay = Relay(self.outboxes[name].source, store, self.log, CONTRACT, lambda: self.now, batch=3)
        relay.start()
        while relay.step().more:
            pass

    def meanwhile(self) -> None:
        """One move; while it is made nothing else is."""
        if move := next(self.moves, None):
            with self.still():
                what, owner, type, subject = move
                if what == "emit":
                    self.emit(owner, type, subject)
                elif self.running[owner]:
                    self.relay(owner)
                SEEN[f"{what} meanwhile"] += 1

    @contextmanager
    def still(self) -> Generator[None]:
        watched = (self.log, *self.stores.values())
        before = [one.move for one in watched]
        for one in watched:
            one.move = lambda: None
        yield
        for one, move in zip(watched, before, strict=True):
            one.move = move

    # -- the reader ----------------------------------------------------------------------------------------------------
    def provision(self, do: Callable[[Provision], Provisioned]) -> Provisioned:
        for one in (self.log, *self.stores.values()):
            one.move = self.meanwhile
        try:
            owners = [Owner(self.stores[name], lambda name=name: not self.running[name]) for name in OWNERS]
            return do(Provision(self.reader, self.outboxes["late"], owners, self.log, self.waited))
        finally:
            for one in (self.log, *self.stores.values()):
                one.move = lambda: None

    def waited(self, _: float) -> None:
        with self.still():
            for name in OWNERS:
                if self.running[name]:
                    self.relay(name)

    def live(self, rounds: int) -> int:
        """Everybody goes on; the number of requests to send again."""
        consumer = Consumer(self.service, self.reader, self.log, self.outboxes["late"], NO_LIMIT, batch=4)
        consumer.start()
        complete = Completeness(TYPES, self.reader, self.outboxes["late"], heads.Heads(self.log, CONTRACT))
        asked = 0
        for _ in range(rounds):
            for name in (*OWNERS, "late"):
                self.relay(name)
            while consumer.step(0):
                pass
            consumer.beat()
            asked += complete.beat(self.now)
            self.now += 130_000
        consumer.stop()
        return asked

    def counters(self) -> dict[tuple[str, str, str], int]:
        return {
            (row[0], row[1], row[2]): row[3]
            for store in self.stores.values()
            for row in rows(store, f"SELECT source, type, subject, sequence FROM counter WHERE type IN {TYPES}")
        }

    def applied(self) -> dict[tuple[str, str, str], list[int]]:
        found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for source, type, subject, sequence in rows(
            self.reader, "SELECT source, type, subject, sequence FROM done ORDER BY n"
        ):
            found[source, type, subject].append(sequence)
        return found

    def close(self) -> None:
        failpoint.armed.clear()
        for store in (*self.stores.values(), self.reader):
            store.close()


def rows(store: MemoryStore, sql: str) -> list[tuple[Any, ...]]:
    with MemoryStore.snapshot(store) as tx:
        return tx.execute(sql).all()


def sums(town: Town) -> dict[tuple[str, str], int]:
    total: defaultdict[tuple[str, str], int] = defaultdict(int)
    for (source, type, _), count in town.counters().items():
        total[source, type] += count
    return dict(total)


MOVE = st.tuples(
    st.sampled_from(["emit", "emit", "relay"]),
    st.sampled_from(OWNERS),
    st.sampled_from(list(PARTITIONS)),
    st.sampled_from(PROJECTS),
)
POINTS = (None, "provision.after_positions", "provision.before_commit")
BEFORE = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@BEFORE
@given(
    before=st.lists(MOVE, max_size=12), meanwhile=st.lists(MOVE, max_size=25), after=st.lists(MOVE, max_size=6),
    running=st.tuples(st.booleans(), st.booleans()), point=st.sampled_from(POINTS), retained=st.none() | st.integers(0, 2),
)  # fmt: skip
def test_a_reader_from_now_on_gets_all_that_comes_after_an_exact_cut_and_asks_for_nothing(
    before: list[tuple[str, str, str, str]], meanwhile: list[tuple[str, str, str, str]], after: list[tuple[str, str, str, str]],
    running: tuple[bool, bool], point: str | None, retained: int | None,
) -> None:  # fmt: skip
    town = Town(meanwhile, dict(zip(OWNERS, running, strict=True)))
    try:
        play(town, before)
        if retained is not None:
            for place in [Place(name, p) for name in PARTITIONS for p in range(PARTITIONS[name])]:
                town.log.retain(place, retained)
        earliest = town.counters()
        if point:
            killed(town, point)
        done = town.provision(lambda p: p.from_now(TYPES))
        latest, cut = town.counters(), stood(town)
        assert done.begun == sorted(TYPES)
        assert done.streams == len(cut)
        assert all(earliest.get(stream, 0) <= cut.get(stream, 0) <= count for stream, count in latest.items())
        announced = heads.Heads(town.log, CONTRACT).read()
        for (source, type), known in standing_sums(town).items():
            assert known <= announced[source].head.counts[type], "a restored owner could give these sequences again"
        assert town.provision(lambda p: p.from_now(TYPES)) == Provisioned([], sorted(TYPES)), "again is nothing"
        assert stood(town) == cut
        play(town, after)
        assert town.live(4) == 0, "something before the cut was asked for"
        assert town.applied() == {
            stream: list(range(cut.get(stream, 0) + 1, count + 1))
            for stream, count in town.counters().items()
            if count > cut.get(stream, 0)
        }
        assert standing_sums(town) == sums(town)
        SEEN["from now on"] += 1
        SEEN["unsent before the cut"] += any(cut.values()) and not all(running)
        SEEN["after the cut"] += bool(town.applied())
    finally:
        town.close()


@settings(BEFORE, max_examples=60)
@given(
    before=st.lists(MOVE, min_size=4, max_size=14), meanwhile=st.lists(MOVE, max_size=12), point=st.sampled_from((None, "provision.before_commit")),
    retained=st.none() | st.integers(0, 2),
)  # fmt: skip
def test_a_reader_of_the_whole_history_gets_all_of_it_also_what_the_log_no_longer_has(
    before: list[tuple[str, str, str, str]], meanwhile: list[tuple[str, str, str, str]], point: str | None, retained: int | None
) -> None:  # fmt: skip
    town = Town(meanwhile, dict.fromkeys(OWNERS, True))
    try:
        play(town, before)
        for name in OWNERS:
            town.relay(name)
        if retained is not None:
            for place in [Place(name, p) for name in PARTITIONS for p in range(PARTITIONS[name])]:
                town.log.retain(place, retained)
        if point:
            killed(town, point, whole=True)
        done = town.provision(lambda p: p.whole(TYPES))
        SEEN["the whole"] += 1
        SEEN["asked for the beginning"] += bool(done.asked)
        town.live(12)
        assert town.applied() == {stream: list(range(1, count + 1)) for stream, count in town.counters().items()}
        assert standing_sums(town) == sums(town)
    finally:
        town.close()


def test_all_of_it_was_exercised() -> None:
    """By those of the two above that ran in this process."""
    wanted = {
        "from now on": ("emit meanwhile", "relay meanwhile", "killed", "unsent before the cut", "after the cut"),
        "the whole": ("emit meanwhile", "relay meanwhile", "killed", "asked for the beginning"),
    }
    for test, whats in wanted.items():
        assert not SEEN[test] or all(SEEN[what] for what in whats), dict(SEEN)


def test_an_owner_that_was_restored_is_not_counted() -> None:
    town = Town([], dict.fromkeys(OWNERS, False))
    play(town, [("emit", "e1", "approval", PROJECTS[0])])
    backup = town.stores["e1"].copy()
    play(town, [("emit", "e1", "approval", PROJECTS[0])])
    town.relay("e1")
    town.stores["e1"].restore(backup)
    with pytest.raises(RewoundError):
        town.provision(lambda p: p.from_now(TYPES))
    assert stood(town) == {}
    town.close()


def test_a_relay_that_runs_and_announces_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jietong.delivery.provision.PATIENCE", 0.0)
    town = Town([], dict.fromkeys(OWNERS, True))
    town.waited = lambda _: None
    play(town, [("emit", "e1", "approval", PROJECTS[0])])
    with pytest.raises(UsageError, match="urn:jietong:440700:e1: its relay has not announced"):
        town.provision(lambda p: p.from_now(TYPES))
    assert stood(town) == {}
    town.close()


def test_a_type_that_was_read_and_has_no_position_is_left_to_a_person() -> None:
    town = Town([], dict.fromkeys(OWNERS, False))
    play(town, [("emit", "e1", "approval", PROJECTS[0])])
    town.provision(lambda p: p.from_now(TYPES))
    with town.reader.transaction() as tx:
        tx.execute("DELETE FROM position WHERE topic = 'approval'")
    with pytest.raises(UsageError, match="has read approval and has no position"):
        town.provision(lambda p: p.from_now(TYPES))
    town.close()


def play(town: Town, moves: Sequence[tuple[str, str, str, str]]) -> None:
    for what, owner, type, subject in moves:
        if what == "emit":
            town.emit(owner, type, subject)
        else:
            town.relay(owner)


def killed(town: Town, point: str, whole: bool = False) -> None:
    """A process that ends there has left no reader behind."""
    failpoint.armed[point] = ("crash", 1)
    with pytest.raises(Crash):
        town.provision(lambda p: p.whole(TYPES) if whole else p.from_now(TYPES))
    failpoint.armed.clear()
    assert stood(town) == {}
    assert rows(town.reader, "SELECT topic FROM position UNION SELECT type FROM outbox") == []
    SEEN["killed"] += 1


def stood(town: Town) -> dict[tuple[str, str, str], int]:
    found = rows(town.reader, "SELECT source, type, subject, last, known FROM stream")
    assert all(last == known for *_, last, known in found)
    return {(source, type, subject): int(last) for source, type, subject, last, _ in found}


def standing_sums(town: Town) -> dict[tuple[str, str], int]:
    with town.reader.snapshot() as tx:
        return inbox.sums(tx)
