"""What the joint survey (多测合一) measured, kept at the registry: a first registration is filled in from it."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from connectors.realestate.window import ResultSink
from jietong.event import Event
from jietong.store import Store, Transaction

SURVEY = "survey.result.published.v1"
KEEP = """INSERT INTO surveyed (source, survey, project, stands, units, floor_area, sequence)
VALUES (:source, :survey, :project, :stands, :units, :floor_area, :sequence) ON CONFLICT (source, survey) DO UPDATE SET
stands = :stands, units = :units, floor_area = :floor_area, sequence = :sequence WHERE surveyed.sequence < :sequence"""


class Surveyed(NamedTuple):
    """A result that stands: its number, the units it covers, and the floor area in m²."""

    survey: str
    units: tuple[str, ...]
    floor_area: Decimal | None


class Surveys:
    """The registry's copy of the results."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def take(self, event: Event) -> None:
        """Once or many times, in any order, the same effect: the newest word on a result holds."""
        data = event.data
        by = {"source": event.source, "sequence": event.sequence}
        with self.store.transaction() as tx:
            tx.execute(KEEP, {
                **by, "survey": data["survey"], "project": event.subject, "stands": int(data["status"] != "WITHDRAWN"),
                "units": " ".join(data["units"]), "floor_area": None if data["floor_area"] is None else str(data["floor_area"]),
            })  # fmt: skip
            if replaced := data["supersedes_survey"]:
                gone = {
                    **by,
                    "survey": replaced,
                    "project": event.subject,
                    "stands": 0,
                    "units": "",
                    "floor_area": None,
                }
                tx.execute(KEEP, gone)

    def taken(self, event: Event) -> bool:
        with self.store.snapshot() as tx:
            return _sequence(tx, event) >= event.sequence

    def of(self, project: str) -> list[Surveyed]:
        """The results that stand for a project, newest first: what its registration is filled in with."""
        with self.store.snapshot() as tx:
            rows = tx.execute("SELECT survey, units, floor_area FROM surveyed WHERE project = :project AND stands = 1 "
                              "ORDER BY sequence DESC, survey", {"project": project}).all()  # fmt: skip
        return [Surveyed(number, tuple(units.split()), Decimal(area) if area else None) for number, units, area in rows]


class RegistrySink:
    """Surveys, and what becomes of transfers. See `jietong.platform.Sink`."""

    def __init__(self, surveys: Surveys, results: ResultSink) -> None:
        self.surveys, self.results = surveys, results

    def deliver(self, event: Event) -> None:
        if event.type == SURVEY:
            self.surveys.take(event)
        else:
            self.results.deliver(event)

    def delivered(self, event: Event) -> bool:
        return self.surveys.taken(event) if event.type == SURVEY else self.results.delivered(event)


def _sequence(tx: Transaction, event: Event) -> int:
    row = tx.execute("SELECT sequence FROM surveyed WHERE source = :source AND survey = :survey",
                     {"source": event.source, "survey": event.data["survey"]}).one()  # fmt: skip
    return row[0] if row else 0
