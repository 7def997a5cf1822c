"""Every program of a city as a process of its own, under supervisord: restarted when it dies, left alone when it was told
wrongly (exit code 2), stopped politely. The list is `jietong.up.PROGRAMS`; what a container platform would do, on one machine.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError
from urllib.request import urlopen
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from jietong.up import PROGRAMS
from simulation.servers import City, Server
from simulation.servers.process import HOST, dies_with_us, free_port

ROOT = Path(__file__).parents[1]
LEAVING = 20
"""Seconds a program has to drain and leave before it is killed; it promises ten, on a machine with nothing else to do."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One process: a program, which copy of it, and the port of its pages and metrics."""

    program: str
    number: int
    port: int

    @property
    def name(self) -> str:
        return f"{self.program}-{self.number}"

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"


class Programs(Server):
    """The supervisor and what it runs. `start` waits until every program answers that it is ready."""

    def __init__(self, folder: Path, env: Mapping[str, str], copies: Sequence[Copy]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.copies, self._socket = tuple(copies), folder / "supervisor.sock"
        settings = folder / "supervisord.conf"
        settings.write_text(_settings(folder, self._socket, env, copies), "utf-8")
        supervisord = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "supervisor.supervisord",
            "--nodaemon",
            "--configuration",
            str(settings),
        ]
        super().__init__("supervisord", folder, supervisord, lambda _: self.ready())

    def of(self, program: str) -> list[Copy]:
        return [copy for copy in self.copies if copy.program == program]

    def ready(self) -> bool:
        return all(self._answers(copy) for copy in self.copies)

    def running(self, copy: Copy) -> int:
        """The pid of a copy; 0 while it is not running."""
        return int(self._asked("getProcessInfo", copy.name)["pid"])

    def signal(self, copy: Copy, number: int = signal.SIGKILL) -> int:
        """Send a copy a signal; the pid it had, 0 if it was not running."""
        if pid := self.running(copy):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def end(self, copy: Copy) -> None:
        """Stop it politely, and leave it stopped."""
        self._asked("stopProcess", copy.name)

    def begin(self, copy: Copy) -> None:
        self._asked("startProcess", copy.name)

    def wrong(self) -> dict[str, str]:
        """Copies that were told wrongly and left alone: what they said last."""
        found: list[dict[str, Any]] = self._asked("getAllProcessInfo")
        return {
            info["name"]: (self.folder / f"{info['name']}.log").read_text("utf-8").strip().splitlines()[-1]
            for info in found if info["statename"] in ("EXITED", "FATAL") and info["exitstatus"]
        }  # fmt: skip

    def metric(self, name: str) -> float:
        """The sum of a metric over all copies and labels; of those that answer."""
        return sum(_measured(copy, name) for copy in self.copies)

    def _answers(self, copy: Copy) -> bool:
        with suppress(URLError, OSError), urlopen(f"{copy.address}/readyz", timeout=2) as answer:  # noqa: S310 — loopback
            return bool(json.load(answer)["ready"])
        return False

    def _asked(self, what: str, *about: str) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with ServerProxy("http://127.0.0.1", transport=cast("Any", transport)) as told:
            return getattr(told.supervisor, what)(*about)


def programs(
    folder: Path,
    city: City,
    data: Path,
    *,
    names: Sequence[str] = PROGRAMS,
    copies: Mapping[str, int] | None = None,
    env: Mapping[str, str] | None = None,
) -> Programs:
    """These programs on these servers, not yet started. `copies`: of which there is more than one. `env`: more settings."""
    chosen = [Copy(name, n, free_port()) for name in names for n in range(1, 1 + (copies or {}).get(name, 1))]
    return Programs(folder, settings(city, data) | dict(env or {}), chosen)


def settings(city: City, data: Path) -> dict[str, str]:
    """The environment of whoever works on these servers."""
    return {
        "JIETONG_ENGINE": "city", "JIETONG_DATA": str(data.absolute()), "DATABASE_URL": city.postgres.url,
        "KAFKA_BOOTSTRAP_SERVERS": city.kafka.bootstrap, "SCHEMA_REGISTRY_URL": city.registry.url,
    }  # fmt: skip


def _settings(folder: Path, sock: Path, env: Mapping[str, str], copies: Sequence[Copy]) -> str:
    parser = configparser.RawConfigParser()
    parser["supervisord"] = {"nodaemon": "true", "logfile": str(folder / "supervisor.log"), "pidfile": str(folder / "supervisor.pid"),
                             "directory": str(ROOT), "environment": _quoted(env)}  # fmt: skip
    parser["unix_http_server"] = {"file": str(sock)}
    parser["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for copy in copies:
        own = {"JIETONG_PORT": str(copy.port), "JIETONG_MEMBER": f"{os.uname().nodename}-{copy.number}"}
        parser[f"program:{copy.name}"] = {
            "command": " ".join([*dies_with_us(), sys.executable, "-W", "ignore", "-m", copy.program]),
            "environment": _quoted(own), "autorestart": "unexpected", "exitcodes": "0,2", "startsecs": "0", "stopwaitsecs": str(LEAVING),
            "stdout_logfile": str(folder / f"{copy.name}.log"), "redirect_stderr": "true", "stdout_logfile_maxbytes": "50MB",
        }  # fmt: skip
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def _quoted(env: Mapping[str, str]) -> str:
    """As supervisord reads it: a percent sign is its own."""
    return ",".join(f'{name}="{value}"' for name, value in env.items()).replace("%", "%%")


def _measured(copy: Copy, name: str) -> float:
    with suppress(URLError, OSError), urlopen(f"{copy.address}/metrics", timeout=2) as answer:  # noqa: S310 — loopback
        lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return 0.0
