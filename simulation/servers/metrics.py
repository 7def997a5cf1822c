"""Prometheus as a child process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import HOST, Server, ServerError, free_port, on_free_ports
from .schemas import answers


class Prometheus(Server):
    """It scrapes every second; `url` is its own address."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        found = shutil.which("prometheus")
        if not found:
            raise ServerError("Prometheus is not on this machine: install it (Debian: prometheus)")
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [{"job_name": job, "static_configs": [{"targets": list(where)}]} for job, where in targets.items()]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (folder / "prometheus.yml").write_text(json.dumps({"global": every, "scrape_configs": jobs}))  # JSON is YAML
        command = [
            found,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ]
        super().__init__("prometheus", folder, command, lambda _: answers(f"{self.url}/-/ready"))


def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Prometheus:
    """A started one that scrapes `/metrics` of these addresses (`host:port`) by job. Raises ServerError."""

    def make() -> Prometheus:
        made = Prometheus(folder, targets)
        made.start()
        return made

    return on_free_ports(make)
