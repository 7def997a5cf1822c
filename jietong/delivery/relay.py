"""Outbox → log. A crash repeats, never loses; a database restored from a backup is noticed before it speaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from jietong import failpoint
from jietong.broker import Broker, Record, Topic
from jietong.catalog import RESEND
from jietong.contract import Contract
from jietong.delivery import alarms, heads, outbox, positions, rebase
from jietong.delivery.outbox import Head
from jietong.errors import DamagedError, Fault, RetriableError, RewoundError
from jietong.event import Envelope, Stream
from jietong.store import Store, Transaction

BATCH = 500
SIGN_OF_LIFE = 60_000
NONE = (0, 0)
BETWEEN_LOOKS = 1.0
"""Seconds between two looks at what is asked for again, where a look is a server's work."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a step did: rows sent and acknowledged, rows asked for again, and whether more wait."""

    rows: int = 0
    resent: int = 0
    more: bool = False


class Relay:
    """The one relay of an outbox; who holds its lock runs it. It holds no transaction while it talks to the log."""

    def __init__(
        self,
        source: str,
        store: Store,
        broker: Broker,
        contract: Contract,
        clock: Callable[[], int],
        batch: int = BATCH,
        servers: bool = False,
    ) -> None:
        """`servers`: store and log are, so a look at what is asked for again is not for every step, and the marks of a full
        batch are written while the next one is read and sent."""
        self.source, self.store, self.broker, self.contract, self.clock, self.batch = (
            source,
            store,
            broker,
            contract,
            clock,
            batch,
        )
        self._announced: Head | None = None
        self._announced_at = 0
        self._servers, self._looked = servers, float("-inf")
        self._marking: Future[object] | None = None
        self._flying = NONE
        self._after = self._passed = 0
        self._stuck: set[Stream] = set()
        self._noted: set[str] = set()

    def start(self) -> None:
        """At start and after every reconnect. Raises RewoundError; RetriableError while the log is away."""
        self.settle()
        rebase.refuse_restored(self.store, self.broker, self.contract, self.source)
        self._provision()
        self._announced, self._noted = None, set()

    def step(self) -> Sent:
        """Answer what was asked for, announce the head, send one batch, mark what was acknowledged.

        What a partition without a leader keeps back waits; the step goes on behind it, past its streams only.
        """
        resent = self._answer()
        with self.store.snapshot() as tx:
            rows, head = outbox.pending(tx, self.batch, self._after, self._flying), outbox.head(tx)
        self._announce(head)
        full = len(rows) == self.batch
        sent = self._send([row for row in rows if row[1].key.stream not in self._stuck], self._servers and full)
        self._passed += sent
        if not full:
            self._passed_over()
        elif self._stuck:
            self._after = rows[-1][0]
        else:
            self._passed = 0
        return Sent(sent, resent, full)

    def settle(self) -> None:
        """Until what was sent is marked. RetriableError if it could not be: it will be sent again."""
        marking, self._marking, self._flying = self._marking, None, NONE
        if marking:
            marking.result()

    def _passed_over(self) -> None:
        """All that waits was offered once: begin again at the oldest. RetriableError if the log took nothing of it."""
        self.settle()
        stuck, passed = bool(self._stuck), self._passed
        self._after, self._passed, self._stuck = 0, 0, set()
        if stuck and not passed:
            raise RetriableError("the log acknowledges nothing of what waits")

    def _send(self, rows: Sequence[tuple[int, Envelope]], aside: bool) -> int:
        if not rows:
            return 0
        self._note({envelope.key.type for _, envelope in rows})
        failpoint.passing("relay.before_send")
        acknowledged = self.broker.append([self.contract.message(envelope) for _, envelope in rows])
        failpoint.passing("relay.after_ack")
        sent = _prefix_per_stream(rows, acknowledged, self._stuck)
        self.settle()
        if aside:
            self._marking, self._flying = beside("mark", lambda: self._mark(sent)), (rows[0][0], rows[-1][0])
        else:
            self._mark(sent)
        return len(sent)

    def _mark(self, sent: Sequence[int]) -> None:
        with self.store.transaction() as tx:
            outbox.mark_sent(tx, sent)
            failpoint.passing("relay.before_mark_commit")
        failpoint.passing("relay.after_mark")

    def _note(self, types: set[str]) -> None:
        """Which topics these are, before anything is in them: one made anew right after is another one then."""
        if new := types - self._noted:
            found = [{"topic": topic.name, "id": topic.id} for topic in self.broker.topics(new).values()]
            with self.store.transaction() as tx:
                tx.execute_many(
                    "INSERT INTO relayed (topic, topic_id) VALUES (:topic, :id) ON CONFLICT (topic) DO NOTHING", found
                )
            self._noted |= new

    def beat(self) -> None:
        """The slow one: a topic made anew gets everything once again."""
        self.settle()
        with self.store.snapshot() as tx:
            types = [
                row[0]
                for row in tx.execute("SELECT type FROM total WHERE source = :source", {"source": self.source}).all()
            ]
            known: Mapping[str, str] = dict(tx.execute("SELECT topic, topic_id FROM relayed").all())  # pyright: ignore[reportArgumentType]
        for topic in self.broker.topics(types).values():
            if known.get(topic.name) != topic.id:
                self._renew(topic, topic.name in known)
        with self.store.snapshot() as tx:
            over = not outbox.depth(tx)[0] and tx.execute("SELECT 1 FROM alarm WHERE name = 'topic-renewed'").one()
        if over:
            with self.store.transaction() as tx:
                alarms.over(tx, "topic-renewed", self.clock())

    def _renew(self, topic: Topic, was_known: bool) -> None:
        with self.store.transaction() as tx:
            tx.execute("INSERT INTO relayed (topic, topic_id) VALUES (:topic, :id) ON CONFLICT (topic) DO UPDATE SET topic_id = :id",
                       {"topic": topic.name, "id": topic.id})  # fmt: skip
            if was_known:
                outbox.resend_all(tx, topic.name)
                alarms.raise_(
                    tx,
                    "topic-renewed",
                    topic.name,
                    "the topic was made anew; all its events are sent again",
                    self.clock(),
                )

    def _announce(self, head: Head) -> None:
        """Before anything of the batch leaves: what the log does not know we announced, it may not know at all."""
        now = self.clock()
        if head == self._announced and now - self._announced_at < SIGN_OF_LIFE:
            return
        if not all(self.broker.append([heads.message(self.contract, self.source, head, now)])):
            raise RetriableError("the log did not take the head")
        self._announced, self._announced_at = head, now
        failpoint.passing("relay.after_head")

    def _provision(self) -> None:
        with self.store.snapshot() as tx:
            known = positions.load(tx, [RESEND])
        if begins := positions.beginnings(self.broker, [RESEND], known):
            with self.store.transaction() as tx:
                positions.begin(tx, begins)

    def _answer(self) -> int:
        """Requests to send again are idempotent and repeated: at least once is enough, no inbox. None of them may be undone
        by a mark that is still under way."""
        now = time.monotonic()
        if self._servers and now - self._looked < BETWEEN_LOOKS:
            return 0
        self._looked = now
        self.settle()
        with self.store.snapshot() as tx:
            known = positions.load(tx, [RESEND])
        moves = [
            (known[place], here, self.broker.read(place, here.offset, 1000))
            for place, here in positions.located(self.broker, known.values()).items()
        ]
        if not any(records or here != old for old, here, records in moves):
            return 0
        with self.store.transaction() as tx:
            asked = 0
            for old, here, records in moves:
                positions.swap(tx, old, here.after(records[-1]) if records else here)
                asked += sum(self._resend(tx, record) for record in records)
        return asked

    def _resend(self, tx: Transaction, record: Record) -> int:
        if record.key != self.source.encode():
            return 0
        try:
            data = self.contract.decode(self.contract.envelope(record)).data
        except (DamagedError, Fault):
            return 0
        if data["after"] > outbox.written(tx, self.source, data["type"], data["subject"]):
            raise RewoundError(f"{data['asked_by']} knows more. {heads.restored(self.source)}")
        return outbox.resend(tx, self.source, data["type"], data["subject"], data["after"])


def beside(name: str, do: Callable[[], object]) -> Future[object]:
    """Done by a thread of its own: a server's work costs this process next to nothing."""
    done = Future[object]()

    def work() -> None:
        try:
            done.set_result(do())
        except BaseException as error:  # noqa: BLE001 — whoever waits for it is told
            done.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return done


def _prefix_per_stream(
    rows: Sequence[tuple[int, Envelope]], acknowledged: Sequence[bool], stuck: set[Stream]
) -> list[int]:
    """Row numbers to mark: of each stream as far as every row before it was acknowledged too; the others are `stuck`."""
    sent: list[int] = []
    for (n, envelope), ok in zip(rows, acknowledged, strict=True):
        if ok and envelope.key.stream not in stuck:
            sent.append(n)
        else:
            stuck.add(envelope.key.stream)
    return sent
