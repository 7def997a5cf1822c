"""Who acts: the officers at the platforms carry out the plan, the operators' people and the companies answer in their way."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

from connectors.engineering.platform import EngineeringPlatform, Work
from connectors.investment.platform import Application
from connectors.investment.platform import Platform as Investment
from connectors.realestate.platform import Platform as Registry
from connectors.realestate.platform import Presale, Unit
from connectors.utility.platform import Case, Platform
from connectors.utility.platform import Plan as Supply
from jietong.city import City
from jietong.engine import Engine, now_millis
from jietong.errors import UsageError
from jietong.identifiers import ProjectCode
from services.hookup.door import Door
from services.hookup.form import FormError
from simulation.plan import FIRST_DAY, Operation, Plan

ITEM, APPROVAL, ACCEPTANCE = (
    "engineering.item.progressed.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
)
INVESTMENT = "investment.project.registered.v1"
DECIDING = (2, 11, 12, 13, 14, 15)
TABLES = {
    "work": "SPGL_XMJBXXB",
    "open": "SPGL_XMSPSXBLXXB",
    "progress": "SPGL_XMSPSXBLXXXXB",
    "issue": "SPGL_XMSPSXPFWJXXB",
}
KEYS = {"work": {"GCDM": "code"}, "open": {"SPSXSLBM": "instance"}, "progress": {"SPSXSLBM": "instance", "BLZT": "status"},
        "issue": {"SPSXSLBM": "instance", "PFWH": "number"}}  # fmt: skip
DONE = {
    verb: f"SELECT 1 FROM {table} WHERE {' AND '.join(f'{column} = :{column}' for column in KEYS[verb])}"
    for verb, table in TABLES.items()
}
"""Whether an operation on the exchange tables, whose outcome is unknown, was committed; the other platforms take a key."""


def now() -> datetime:
    return datetime.now(UTC)


class History:
    """The workload's own record, one line a state: `begin` with where its row will stand and what must follow from it, then
    `ok` with its commit's time and result, or `failed`. A second run of the same seed goes on behind it."""

    def __init__(self, path: Path, clock: Callable[[], int] = now_millis) -> None:
        self.path, self.clock = path, clock
        self.states: dict[str, dict[str, Any]] = {}
        if path.exists():
            whole = path.read_bytes()
            for line in whole[: whole.rfind(b"\n") + 1].splitlines():
                entry = json.loads(line)
                self.states.setdefault(entry.get("op", ""), {}).update(entry)
            with path.open("ab") as file:
                file.truncate(whole.rfind(b"\n") + 1)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def note(self, op: str, at: str, **more: Any) -> None:
        entry = {"op": op, "at": at, "ms": self.clock(), **more}
        with self._lock:
            self.states.setdefault(op, {}).update(entry)
            self._write(entry)

    def predict(self, held: Mapping[str, Any]) -> None:
        """One event that will be held, and as what."""
        with self._lock:
            self._write({"held": held})

    def at(self, op: str) -> str | None:
        return self.states.get(op, {}).get("at")

    def close(self) -> None:
        self._file.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()


class Officers:
    """Carry out the plan on the investment, engineering and real-estate platforms."""

    def __init__(
        self,
        engine: Engine,
        city: City,
        platforms: tuple[Investment, EngineeringPlatform, Registry],
        history: History,
        plan: Plan,
    ) -> None:
        self.engine, self.city, self.history, self.plan, self.done = engine, city, history, plan, 0
        self.investment, self.engineering, self.registry = platforms
        self.codes: dict[int, str] = {
            entry["project"]: entry["result"]
            for entry in history.states.values()
            if entry.get("verb") == "register" and entry.get("result")
        }
        applied = {op.project: op.arguments for op in plan.operations if op.verb == "register"}
        self.companies = {n: (told["applicant_uscc"], told["applicant_name"]) for n, told in applied.items()}
        self._further = set(_further(plan))
        self.registered: Callable[[int, str], None] = lambda _project, _code: None

    def work(self, stopping: threading.Event) -> None:
        """Each operation at its moment, from the first that is not done yet."""
        rest = [op for op in self.plan.operations if self.history.at(op.key) not in ("ok", "failed")]
        self.done = len(self.plan.operations) - len(rest)
        begun = time.monotonic() - (rest[0].at if rest else 0)
        for op in rest:
            if stopping.wait(max(0.0, begun + op.at - time.monotonic())):
                return
            self.carry_out(op)
            self.done += 1

    def carry_out(self, op: Operation) -> None:
        unknown = self.history.at(op.key) == "begin"
        self.history.note(
            op.key, "begin", verb=op.verb, project=op.project, item=self._instance(op), **self._follows(op)
        )
        try:
            result = None if unknown and self._committed(op) else getattr(self, f"_{op.verb}")(op)
        except UsageError as error:
            self.history.note(op.key, "failed", why=str(error))
            return
        if op.verb == "register":
            self.codes[op.project] = str(result)
            self.registered(op.project, str(result))
        self.history.note(op.key, "ok", result=result and str(result))

    def _follows(self, op: Operation) -> dict[str, Any]:
        """Where the operation's row will stand, and what must follow from it: its events, and the leads they open."""
        subject = self.codes.get(op.project)
        if op.verb in ("presale", "first"):
            return {
                "subject": subject,
                "row": {"file": "realestate.db", "table": "handling", "where": {"command": op.key}},
            }
        if op.verb in DONE:
            table, where = (
                TABLES[op.verb],
                {
                    c: getattr(self, f"_{v}")(op) if v != "status" else op.arguments["status"]
                    for c, v in KEYS[op.verb].items()
                },
            )
            effects = self._leads(op.project) if op.key in self._further else []
            return {"subject": subject, "row": {"file": "platform-engineering.db", "table": table, "where": where}, "events": self._events(op),
                    "effects": effects}  # fmt: skip
        effects = self._leads(op.project) if op.verb == "decide" else []
        row = {"file": "investment.db", "table": "handling", "where": {"command": op.key}, "subject": "code"}
        return {
            "subject": subject,
            "row": row,
            "events": [[self.engine.urn("investment"), INVESTMENT]],
            "effects": effects,
        }

    def _events(self, op: Operation) -> list[list[str]]:
        if op.verb not in ("progress", "issue"):
            return []
        decides = op.verb == "issue" or op.arguments["status"] in DECIDING
        decided = ACCEPTANCE if self.city.item_catalogue[op.arguments["item"]].acceptance_kind else APPROVAL
        kinds = [ITEM] * (op.verb == "progress") + [decided] * decides
        return [[self.engine.urn("engineering"), kind] for kind in kinds]

    def _leads(self, project: int) -> list[list[Any]]:
        decided = {"status": "DECIDED"}
        return [[operator.id, trigger.business_kind, 1] for trigger in self.city.triggered(INVESTMENT, decided) for utility in trigger.utilities
                for operator in self.city.serving(utility, [self.plan.regions[project]], FIRST_DAY) if (operator.id,
                project) != self.plan.blocked]  # fmt: skip

    def _committed(self, op: Operation) -> bool:
        if op.verb not in DONE:
            return False
        with self.engineering.store.snapshot() as tx:
            return tx.execute(DONE[op.verb], self._follows(op)["row"]["where"]).one() is not None

    def _code(self, op: Operation) -> str:
        return f"{self.codes[op.project]}-{op.arguments.get('work', 0) + 1:02}"

    def _number(self, op: Operation) -> str:
        return op.arguments["number"]

    def _instance(self, op: Operation) -> str | None:
        return f"{self._code(op)}-{op.arguments['item']}" if "item" in op.arguments else None

    # -- verbs -----------------------------------------------------------------------------------------------------------
    def _register(self, op: Operation) -> str:
        return self.investment.register(Application(**op.arguments), now=self.engine.now(), command=op.key)

    def _decide(self, op: Operation) -> None:
        self.investment.decide(
            self.codes[op.project],
            op.arguments["form"],
            op.arguments["document"],
            now=self.engine.now(),
            command=op.key,
        )

    def _change(self, op: Operation) -> None:
        self.investment.change(self.codes[op.project], op.arguments, now=self.engine.now(), command=op.key)

    def _cancel(self, op: Operation) -> None:
        self.investment.cancel(self.codes[op.project], now=self.engine.now(), command=op.key)

    def _work(self, op: Operation) -> None:
        self.engineering.register(Work(
            project=self.codes[op.project], code=self._code(op), name=f"{op.project + 1} 号项目 {op.arguments['work'] + 1} 期",
            developer=self.companies[op.project][0], developer_name=self.companies[op.project][1], site_regions=[self.plan.regions[op.project]],
            address=f"{op.project + 1} 号地块", previous=None,
        ), self.engine.now())  # fmt: skip

    def _open(self, op: Operation) -> None:
        a = op.arguments
        self.engineering.open_item(
            self._code(op), a["item"], str(self._instance(op)), self.engine.now(), basis=a["basis"], parallel="BL-1"
        )

    def _progress(self, op: Operation) -> None:
        self.engineering.progress(self._code(op), str(self._instance(op)), op.arguments["status"], self.engine.now())

    def _issue(self, op: Operation) -> None:
        a = op.arguments
        licence = (
            self.engineering.licence(a["item"], f"{op.project:05}{a['work']:02}")
            if self.engineering.items[a["item"]].licence_kind
            else None
        )
        self.engineering.issue(
            self._code(op),
            str(self._instance(op)),
            a["number"],
            self.engineering.items[a["item"]].name,
            self.engine.now(),
            licence=licence,
        )

    def _presale(self, op: Operation) -> None:
        uscc, name = self.companies[op.project]
        self.registry.issue(Presale(project_code=ProjectCode(self.codes[op.project]), holder_uscc=uscc, holder_name=name, scope="1 栋",
                                    units=op.arguments["units"], authority_region=self.plan.regions[op.project][:6]),
                                    now=self.engine.now(), command=op.key)  # fmt: skip

    def _first(self, op: Operation) -> None:
        units = [Unit(n + 1, "住宅", Decimal("89.50")) for n in range(op.arguments["units"])]
        self.registry.register_first(
            ProjectCode(self.codes[op.project]),
            self.plan.regions[op.project][:6],
            op.arguments["work"] + 1,
            units,
            now=self.engine.now(),
            command=op.key,
        )


def _further(plan: Plan) -> Iterator[str]:
    """The operations by which a further 工程 of a living project is first heard of: it opens permanent cases of its own."""
    heard: set[tuple[int, int]] = set()
    cancelled: set[int] = set()
    for op in plan.operations:
        if op.verb == "cancel":
            cancelled.add(op.project)
        elif op.verb == "progress" and op.arguments["status"] in DECIDING and op.project not in cancelled:
            work = op.project, op.arguments["work"]
            first_of_project = not any(project == op.project for project, _ in heard)
            if work not in heard and not first_of_project:
                yield op.key
            heard.add(work)


ROUTES: Mapping[str, tuple[str, ...]] = {
    "contacted": ("contact",),
    "accepted": ("contact", "accept"),
    "planned": ("contact", "accept", "reply"),
    "connected": ("contact", "accept", "reply", "contract", "start_works", "finish_works", "inspect", "connect"),
    "small": ("contact", "accept", "connect"),
    "declined": ("contact", "decline"),
    "refused": ("contact", "refuse"),
    "not needed": ("contact", "not_needed"),
}
LIKELY = (35, 18, 13, 15, 4, 5, 4, 6)
OF_LINES: Mapping[str, tuple[str, ...]] = {
    "PROTECT": ("protect", "finish_works"),
    "RELOCATE": ("contact", "accept", "reply", "start_works", "finish_works"),
    "CLOSE": ("contact", "accept", "finish_works"),
}
LED_TO = {
    "CONTACTED": "contact",
    "ACCEPTED": "accept",
    "PLAN_REPLIED": "reply",
    "CONTRACTED": "contract",
    "WORKS_STARTED": "start_works",
    "WORKS_FINISHED": "finish_works",
    "INSPECTED": "inspect",
}
WORKED_ON = ("LEAD", *LED_TO, "REQUESTED", "DEMAND_CONFIRMED")
ANSWERS, ANSWERED = ("NONE", "PROTECT", "MOVE"), (60, 30, 10)
ROADS = 150
"""Streets that are dug up; the first few are those the city knows more of."""


def next_verb(seed: int, case: Case) -> str | None:
    """What an operator's people do next with a case, by the seed and the case alone; None: no more."""
    dice = random.Random(f"{seed}/{case.case_id}")
    route = OF_LINES.get(case.business_kind) or ROUTES[dice.choices(list(ROUTES), LIKELY)[0]]
    led = "protect" if case.business_kind == "PROTECT" and case.done == "PLAN_REPLIED" else LED_TO.get(case.done)
    at = 0 if led is None else route.index(led) + 1 if led in route else len(route)
    return route[at] if at < len(route) and (led or case.done == "LEAD") else None


class People:
    """The operators' people and the companies. What becomes of a case is decided by the seed and the case's id alone."""

    def __init__(
        self, seed: int, operators: Mapping[str, Platform], door: Door, stopping: threading.Event,
        clock: Callable[[], datetime] = now,
    ) -> None:  # fmt: skip
        self.seed, self.operators, self.door, self.stopping, self.now = seed, operators, door, stopping, clock
        self._asked: set[str] = set()

    def work(self, pause: float = 0.3) -> None:
        """Until told to stop: each operator's people look at their cases and do the next step of some."""
        while not self.stopping.wait(pause):
            for platform in self.operators.values():
                for case in platform.cases(*WORKED_ON):
                    self.step(platform, case)

    def step(self, platform: Platform, case: Case) -> None:
        """The next step of a case, if the operator's system lets them take it."""
        verb = next_verb(self.seed, case)
        if verb:
            with suppress(UsageError):  # its request was withdrawn while they looked, or a permit is not there yet
                getattr(self, f"_{verb}", self._plain(verb))(platform, case)

    def _plain(self, verb: str) -> Callable[[Platform, Case], None]:
        return lambda platform, case: getattr(platform, verb)(case.case_id, now=self.now())

    def _contact(self, platform: Platform, case: Case) -> None:
        platform.contact(case.case_id, now=self.now())
        if case.business_kind == "PERMANENT" and case.subject not in self._asked:
            self._asked.add(case.subject)
            self._confirm(case.subject)

    def _confirm(self, subject: str) -> None:
        """A company that was called uses its door: it confirms its demand; some open contact data to one operator, some take that
        back; its works begin; a few object."""
        dice = random.Random(f"{self.seed}/{subject}")
        if dice.random() < 0.7:
            demand = {"water_m3_per_day": Decimal(dice.randrange(5, 900)), "power_kva_permanent": Decimal(dice.randrange(50, 4000)),
                      "gas_m3_per_hour": Decimal(dice.randrange(1, 300)), "telecom_cores": dice.randrange(4, 96)}  # fmt: skip
            self.door.confirm(subject, demand, key=f"demand/{subject}", now=self.now())
        roll, operator = dice.random(), dice.choice(sorted(self.operators))
        with suppress(FormError):  # that operator does not serve this site
            if roll < 0.3:
                self.door.consent(subject, [operator], "张工", "13800138000", key=f"consent/{subject}", now=self.now())
            if roll < 0.1:
                self.door.withdraw(subject, [operator], key=f"withdraw/{subject}", now=self.now())
        if roll > 0.6:
            self.door.begun(subject, self.now().date(), key=f"begun/{subject}", now=self.now())
        if roll > 0.97:
            self.door.object(subject, "门牌号有误", field="project.address", key=f"object/{subject}", now=self.now())

    def _reply(self, platform: Platform, case: Case) -> None:
        platform.reply(case.case_id, self._plan(case), now=self.now())

    def _plan(self, case: Case) -> Supply:
        """Large supplies dig up a street a few weeks on; some plan a dearer supply than was promised."""
        dice = random.Random(f"{self.seed}/plan/{case.case_id}")
        external = case.business_kind in ("PERMANENT", "RELOCATE")
        start = self.now().date() + timedelta(days=dice.randrange(20, 60))
        kinds = (
            "ROAD_EXCAVATION",
            *(("TRAFFIC",) if dice.random() < 0.4 else ()),
            *(("GREEN_SPACE",) if dice.random() < 0.2 else ()),
        )
        return Supply(
            works_external=external, length_m=Decimal(dice.randrange(20, 400)), days=10, fee=Decimal(dice.choice((0, 0, 0, 4800))),
            road=self._road(dice) if external else None, works_kinds=kinds if external else (), planned_start=start if external else None,
            planned_finish=start + timedelta(days=dice.randrange(5, 30)) if external else None,
        )  # fmt: skip

    def _road(self, dice: random.Random) -> str:
        n, known = dice.randrange(ROADS), ("示范一路", "示范二路", "示范三路")
        return known[n] if n < len(known) else f"规划{n}路"

    def _protect(self, platform: Platform, case: Case) -> None:
        dice = random.Random(f"{self.seed}/protect/{case.case_id}")
        platform.protect(case.case_id, dice.choices(ANSWERS, ANSWERED)[0], now=self.now())

    def _connect(self, platform: Platform, case: Case) -> None:
        platform.connect(case.case_id, f"户{crc32(case.case_id.encode()) % 10**8:08}", now=self.now())

    def _decline(self, platform: Platform, case: Case) -> None:
        platform.decline(case.case_id, "已有供应", now=self.now())

    def _refuse(self, platform: Platform, case: Case) -> None:
        platform.refuse(case.case_id, "超出供应能力", now=self.now())
