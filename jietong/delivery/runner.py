"""The four movements: draw (platform → outbox), relay (outbox → log), consume (log → inbox → service), pour (log → platform).

Each is one thread or one process: it starts, steps until it is told to stop, and looks slowly around itself in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from jietong.delivery import alarms, commands
from jietong.delivery.completeness import Completeness
from jietong.delivery.consumer import Consumer
from jietong.delivery.draw import Draw
from jietong.delivery.relay import Relay, beside
from jietong.errors import FencedError, HaltError, RetriableError, UsageError
from jietong.store import Store

SAFETY_POLL = 1.0
"""Seconds: the longest anyone waits for a bell that was lost."""
BEAT = 5.0
FOREIGN_POLL = 0.2
LEAVING = 5.0
"""Seconds a relay takes at most to send what is left, when it is told to stop."""
LOOKED = 2.0
"""Seconds a reader that is told to stop waits for its look at what is missing; what it has not committed it has not done."""
FULL_SCAN = 24 * 3600.0


class Movement(Protocol):
    """What a thread does. `step` waits at most so many seconds for work; raises RetriableError or HaltError."""

    name: str
    store: Store

    def start(self) -> None: ...
    def step(self, seconds: float) -> None: ...
    def beat(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(slots=True)
class Relaying:
    """`mine` says whether we hold the outbox's lock: the second relay of an outbox stands by."""

    relay: Relay
    store: Store
    mine: Callable[[], bool]
    name: str = ""
    started: bool = False

    def __post_init__(self) -> None:
        self.name = f"relay {self.store.name}"

    def start(self) -> None:
        self.started = False

    def step(self, seconds: float) -> None:
        if not self.mine():
            self.started = False
            self.store.bell.wait(seconds)
            return
        if not self.started:
            self.relay.start()
            self.relay.beat()
            self.started = True
        if not self.relay.step().more:
            self.store.bell.wait(seconds)

    def beat(self) -> None:
        if self.started:
            self.relay.beat()

    def stop(self) -> None:
        """What was committed leaves before we do, if the log is there; of a long backlog as much as there is time for."""
        until = time.monotonic() + LEAVING
        while self.started and self.relay.step().more and time.monotonic() < until:
            pass
        self.relay.settle()


@dataclass(slots=True)
class Consuming:
    """Consume, and pour. `aside`: log and store are servers, so what is missing is looked for while reading goes on."""

    consumer: Consumer
    completeness: Completeness
    store: Store
    aside: bool = False
    name: str = ""
    looking: Future[object] | None = None

    def __post_init__(self) -> None:
        self.name = f"consume {self.store.name}"

    def start(self) -> None:
        commands.carry_out(self.store, self.consumer.clock())
        self.consumer.start()

    def step(self, seconds: float) -> None:
        if not self.consumer.step(seconds):
            self.consumer.drain_stored(commands.carry_out(self.store, self.consumer.clock()))
            self.wake()

    def beat(self) -> None:
        self.consumer.drain_stored(commands.carry_out(self.store, self.consumer.clock()))
        self.wake()
        self.consumer.beat()
        if self.aside:
            self._looked()
            self.looking = self.looking or beside(f"look {self.store.name}", self._look)
        else:
            self._look()

    def _look(self) -> None:
        self.completeness.beat(time.monotonic_ns() // 1_000_000)

    def _looked(self) -> None:
        """What befell the last look is this movement's, if it is over; there is one at a time."""
        if self.looking and self.looking.done():
            looked, self.looking = self.looking, None
            looked.result()

    def wake(self) -> None:
        """At nine in the morning a thousand clocks run out at once: in turns, so that events are read between them."""
        until = time.monotonic() + SAFETY_POLL
        while self.consumer.wake() and time.monotonic() < until:
            pass

    def stop(self) -> None:
        if self.looking:
            wait([self.looking], LOOKED)
        self.consumer.stop()


@dataclass(slots=True)
class Drawing:
    """A foreign table rings no bell: it is read every 200 ms, and all of it once a day. `mine`: as of `Relaying`.

    `check` comes before anything is read: a database that was restored would else make up, by what it reads again, for what
    it lacks, and nobody would notice.
    """

    draw: Draw
    store: Store
    wait: Callable[[float], object]
    mine: Callable[[], bool]
    check: Callable[[], object] = lambda: None
    name: str = ""
    checked: bool = False
    scanned: float = float("-inf")

    def __post_init__(self) -> None:
        self.name = f"draw {self.store.name}"

    def start(self) -> None:
        """A person's word, such as that what vanished has ended, is followed by a full scan at once. Raises RewoundError."""
        if not self.checked:
            self.check()
            self.checked = True
        if commands.pending(self.store):
            commands.carry_out(self.store, self.draw.outbox.clock())
            self.scanned = float("-inf")

    def step(self, seconds: float) -> None:
        if self.mine():
            self.draw.step()
        self.wait(min(FOREIGN_POLL, seconds))

    def beat(self) -> None:
        if not self.mine():
            return
        self.start()
        if time.monotonic() - self.scanned > FULL_SCAN:
            self.draw.full()
            self.scanned = time.monotonic()

    def stop(self) -> None:
        """Nothing to leave behind."""


@dataclass(slots=True)
class Health:
    """What is known of a movement from outside: when its loop last moved (monotonic seconds), what it waits for, why it halted."""

    name: str
    moved: float = 0.0
    waiting: str | None = None
    halted: str | None = None
    error: BaseException | None = None


Retry = Callable[[Callable[[], None], Callable[[RetriableError], None]], None]
"""Calls until it succeeds or we are told to stop; tells of every wait."""


def run(movement: Movement, stopping: threading.Event, retry: Retry, health: Health, beat: float = BEAT) -> None:
    """Move until told to stop. A HaltError raises an alarm, and the movement stands still until a person's command; a bug
    ends it with `health.error` set."""
    loop = _Loop(movement, health, beat)
    try:
        while not stopping.is_set():
            try:
                retry(loop.once, loop.waits)
            except HaltError as error:
                health.halted = str(error)
                retry(lambda error=error: loop.halt(error), loop.waits)
                while not (stopping.wait(SAFETY_POLL) or loop.asked()):
                    pass
        if loop.started:
            retry(movement.stop, loop.waits)
    except BaseException as error:
        health.error = error
        raise


class _Loop:
    """One turn of a movement, so made that after any failure it begins by looking where it stands."""

    def __init__(self, movement: Movement, health: Health, beat: float) -> None:
        self.movement, self.health, self.interval = movement, health, beat
        self.started = False
        self._beaten = time.monotonic() - beat * (crc32(movement.name.encode()) % 1000) / 1000
        """As if it had beaten before it began: those who begin together do not all look around at the same moment."""

    def once(self) -> None:
        try:
            if not self.started:
                self.movement.start()
                self.started = True
                self._recovered()
            self.movement.step(SAFETY_POLL)
            if time.monotonic() - self._beaten >= self.interval:
                self._beaten = time.monotonic()
                self.movement.beat()
        except FencedError as error:
            self.started = False
            raise RetriableError(str(error)) from error
        except RetriableError:
            self.started = False
            raise
        except UsageError as error:  # checked at the start, wrong now: a person mends it while we wait in sight
            self.started = False
            raise RetriableError(str(error)) from error
        self.health.moved, self.health.waiting = time.monotonic(), None

    def waits(self, error: RetriableError) -> None:
        self.health.waiting = str(error)

    def halt(self, error: HaltError) -> None:
        self.started, self.health.halted = False, str(error)
        with self.movement.store.transaction() as tx:
            alarms.raise_(tx, "halted", self.movement.name, str(error), time.time_ns() // 1_000_000)

    def asked(self) -> bool:
        """Whether a person has left a command; a database that is away has none."""
        try:
            return commands.pending(self.movement.store)
        except RetriableError:
            return False

    def _recovered(self) -> None:
        self.health.halted = None
        with self.movement.store.transaction() as tx:
            alarms.clear(tx, "halted", self.movement.name)
