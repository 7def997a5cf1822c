"""Everything that may go wrong with the delivery of events, in any order; then heal, and count.

Crashes at every failpoint, poison, refusals, zombies; a log that duplicates, damages, loses, is truncated or made anew;
databases restored from backups. Whatever happened: each committed event has exactly one effect at each reader, in order.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Column, Integer, MetaData, Table, Text

from jietong import failpoint
from jietong.broker import Message, Place
from jietong.catalog import HEADS, RESEND, Catalog, Schema, TopicSpec, load
from jietong.contract import Contract
from jietong.delivery import heads, inbox
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.limits import Limit
from jietong.delivery.outbox import COLUMNS, Outbox, envelope_of
from jietong.delivery.relay import Relay
from jietong.delivery.tables import delivery
from jietong.errors import FencedError, RejectedError, RewoundError
from jietong.event import Draft, Event, Fate, Key, Stream
from jietong.failpoint import Crash
from jietong.store import Transaction
from jietong.testing import MemoryLog, MemoryStore

PROJECTS = [f"local:test:{n}" for n in (1, 2, 3)]
PLATFORMS, READERS = ["e1", "e2", "inv"], ["hookup", "timeline", "utility"]
AREAS = {"north": ("water", "power"), "south": ("water", "gas")}
TRIGGERS = {"plan": "PERMANENT", "permit": "TEMPORARY"}
FIELDS = {
    "approval": {"row": "string", "kind": "string", "granted": "boolean"},
    "project": {"row": "string", "area": "string", "alive": "boolean"},
    "request": {"operator": "string", "kind": "string", "round": "int", "open": "boolean"},
}
PARTITIONS = {"approval": 2, "project": 1, "request": 2}
TOPICS = {**PARTITIONS, RESEND: 1, HEADS: 1}
RELAY_POINTS = [
    "relay.after_head",
    "relay.before_send",
    "relay.after_ack",
    "relay.before_mark_commit",
    "relay.after_mark",
]
CONSUMER_POINTS = ["consumer.before_batch", "consumer.before_commit", "consumer.after_commit"]
NO_LIMIT = Limit(in_a_row=10**9, least=10**9)  # it has tests of its own
EPOCH = 1_700_000_000_000
SEEN: defaultdict[str, int] = defaultdict(int)


def small_catalog() -> Catalog:
    whole = load()
    core = {name: whole.topics[name] for name in (HEADS, RESEND)}
    specs = {
        name: TopicSpec(name, {}, ["local"], ["*"], "tests", ["*"], parts, "internal")
        for name, parts in PARTITIONS.items()
    }
    schemas = {name: [Schema(name, 1, {"type": "record", "name": name, "fields": [{"name": f, "type": t} for f, t in fields.items()]})]
               for name, fields in FIELDS.items()}  # fmt: skip
    ids = {(name, 1): 100 + n for n, name in enumerate(FIELDS)} | {
        key: id for key, id in whole.ids.items() if key[0] in core
    }
    return Catalog({**specs, **core}, {**schemas, **{name: whole.schemas[name] for name in core}}, ids)


CONTRACT = Contract(small_catalog())
city = MetaData()
Table("approval", city, Column("project", Text, primary_key=True), Column("source", Text, primary_key=True),
      Column("kind", Text, primary_key=True), Column("granted", Integer))  # fmt: skip
Table("project", city, Column("project", Text, primary_key=True), Column("area", Text), Column("alive", Integer))
Table("requested", city, Column("project", Text, primary_key=True), Column("operator", Text, primary_key=True),
      Column("kind", Text, primary_key=True), Column("round", Integer), Column("open", Integer))  # fmt: skip
effects = MetaData()
Table("done", effects, Column("n", Integer, primary_key=True), Column("source", Text), Column("type", Text), Column("subject", Text),
      Column("sequence", Integer), Column("what", Text))  # fmt: skip


class TinyHookup:
    """Approvals from two sources and project facts → requests to whoever serves the area."""

    name, types = "hookup", ("approval", "project")

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        return tx

    def learn(self, tx: Transaction, event: Event) -> Fate:
        d = event.data
        if event.type == "approval":
            tx.execute("INSERT OR REPLACE INTO approval VALUES (:p, :s, :kind, :granted)",
                       {"p": event.subject, "s": event.source, "kind": d["kind"], "granted": d["granted"]})  # fmt: skip
        else:
            tx.execute(
                "INSERT OR REPLACE INTO project VALUES (:p, :area, :alive)",
                {"p": event.subject, "area": d["area"], "alive": d["alive"]},
            )
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        wanted, asked = self.wanted(tx, subject), self.asked(tx, subject)
        changes = [(case, asked.get(case, (0, 0))[0] + 1, True) for case in wanted if not asked.get(case, (0, 0))[1]]
        changes += [
            (case, number + 1, False) for case, (number, is_open) in asked.items() if is_open and case not in wanted
        ]
        for (operator, kind), number, is_open in sorted(changes):
            data = {"operator": operator, "kind": kind, "round": number, "open": is_open}
            self.note(tx, subject, data)
            yield Draft(
                type="request",
                subject=subject,
                time=datetime.fromtimestamp(EPOCH / 1000, UTC),
                data=data,
                about=(operator, kind, str(number)),
            )

    def remember(self, tx: Transaction, event: Event) -> None:
        self.note(tx, event.subject, dict(event.data))

    def subjects(self, tx: Transaction) -> list[str]:
        return [row[0] for row in tx.execute("SELECT project FROM approval UNION SELECT project FROM project").all()]

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        return ()

    def wanted(self, tx: Transaction, subject: str) -> set[tuple[str, str]]:
        project = tx.execute("SELECT area FROM project WHERE project = :p AND alive", {"p": subject}).one()
        kinds = tx.execute("SELECT DISTINCT kind FROM approval WHERE project = :p AND granted", {"p": subject}).all()
        return {(operator, TRIGGERS[kind]) for operator in AREAS[project[0]] for (kind,) in kinds} if project else set()

    def asked(self, tx: Transaction, subject: str) -> dict[tuple[str, str], tuple[int, int]]:
        rows = tx.execute("SELECT operator, kind, round, open FROM requested WHERE project = :p", {"p": subject}).all()
        return {(operator, kind): (number, is_open) for operator, kind, number, is_open in rows}

    def note(self, tx: Transaction, subject: str, d: dict[str, Any]) -> None:
        tx.execute("INSERT OR REPLACE INTO requested VALUES (:p, :operator, :kind, :round, :open)", {"p": subject, **d})


class Recorder:
    """A reader that only writes down what happened to it; it can filter a kind, refuse a subject and die of a row."""

    def __init__(self, name: str, *types: str, filtered: str = "") -> None:
        self.name, self.types, self.filtered = name, types, filtered
        self.refused: set[str] = set()
        self.poison: set[str] = set()

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        return tx

    def learn(self, tx: Transaction, event: Event) -> Fate:
        if event.data.get("kind") == self.filtered:
            return Fate.FILTERED
        tx.execute("INSERT INTO done (source, type, subject, sequence, what) VALUES (:source, :type, :subject, :sequence, :what)",
                   {**event.key._asdict(), "what": repr(sorted(event.data.items()))})  # fmt: skip
        if event.subject in self.refused:
            raise RejectedError("refused")
        if event.data.get("row") in self.poison:
            raise Crash("poison")
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        return ()

    def remember(self, tx: Transaction, event: Event) -> None: ...

    def subjects(self, tx: Transaction) -> list[str]:
        return []

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        return ()


class World(RuleBasedStateMachine):
    @initialize()
    def build(self) -> None:
        failpoint.armed.clear()
        self.now, self.row = EPOCH, 0
        self.log = MemoryLog(TOPICS)
        self.log.compacted = {HEADS}
        self.services = {
            s.name: s
            for s in (
                TinyHookup(),
                Recorder("timeline", "approval", "project", filtered="permit"),
                Recorder("utility", "request"),
            )
        }
        self.stores = {name: MemoryStore(name, delivery) for name in PLATFORMS}
        self.stores |= {name: MemoryStore(name, delivery, city if name == "hookup" else effects) for name in READERS}
        self.outboxes = {
            name: Outbox(f"urn:jietong:440700:{name}", CONTRACT, lambda: self.now, store.bell)
            for name, store in self.stores.items()
        }
        self.consumers: dict[str, Consumer] = {}
        self.rows: dict[str, set[UUID]] = defaultdict(set)
        self.bad: dict[UUID, str] = {}
        self.healed = 0
        self.backups = {name: store.copy() for name, store in self.stores.items()}

    # ---- work
    @rule(
        source=st.sampled_from(["e1", "e2"]),
        project=st.sampled_from(PROJECTS),
        kind=st.sampled_from(list(TRIGGERS)),
        granted=st.booleans(),
    )
    def approve(self, source: str, project: str, kind: str, granted: bool) -> None:
        self.emit(source, "approval", project, kind=kind, granted=granted)

    @rule(project=st.sampled_from(PROJECTS), area=st.sampled_from(list(AREAS)), alive=st.booleans())
    def register(self, project: str, area: str, alive: bool) -> None:
        self.emit("inv", "project", project, area=area, alive=alive)

    @rule(project=st.sampled_from(PROJECTS))
    def open_case(self, project: str) -> None:
        self.emit("inv", "project", project, area="north", alive=True)
        self.emit("e1", "approval", project, kind="plan", granted=True)

    @rule(project=st.sampled_from(PROJECTS))
    def approve_with_bad_bytes(self, project: str) -> None:
        self.bad[self.emit("e1", "approval", project, body=b"\x02", kind="plan", granted=True)] = project

    @precondition(lambda self: self.bad)
    @rule(pick=st.integers(0, 10**6), granted=st.booleans())
    def correct(self, pick: int, granted: bool) -> None:
        """Supersede a bad one, be it held, on its way, or long skipped."""
        old = sorted(self.bad)[pick % len(self.bad)]
        self.emit("e1", "approval", self.bad[old], supersedes=old, kind="plan", granted=granted)

    def emit(
        self,
        source: str,
        type: str,
        subject: str,
        body: bytes | None = None,
        supersedes: UUID | None = None,
        **data: Any,
    ) -> UUID:
        self.row += 1
        draft = Draft(type=type, subject=subject, time=datetime.fromtimestamp(self.now / 1000, UTC), data={"row": f"{source}-{self.row}", **data},
                      about=(str(self.row),), supersedes=supersedes)  # fmt: skip
        envelope = self.outboxes[source].prepare(draft)
        with self.stores[source].transaction() as tx:
            [id] = self.outboxes[source].put(tx, [envelope if body is None else replace(envelope, body=body)])
        self.rows[source].add(id)
        return id

    # ---- movement, with and without sudden death
    @rule(name=st.sampled_from(PLATFORMS + READERS), fail=st.sampled_from([None, *RELAY_POINTS]), n=st.integers(1, 2))
    def relay(self, name: str, fail: str | None, n: int) -> None:
        with armed(fail, n):
            try:
                relay = self.made_relay(name)
                while relay.step().more:
                    pass
            except Crash:
                SEEN["relay crash"] += 1

    def made_relay(self, name: str) -> Relay:
        relay = Relay(self.outboxes[name].source, self.stores[name], self.log, CONTRACT, lambda: self.now, batch=3)
        relay.start()
        relay.beat()
        return relay

    @rule(name=st.sampled_from(READERS), fail=st.sampled_from([None, *CONSUMER_POINTS]), n=st.integers(1, 2))
    def consume(self, name: str, fail: str | None, n: int) -> None:
        with armed(fail, n):
            self.step(name, lambda consumer: consumer.step(0))

    def step(self, name: str, do: Callable[[Consumer], object]) -> None:
        try:
            if name not in self.consumers:
                made = Consumer(
                    self.services[name], self.stores[name], self.log, self.outboxes[name], NO_LIMIT, batch=4
                )
                made.start()
                self.consumers[name] = made
            do(self.consumers[name])
        except FencedError:
            self.consumers[name].start()  # as the runner does: look again where we stand
        except Crash:
            SEEN["consumer crash"] += 1
            self.consumers.pop(name, None)

    @rule(name=st.sampled_from(READERS))
    def clean_stop(self, name: str) -> None:
        if name in self.consumers:
            self.consumers.pop(name).stop()

    @rule(name=st.sampled_from(READERS))
    def zombie(self, name: str) -> None:
        """Two copies stood at the same; the second must be fenced as soon as it takes up what the first has moved past."""
        self.step(name, lambda consumer: None)
        twin = Consumer(self.services[name], self.stores[name], self.log, self.outboxes[name], NO_LIMIT, batch=4)
        twin._living = True
        twin.start()
        moved: list[int] = []
        self.step(name, lambda consumer: moved.append(consumer.step(0)))
        if moved and moved[0] and not getattr(self.services[name], "poison", None):
            try:
                while twin.step(0):
                    """It may begin with a partition that the first left alone; in the end it takes up the same."""
            except FencedError:
                SEEN["fenced"] += 1
            else:
                raise AssertionError("a zombie was let in")

    @rule(name=st.sampled_from(READERS), seconds=st.sampled_from([1, 61, 130, 700]))
    def beat(self, name: str, seconds: int) -> None:
        self.now += seconds * 1000
        self.step(name, self.beaten)

    def beaten(self, consumer: Consumer) -> None:
        consumer.beat()
        Completeness(consumer.service.types, consumer.store, consumer.outbox, heads.Heads(self.log, CONTRACT)).beat(
            self.now
        )

    @rule(subject=st.sampled_from(PROJECTS), yes=st.booleans())
    def refuse(self, subject: str, yes: bool) -> None:
        utility = self.services["utility"]
        assert isinstance(utility, Recorder)
        (utility.refused.add if yes else utility.refused.discard)(subject)

    @rule()
    def poison(self) -> None:
        timeline = self.services["timeline"]
        assert isinstance(timeline, Recorder)
        timeline.poison = {f"{source}-{self.row}" for source in PLATFORMS}

    @rule(names=st.permutations(PLATFORMS + READERS))
    def flow(self, names: list[str]) -> None:
        for name in names:
            self.relay(name, None, 1)
            if name in READERS:
                self.step(name, lambda consumer: consumer.step(0))

    # ---- the log's faults
    @rule(topic=st.sampled_from([*PARTITIONS, RESEND]), pick=st.integers(0, 10**6))
    def duplicate(self, topic: str, pick: int) -> None:
        if records := self.log.everything(topic):
            r = records[pick % len(records)]
            self.log.append([Message(topic, r.key, r.value, r.headers)])

    @rule(
        topic=st.sampled_from(list(PARTITIONS)),
        garbage=st.sampled_from([b"", b"\0\0\0\0\1zzz", b"\xff" * 9, None]),
        headed=st.booleans(),
    )
    def garbage(self, topic: str, garbage: bytes | None, headed: bool) -> None:
        names = {"ce_source": "urn:jietong:440700:e1", "ce_type": topic, "ce_subject": PROJECTS[0], "ce_sequence": "1", "ce_digest": "00",
                 "ce_id": str(UUID(int=1)), "ce_time": "2026-01-01T00:00:00Z", "ce_recordedtime": "2026-01-01T00:00:00Z"}  # fmt: skip
        self.log.append(
            [
                Message(
                    topic,
                    PROJECTS[0].encode(),
                    garbage,
                    tuple((k, v.encode()) for k, v in names.items()) if headed else (),
                )
            ]
        )

    @rule(topic=st.sampled_from(list(PARTITIONS)), pick=st.integers(0, 10**6))
    def damage(self, topic: str, pick: int) -> None:
        if records := self.log.everything(topic):
            SEEN["damaged"] += 1
            self.log.damage(records[pick % len(records)])

    @rule(
        topic=st.sampled_from([*PARTITIONS, RESEND]),
        kind=st.sampled_from(["recreate", "truncate", "retain"]),
        partition=st.integers(0, 1),
        keep=st.integers(0, 3),
    )
    def lose(self, topic: str, kind: str, partition: int, keep: int) -> None:
        SEEN[kind] += 1
        if kind == "recreate":
            self.log.recreate(topic)
        elif partition < TOPICS[topic]:
            getattr(self.log, kind)(Place(topic, partition), keep + (kind == "truncate"))

    # ---- backups
    @rule(name=st.sampled_from(PLATFORMS + READERS))
    def backup(self, name: str) -> None:
        self.backups[name] = self.stores[name].copy()

    @rule(name=st.sampled_from(PLATFORMS + READERS))
    def restore(self, name: str) -> None:
        """What was announced and is gone must be noticed before anything moves; then a person puts the newer one back."""
        now, announced = (
            self.stores[name].copy(),
            heads.Heads(self.log, CONTRACT).read().get(self.outboxes[name].source),
        )
        self.stores[name].restore(self.backups[name])
        self.consumers.pop(name, None)
        with self.stores[name].snapshot() as tx:
            gone = (
                announced
                and announced.head.newest
                and not tx.execute("SELECT 1 FROM outbox WHERE id = :id", {"id": announced.head.newest}).one()
            )
        before = len(self.log.everything(HEADS)), {t: len(self.log.everything(t)) for t in PARTITIONS}
        for start in (self.made_relay, *([self.started] if name in READERS else [])):
            try:
                start(name)
            except RewoundError:
                SEEN["rewound"] += 1
                assert gone, "stopped for nothing"
            else:
                assert not gone, ("a restored database was let speak", name)
        assert before == (len(self.log.everything(HEADS)), {t: len(self.log.everything(t)) for t in PARTITIONS})
        if gone:
            self.stores[name].restore(now)
        else:
            self.rows[name] &= {UUID(i) for i in self.column(name, "SELECT id FROM outbox")}
        self.consumers.pop(name, None)

    def started(self, name: str) -> None:
        Consumer(self.services[name], self.stores[name], self.log, self.outboxes[name]).start()

    # ---- heal and count
    @precondition(lambda self: self.row - self.healed >= 4)
    @rule()
    def heal_now(self) -> None:
        self.heal()
        self.healed = self.row

    def heal(self) -> None:
        failpoint.armed.clear()
        for service in self.services.values():
            if isinstance(service, Recorder):
                service.poison, service.refused = set(), set()
        calm = 0
        for turn in range(40):
            for name in self.stores:
                relay = self.made_relay(name)
                while relay.step().more:
                    pass
            for name in READERS:
                self.step(name, lambda consumer: [None for _ in range(100) if consumer.step(0)])
                self.step(name, self.beaten)
                self.skip_what_nobody_corrects(name)
            self.now += 1_300_000 * 2 ** min(turn, 12)
            calm = calm + 1 if self.quiet() else 0
            if calm > 1:
                break
        assert calm > 1, f"never quiet: {self.unquiet()}"
        self.count()
        self.backups = {name: store.copy() for name, store in self.stores.items()}

    def skip_what_nobody_corrects(self, name: str) -> None:
        corrected = {i for source in PLATFORMS for i in self.column(source, "SELECT supersedes FROM outbox")}
        store, moved = self.stores[name], set[Stream]()
        with store.transaction() as tx:
            for key in inbox.held(tx, Fate.DEAD):
                [(id, reason)] = tx.execute(f"SELECT id, reason FROM inbox WHERE {inbox.OF_KEY}", key._asdict()).all()
                if str(reason).startswith("died here"):
                    inbox.redrive(tx, key.stream, Fate.DEAD)
                    tx.execute("DELETE FROM attempt")
                    moved.add(key.stream)
                elif id not in corrected:
                    assert inbox.skip(tx, key, "test", "bad bytes", self.now)
                    moved.add(key.stream)
        self.step(name, lambda consumer: consumer.drain_stored(moved))

    def quiet(self) -> bool:
        return not any(self.unquiet().values())

    def unquiet(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: self.column(name, "SELECT n FROM unsent") for name in self.stores}
        for name in READERS:
            with self.stores[name].snapshot() as tx:
                found[f"{name} inbox"] = [*inbox.gaps(tx), *inbox.held(tx, Fate.WAITING, Fate.PARKED, Fate.DEAD)]
                known = inbox.sums(tx)
            said = heads.Heads(self.log, CONTRACT).read()
            found[f"{name} short"] = [
                (s, t)
                for s in said
                for t in self.services[name].types
                if known.get((s, t), 0) != said[s].head.counts.get(t, 0)
            ]
        return found

    def column(self, name: str, sql: str) -> list[Any]:
        with self.stores[name].snapshot() as tx:
            return [row[0] for row in tx.execute(sql).all()]

    def count(self) -> None:
        truth: dict[Key, Any] = {}
        for name, store in self.stores.items():
            with store.snapshot() as tx:
                mine = {e.key: e for e in map(envelope_of, tx.execute(f"SELECT {COLUMNS} FROM outbox").all())}
            streams: defaultdict[Stream, list[int]] = defaultdict(list)
            for key in sorted(mine):
                streams[key.stream].append(key.sequence)
            for stream, numbers in streams.items():
                assert numbers == list(range(1, len(numbers) + 1)), ("outbox has a hole", stream, numbers)
            if name in PLATFORMS:
                assert {e.id for e in mine.values()} == self.rows[name], ("rows", name)
            truth |= mine
        for name in READERS:
            self.count_at(name, truth)
        self.count_cases(truth)

    def count_at(self, name: str, truth: dict[Key, Any]) -> None:
        service, store = self.services[name], self.stores[name]
        due = {key: e for key, e in truth.items() if key.type in service.types}
        with store.snapshot() as tx:
            rows = tx.execute("SELECT source, type, subject, sequence, digest, fate FROM inbox").all()
            sums = dict(inbox.sums(tx))
            naive = {(r[0], r[1]): r[2] for r in tx.execute("SELECT source, type, sum(m) FROM (SELECT source, type, subject, max(sequence) AS m "
                                                             "FROM inbox GROUP BY source, type, subject) GROUP BY source, type").all()}  # fmt: skip
            assert not tx.execute("SELECT 1 FROM stray WHERE reason = 'conflict'").one(), (name, "conflict")
            assert not tx.execute("SELECT 1 FROM alarm WHERE name = 'ahead'").one(), (name, "ahead")
        assert sums == naive
        got = {Key(*row[:4]): row[4:] for row in rows}
        assert set(got) == set(due), (name, "lost", set(due) - set(got), "phantom", set(got) - set(due))
        for key, (digest, fate) in got.items():
            assert digest == due[key].digest, (name, "two meanings", key)
            assert fate in self.fates(service, due[key], truth), (name, key, fate)
            SEEN[fate] += 1
        if isinstance(service, Recorder):
            with store.snapshot() as tx:
                done = [
                    Key(*row) for row in tx.execute("SELECT source, type, subject, sequence FROM done ORDER BY n").all()
                ]
            assert len(done) == len(set(done)), (name, "twice")
            assert set(done) == {key for key in due if self.fates(service, due[key], truth) == {"applied"}}, (
                name,
                "effects",
            )
            for stream in {key.stream for key in done}:
                numbers = [key.sequence for key in done if key.stream == stream]
                assert numbers == sorted(numbers), (name, "order", stream, numbers)

    def fates(self, service: object, e: Any, truth: dict[Key, Any]) -> set[str]:
        if e.id in self.bad:
            return (
                {"skipped", "superseded"} if any(other.supersedes == e.id for other in truth.values()) else {"skipped"}
            )
        return {"filtered"} if CONTRACT.decode(e).data.get("kind") == getattr(service, "filtered", "") else {"applied"}

    def count_cases(self, truth: dict[Key, Any]) -> None:
        approvals: dict[tuple[str, str, str], bool] = {}
        projects: dict[str, str | None] = {}
        cases: defaultdict[tuple[str, str, str], list[tuple[int, bool]]] = defaultdict(list)
        for key in sorted(truth):
            if truth[key].id in self.bad or key.type not in FIELDS:
                continue
            d = CONTRACT.decode(truth[key]).data
            if key.type == "approval":
                approvals[key.subject, key.source, d["kind"]] = d["granted"]
            elif key.type == "project":
                projects[key.subject] = d["area"] if d["alive"] else None
            else:
                cases[key.subject, d["operator"], d["kind"]].append((d["round"], d["open"]))
        wanted = {
            (p, o, TRIGGERS[k])
            for (p, _, k), granted in approvals.items()
            if granted and (area := projects.get(p))
            for o in AREAS[area]
        }
        for case, rounds in cases.items():
            assert rounds == [(i, bool(i % 2)) for i in range(1, len(rounds) + 1)], (
                "case acted on twice",
                case,
                rounds,
            )
        assert {case for case, rounds in cases.items() if rounds[-1][1]} == wanted, ("wanted", wanted, dict(cases))

    def teardown(self) -> None:
        if hasattr(self, "rows"):
            self.heal()
            for store in self.stores.values():
                store.close()
            for copy in self.backups.values():
                copy.close()


class armed:  # noqa: N801 — reads as a word where it is used
    def __init__(self, point: str | None, nth: int) -> None:
        self.point, self.nth = point, nth

    def __enter__(self) -> None:
        if self.point:
            failpoint.armed[self.point] = ("crash", self.nth)

    def __exit__(self, *_: object) -> None:
        failpoint.armed.clear()


SETTINGS = settings(
    max_examples=int(os.environ.get("JIETONG_EXAMPLES", "100")), stateful_step_count=40, deadline=None, database=None,
    suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    phases=[Phase.generate] + [Phase.shrink] * ("JIETONG_SHRINK" in os.environ),
)  # fmt: skip
EXERCISED = (
    "relay crash",
    "consumer crash",
    "fenced",
    "rewound",
    "damaged",
    "recreate",
    "truncate",
    "retain",
    "applied",
    "filtered",
    "skipped",
    "superseded",
)


def test_whatever_goes_wrong_each_event_has_one_effect_at_each_reader_in_order() -> None:
    run_state_machine_as_test(seed(int(os.environ.get("JIETONG_SEED", "20261124")))(World), settings=SETTINGS)
    assert all(SEEN[what] for what in EXERCISED), f"not exercised: {dict(SEEN)}"
