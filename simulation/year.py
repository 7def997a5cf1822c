"""`python -m simulation.year`: a year of a city on an injected clock, then the checker's verdict and the year's figures.

Nothing sleeps: the clock jumps from one thing that happens to the next, and after each look round the city comes to rest.
Exit code 0 only if the verdict is clean and the city came to rest; 1 if not; 2 for wrong use.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.realestate.__main__ as realestate
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
import services.transfer.__main__ as transfer
from connectors.utility.accounts import Account, AccountBook
from connectors.utility.platform import Case, Platform
from connectors.utility.tables import utility as tables
from jietong import city as cities
from jietong import settings
from jietong.catalog import load
from jietong.engine import Consuming, Movement, Program, embedded
from jietong.errors import UsageError
from jietong.identifiers import CreditCode
from jietong.workdays import Workdays
from services.hookup.door import Door
from services.hookup.form import FormError
from simulation import rest
from simulation.actors import WORKED_ON, History, Officers, People, next_verb
from simulation.plan import FIRST_DAY, plan

LOOKS = (11, 16)
"""Hours of a day at which its people look at what there is to do."""
DELAYS, LIKELY = (0, 1, 2, 4, 9), (50, 25, 12, 9, 4)
"""Working days that a next step takes."""
DECIDES, DECIDED = (1, 2, 3, 5, 8), (35, 30, 20, 10, 5)
ROUNDS = 500


class Year:
    """A whole city in this process, without a thread of its own. `ms` is everybody's clock."""

    def __init__(self, folder: Path, projects: int, seed: int, days: int, name: str = "jiangmen") -> None:
        known = load()
        self.pack, self.seed, self.days = cities.load(name, known), seed, days
        self.zone = ZoneInfo(self.pack.working.zone)
        self.start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=self.zone)
        self.ms = _millis(self.start)
        self.engine = embedded(folder, self.pack.code, known, clock=lambda: self.ms)
        working = self.pack.working
        self.working = Workdays(
            zone=working.zone, cut_off=working.cut_off, days_off=working.days_off, work_days=working.work_days
        )
        self.history = History(folder / "history.ndjson", lambda: self.ms)
        self.plan = plan(seed, projects, days * 86_400.0, self.pack)
        platforms, self.operators, programs = self._built()
        self.build = platforms[1]
        self.officers = Officers(self.engine, self.pack, platforms, self.history, self.plan)
        store = self.engine.stores["hookup"]
        self.door = Door(store, self.engine.outbox(store), self.pack, self.engine.keys)
        self.people = People(seed, self.operators, self.door, threading.Event(), self.engine.now)
        self.window = realestate.window(self.engine)
        self.books = {name: AccountBook(self.engine.platform(name, tables)) for name in self.operators}
        self.dice = random.Random(f"{seed}/year")
        self.slips = 0.002
        self.movements: Sequence[Movement] = [movement for program in programs for movement in program.movements]
        self._due: dict[tuple[str, str], datetime] = {}
        self._echoed: set[tuple[str, int]] = set()
        self._supplied: set[str] = set()

    def _built(self) -> Any:
        invest, investing = investment.build(self.engine)
        build, building = engineering.build(self.engine, self.pack)
        registry, registering = realestate.build(self.engine)
        utilities = utility.build_all(self.engine, self.pack)
        programs: list[Program] = [
            investing, building, registering, hookup.build(self.engine, self.pack), *(program for _, program in utilities.values()),
            transfer.build(self.engine, self.pack)[1],
        ]  # fmt: skip
        return (invest, build, registry), {name: platform for name, (platform, _) in utilities.items()}, programs

    def run(self, say: Callable[[str], None] = lambda _said: None) -> None:
        """Every operation at its moment, every look at its hour."""
        for movement in self.movements:
            movement.start()
        for moment, operation in self._agenda():
            self.ms = max(self.ms, _millis(moment))
            if operation is not None:
                self.officers.carry_out(operation)
                continue
            self.settle()
            if moment.hour == LOOKS[0] and self.working.works(moment.date()):
                self._work()
                self.settle()
            if moment.hour == LOOKS[1]:
                for movement in self.movements:
                    movement.beat()
                self.settle()
                if moment.day == 1:
                    say(f"{moment:%Y-%m}")

    def _agenda(self) -> Iterator[tuple[datetime, Any]]:
        """What happens, in order: the officers' operations, and the looks (None)."""
        looks = [(self.start + timedelta(days=day, hours=hour), None) for day in range(self.days + 1) for hour in LOOKS]
        operations = [(self.start + timedelta(seconds=op.at), op) for op in self.plan.operations]
        return iter(sorted([*looks, *operations], key=lambda entry: entry[0]))

    def settle(self) -> None:
        """Let everything go its way until nothing moves. Raises UsageError if it never ends."""
        for _ in range(ROUNDS):
            before = self._moved()
            for movement in self.movements:
                movement.step(0)
            if self._moved() == before:
                return
        raise UsageError(f"the city did not come to rest in {ROUNDS} rounds on {self.engine.now():%Y-%m-%d}")

    def _moved(self) -> int:
        taken = sum(m.consumer.counts.events for m in self.movements if isinstance(m, Consuming))
        return taken + sum(
            bounds.end
            for topic in self.engine.log.topics(self.engine.catalog.topics).values()
            for bounds in topic.bounds.values()
        )

    def _work(self) -> None:
        now = self.engine.now()
        for platform in self.operators.values():
            for case in platform.cases(*WORKED_ON):
                if self._ready(case, now):
                    self._slip(platform, case, now)
                    self.people.step(platform, case)
            for case in platform.cases("SUSPENDED"):
                self._echo(platform, case)
        self._departments(now)
        self._small_user(now)
        self._transfers(now)

    def _slip(self, platform: Platform, case: Case, now: datetime) -> None:
        """A hand slips now and then: a step out of turn, or of a case that never was."""
        if self.dice.random() < self.slips:
            named = case.case_id if self.dice.random() < 0.7 else str(UUID(int=self.dice.getrandbits(128)))
            platform.say(named, "INSPECTED", now=now, subject=case.subject, business_kind=case.business_kind)

    def _small_user(self, now: datetime) -> None:
        """A shop applies for a supply without a project, twice a week."""
        if self.dice.random() > 0.4:
            return
        region = self.dice.choice(self.plan.regions)
        subject = f"enterprise:{CreditCode.make(region=region[:6], organisation=f'MA{self.dice.randrange(10**6):06}')}"
        with suppress(FormError):  # nobody supplies that there
            self.door.apply(subject, self.dice.choice(("POWER", "WATER", "GAS")), "PERMANENT", key=f"apply/{subject}", now=now,
                            site_regions=[region], address="建设路 8 号")  # fmt: skip

    def _transfers(self, now: datetime) -> None:
        """Units that are registered get accounts; the window and the operators' clerks do their round."""
        with self.engine.stores["realestate"].snapshot() as tx:
            units = {row[0] for row in tx.execute("SELECT code FROM unit").all()} - self._supplied
        for unit in sorted(units):
            self._supplied.add(unit)
            for operator, book in self.books.items():
                utility = self.pack.operators[operator].utility
                if utility in ("WATER", "POWER", "GAS") and self.dice.random() < 0.8:
                    owed = Decimal(self.dice.choice(("0.00", "0.00", "0.00", "86.40")))
                    book.open(Account(account=f"{operator}-{unit[-8:]}-{len(self._supplied)}", utility=utility, unit=unit, arrears=owed,
                                      meter=Decimal(100), auto_debit=self.dice.random() < 0.5))  # fmt: skip
        if self._supplied:
            self.window.act(self.dice, now=now)
        for book in self.books.values():
            book.tend(self.dice, now=now)

    def _ready(self, case: Case, now: datetime) -> bool:
        """Each step takes its working days, by the seed; a verb that is not there yet takes for ever."""
        key = case.case_id, case.done
        if key not in self._due:
            dice = random.Random(f"{self.seed}/{'/'.join(key)}")
            days = dice.choices(DELAYS, LIKELY)[0]
            ends = next_verb(self.seed, case) is None
            self._due[key] = (
                datetime.max.replace(tzinfo=UTC) if ends else self.working.add(now, days).at - timedelta(hours=9)
            )
        return self._due[key] <= now

    def _echo(self, platform: Platform, case: Case) -> None:
        """Made safe, says the operator, of most suspensions."""
        if (case.case_id, case.round) not in self._echoed and random.Random(
            f"{self.seed}/{case.case_id}"
        ).random() < 0.8:
            self._echoed.add((case.case_id, case.round))
            platform.acknowledge(case.case_id, now=self.engine.now())

    def _departments(self, now: datetime) -> None:
        for permit in self.build.permits("OPEN"):
            key = permit.permit, "permit"
            dice = random.Random(f"{self.seed}/{permit.permit}")
            days, good = dice.choices(DECIDES, DECIDED)[0], dice.random() < 0.9
            if self._due.setdefault(key, self.working.add(now, days).at - timedelta(hours=9)) <= now:
                why = None if good else "方案不符合要求"
                self.build.decide_permit(
                    permit.permit,
                    "APPROVED" if good else "REFUSED",
                    now=now,
                    document=f"许 {permit.permit[:8]}",
                    reason=why,
                )

    def close(self) -> None:
        for movement in self.movements:
            movement.stop()
        self.history.close()
        self.engine.close()

    def counts(self) -> dict[str, Any]:
        """What the year came to."""
        with self.engine.stores["hookup"].snapshot() as tx:

            def count(sql: str) -> dict[str, int]:
                return dict(sorted(Counter({str(row[0]): row[1] for row in tx.execute(sql).all()}).items()))

            return {
                "cases": count("SELECT coalesce(progress, requested), count(*) FROM case_ GROUP BY 1"),
                "absences": count("SELECT kind, count(*) FROM absence GROUP BY 1"),
                "breaches": count("SELECT kind, count(*) FROM breach GROUP BY 1"),
                "permits": count("SELECT coalesce(decision, requested), count(*) FROM permit GROUP BY 1"),
                "tasks": count("SELECT kind, count(*) FROM task GROUP BY 1"),
                "proposals": count("SELECT status, count(*) FROM trench GROUP BY 1"),
                "refused steps": count("SELECT because LIKE 'no such%', count(*) FROM refusal GROUP BY 1"),
                "transfers": self._moved_accounts(),
            }  # fmt: skip

    def _moved_accounts(self) -> dict[str, int]:
        with self.engine.stores["realestate"].snapshot() as tx:
            rows = tx.execute("SELECT status, count(*) FROM result GROUP BY 1").all()
        return {str(row[0]): row[1] for row in rows}


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def main(
    projects: Annotated[int, typer.Option(min=1, help="how many projects")] = 2000,
    days: Annotated[int, typer.Option(min=1, help="how many days")] = 365,
    seed: Annotated[int, typer.Option(help="the same seed, the same year")] = 7,
    city: Annotated[str, typer.Option(help="the city pack")] = "jiangmen",
    data: Annotated[Path, typer.Option(help="the folder of this city's databases; made anew")] = Path("data/year"),
) -> None:
    """A year of a city, and what the outside checker says of it."""
    if data.exists() and not (data / "history.ndjson").exists() and any(data.iterdir()):
        raise typer.BadParameter(f"{data}: holds something else; choose another folder with --data")
    shutil.rmtree(data, ignore_errors=True)
    began = time.monotonic()
    year = Year(data, projects, seed, days, city)

    def told(month: str) -> None:
        print(f"{month}  {time.monotonic() - began:.0f} s", file=sys.stderr)

    try:
        year.run(told)
        counts = year.counts()
    finally:
        year.close()
    verdict = rest.judged(settings.load(data=data))
    result = {
        "projects": projects,
        "days": days,
        "seconds": round(time.monotonic() - began),
        **counts,
        "verdict": verdict,
    }
    print(json.dumps(result, ensure_ascii=False, indent=1))
    raise typer.Exit(0 if verdict["clean"] else 1)


if __name__ == "__main__":
    typer.run(main)
