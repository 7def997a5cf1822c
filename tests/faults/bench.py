"""The embedded engine taken apart, moved by hand: one platform that joined fully, one reader, the log between."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, Table, Text

from jietong import catalog, compatibility
from jietong.broker import Message, Place, Record
from jietong.catalog import Catalog
from jietong.delivery import commands, inbox
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.heads import Heads
from jietong.delivery.limits import Limit
from jietong.delivery.outbox import COLUMNS, envelope_of, mark_sent
from jietong.engine import embedded
from jietong.event import Draft, Envelope, Event, Key
from jietong.identifiers import ProjectCode
from tests.faults.harness import judged
from tests.faults.recorder import Recorder, done
from tests.outside.checker import Verdict

APPROVAL = "engineering.approval.decided.v1"
EXAMPLE = compatibility.example(APPROVAL)
START = 1_770_000_000_000
"""Milliseconds: the bench's own clock begins here, and moves when it is told to."""
NO_LIMIT = Limit(in_a_row=10**9, least=10**9)
tables = MetaData()
Table("approval", tables, Column("item", Text, primary_key=True))


def draft(project: int = 0, item: str = "SX-1", **data: Any) -> Draft:
    subject = ProjectCode.make(month=date(2026, 1, 1), region="440703", serial=project + 1)
    return replace(EXAMPLE, subject=subject, data={**EXAMPLE.data, "item_instance": item, **data})


class Bench:
    """`platform` commits approvals with their events, `relay` sends them, `reader` writes down what it took."""

    def __init__(self, folder: Path, types: Catalog | None = None) -> None:
        self.folder, self.now, self.items = folder, START, 0
        self.types = types or catalog.load()
        self.verdict: Callable[[Event], object] = lambda _: None
        self.open()

    def open(self, limit: Limit = NO_LIMIT, batch: int = 500) -> None:
        self.engine = embedded(self.folder, "440700", self.types, clock=lambda: self.now)
        self.contract, self.log = self.engine.contract, self.engine.log
        self.platform, self.store = self.engine.store("engineering", tables), self.engine.store("reader", done)
        self.outbox = self.engine.outbox(self.platform)
        self.relay = self.engine.relay(self.platform, self.outbox)
        self.backwards = self.engine.relay(self.store, self.engine.outbox(self.store))
        self.read(limit, batch)

    def read(self, limit: Limit = NO_LIMIT, batch: int = 500) -> None:
        """A new reader, as after a restart."""
        outbox = self.engine.outbox(self.store)
        service = Recorder("reader", APPROVAL, verdict=self._verdict)
        self.reader = Consumer(service, self.store, self.log, outbox, limit, batch)
        self.completeness = Completeness([APPROVAL], self.store, outbox, Heads(self.log, self.contract))
        self.reader.start()

    def close(self) -> None:
        self.engine.close()

    def _verdict(self, event: Event) -> None:
        self.verdict(event)

    # -- what happens --------------------------------------------------------------------------------------------------
    def commit(self, *drafts: Draft) -> list[Envelope]:
        """Approvals, each with its event, in one transaction."""
        return self.commit_as(*(self.outbox.prepare(each) for each in drafts))

    def commit_as(self, *envelopes: Envelope) -> list[Envelope]:
        """The same for events whose bytes may be wrong: their platform is at fault."""
        with self.platform.transaction() as tx:
            for _ in envelopes:
                self.items += 1
                tx.execute("INSERT INTO approval (item) VALUES (:item)", {"item": f"SX-{self.items}"})
            ids = {str(event_id) for event_id in self.outbox.put(tx, envelopes)}
            rows = tx.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY n").all()
        return [envelope for row in rows if str((envelope := envelope_of(row)).id) in ids]

    def keep(self, *envelopes: Envelope) -> list[Message]:
        """Their records, which the relay will not send: the test does."""
        with self.platform.transaction() as tx:
            mark_sent(tx, [row[0] for row in tx.execute("SELECT n FROM unsent").all()])
        return [self.contract.message(envelope) for envelope in envelopes]

    def send(self) -> None:
        self.relay.step(0)
        self.backwards.step(0)

    def flow(self) -> int:
        """Send everything and take everything; the number of records taken."""
        self.send()
        taken = 0
        while more := self.reader.step(0):
            taken += more
        return taken

    def beat(self, seconds: int) -> None:
        """Time passes; everyone looks around."""
        self.now += seconds * 1000
        for movement in (self.relay, self.backwards):
            movement.beat()
        self.reader.beat()
        self.completeness.beat(self.now)
        self.flow()

    def ask(self, key: str, name: str, **arguments: Any) -> str | None:
        """A person's command, carried out; what it said."""
        with self.store.transaction() as tx:
            commands.ask(tx, key, name, arguments, self.now)
        self.reader.drain_stored(commands.carry_out(self.store, self.now))
        with self.store.snapshot() as tx:
            return commands.result(tx, key)

    # -- what is there -------------------------------------------------------------------------------------------------
    def records(self, topic: str = APPROVAL) -> list[Record]:
        return [r for p in sorted(self.log.topic(topic).bounds) for r in self.log.read(Place(topic, p), 0, 10_000)]

    def fates(self) -> dict[Key, str]:
        return {Key(*row[:4]): row[4] for row in self.rows("SELECT source, type, subject, sequence, fate FROM inbox")}

    def done(self) -> list[Key]:
        return [Key(*row) for row in self.rows("SELECT source, type, subject, sequence FROM done ORDER BY n")]

    def reasons(self, fate: str) -> set[str]:
        return {row[0] for row in self.rows("SELECT reason FROM inbox WHERE fate = :fate", fate=fate)}

    def strays(self) -> list[str]:
        return [row[0] for row in self.rows('SELECT reason FROM stray ORDER BY topic, partition, "offset"')]

    def alarms(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT name FROM alarm")}

    def waiting(self) -> int:
        with self.store.snapshot() as tx:
            return inbox.unsettled(tx)

    def rows(self, sql: str, **parameters: Any) -> list[Any]:
        with self.store.snapshot() as tx:
            return tx.execute(sql, parameters).all()

    def judged(self, **held: tuple[Envelope, ...]) -> Verdict:
        """The outside checker's verdict; `held`: fate → the events that this case predicts to have it."""
        with (self.folder / "history.ndjson").open("w", encoding="utf-8") as history:
            for fate, envelopes in held.items():
                for envelope in envelopes:
                    held = {"consumer": "reader", **envelope.key._asdict(), "fate": fate}
                    history.write(f"{json.dumps({'held': held})}\n")
        return judged(self.folder)
