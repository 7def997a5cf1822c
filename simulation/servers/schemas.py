"""Apicurio Registry as a child process, asked as a Confluent-compatible one."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from .process import HOST, Server, free_port, on_free_ports
from .software import APICURIO_JAVA, jvm, unpacked_registry


class Registry(Server):
    """Its schemas are in its folder: a restart keeps their ids, `start(empty=True)` is a registry built anew."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}/apis/ccompat/v7"
        self._data = folder / "data"
        super().__init__(
            "registry", folder, _command(folder, self._data, port), lambda _: answers(f"{self.url}/subjects")
        )

    def start(self, *, empty: bool = False) -> None:
        """As every server; empty: without the schemas it had, so that it numbers them anew."""
        if empty and not self.alive():
            shutil.rmtree(self._data, ignore_errors=True)
        super().start()


def registry(folder: Path) -> Registry:
    """A started and answering registry. Raises ServerError."""

    def make() -> Registry:
        made = Registry(folder)
        made.start()
        return made

    return on_free_ports(make)


def answers(url: str) -> bool:
    """Whether this address answers 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 — our own http address
            return True
    except (OSError, urllib.error.HTTPError):
        return False


def _command(folder: Path, data: Path, port: int) -> list[str]:
    options = {
        "quarkus.http.host": HOST,
        "quarkus.http.port": str(port),
        "quarkus.management.host": HOST,
        "quarkus.management.port": str(free_port()),
        "quarkus.profile": "prod",
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
        "apicurio.datasource.url": f"jdbc:h2:file:{data / 'registry'};WRITE_DELAY=0",  # a kill loses nothing it answered
    }
    jar = unpacked_registry() / "quarkus-run.jar"
    given = (f"-D{name}={value}" for name, value in options.items())
    return [*jvm(APICURIO_JAVA, "384m", folder), *given, "-jar", str(jar)]
