"""PostgreSQL as a child process, over TCP on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .process import HOST, Server, ServerError, free_port, on_free_ports, run
from .software import POSTGRES, postgres_programs

NAME = "jietong"


class Postgres(Server):
    """One database, owned by the role `jietong`, who is nothing more; `admin` is the superuser's way in."""

    polite = signal.SIGINT  # "fast": it does not wait for its clients to leave

    def __init__(self, folder: Path, config: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"postgresql://{NAME}@{HOST}:{port}/{NAME}"
        self.admin = f"postgresql://postgres@{HOST}:{port}/{NAME}"
        self._data = folder / "data"
        own = {"port": str(port), "listen_addresses": HOST, "unix_socket_directories": "", **config}
        options = [word for name, value in own.items() for word in ("-c", f"{name}={value}")]
        command = [*as_another(), str(programs() / "postgres"), "-D", str(self._data), *options]
        super().__init__("postgres", folder, command, lambda _: self._says_ready())

    def _says_ready(self) -> bool:
        """As pg_ctl does: line 8 of the file that names its pid."""
        with suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def _signal(self, number: int) -> None:
        """A kill or a pause is of all its processes; any other signal is the first one's to understand."""
        if number in (signal.SIGKILL, signal.SIGSTOP):
            super()._signal(signal.SIGSTOP)  # no new ones while we look
        if number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
            for child in _children(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, number)
        super()._signal(number)


def postgres(folder: Path, config: Mapping[str, str] = {}) -> Postgres:
    """A started and answering database; `config` as in postgresql.conf. Raises ServerError."""
    _initialise(folder)

    def make() -> Postgres:
        made = Postgres(folder, config)
        made.start()
        return made

    return on_free_ports(make)


def programs() -> Path:
    """Where PostgreSQL's programs are. Raises ServerError."""
    if found := postgres_programs():
        return found
    raise ServerError(f"no PostgreSQL {POSTGRES} or newer on this machine: install it (Debian: postgresql)")


def as_another() -> list[str]:
    """PostgreSQL refuses to run as root: as root, the wrapper that makes it another user, who may still reach a folder
    below one that is root's alone."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        raise ServerError("PostgreSQL refuses to run as root and setpriv is missing: install util-linux")
    uid, gid = _another()
    reach = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    # the change of user clears the tie to our life, so it is made here again
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *reach, "--pdeathsig", "KILL"]


def _another() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise ServerError("PostgreSQL refuses to run as root and there is no user postgres or nobody: make one")


def _initialise(folder: Path) -> None:
    """Make the database beside its place and move it there: whole or not there."""
    if (folder / "data").exists():
        return
    data = folder / "data.new"
    shutil.rmtree(data, ignore_errors=True)  # what a run that was killed here left half made
    data.mkdir(mode=0o700, parents=True)
    if not os.geteuid():
        os.chown(data, *_another())
    how = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    run("initdb", [*as_another(), str(programs() / "initdb"), "-D", str(data), *how], folder)
    _alone(data, [f"CREATE ROLE {NAME} LOGIN", f"CREATE DATABASE {NAME} OWNER {NAME}"])
    data.rename(folder / "data")


def _alone(data: Path, statements: Sequence[str]) -> None:
    """Single-user mode: statements before there is a server."""
    command = [*as_another(), str(programs() / "postgres"), "--single", "-D", str(data), "postgres"]
    asked = "\n".join(statements).encode()
    done = subprocess.run(command, cwd=data.parent, input=asked, capture_output=True, check=False, timeout=60)
    if done.returncode or b"ERROR" in done.stderr:
        raise ServerError(
            f"PostgreSQL did not take its first statements: {done.stderr.decode(errors='replace')[-200:]}"
        )


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found
