"""Log → platform: an effect outside the database, once for each event.

Each delivery is noted as *sending*, committed, before it leaves; one whose outcome is *unknown* after a death is resolved
by asking the platform, not by sending blindly. The event's id is the idempotency key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from jietong import failpoint
from jietong.broker import Broker, Record
from jietong.delivery import inbox
from jietong.delivery.consumer import Consumer, Work, forget_retry
from jietong.delivery.inbox import Accepted
from jietong.delivery.outbox import Outbox
from jietong.errors import Fault
from jietong.event import HELD, Draft, Envelope, Event, Fate, Key, Stream
from jietong.platform import Sink
from jietong.service import Learned
from jietong.store import Store, Transaction


class Deliveries:
    """The service behind a sink: it keeps nothing itself, and what it wants it learns from the envelope."""

    def __init__(self, name: str, types: Sequence[str], wanted: Callable[[Envelope], bool]) -> None:
        self.name, self.types, self.wanted = name, types, wanted

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:  # noqa: ARG002
        return tx

    def learn(self, tx: Transaction, event: Event) -> Learned:  # noqa: ARG002
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:  # noqa: ARG002
        return ()

    def remember(self, tx: Transaction, event: Event) -> None:
        """Nothing of its own to take back."""

    def subjects(self, tx: Transaction) -> Iterable[str]:  # noqa: ARG002
        return ()

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:  # noqa: ARG002
        return ()


class Pour(Consumer):
    """A consumer whose effect is a platform's. While a whole target is away its group waits, and only its."""

    def __init__(
        self, deliveries: Deliveries, sink: Sink, store: Store, broker: Broker, outbox: Outbox, member: str = ""
    ) -> None:
        super().__init__(deliveries, store, broker, outbox, member=member)
        self.wanted, self.sink = deliveries.wanted, sink

    def step(self, seconds: float) -> int:
        """As a consumer's; what could not be delivered because the target was away comes first."""
        self._pour()
        return super().step(seconds)

    def _process(self, records: Sequence[Record]) -> None:
        """What came and has its turn is noted as *sending* by the transaction that takes it in, and leaves right after it."""

        def work(tx: Transaction, work: Work) -> None:
            got = self._take(tx, work, records)
            skimmed = [(stream, self._skim(tx, work, stream, got)) for stream in sorted(got.standing)]
            inbox.stand(tx, got.standing.items())
            turns[:] = [(stream, events) for stream, events in skimmed if events]
            unknown.clear()
            unknown.update(self._note(tx, [e for _, events in turns for e in events]))

        turns: list[tuple[Stream, Sequence[Envelope]]] = []
        unknown: set[str] = set()
        self._judged(work)
        self._owed |= {stream for stream, _ in turns}
        self._moved(records)
        if turns:
            self._deliver(turns, unknown)
            self._owed -= {stream for stream, events in turns if len(events) < self.batch}
        self._pour()

    def _skim(self, tx: Transaction, work: Work, stream: Stream, got: Accepted) -> list[Envelope]:
        """Settle what stands at last + 1 and is not for us; then whatever has its turn, if something for us comes next."""
        at, fresh = got.standing[stream], got.fresh.get(stream, {})
        ahead, events = at, list[Envelope]()
        while len(events) < self.batch and (envelope := inbox.turn(tx, stream, ahead, fresh)):
            if events or envelope.void or self.wanted(envelope):
                ahead = ahead if events else replace(at)
                events.append(envelope)
            else:
                work.windows[stream.type].note(invalid=False)
                work.settled.append((envelope.key, Fate.FILTERED))
                work.told.append((envelope.key, Fate.FILTERED, "", 0))
            ahead.last = envelope.key.sequence
        return events

    def drain_stored(self, streams: Iterable[Stream]) -> None:
        self._owed |= {stream for stream in streams if self._ours(stream)}
        with self.store.snapshot() as tx:
            self._careful = self._careful or tx.execute("SELECT 1 FROM attempt LIMIT 1").one() is not None
        self._pour()

    def _pour(self) -> None:
        """Everything whose turn it is, stream by stream; RetriableError leaves the rest owed."""
        if self._careful:
            self._one_at_a_time()
            self._careful = False
        while self._owed:
            with self.store.snapshot() as tx:
                turns = [(stream, inbox.ready(tx, stream, self.batch)) for stream in sorted(self._owed)[: self.batch]]
            self._owed -= {stream for stream, events in turns if not events}
            if turns := [(stream, events) for stream, events in turns if events]:
                self._deliver(turns, self._sending([e for _, events in turns for e in events]))

    def _one_at_a_time(self) -> None:
        """After an unclean death, what was under way and may have ended us: each noted before it is tried."""
        for stream in sorted(self._owed):
            while (envelope := self._first(stream)) and self._attempt(envelope.key):
                with self._surviving(envelope.key):
                    self._deliver([(stream, [envelope])], self._sending([envelope]))
                with self.store.transaction() as tx:
                    inbox.survived(tx, envelope.key)

    def _first(self, stream: Stream) -> Envelope | None:
        with self.store.snapshot() as tx:
            return next(iter(inbox.ready(tx, stream, 1)), None)

    def _deliver(self, turns: Sequence[tuple[Stream, Sequence[Envelope]]], unknown: set[str]) -> None:
        """`unknown`: ids that were under way when a process before us ended."""
        verdicts: dict[Key, Fault | Fate] = {}
        stayed = {e.key: str(e.id) for _, events in turns for e in events if str(e.id) not in unknown}
        try:
            for _, events in turns:
                for envelope in events:
                    stayed.pop(envelope.key, None)
                    verdicts[envelope.key] = verdict = self._one(envelope, asked=str(envelope.id) in unknown)
                    if isinstance(verdict, Fault):
                        break
        finally:
            self._judged(lambda tx, work: self._settle_turns(tx, work, turns, verdicts, stayed.values()))

    def _sending(self, envelopes: Sequence[Envelope]) -> set[str]:
        if not any(self._leaves(e) for e in envelopes):
            return set()
        with self.store.transaction() as tx:
            return self._note(tx, envelopes)

    def _note(self, tx: Transaction, envelopes: Sequence[Envelope]) -> set[str]:
        """Note what is about to leave; returns the ids that were under way when a process before us ended."""
        now = self.clock()
        leaving = [{"id": str(e.id), "now": now} for e in envelopes if self._leaves(e)]
        if not leaving:
            return set()
        rows = tx.execute("SELECT id FROM effect WHERE outcome = 'sending'").all()
        tx.execute_many(
            "INSERT INTO effect (id, outcome, since) VALUES (:id, 'sending', :now) ON CONFLICT (id) DO NOTHING", leaving
        )
        return {row[0] for row in rows}

    def _leaves(self, envelope: Envelope) -> bool:
        return not envelope.void and self.wanted(envelope)

    def _one(self, envelope: Envelope, asked: bool) -> Fault | Fate:
        if envelope.void:
            return Fate.SKIPPED
        if not self.wanted(envelope):
            return Fate.FILTERED
        try:
            event = self.contract.decode(envelope)
            if not (asked and self.sink.delivered(event)):
                failpoint.passing("pour.before_deliver")
                self.sink.deliver(event)
                failpoint.passing("pour.after_deliver")
        except Fault as fault:
            return fault
        return Fate.APPLIED

    def _settle_turns(
        self,
        tx: Transaction,
        work: Work,
        turns: Sequence[tuple[Stream, Sequence[Envelope]]],
        verdicts: dict[Key, Fault | Fate],
        stayed: Iterable[str],
    ) -> None:
        tx.lock({stream.subject for stream, _ in turns})
        tx.execute_many("DELETE FROM effect WHERE id = :id", [{"id": id} for id in stayed])
        for stream, events in turns:
            at = inbox.standing(tx, stream)
            for envelope in events:
                if (verdict := verdicts.get(envelope.key)) is None:
                    break
                if self._settled(tx, work, envelope, verdict) in HELD:
                    break
                at.last = envelope.key.sequence
            inbox.stand(tx, [(stream, at)])
            forget_retry(tx, stream)

    def _settled(self, tx: Transaction, work: Work, envelope: Envelope, verdict: Fault | Fate) -> Fate:
        tx.execute("DELETE FROM effect WHERE id = :id", {"id": str(envelope.id)})
        if isinstance(verdict, Fault):
            return self._hold(tx, work, envelope.key, verdict)
        if verdict == Fate.SKIPPED:
            return inbox.settle(tx, envelope.key, verdict, "lost by its owner", self.clock())
        work.windows[envelope.key.type].note(invalid=False)
        work.settled.append((envelope.key, verdict))
        work.told.append((envelope.key, verdict, "", envelope.recorded))
        return verdict
