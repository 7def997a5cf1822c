"""A small city as a process of its own, to be killed: `python -m tests.faults.city FOLDER [options]`.

Real platforms, connectors and services of 江门 with some of its operators, and a reader that writes down what it took.
It prints `ready`, works through a seeded workload, telling `history.ndjson` before and after every operation, prints
`worked`, and runs until a line on its standard input says `stop`; other lines are `away OPERATOR`, `back OPERATOR`,
`slow OPERATOR MILLISECONDS`, `work OPERATIONS`. Exit code 2: a person must mend it; 70: a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import connectors.engineering.__main__ as engineering
import connectors.investment.__main__ as investment
import connectors.utility.__main__ as utility
import services.hookup.__main__ as hookup
from connectors.engineering.platform import Work
from connectors.engineering.tables import ITEM, PROGRESS, PROJECT
from connectors.investment.platform import Application
from jietong import catalog, city
from jietong.engine import Program, Running, embedded
from jietong.errors import JietongError, UsageError
from jietong.event import Event
from jietong.service import Learned
from jietong.store import Transaction
from tests.faults.recorder import Recorder, done

REGISTERED, APPROVAL, MOVED = (
    "investment.project.registered.v1",
    "engineering.approval.decided.v1",
    "engineering.item.progressed.v1",
)
REQUESTED, PROGRESSED = "utility.connection.requested.v1", "utility.connection.progressed.v1"
OPERATORS = ("jm-gas", "jm-power", "jm-telecom-a", "jm-water")
PERMIT, APPROVED, REVOKED = "JM-0301", 11, 15
OPENED_BY_PERMIT = {
    "TEMPORARY": {"jm-water", "jm-power"},
    "PROTECT": {"jm-water", "jm-gas", "jm-power", "jm-telecom-a"},
}
POISON = "毒丸"


class Deadly(Recorder):
    """A reader that the kernel ends, as it does when memory is out, whenever it takes a certain project."""

    def learn(self, tx: Transaction, event: Event) -> Learned:
        if (event.data.get("project") or {}).get("name") == POISON and event.type == REGISTERED:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().learn(tx, event)


class History:
    """What whoever asks knows of each operation. A line is one write: a kill leaves it whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(self, line: Mapping[str, Any]) -> None:
        os.write(self._file, f"{json.dumps(line, ensure_ascii=False)}\n".encode())

    def run(self, name: str, told: Mapping[str, Any], do: Callable[[], object]) -> None:
        self.tell({"op": name, "at": "begin", **told})
        try:
            do()
        except JietongError:
            self.tell({"op": name, "at": "failed"})
        else:
            self.tell({"op": name, "at": "ok"})


class City:
    def __init__(self, folder: Path, operators: Iterable[str]) -> None:
        types = catalog.load()
        whole = city.load("jiangmen", types)
        self.pack = replace(whole, operators={name: whole.operators[name] for name in operators})
        self.engine = embedded(folder, self.pack.code, types)
        self.history = History(folder / "history.ndjson")
        self.investment, investing = investment.build(self.engine)
        self.engineering, engineers = engineering.build(self.engine, self.pack)
        utilities = utility.build_all(self.engine, self.pack)
        self.operators = {name: platform for name, (platform, _) in utilities.items()}
        programs = [
            investing,
            engineers,
            hookup.build(self.engine, self.pack),
            self._reader(),
            *(p for _, p in utilities.values()),
        ]
        self.running = Running(self.engine, programs, beat=0.5)

    def _reader(self) -> Program:
        store = self.engine.store("recorder", done)
        outbox = self.engine.outbox(store)
        service = Deadly("recorder", REGISTERED, APPROVAL, REQUESTED)
        return Program("recorder", [self.engine.consume(service, store, outbox), self.engine.relay(store, outbox)])


class Workload:
    """One seeded operation after the other, as people at the platforms would do them."""

    def __init__(self, made: City, seed: str) -> None:
        self.city, self.random, self.name = made, random.Random(seed), seed
        self.count = 0
        self.projects = [
            row[0]
            for row in self._rows("investment", "SELECT code FROM project WHERE status <> 'CANCELLED' ORDER BY code")
        ]
        self.decided = [
            row[0]
            for row in self._rows("investment", "SELECT code FROM project WHERE status = 'DECIDED' ORDER BY code")
        ]
        self.permitted: list[tuple[str, str]] = []
        """(project, instance) approved by this run: only those are revoked, and their projects are never cancelled."""

    def once(self) -> None:
        self.count += 1
        kinds = (
            [self.register] * 3
            + [self.decide] * 4
            + [self.change, self.cancel]
            + [self.permit] * 3
            + [self.revoke]
            + [self.answer] * 3
        )
        self.random.choice(kinds)()

    def register(self, title: str | None = None) -> None:
        self.count += bool(title)
        told = Application(
            name=title or f"项目 {self.count}",
            site_regions=("440703",),
            authority_region="440703",
            address="建设路 1 号",
        )
        made: list[str] = []
        self._command([], lambda op, now: made.append(self.city.investment.register(told, now=now, command=op)))
        self.projects += made

    def decide(self) -> None:
        if not (open_ := [code for code in self.projects if code not in self.decided]):
            self.register()
            return
        code = self.random.choice(open_)
        effects = [[operator, "PERMANENT", 1] for operator in self.city.operators]
        self.decided.append(code)
        self._command(
            effects, lambda op, now: self.city.investment.decide(code, "FILED", f"备 {self.count}", now=now, command=op)
        )

    def change(self) -> None:
        if self.projects:
            code, address = self.random.choice(self.projects), {"address": f"建设路 {self._op()} 号"}
            self._command([], lambda op, now: self.city.investment.change(code, address, now=now, command=op))

    def cancel(self) -> None:
        spared = {code for code, _ in self.permitted}
        if doomed := [
            code for code in self.decided if code in self.projects and code not in spared and not self._has_works(code)
        ]:
            code = self.random.choice(doomed)
            self.projects.remove(code)
            self._command([], lambda op, now: self.city.investment.cancel(code, now=now, command=op))

    def permit(self) -> None:
        if not self.projects:
            return
        code = self.random.choice(self.projects)
        work, instance = f"{code}-{self.name}-{self.count}", f"SX-{self.name}-{self.count}"
        effects = [[o, kind, 1] for kind, who in OPENED_BY_PERMIT.items() for o in self.city.operators if o in who]

        def do() -> None:
            site = Work(project=code, code=work, name="一期", developer="91440703MA4UQ0000X", developer_name="某公司",
                        site_regions=["440703"], address="建设路 1 号")  # fmt: skip
            self.city.engineering.register(site, _now())
            self.city.engineering.open_item(work, PERMIT, instance, _now())
            self.city.engineering.progress(work, instance, APPROVED, _now())

        if not self._has_works(code):  # its first 工程: a further one opens its own cases, of the same kind and phase
            self.permitted.append((code, instance))
            self._decision(code, instance, APPROVED, effects, do)

    def revoke(self) -> None:
        if self.permitted:
            code, instance = self.random.choice(self.permitted)
            self.permitted = [pair for pair in self.permitted if pair[1] != instance]
            [(work,)] = self._rows(
                "platform-engineering", f"SELECT GCDM FROM {ITEM} WHERE SPSXSLBM = :instance", {"instance": instance}
            )
            self._decision(
                code, instance, REVOKED, [], lambda: self.city.engineering.progress(work, instance, REVOKED, _now())
            )

    def answer(self) -> None:
        operator = self.random.choice(sorted(self.city.operators))
        if leads := self.city.operators[operator].cases("LEAD"):
            case = self.random.choice(leads)
            row = {
                "file": f"platform-{operator}.db",
                "table": "progress",
                "where": {"case_id": case.case_id, "status": "CONTACTED"},
            }
            events = [[self.city.engine.urn(f"utility:{operator}"), PROGRESSED]]
            self._run({"row": row, "subject": case.subject, "events": events},
                      lambda: self.city.operators[operator].contact(case.case_id, now=_now()))  # fmt: skip

    def _command(self, effects: list[list[Any]], do: Callable[[str, datetime], object]) -> None:
        op = self._op()
        row = {"file": "investment.db", "table": "handling", "where": {"command": op}, "subject": "code"}
        events = [[self.city.engine.urn("investment"), REGISTERED]]
        self._run({"row": row, "events": events, "effects": effects}, lambda: do(op, _now()))

    def _decision(
        self, code: str, instance: str, status: int, effects: list[list[Any]], do: Callable[[], object]
    ) -> None:
        row = {"file": "platform-engineering.db", "table": PROGRESS, "where": {"SPSXSLBM": instance, "BLZT": status}}
        source = self.city.engine.urn("engineering")
        self._run(
            {"row": row, "subject": code, "events": [[source, MOVED], [source, APPROVAL]], "effects": effects}, do
        )

    def _run(self, told: Mapping[str, Any], do: Callable[[], object]) -> None:
        self.city.history.run(self._op(), told, do)

    def _op(self) -> str:
        return f"{self.name}-{self.count}"

    def _has_works(self, code: str) -> bool:
        return bool(self._rows("platform-engineering", f"SELECT 1 FROM {PROJECT} WHERE XMDM = :code", {"code": code}))

    def _rows(self, store: str, sql: str, parameters: Mapping[str, Any] = {}) -> list[Any]:
        with self.city.engine.stores[store].snapshot() as tx:
            return tx.execute(sql, parameters).all()


def _now() -> datetime:
    return datetime.now(UTC)


def _listening() -> SimpleQueue[list[str]]:
    heard: SimpleQueue[list[str]] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            heard.put(line.split())
        heard.put(["stop"])  # whoever started us is gone

    threading.Thread(target=listen, daemon=True).start()
    return heard


def _obey(made: City, work: Workload, heard: SimpleQueue[list[str]], seconds: float) -> bool:
    """False once we are told to stop."""
    try:
        match heard.get(timeout=seconds) if seconds else heard.get_nowait():
            case ["stop"]:
                return False
            case ["away", operator]:
                made.operators[operator].turn(away=True)
            case ["back", operator]:
                made.operators[operator].turn()
            case ["slow", operator, millis]:
                made.operators[operator].turn(slow_ms=int(millis))
            case ["work", count]:
                return _work(made, work, heard, int(count))
            case other:
                raise UsageError(f"nobody here knows {other}")
    except Empty:
        pass
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.city")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", default="0", help="of the workload, and the name of its operations: another each run")
    parser.add_argument("--operations", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between two operations")
    parser.add_argument(
        "--poison", type=int, default=-1, help="the operation that registers a project which ends its reader"
    )
    parser.add_argument("--operators", default=",".join(OPERATORS))
    given = parser.parse_args()
    heard = _listening()
    try:
        made = City(given.folder, given.operators.split(","))
        work = Workload(made, given.seed)
        made.running.start()
        _say("ready")
        told = _work(made, work, heard, given.operations, given)
        while told and not made.running.failed.is_set():
            told = _obey(made, work, heard, 0.2)
        made.running.stop()
        if bug := made.running.bug():
            sys.stderr.write(f"city: {type(bug).__name__}: {bug}\n")
            return os.EX_SOFTWARE
        made.engine.close()
    except UsageError as error:
        sys.stderr.write(f"city: {error}\n")
        return 2
    _say("stopped")
    return 0


def _work(
    made: City, work: Workload, heard: SimpleQueue[list[str]], count: int, given: argparse.Namespace | None = None
) -> bool:
    for n in range(count):
        if made.running.failed.is_set() or (given and not _obey(made, work, heard, given.pace)):
            return False
        if given and n == given.poison:
            work.register(POISON)
        else:
            work.once()
    if count:
        _say("worked")
    return True


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
