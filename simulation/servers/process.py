"""One server: a process of ours on a port of its own, ended by its pid and never outliving us."""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

HOST = "127.0.0.1"
START = 90.0
"""Seconds a server may take to answer; many times what it takes on two busy cores."""
STOP = 10.0
"""Seconds a server has to end by itself."""
TAKEN = ("address already in use", "in use by another process", "already bound", "shared memory block")
"""What a log says when a port, or the memory of the process before, is still held."""
T = TypeVar("T")


class ServerError(Exception):
    """A server could not be had, or did not come up: what, where its log is, what to do; one sentence."""


class PortTakenError(ServerError):
    """Somebody took the port between our choosing and the server's binding it: choose another."""


class Server:
    """One process in a folder. Made, not yet started; `start` after `stop` or `kill` comes back on the same port."""

    polite = signal.SIGTERM

    def __init__(self, name: str, folder: Path, command: Sequence[str], ready: Callable[[Server], bool]) -> None:
        self.name = name
        self.folder = folder
        self.file = folder / f"{name}.log"
        """What it printed in all its lives."""
        self.pid = 0
        self._command = list(command)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._born = 0  # bytes the log had before this life
        self._lived = False
        ours.append(self)

    def start(self) -> None:
        """Start it and wait until it answers; nothing if it runs.

        Raises:
            ServerError: it ended, or does not answer in time.
            PortTakenError: the first time; later the port is its own and it waits for it.
        """
        until = time.monotonic() + START
        while not self.alive():
            try:
                self._launch()
                self._await(until)
                self._lived = True
            except PortTakenError:
                if not self._lived or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to end, also if it is paused; SIGKILL after 10 s."""
        if self.alive():
            self.kill(self.polite)
            self.kill(signal.SIGCONT)
            try:
                self._held().wait(STOP)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, at once; after SIGKILL wait for the end."""
        if self.alive():
            self._signal(number)
            if number == signal.SIGKILL:
                self._held().wait()

    def alive(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """What it printed since it was last started."""
        with self.file.open("rb") as file:
            file.seek(self._born)
            return file.read().decode(errors="replace")

    def _signal(self, number: int) -> None:
        self._held().send_signal(number)

    def _held(self) -> subprocess.Popen[bytes]:
        assert self._process is not None  # noqa: S101 — callers ask alive() first
        return self._process

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            self._born = file.tell()
            self._process = _spawner.popen(
                [*dies_with_us(), *self._command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self.pid = self._process.pid

    def _await(self, until: float) -> None:
        while not self._ready(self):
            if not self.alive():
                raise self._ended()
            if time.monotonic() > until:
                self.kill()
                raise ServerError(f"{self.name} did not answer in {START:.0f} s; its log is {self.file}")
            time.sleep(0.05)

    def _ended(self) -> ServerError:
        said = self.log()
        if any(word in said.lower() for word in TAKEN):
            return PortTakenError(f"{self.name} found its port taken; its log is {self.file}")
        return ServerError(f"{self.name} ended while starting: {_telling(said)}; its log is {self.file}")


class _Spawner:
    """Linux ends a child with the *thread* that started it, so one thread that lasts starts them all."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
        self._orders = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="servers", daemon=True)
                self._thread.start()
        made: Future[subprocess.Popen[bytes]] = Future()
        # a session of its own: Ctrl-C reaches us alone, and we end servers in our order
        self._orders.put((lambda: subprocess.Popen(command, start_new_session=True, **options), made))  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownLambdaType]
        return made.result()

    def _serve(self) -> None:
        while True:
            order, made = self._orders.get()
            try:
                made.set_result(order())
            except OSError as error:
                made.set_exception(ServerError(f"cannot start {error.filename}: {error.strerror}"))


_spawner = _Spawner()
ours: list[Server] = []
"""Every server this process ever made; what still runs ends with it."""


@atexit.register
def _end_all() -> None:
    for server in ours:
        server.kill()


def dies_with_us() -> list[str]:
    """The wrapper that ties a child's life to ours (it becomes the child, the pid stays); nothing where it is missing."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def run(
    what: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, seconds: float = START
) -> None:
    """A tool that ends by itself. Raises ServerError with the last line it printed."""
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ServerError(f"{what} did not end in {seconds:.0f} s") from None
    if done.returncode:
        raise ServerError(f"{what} failed: {_telling((done.stdout + done.stderr).decode(errors='replace'))}")


def _telling(said: str) -> str:
    """The line of a log that says what was wrong: an exception of Java, an error of others, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for sign in (r"^(Exception in thread \S+ )?[\w.$]+(Exception|Error): ", r"\b(FATAL|ERROR|error)\b"):
        if found := [line for line in lines if re.search(sign, line)]:
            return found[0][:300]
    return lines[-1][:300] if lines else "it said nothing"


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on, below those the system gives to outgoing connections: a client that dials
    a stopped server again and again would else end up on its port, even connected to itself."""
    low = 32768
    with suppress(OSError, ValueError):
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = random.SystemRandom().randrange(10240, low) if low > 12000 else 0
        with socket.socket() as tried, suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            return tried.getsockname()[1]
    raise ServerError("no free port on 127.0.0.1; end what holds them")


def on_free_ports(make: Callable[[], T]) -> T:
    """Choose ports and start; once more from the choosing when one was taken meanwhile. Raises ServerError."""
    for _ in range(4):
        with suppress(PortTakenError):
            return make()
    return make()


def together(*orders: Callable[[], T]) -> list[T]:
    """All at once; the results in order, the first error after all have ended."""
    with ThreadPoolExecutor(len(orders) or 1) as pool:
        return [done.result() for done in [pool.submit(order) for order in orders]]
