"""What the city did, read from its databases: events, cases, delays, what came twice, what is held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from jietong.city import City
from jietong.contract import Contract
from jietong.delivery.outbox import COLUMNS, envelope_of
from jietong.engine import Engine
from simulation.actors import History
from simulation.plan import Plan

INVARIANTS = {
    "I1": "none lost", "I2": "none twice", "I3": "in order", "I5": "no phantom", "I6": "came to rest by itself", "I8": "bounded",
}  # fmt: skip
INVESTMENT = "investment.project.registered.v1"


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds are from the platform's commit to the lead's row in the operator's table."""

    projects: int
    events: Mapping[str, int]
    cases: Mapping[str, Mapping[str, int]]
    delay_p50: float
    delay_p95: float
    delays: int
    duplicates: int
    held: int
    expected: Mapping[str, Any]
    minima: Mapping[str, bool]

    @property
    def reached(self) -> bool:
        return all(self.minima.values())

    def json(self) -> dict[str, Any]:
        return asdict(self)


FIRST = """SELECT c.status, c.received_at, r.event_id FROM case_ c JOIN receipt r ON r.case_id = c.case_id
AND r.sequence = (SELECT min(sequence) FROM receipt f WHERE f.case_id = c.case_id)"""
"""Of each case: where it stands, when its lead came in, and the request that brought it."""


def read(engine: Engine, city: City, plan: Plan, history: History, duplicates: int) -> Report:
    """Everything at once, when the city has come to rest."""
    cases: dict[str, dict[str, int]] = {}
    delays: list[float] = []
    causes, commits = _causes(engine), _commits(engine, history)
    for operator in sorted(city.operators):
        with engine.stores[f"platform-{operator}"].snapshot() as tx:
            rows = tx.execute(FIRST).all()
        cases[operator] = dict(sorted(Counter(row[0] for row in rows).items()))
        delays += [(row[1] - commits[cause]) / 1000 for row in rows if (cause := causes.get(row[2], "")) in commits]
    delays.sort()
    wanted, repeated, held = plan.leads(city), _repeated(engine, plan, history), _held(engine)
    registered = [entry for entry in history.states.values() if entry.get("verb") == "register" and entry["at"] == "ok"]
    return Report(
        projects=len(plan.regions), events=_events(engine), cases=cases, delay_p50=_share(delays, 0.5), delay_p95=_share(delays, 0.95),
        delays=len(delays), duplicates=duplicates, held=sum(held.values()),
        expected={"projects": len(plan.regions), "leads": wanted, "duplicates": repeated,
        "held": [f"{plan.blocked[0]}: project {plan.blocked[1] + 1}"]},
        minima={
            "projects": len(registered) == len(plan.regions), "duplicates": duplicates >= repeated > 0,
            "held": held == Counter({f"utility:{plan.blocked[0]}": 1}),
            **{f"leads {operator}": _permanent(engine, operator) >= least for operator, least in wanted.items()},
        },
    )  # fmt: skip


def show(console: Console, report: Report, verdict: Mapping[str, Any]) -> None:
    events = Table("event type", "events", title="事件 · events", title_justify="left")
    for type, count in report.events.items():
        events.add_row(type, str(count))
    console.print(events)
    cases = Table("operator", "cases", "states", title="接入事项 · cases by operator and state", title_justify="left")
    for operator, counts in report.cases.items():
        cases.add_row(
            operator, str(sum(counts.values())), ", ".join(f"{state} {count}" for state, count in counts.items())
        )
    console.print(cases)
    console.print(
        f"platform commit → lead in the operator's table: p50 {report.delay_p50:.2f} s, p95 {report.delay_p95:.2f} s ({report.delays} leads)"
    )
    console.print(
        f"duplicates that reached an inbox and had no effect: {report.duplicates} (predicted at least {report.expected['duplicates']})"
    )
    console.print(f"held: {report.held} (predicted: {', '.join(report.expected['held'])})")
    for name, ok in report.minima.items():
        if not ok:
            console.print(f"[red]not reached: {name}")
    table = Table("invariant", "meaning", "holds", title="核验 · the outside checker's verdict", title_justify="left")
    for name, meaning in INVARIANTS.items():
        faults = verdict["faults"].get(name, [])
        table.add_row(name, meaning, "[red]NO: " + "; ".join(faults[:3]) if faults else "yes")
    console.print(table)
    console.print(
        "checked: "
        + "; ".join(f"{name} {value}" for name, value in verdict["numbers"].items() if isinstance(value, int)),
        markup=False,
    )


def _events(engine: Engine) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, store in engine.stores.items():
        if not name.startswith("platform-"):
            with store.snapshot() as tx:
                counts.update(
                    {row[0]: row[1] for row in tx.execute("SELECT type, count(*) FROM outbox GROUP BY type").all()}
                )
    return dict(sorted(counts.items()))


def _causes(engine: Engine) -> dict[str, str]:
    """A request's event id → the id of the event that caused it."""
    with engine.stores["hookup"].snapshot() as tx:
        return {row[0]: row[1] for row in tx.execute("SELECT id, cause FROM outbox WHERE cause IS NOT NULL").all()}


def _commits(engine: Engine, history: History) -> dict[str, int]:
    """An event's id → when its platform committed it, milliseconds: the outbox's own time where the platform joined fully, the
    officer's where the platform's tables are read."""
    with engine.stores["investment"].snapshot() as tx:
        commits: dict[str, int] = {row[0]: row[1] for row in tx.execute("SELECT id, recorded FROM outbox").all()}
    decided = {
        entry["item"]: entry["ms"]
        for entry in history.states.values()
        if entry.get("verb") == "progress" and entry["at"] == "ok"
    }
    contract: Contract = engine.contract
    with engine.stores["engineering"].snapshot() as tx:
        rows = tx.execute(
            f"SELECT {COLUMNS} FROM outbox WHERE type IN ('engineering.approval.decided.v1', 'engineering.acceptance.decided.v1')"
        ).all()
    for row in rows:
        event = contract.decode(envelope_of(row))
        if event.data["decision"] == "APPROVED" and (at := decided.get(event.data["item_instance"])):
            commits[str(event.id)] = at
    return commits


def _permanent(engine: Engine, operator: str) -> int:
    with engine.stores[f"platform-{operator}"].snapshot() as tx:
        return tx.execute("SELECT count(*) FROM case_ WHERE business_kind = 'PERMANENT'").all()[0][0]


def _held(engine: Engine) -> Counter[str]:
    held: Counter[str] = Counter()
    for name, store in engine.stores.items():
        if not name.startswith("platform-"):
            with store.snapshot() as tx:
                if count := tx.execute("SELECT count(*) FROM inbox WHERE fate IN ('parked', 'dead')").all()[0][0]:
                    held[name] = count
    return held


def _repeated(engine: Engine, plan: Plan, history: History) -> int:
    """Each event of the repeated project reaches each of its type's readers once more: hookup and the timeline."""
    subject = history.states[f"{plan.repeated}/register"].get("result")
    with engine.stores["investment"].snapshot() as tx:
        return (
            2
            * tx.execute(
                "SELECT count(*) FROM outbox WHERE type = :type AND aggregateid = :subject",
                {"type": INVESTMENT, "subject": subject},
            ).all()[0][0]
        )


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
