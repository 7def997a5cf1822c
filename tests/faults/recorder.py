"""A reader that only writes down what it took, in the order in which it took it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Column, Integer, MetaData, Table, Text

from jietong.event import Draft, Event, Fate
from jietong.service import Learned
from jietong.store import Transaction

done = MetaData()
Table(
    "done", done,
    Column("n", Integer, primary_key=True),
    *(Column(name, Text) for name in ("source", "type", "subject", "id")),
    Column("sequence", Integer),
)  # fmt: skip
NOTE = "INSERT INTO done (source, type, subject, sequence, id) VALUES (:source, :type, :subject, :sequence, :id)"


class Recorder:
    """See `jietong.service.Service`. `verdict` may raise what this reader thinks of an event."""

    def __init__(self, name: str, *types: str, verdict: Callable[[Event], object] = lambda _: None) -> None:
        self.name, self.types, self.verdict = name, types, verdict

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:
        return tx

    def learn(self, tx: Transaction, event: Event) -> Learned:
        tx.execute(NOTE, {**event.key._asdict(), "id": str(event.id)})
        self.verdict(event)
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        return ()

    def remember(self, tx: Transaction, event: Event) -> None:
        """Nothing of its own."""

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return ()

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:
        return ()
