"""Runner and retry: what is away is waited for, what would break the promise stands still, a bug ends the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jietong.around.retry import patiently
from jietong.delivery import commands, runner
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.heads import Heads
from jietong.delivery.limits import Limit
from jietong.delivery.runner import Consuming, Health, run
from jietong.delivery.tables import delivery
from jietong.errors import FencedError, HaltError, LimitError, RetriableError, RewoundError
from jietong.store import Store
from jietong.testing import MemoryStore
from tests.unit.stage import CONTRACT, DECIDED, UNDECODABLE, A, Stage


def at_once(call: Callable[[], None], waits: Callable[[RetriableError], None]) -> None:
    while True:
        try:
            return call()
        except RetriableError as error:
            waits(error)


class Scripted:
    """A movement whose steps do what a test wrote down, one after the other; after the last it tells itself to stop."""

    name = "scripted"

    def __init__(self, store: Store, *steps: BaseException | Callable[[], object] | None) -> None:
        self.store = store
        self.stopping = threading.Event()
        self.calls: list[str] = []
        self._steps = list(steps)

    def start(self) -> None:
        self.calls.append("start")

    def step(self, seconds: float) -> None:
        self.calls.append("step")
        step = self._steps.pop(0) if self._steps else None
        if not self._steps:
            self.stopping.set()
        if isinstance(step, BaseException):
            raise step
        if step:
            step()

    def beat(self) -> None:
        self.calls.append("beat")

    def stop(self) -> None:
        self.calls.append("stop")


def moved(movement: Scripted, beat: float = 3600.0, retry: Any = at_once) -> Health:
    health = Health(movement.name)
    run(movement, movement.stopping, retry, health, beat)
    return health


def test_it_starts_steps_and_stops(stage: Stage) -> None:
    movement = Scripted(stage.reader, None, None)
    health = moved(movement)
    assert movement.calls == ["start", "step", "step", "stop"]
    assert health.moved > 0
    assert (health.waiting, health.halted, health.error) == (None, None, None)


def test_it_looks_slowly_around_itself_in_between(stage: Stage) -> None:
    movement = Scripted(stage.reader, None, None)
    moved(movement, beat=0.0)
    assert movement.calls == ["start", "step", "beat", "step", "beat", "stop"]


@pytest.mark.parametrize("error", [RetriableError("away"), FencedError("moved")])
def test_what_is_away_or_fenced_is_begun_again_from_where_it_stands(stage: Stage, error: BaseException) -> None:
    movement = Scripted(stage.reader, None, error, None)
    seen: list[str | None] = []
    health = Health(movement.name)

    def retry(call: Callable[[], None], waits: Callable[[RetriableError], None]) -> None:
        def told(away: RetriableError) -> None:
            waits(away)
            seen.append(health.waiting)

        at_once(call, told)

    run(movement, movement.stopping, retry, health, 3600.0)
    assert movement.calls == ["start", "step", "step", "start", "step", "stop"]
    assert (seen, health.waiting) == ([str(error)], None)


@pytest.mark.parametrize("error", [HaltError("no position"), RewoundError("restored"), LimitError("too many")])
def test_what_would_break_the_promise_stands_still_with_an_alarm_until_a_person_commands(
    stage: Stage, error: HaltError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SAFETY_POLL", 0.01)
    movement = Scripted(stage.reader, error, lambda: seen.append(stage.alarms()))
    seen: list[list[str]] = []

    def person() -> None:
        end = time.monotonic() + 30
        while not stage.alarms() and time.monotonic() < end:  # looks, with a deadline
            time.sleep(0.005)
        with stage.reader.transaction() as tx:
            commands.ask(tx, "1", "confirm", {}, 0)

    command = threading.Thread(target=person)
    command.start()
    movement.start = lambda: movement.calls.append("start") or (commands.carry_out(stage.reader, 0) and None)
    health = moved(movement)
    command.join()
    assert movement.calls == ["start", "step", "start", "step", "stop"]
    assert (seen, stage.alarms(), health.halted) == ([[]], [], None)


def test_standing_still_can_be_told_to_stop(stage: Stage) -> None:
    movement = Scripted(stage.reader, HaltError("no"))
    health = moved(movement)
    assert (movement.calls, health.halted, stage.alarms()) == (["start", "step"], "no", ["halted"])


class Away(MemoryStore):
    """A store that is away the next so many times somebody writes."""

    away = 0

    def transaction(self) -> Any:
        if self.away:
            self.away -= 1
            raise RetriableError("disk full")
        return super().transaction()


def test_a_halt_while_the_database_is_away_is_no_bug(stage: Stage) -> None:
    store = Away("reader", delivery)

    def halt() -> None:
        store.away = 2
        raise HaltError("no")

    movement = Scripted(store, halt)
    health = moved(movement)
    assert (health.error, health.halted) == (None, "no")
    assert stage.column("SELECT name FROM alarm", store) == ["halted"]
    store.close()


def test_a_bug_ends_it_and_is_kept(stage: Stage) -> None:
    bug = KeyError("a bug")
    movement = Scripted(stage.reader, None, bug)
    health = Health(movement.name)
    with pytest.raises(KeyError):
        run(movement, movement.stopping, at_once, health)
    assert health.error is bug
    assert "stop" not in movement.calls, "an unclean death is one"


# -- a whole consumer ------------------------------------------------------------------------------------------------------
def consuming(stage: Stage, limit: Limit = Limit()) -> Consuming:  # noqa: B008 — frozen
    consumer = Consumer(stage.service, stage.reader, stage.log, stage.own, limit)
    return Consuming(
        consumer, Completeness([DECIDED], stage.reader, stage.own, Heads(stage.log, CONTRACT)), stage.reader
    )


def ask(stage: Stage, name: str, **arguments: object) -> None:
    with stage.reader.transaction() as tx:
        commands.ask(tx, name, name, arguments, stage.now)


@pytest.mark.parametrize(
    ("name", "arguments", "fates"),
    [
        ("skip", {"subject": A, "who": "wang", "why": "x"}, ["skipped", "applied"]),
        ("redrive", {"subject": A}, ["dead", "waiting"]),
    ],
)
def test_a_command_asked_while_nobody_ran_moves_its_stream_when_somebody_does(
    stage: Stage, name: str, arguments: dict[str, object], fates: list[str]
) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    consumer.stop()
    ask(stage, name, **arguments)
    movement = consuming(stage)
    movement.start()
    movement.step(0)
    assert stage.fates() == fates


def test_a_command_is_carried_out_while_it_idles_and_while_it_is_busy(stage: Stage) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A)
    stage.send()
    movement = consuming(stage)
    movement.start()
    movement.step(0)
    ask(stage, "skip", subject=A, who="wang", why="x")
    movement.step(0)
    assert stage.fates() == ["skipped", "applied"]
    stage.emit(A, body=UNDECODABLE)
    stage.send()
    movement.step(0)
    with stage.reader.transaction() as tx:
        commands.ask(tx, "2", "skip", {"subject": A, "who": "wang", "why": "y"}, stage.now)
    movement.beat()
    assert stage.fates() == ["skipped", "applied", "skipped"]


def test_after_a_limit_a_person_resumes_and_all_goes_on(stage: Stage) -> None:
    for n in range(3):
        stage.emit(f"local:bad:{n}", body=UNDECODABLE)
    stage.emit(A)
    stage.send()
    movement = consuming(stage, Limit(in_a_row=3))
    movement.start()
    with pytest.raises(LimitError):
        movement.step(0)
    ask(stage, "resume", type=DECIDED, allow=3)
    movement.start()
    movement.step(0)
    assert stage.column("SELECT fate FROM inbox ORDER BY subject") == ["dead", "dead", "dead", "applied"]


def test_on_servers_reading_goes_on_while_it_looks_for_what_is_missing_and_a_failed_look_is_the_next_beats(
    stage: Stage,
) -> None:
    movement, held, looks = consuming(stage), threading.Event(), list[int]()
    movement.aside = True

    def look(now: int) -> int:
        looks.append(now)
        assert held.wait(60)
        raise RetriableError("the log is away")

    movement.completeness.beat = look
    movement.start()
    movement.beat()
    stage.emit(A)
    stage.send()
    movement.step(0)
    assert stage.fates() == ["applied"], "it reads"
    movement.beat()
    assert len(looks) == 1, "one look at a time"
    held.set()
    assert movement.looking
    with pytest.raises(RetriableError, match="away"):
        movement.looking.result(60)
    with pytest.raises(RetriableError, match="away"):
        movement.beat()
    assert movement.looking is None
    movement.stop()


# -- patience ----------------------------------------------------------------------------------------------------------------
def test_patience_repeats_only_what_is_away_and_tells_of_every_wait() -> None:
    outcomes: list[BaseException | None] = [RetriableError("1"), RetriableError("2"), None]
    told: list[str] = []

    def call() -> None:
        if outcome := outcomes.pop(0):
            raise outcome

    patiently(threading.Event(), longest=0.001)(call, lambda error: told.append(str(error)))
    assert (outcomes, told) == ([], ["1", "2"])
    with pytest.raises(KeyError):
        patiently(threading.Event())(lambda: {}["bug"], lambda error: None)


def test_patience_ends_at_once_when_told_to_stop() -> None:
    stopping = threading.Event()

    def call() -> None:
        raise RetriableError("for ever")

    begun = time.monotonic()
    patiently(stopping)(call, lambda error: stopping.set())
    assert time.monotonic() - begun < 5
