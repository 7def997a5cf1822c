"""Where an event has its effect: log → inbox → service → state and outbox, one transaction for a polled batch."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from jietong import failpoint
from jietong.broker import Assignment, Broker, Place, Record, partition_of
from jietong.contract import MAX_BODY, Contract
from jietong.delivery import alarms, inbox, positions, quiet, rebase
from jietong.delivery.inbox import Accepted, Standing
from jietong.delivery.limits import USUAL, Limit, Window
from jietong.delivery.outbox import Outbox
from jietong.delivery.positions import Position
from jietong.errors import DamagedError, Fault, HaltError, JietongError, RetriableError
from jietong.event import HELD, Envelope, Fate, Key, Stream
from jietong.service import Service
from jietong.store import Store, Transaction

BATCH = 500
MOST_UNSETTLED = 100_000
FIRST_RETRY, LONGEST_RETRY = 60_000, 3_600_000
"""Milliseconds. What is put off for longer was so by a clock that ran ahead, and is due."""
AGES = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 600_000)
"""Milliseconds: bounds of the ages that are counted."""
DEATHS_TO_PARK, DEATHS_TO_DIE = 2, 5
DIED_HERE = "died here: this process ended while it was attempted"


@dataclass(slots=True)
class Work:
    """One batch on its way through one transaction; made anew for every attempt, but for the verdicts."""

    verdicts: dict[Key, Fault]
    windows: dict[str, Window]
    settled: list[tuple[Key, Fate]] = field(default_factory=list[tuple[Key, Fate]])
    told: list[tuple[Key, str, str, int]] = field(default_factory=list[tuple[Key, str, str, int]])
    """(event, fate, kind of reason, when it was recorded): for metrics."""
    drafts: list[Envelope] = field(default_factory=list[Envelope])
    unkept: dict[Key, Envelope] = field(default_factory=dict[Key, Envelope])
    duplicates: int = 0
    strays: int = 0
    quiet: bool = False


@dataclass(slots=True)
class Counts:
    """What one consumer saw since it started; the tables have the truth, these are for metrics."""

    events: int = 0
    duplicates: int = 0
    strays: int = 0
    batches: int = 0
    fates: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """(fate, kind of reason) → how many."""
    ages: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """type → how many events were applied within each of `AGES` of their owner's commit."""
    age: Counter[str] = field(default_factory=Counter[str])
    """type → the sum of those ages, milliseconds."""

    def settled(self, work: Work, now: int) -> None:
        """Count a batch that has committed."""
        for key, fate, reason, recorded in work.told:
            self.fates[fate, reason] += 1
            if fate == Fate.APPLIED:
                age = max(0, now - recorded)
                self.age[key.type] += age
                counts = self.ages.setdefault(key.type, [0] * (len(AGES) + 1))
                counts[bisect_left(AGES, age)] += 1


class Consumer:
    """One member of a service's consumer group. `step` is one polled batch, `beat` the slow look at what is missing."""

    def __init__(
        self,
        service: Service,
        store: Store,
        broker: Broker,
        outbox: Outbox,
        limit: Limit = USUAL,
        batch: int = BATCH,
        member: str = "",
    ) -> None:
        """`member` names this copy of the group, the same one after a restart."""
        self.service, self.store, self.broker, self.outbox, self.batch = service, store, broker, outbox, batch
        self.contract: Contract = outbox.contract
        self.clock: Callable[[], int] = outbox.clock
        self.counts = Counts()
        self.paused = False
        self._limit, self._running = limit, f"running {member}".rstrip()
        self._reader = broker.reader(service.name, service.types)
        self._assigned: Assignment | None = None
        self._at: dict[Place, Position] = {}
        self._partitions: Mapping[str, int] = {}
        self._windows: dict[str, Window] = {}
        self._careful = False
        self._living = False
        self._owed: set[Stream] = set()

    # -- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Before the first position is moved. Raises RewoundError, HaltError for a missing position, RetriableError."""
        rebase.refuse_restored(self.store, self.broker, self.contract, self.outbox.source)
        provision(self.store, self.broker, self.service.types)
        with self.store.transaction() as tx:
            died = (
                tx.execute(
                    "INSERT INTO mark (name, value) VALUES (:name, '1') ON CONFLICT (name) DO NOTHING",
                    {"name": self._running},
                ).rowcount
                == 0
            )
            self._windows = {topic: Window.load(tx, topic, self._limit) for topic in self.service.types}
        self._careful = self._careful or (died and not self._living)
        self._living = True
        self._assigned = None
        self.relocate()

    def stop(self) -> None:
        """A clean end: nothing was being attempted."""
        with self.store.transaction() as tx:
            tx.execute("DELETE FROM mark WHERE name = :name", {"name": self._running})
        self._reader.close()

    def relocate(self) -> None:
        """Check every assigned position against the log, and seek: at each assignment, after any rollback, on the beat.
        And find what stands ready in the tables, moved by a person, a retry, or a copy of us that is gone."""
        with self.store.snapshot() as tx:
            stored = positions.load(tx, self.service.types)
            ready = inbox.at_turn(tx)
        self._partitions = Counter(place.topic for place in stored)
        assigned = self._reader.assigned()
        if assigned != self._assigned:
            self._at.clear()
            self._assigned = assigned
        if missing := assigned.places - stored.keys():
            place = min(missing)
            raise HaltError(
                f"{self.service.name}: no position for {place.topic}/{place.partition}; nothing jumps quietly: restore it"
            )
        for place, here in positions.located(self.broker, [stored[place] for place in assigned.places]).items():
            old = stored[place]
            if here != old:
                with self.store.transaction() as tx:
                    positions.swap(tx, old, here)
                    alarms.raise_(tx, "log-changed", f"{place.topic}/{place.partition}",
                                  "the topic was made anew, truncated, or its retention overtook us; reading again from its beginning",
                                  self.clock())  # fmt: skip
            if self._at.get(place) != here:
                self._at[place] = here
                self._reader.seek(place, here.offset)
        self._owed |= {stream for stream in ready if self._ours(stream)}

    def _ours(self, stream: Stream) -> bool:
        """Whether this member holds the partition of a stream: what of others waits is theirs to do."""
        count = self._partitions.get(stream.type)
        return count is not None and Place(stream.type, partition_of(stream.subject.encode(), count)) in self._at

    @property
    def joined(self) -> bool:
        """Whether its group has let it in since it began, with partitions or, beside enough others, without."""
        return self._assigned is not None and self._assigned.generation > 0

    def lag(self) -> dict[Place, int]:
        """Records of each partition not yet taken; for metrics, read from another thread."""
        standing = list(self._at.items())
        topics = self.broker.topics({place.topic for place, _ in standing})
        return {
            place: max(0, bounds.end - at.offset)
            for place, at in standing
            if (bounds := topics[place.topic].bounds.get(place.partition))
        }

    # -- one batch ---------------------------------------------------------------------------------------------------
    def step(self, seconds: float) -> int:
        """Poll once, waiting at most so long; returns the number of records taken."""
        if self._reader.assigned() != self._assigned:
            self.relocate()
        if self._owed and not self._careful:
            owed, self._owed = self._owed, set[Stream]()
            self.drain_stored(owed)
        if self.paused:
            self.store.bell.wait(seconds)
            return 0
        records = self._reader.poll(seconds, self.batch)
        if self._careful and self._at:
            self._one_by_one(records)
            self._careful, self._owed = False, set()
        elif records:
            self._process(records)
        return len(records)

    def _process(self, records: Sequence[Record]) -> None:
        def work(tx: Transaction, work: Work) -> None:
            got = self._take(tx, work, records)
            among = self.service.among(tx, sorted({stream.subject for stream in got.standing}))
            for stream in sorted(got.standing):
                self._drain(among, work, stream, got.standing[stream], got.fresh.get(stream, {}))
            inbox.stand(tx, got.standing.items())

        failpoint.passing("consumer.before_batch")
        self._judged(work)
        failpoint.passing("consumer.after_commit")
        self._moved(records)

    def _moved(self, records: Sequence[Record]) -> None:
        for place, record in _last(records).items():
            self._at[place] = self._at[place].after(record)
        self._reader.commit({place: at.offset for place, at in self._at.items()})
        self.counts.events += len(records)
        self.counts.batches += 1

    def _judged(self, do: Callable[[Transaction, Work], None], only: Key | None = None) -> None:
        """Do it in one transaction. A fault rolls all of it back, and it is done again knowing that verdict.

        A fault that names no event (its follow-ups were refused at the end) is that of the `only` one there is; of
        several, it ends the process, and after that they are settled one by one.
        """
        verdicts: dict[Key, Fault] = {}
        while True:
            work = Work(verdicts, {topic: window.copy() for topic, window in self._windows.items()})
            try:
                with self.store.transaction() as tx:
                    work.quiet = quiet.holds(tx)
                    do(tx, work)
                    inbox.keep(tx, work.unkept, work.settled, self.clock())
                    self.outbox.put(tx, sorted(work.drafts, key=lambda e: e.key.subject))
                    for topic, window in work.windows.items():
                        window.save(tx, self._windows[topic])
                    failpoint.passing("consumer.before_commit")
            except Fault as fault:
                key = fault.key or only
                if key is None or key in verdicts:
                    raise
                verdicts[key] = fault
                continue
            self._windows = work.windows
            self.counts.settled(work, self.clock())
            self.counts.duplicates += work.duplicates
            self.counts.strays += work.strays
            return

    def _take(self, tx: Transaction, work: Work, records: Sequence[Record]) -> Accepted:
        """Swap the positions and let the records in."""
        last = _last(records)
        for place in sorted(last):
            positions.swap(tx, self._at[place], self._at[place].after(last[place]))
        pairs: list[tuple[Envelope, Record]] = []
        for record in records:
            try:
                pairs.append((self.contract.envelope(record), record))
            except DamagedError as damage:
                self._stray(tx, work, record, str(damage))
        tx.lock({envelope.key.subject for envelope, _ in pairs})
        got = inbox.accept(tx, [envelope for envelope, _ in pairs])
        work.duplicates, work.unkept = work.duplicates + got.duplicates, got.unkept
        for e in got.conflicts:
            self._conflict(tx, e, next(record for envelope, record in pairs if envelope is e))
        return got

    def _drain(self, tx: Transaction, work: Work, stream: Stream, at: Standing, fresh: dict[int, Envelope]) -> None:
        """Settle what stands at last + 1 and go on: the one way an event has its effect."""
        while envelope := inbox.turn(tx, stream, at, fresh):
            fate = self._settle(tx, work, envelope)
            if fate in HELD:
                return
            at.last += 1

    def _settle(self, tx: Transaction, work: Work, envelope: Envelope) -> Fate:
        key = envelope.key
        if envelope.void:
            inbox.keep(tx, work.unkept)
            return inbox.settle(tx, key, Fate.SKIPPED, "lost by its owner", self.clock())
        if fault := work.verdicts.get(key):
            return self._hold(tx, work, key, fault)
        try:
            event = self.contract.decode(envelope)
        except Fault as fault:
            return self._hold(tx, work, key, fault)
        try:
            fate = self.service.learn(tx, event)
            due = () if work.quiet else self.service.due(tx, event.subject, event)
            work.drafts += [self.outbox.prepare(draft, event) for draft in due]
        except Fault as fault:
            fault.key = key
            raise
        work.windows[key.type].note(invalid=False)
        work.settled.append((key, fate))
        work.told.append((key, fate, "", envelope.recorded))
        return fate

    def _hold(self, tx: Transaction, work: Work, key: Key, fault: Fault) -> Fate:
        inbox.keep(tx, work.unkept)
        fate = inbox.settle(tx, key, Fate(fault.fate), str(fault), self.clock())
        work.windows[key.type].note(invalid=fault.fate == Fate.DEAD)
        work.told.append((key, fate, str(fault).partition(":")[0][:40] if ":" in str(fault) else "refused", 0))
        if fate == Fate.PARKED:
            postpone(tx, key.stream, self.clock())
        return fate

    def _stray(self, tx: Transaction, work: Work, record: Record, reason: str) -> None:
        damaged = None if record.key or record.value is not None else dict(record.headers).get("damaged")
        if damaged is not None:
            reason = f"damaged: {damaged.decode('latin-1')}"
        if inbox.stray(tx, record, self._at[Place(record.topic, record.partition)].topic_id, reason, self.clock()):
            work.strays += 1
            work.windows[record.topic].note(invalid=True)
        if damaged is not None:
            alarms.raise_(tx, "damaged", f"{record.topic}/{record.partition}", f"a batch of the log, up to offset {record.offset}, cannot be "
                          "read and was stepped over; what it held is asked for again", self.clock())  # fmt: skip

    def _conflict(self, tx: Transaction, e: Envelope, record: Record) -> None:
        inbox.contradicted(tx, e)
        topic_id = self._at[Place(record.topic, record.partition)].topic_id
        inbox.stray(tx, record, topic_id, "conflict", self.clock(), most=MAX_BODY + 5)
        alarms.raise_(tx, "conflict", "/".join(e.key.stream), f"sequence {e.key.sequence} has two meanings; its stream stands still until "
                      "`jietong resolve`", self.clock())  # fmt: skip

    def wake(self) -> int:
        """Let speak what is due by the hour alone, though nothing came for it; returns how many subjects that were. After
        a rebase every subject is, once."""
        with self.store.snapshot() as tx:
            after, subjects = quiet.wakes(tx, self.service, self.clock())
        if subjects or after is not None:
            self._judged(lambda tx, work: self._woken(tx, work, after, subjects))
        return len(subjects)

    def _woken(self, tx: Transaction, work: Work, after: str | None, subjects: Sequence[str]) -> None:
        if work.quiet or (after is not None and not quiet.reconciled(tx, after, subjects)):
            return  # another copy of us was faster
        tx.lock(subjects)
        among = self.service.among(tx, sorted(subjects))
        for subject in subjects:
            work.drafts += [self.outbox.prepare(draft) for draft in self.service.due(among, subject, None)]

    # -- what waits in the tables --------------------------------------------------------------------------------------
    def drain_stored(self, streams: Iterable[Stream]) -> None:
        """Streams that something has moved from outside: a redrive, a skip, a retry. Under watch if one died there."""
        for stream in sorted(s for s in set(streams) if self._ours(s)):
            with self.store.snapshot() as tx:
                watched = tx.execute(f"SELECT 1 FROM attempt WHERE {inbox.OF_STREAM}", stream._asdict()).one()
            if watched:
                self._watched(stream)
            else:
                self._judged(lambda tx, work, stream=stream: self._drain_one(tx, work, stream))

    def _drain_one(self, tx: Transaction, work: Work, stream: Stream) -> None:
        tx.lock([stream.subject])
        at = inbox.standing(tx, stream)
        self._drain(tx, work, stream, at, {})
        inbox.stand(tx, [(stream, at)])
        forget_retry(tx, stream)

    # -- after an unclean death ----------------------------------------------------------------------------------------
    def _one_by_one(self, records: Sequence[Record]) -> None:
        """Let all in, then settle each in a transaction of its own, having first noted that we try: kills at one point
        hit innocents, and this lets them out."""
        if records:
            self._judged(lambda tx, work: inbox.stand(tx, self._take(tx, work, records).standing.items()))
            self._moved(records)
        with self.store.snapshot() as tx:
            streams = {key.stream for key in inbox.held(tx, Fate.WAITING) if self._ours(key.stream)}
        for stream in sorted(streams):
            self._watched(stream)

    def _watched(self, stream: Stream) -> None:
        while (envelope := self._next(stream)) and self._attempt(envelope.key):
            with self._surviving(envelope.key):
                self._judged(lambda tx, work, envelope=envelope: self._settle_one(tx, work, envelope), envelope.key)

    @contextmanager
    def _surviving(self, key: Key) -> Generator[None]:
        """What ends in an exception of ours did not end the process: only a death counts as one."""
        try:
            yield
        except JietongError:
            with suppress(RetriableError), self.store.transaction() as tx:
                inbox.returned(tx, key)
            raise

    def _next(self, stream: Stream) -> Envelope | None:
        with self.store.transaction() as tx:
            tx.lock([stream.subject])
            at = inbox.standing(tx, stream)
            before = at.last
            envelope = inbox.turn(tx, stream, at, {})
            if at.last != before:
                inbox.stand(tx, [(stream, at)])
            return envelope

    def _attempt(self, key: Key) -> bool:
        """Note it, committed, before it is tried; False if it has ended us often enough to wait, or for a person."""
        now = self.clock()
        with self.store.transaction() as tx:
            deaths = inbox.deaths(tx, key)
            if deaths >= DEATHS_TO_DIE:
                inbox.settle(tx, key, Fate.DEAD, DIED_HERE, now)
                return False
            if deaths >= DEATHS_TO_PARK:
                due = next_try(tx, key.stream)
                if due is None or now < due <= now + LONGEST_RETRY:
                    inbox.settle(tx, key, Fate.PARKED, DIED_HERE, now)
                    if due is None:
                        postpone(tx, key.stream, now)
                    return False
                postpone(tx, key.stream, now)
            inbox.attempting(tx, key)
        return True

    def _settle_one(self, tx: Transaction, work: Work, envelope: Envelope) -> None:
        stream = envelope.key.stream
        tx.lock([stream.subject])
        at = inbox.standing(tx, stream)
        if self._settle(tx, work, envelope) not in HELD:
            at.last += 1
            forget_retry(tx, stream)
        inbox.survived(tx, envelope.key)
        inbox.stand(tx, [(stream, at)])

    # -- the slow beat ---------------------------------------------------------------------------------------------------
    def beat(self) -> None:
        """Positions again, what is due for another try, and whether too much is unsettled."""
        self.relocate()
        quiet.look(self.store, self.broker, self.contract, self.service)
        now, behind = self.clock(), any(self.lag().values())
        with self.store.transaction() as tx:
            rows = tx.execute("SELECT source, type, subject FROM retry WHERE next_at <= :now OR next_at > :never",
                              {"now": now, "never": now + LONGEST_RETRY}).all()  # fmt: skip
            due = [stream for row in rows if self._ours(stream := Stream(*row))]
            for stream in due:
                inbox.redrive(tx, stream, Fate.PARKED)
            if not behind:
                for name in ("log-changed", "damaged"):
                    alarms.over(tx, name, now)
            self.paused = inbox.unsettled(tx) > MOST_UNSETTLED
            if self.paused:
                alarms.raise_(
                    tx,
                    "unsettled",
                    self.service.name,
                    f"over {MOST_UNSETTLED} events unsettled; reading stands still",
                    now,
                )
            else:
                alarms.clear(tx, "unsettled", self.service.name)
        self.drain_stored(due)


def _last(records: Iterable[Record]) -> dict[Place, Record]:
    """The last record of each partition: within one they come in order."""
    return {Place(record.topic, record.partition): record for record in records}


def provision(store: Store, broker: Broker, topics: Iterable[str]) -> None:
    """A topic this reader has never read begins at the log's beginning. One it has read, without a position, is left
    missing: `relocate` stops there."""
    with store.snapshot() as tx:
        have = positions.load(tx, topics)
        known = {row[0] for row in tx.execute("SELECT DISTINCT type FROM stream").all()}
    if begins := positions.beginnings(broker, [name for name in topics if name not in known], have):
        with store.transaction() as tx:
            positions.begin(tx, begins)


def postpone(tx: Transaction, stream: Stream, now: int) -> None:
    """Try a parked stream again after a minute, doubling to an hour."""
    row = tx.execute("INSERT INTO retry (source, type, subject, tries, next_at) VALUES (:source, :type, :subject, 1, :next) "
                     "ON CONFLICT (source, type, subject) DO UPDATE SET tries = retry.tries + 1 RETURNING tries",
                     {**stream._asdict(), "next": now + FIRST_RETRY}).one()  # fmt: skip
    assert row is not None  # noqa: S101 — RETURNING gives one
    wait = min(FIRST_RETRY * 2 ** (row[0] - 1), LONGEST_RETRY)
    tx.execute(f"UPDATE retry SET next_at = :next WHERE {inbox.OF_STREAM}", {**stream._asdict(), "next": now + wait})


def next_try(tx: Transaction, stream: Stream) -> int | None:
    """When a parked stream is tried again."""
    row = tx.execute(f"SELECT next_at FROM retry WHERE {inbox.OF_STREAM}", stream._asdict()).one()
    return row[0] if row else None


def forget_retry(tx: Transaction, stream: Stream) -> None:
    """Once nothing of a stream is parked any more."""
    tx.execute(
        f"DELETE FROM retry WHERE {inbox.OF_STREAM} AND NOT EXISTS (SELECT 1 FROM inbox WHERE {inbox.OF_STREAM} AND fate = 'parked')",
        stream._asdict(),
    )
