"""Databases restored from backups, and the way on, while everything else goes wrong too; then heal, and count.

The machine of `test_delivery.py`, whose person puts the newer database back, here has none: each restored owner is rebased,
the log may have lost some of it as well, and a rebase may be cut short, repeated, and run while others move.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from jietong import failpoint
from jietong.broker import Place, Record
from jietong.catalog import HEADS, RESEND
from jietong.delivery import heads, quiet
from jietong.delivery.consumer import Consumer
from jietong.delivery.rebase import Plan, Rebase
from jietong.errors import DamagedError, LostError, RewoundError
from jietong.event import Draft, Envelope, Event, Key
from jietong.failpoint import Crash
from jietong.store import Transaction
from jietong.testing import MemoryLog
from tests.property import test_delivery as delivery
from tests.property.test_delivery import (
    CONSUMER_POINTS,
    CONTRACT,
    PARTITIONS,
    PLATFORMS,
    PROJECTS,
    READERS,
    RELAY_POINTS,
    TOPICS,
    Recorder,
    TinyHookup,
    World,
    armed,
)  # fmt: skip

REBASE_POINTS = ["rebase.before_transaction", "rebase.before_commit", "rebase.before_head", "rebase.after_head"]
OWNERS = [*PLATFORMS, "hookup"]
SEEN: defaultdict[str, int] = defaultdict(int)


class Log(MemoryLog):
    """Something else happens once, while somebody reads."""

    meanwhile: Callable[[], object] | None = None

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        if do := self.meanwhile:
            self.meanwhile = None
            do()
        return super().read(place, offset, limit)


class Hookup(TinyHookup):
    """What it says of its own accord, in a reconciliation, has an id that no other subject's has."""

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        for draft in super().due(tx, subject, cause):
            yield replace(draft, about=(subject, *draft.about))


class Restored(World):
    """`log_lost`, `restored`, `heads_lost`: what happened since all was well."""

    @initialize()
    def build(self) -> None:
        super().build()
        self.log = Log(TOPICS)
        self.log.compacted = {HEADS}
        self.services["hookup"] = Hookup()
        self.log_lost = self.restored = self.heads_lost = False

    # ---- movement: a restored database stands still
    @rule(name=st.sampled_from(PLATFORMS + READERS), fail=st.sampled_from([None, *RELAY_POINTS]), n=st.integers(1, 2))
    def relay(self, name: str, fail: str | None, n: int) -> None:
        try:
            super().relay(name, fail, n)
        except RewoundError:
            SEEN["relay rewound"] += 1

    @rule(name=st.sampled_from(READERS), fail=st.sampled_from([None, *CONSUMER_POINTS]), n=st.integers(1, 2))
    def consume(self, name: str, fail: str | None, n: int) -> None:
        super().consume(name, fail, n)

    def step(self, name: str, do: Callable[[Consumer], object]) -> None:
        try:
            super().step(name, do)
        except RewoundError:
            SEEN["consumer rewound"] += 1

    def beaten(self, consumer: Consumer) -> None:
        super().beaten(consumer)
        consumer.wake()

    @rule(name=st.sampled_from(READERS))
    def zombie(self, name: str) -> None:
        if not self.is_rewound(name):
            super().zombie(name)

    def is_rewound(self, name: str) -> bool:
        with self.stores[name].snapshot() as tx:
            return heads.rewound(tx, self.outboxes[name].source, heads.Heads(self.log, CONTRACT).read())

    # ---- the log's faults
    @rule(topic=st.sampled_from(list(PARTITIONS)), pick=st.integers(0, 10**6))
    def damage(self, topic: str, pick: int) -> None:
        if not self.heads_lost:
            self.log_lost = True
            super().damage(topic, pick)

    @rule(
        topic=st.sampled_from([*PARTITIONS, RESEND]),
        kind=st.sampled_from(["recreate", "truncate", "retain"]),
        partition=st.integers(0, 1),
        keep=st.integers(0, 3),
    )
    def lose(self, topic: str, kind: str, partition: int, keep: int) -> None:
        if not self.heads_lost:
            self.log_lost = True
            super().lose(topic, kind, partition, keep)

    def lose_heads(self) -> None:
        """With a restore: then the log itself shows it. All three at once nobody can see before a reader speaks."""
        if not self.log_lost:
            self.heads_lost = True
            self.log.recreate(HEADS)
            SEEN["heads lost"] += 1

    # ---- backups
    @rule(name=st.sampled_from(PLATFORMS + READERS))
    def restore(self, name: str) -> None:
        """And no newer one is there to put back."""
        self.restored = True
        self.stores[name].restore(self.backups[name])
        self.consumers.pop(name, None)

    @rule(
        project=st.sampled_from(PROJECTS),
        first=st.permutations(PLATFORMS + READERS),
        reach=st.integers(2, 6),
        fault=st.sampled_from(["truncate", "retain", "damage", "unread", "heads", None]),
        owner=st.sampled_from(OWNERS),
        keep=st.integers(0, 2),
        since=st.integers(0, 2),
    )
    def disaster(
        self, project: str, first: list[str], reach: int, fault: str | None, owner: str, keep: int, since: int
    ) -> None:
        """What takes an owner takes the log's copy too, after some have read it; and the owner writes on before anyone looks."""
        topic = {"inv": "project", "hookup": "request"}.get(owner, "approval")
        self.open_case(project)
        if fault == "unread" and owner in PLATFORMS and not self.heads_lost:
            self.write_on(owner, project, True)
            self.relay(owner, None, 1)
            mine = [n for n, record in enumerate(self.log.everything(topic)) if record.key == project.encode()]
            if mine:
                self.damage(topic, mine[-1])
            self.write_on(owner, project, False)
            self.relay(owner, None, 1)
        self.flow(first[:reach])
        if fault == "heads":
            self.lose_heads()
        for partition in range(PARTITIONS[topic]):
            if fault == "damage":
                self.damage(topic, keep)
            elif fault in ("truncate", "retain"):
                self.lose(topic, fault, partition, keep)
        self.restore(owner)
        for n in range(since if owner != "hookup" else 0):
            self.write_on(owner, project, bool(n))

    def write_on(self, owner: str, project: str, granted: bool) -> None:
        if owner == "inv":
            self.emit("inv", "project", project, area="south", alive=True)
        else:
            self.emit(owner, "approval", project, kind="permit", granted=granted)

    # ---- rebase
    @rule(
        name=st.sampled_from(OWNERS),
        fail=st.sampled_from([None, *REBASE_POINTS]),
        flowing=st.booleans(),
        project=st.sampled_from(PROJECTS),
    )
    def rebase_now(self, name: str, fail: str | None, flowing: bool, project: str) -> None:
        """Cut short, or while the platform writes on, others send and readers read (as long as nobody was asked)."""
        if not self.is_rewound(name):
            self.restore(name)
        if not self.is_rewound(name):
            return
        if flowing:
            self.log.meanwhile = lambda: self.go_on(name, project)
        try:
            with armed(fail, 1):
                self.rebase(name)
        except Crash:
            SEEN["rebase cut short"] += 1
        self.log.meanwhile = None

    def go_on(self, name: str, project: str) -> None:
        armed_ = dict(failpoint.armed)
        failpoint.armed.clear()
        SEEN["rebase while traffic flows"] += 1
        if name in PLATFORMS:
            self.write_on(name, project, True)
        for other in PLATFORMS + READERS:
            if other != name:
                self.relay(other, None, 1)
        for other in READERS:
            if other != name:
                self.step(other, lambda consumer: consumer.step(0))
        failpoint.armed.update(armed_)

    def rebase(self, name: str) -> Plan:
        """As a person does: first with nobody asked; if it stops, with the readers halted and asked."""
        before = self.kept(name)
        service: Any = self.services.get(name)
        doing = Rebase(self.outboxes[name].source, self.stores[name], self.log, CONTRACT, lambda: self.now, service)
        SEEN["rebase"] += 1
        self.consumers.pop(name, None)
        try:
            plan = doing.run()
        except LostError:
            SEEN["stopped"] += 1
            assert self.log_lost or self.restored or self.heads_lost
            asked = [self.stores[reader] for reader in READERS if reader != name]
            foreseen, plan = doing.plan(asked), doing.run(asked)
            assert told(foreseen) == told(plan), "a dry run says what is done"
            SEEN["void"] += len(plan.voids)
            SEEN["given back by readers"] += len(plan.given)
        SEEN["given back"] += len(plan.back)
        SEEN["moved"] += len(plan.moved)
        here = {UUID(i) for i in self.column(name, "SELECT id FROM outbox")}
        assert before <= here, ("lost by a rebase", name, before - here)
        assert not self.is_rewound(name)
        return plan

    def kept(self, name: str) -> set[UUID]:
        """Events of a source that are anywhere at all: in its outbox, in the log, at a reader. The others never happened."""
        source = self.outboxes[name].source
        found = {
            e.id
            for topic in PARTITIONS
            for record in self.log.everything(topic)
            if (e := whole(record)) and e.key.source == source
        }
        found |= {UUID(i) for i in self.column(name, "SELECT id FROM outbox")}
        for reader in READERS:
            had = f"SELECT id FROM inbox WHERE source = '{source}' AND length(fingerprint) > 0"
            found |= {UUID(i) for i in self.column(reader, had)}
        return found

    @precondition(lambda self: self.row - self.healed >= 2 and not (self.log_lost or self.restored or self.heads_lost))
    @rule()
    def a_restored_service_says_nothing_new(self) -> None:
        old = self.backups["hookup"]
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        old.backup(copy)
        self.heal()
        before = self.said()
        self.stores["hookup"].restore(copy)
        copy.close()
        self.consumers.pop("hookup", None)
        self.restored = True
        self.heal()
        self.healed = self.row
        SEEN["restored service"] += 1
        assert self.said() == before, ("said anew", before, self.said())

    def said(self) -> list[Any]:
        with self.stores["utility"].snapshot() as tx:
            return tx.execute("SELECT subject, sequence, what FROM done ORDER BY subject, sequence").all()

    # ---- heal and count
    def heal(self) -> None:
        failpoint.armed.clear()
        for name in PLATFORMS:
            self.rows[name] &= self.kept(name)
        for service in self.services.values():
            if isinstance(service, Recorder):
                service.poison, service.refused = set(), set()
        for name in self.stores:
            try:
                self.made_relay(name)
            except RewoundError:
                self.rebase(name)
        super().heal()
        self.log_lost = self.restored = self.heads_lost = False

    def unquiet(self) -> dict[str, Any]:
        """And nobody only learns, or owes a reconciliation."""
        marks = f"SELECT name FROM mark WHERE name IN ('{quiet.QUIET}', '{quiet.OWED}')"
        return super().unquiet() | {f"{name} silent": self.column(name, marks) for name in READERS}

    def count(self) -> None:
        voids = 0
        for name in self.stores:
            self.rows[name] |= {
                UUID(i) for i in self.column(name, "SELECT id FROM outbox WHERE length(fingerprint) = 0")
            }
            voids += len(self.column(name, "SELECT id FROM outbox WHERE length(fingerprint) = 0"))
            with self.stores[name].snapshot() as tx:
                counted = tx.execute("SELECT type, count(*) FROM outbox GROUP BY type ORDER BY type").all()
                for table in ("counter", "total"):
                    sums = tx.execute(
                        f"SELECT type, sum(sequence) FROM {table} GROUP BY type HAVING sum(sequence) > 0 ORDER BY type"
                    ).all()
                    assert sums == counted, (name, table, sums, counted)
        SEEN["voids at the end"] += voids
        super().count()

    def count_cases(self, truth: dict[Key, Any]) -> None:
        super().count_cases({key: e for key, e in truth.items() if not e.void})

    def fates(self, service: object, e: Envelope, truth: dict[Key, Any]) -> set[str]:
        return {"skipped"} if e.void else super().fates(service, e, truth)


def whole(record: Record) -> Envelope | None:
    try:
        return CONTRACT.envelope(record)
    except DamagedError:
        return None


def told(plan: Plan) -> tuple[Any, ...]:
    return plan.back, [e.key for e in plan.voids], plan.moved, plan.dropped, plan.missing, plan.counters


EXERCISED = (
    "relay rewound", "consumer rewound", "heads lost", "rebase", "stopped", "void", "given back by readers", "given back", "moved",
    "rebase cut short", "rebase while traffic flows",
)  # fmt: skip


def run(examples: int, start: int, rounds: int) -> None:
    """At least one round, and more until everything was reached."""
    SEEN.clear()
    first = int(os.environ.get("JIETONG_SEED", start))
    chosen = settings(delivery.SETTINGS, max_examples=int(os.environ.get("JIETONG_EXAMPLES", examples)))
    for round_ in range(rounds):
        run_state_machine_as_test(seed(first + round_)(Restored), settings=chosen)
        if all(SEEN[what] for what in EXERCISED):
            break
    sys.stdout.write(f"exercised: {dict(sorted(SEEN.items()))}\n")
    assert all(SEEN[what] for what in EXERCISED), f"not exercised: {dict(SEEN)}"


@pytest.mark.timeout(600)
def test_whatever_is_restored_and_lost_comes_back_as_it_was_or_is_declared_void() -> None:
    run(examples=25, start=20261128, rounds=10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_is_restored_and_lost_comes_back_at_length() -> None:
    run(examples=1500, start=20261125, rounds=1)


# -- schedules that once failed ---------------------------------------------------------------------------------------------
@pytest.fixture
def world() -> Iterator[Restored]:
    made = Restored()
    made.build()
    yield made
    made.teardown()


def flows(world: Restored, times: int = 1) -> None:
    for _ in range(times):
        world.flow(PLATFORMS + READERS)


def numbered(world: Restored, name: str) -> list[tuple[int, str]]:
    with world.stores[name].snapshot() as tx:
        return [(row[0], row[1]) for row in tx.execute("SELECT sequence, id FROM outbox ORDER BY sequence").all()]


def test_what_is_written_after_a_restore_never_comes_before_what_readers_have_seen(world: Restored) -> None:
    """2 was damaged before anyone read it, 3 was read; the owner forgets both and writes."""
    world.approve("e1", PROJECTS[0], "plan", True)
    flows(world)
    world.backup("e1")
    world.approve("e1", PROJECTS[0], "plan", False)
    world.relay("e1", None, 1)
    world.damage("approval", len(world.log.everything("approval")) - 1)
    third = world.emit("e1", "approval", PROJECTS[0], kind="plan", granted=True)
    flows(world, 2)
    world.restore("e1")
    new = world.emit("e1", "approval", PROJECTS[0], kind="plan", granted=False)
    plan = world.rebase("e1")
    assert [e.key.sequence for e in plan.voids] == [2]
    assert numbered(world, "e1")[2:] == [(3, str(third)), (4, str(new))]


def test_a_service_and_the_log_that_both_forget_a_request_do_not_ask_the_utility_twice(world: Restored) -> None:
    world.open_case(PROJECTS[0])
    flows(world, 2)
    said = world.said()
    for partition in range(PARTITIONS["request"]):
        world.lose("request", "truncate", partition, 9)
    world.restore("hookup")
    world.heal()
    assert said
    assert world.said() == said


def test_a_service_that_speaks_only_when_it_has_read_everything_cancels_nothing(world: Restored) -> None:
    """It reads the approvals before the projects' facts come to it again."""
    for project in PROJECTS:
        world.open_case(project)
    flows(world, 3)
    said = world.said()
    world.restore("hookup")
    world.rebase("hookup")
    for _ in range(12):
        world.beat("hookup", 1)
        world.relay("hookup", None, 1)
        world.consume("hookup", None, 1)
        world.consume("utility", None, 1)
    world.heal()
    assert world.said() == said


def test_a_reader_that_knows_more_stops_an_owner_whose_head_and_log_were_lost_with_it(world: Restored) -> None:
    world.open_case(PROJECTS[0])
    flows(world)
    world.restore("e1")
    for topic in ("approval", HEADS):
        world.log.recreate(topic)
    world.made_relay("e1").step()  # nobody can see it yet
    world.beat("timeline", 1)
    world.relay("timeline", None, 1)
    with pytest.raises(RewoundError, match="timeline knows more"):
        world.made_relay("e1").step()
    doing = Rebase(world.outboxes["e1"].source, world.stores["e1"], world.log, CONTRACT, lambda: world.now)
    plan = doing.run([world.stores[name] for name in READERS])
    assert len(plan.given) == 1
    world.made_relay("e1").step()
    world.log_lost = True


def test_a_backup_that_is_put_back_twice_gives_no_event_twice(world: Restored) -> None:
    """What was pending in the backup has moved behind, and left, when it is put back once more."""
    world.approve("e1", PROJECTS[0], "plan", True)
    flows(world)
    pending = world.emit("e1", "approval", PROJECTS[0], kind="plan", granted=False)
    world.backup("e1")
    world.approve("e1", PROJECTS[0], "plan", True)
    world.relay("e1", "relay.before_send", 1)
    world.relay("e1", None, 1)
    world.damage("approval", len(world.log.everything("approval")) - 2)  # the one that was pending
    flows(world, 2)
    for again in (False, True):
        world.restore("e1")
        plan = world.rebase("e1")
        flows(world, 2)
        assert [sequence for sequence, id in numbered(world, "e1") if id == str(pending)] == [4]
        assert bool(plan.dropped) == again
