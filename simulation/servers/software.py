"""The software of the servers: which version, found where, fetched once into a cache outside the tree."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .process import ServerError, run

KAFKA = "4.3.1"
LOG4J = "2.24.3"
APICURIO = "3.3.3"
KAFKA_JAVA = 17
APICURIO_JAVA = 21
POSTGRES = 15
JAVAS = Path("/usr/lib/jvm")
POSTGRESES = Path("/usr/lib/postgresql")
"""Where Debian keeps them, off the PATH."""
FETCH = 900.0
"""Seconds a download may take."""
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
"""A JVM that is up soon on two cores (measured: as fast as the usual one at what tests ask, half the CPU)."""
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>jietong</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J}</version></dependency>
  </dependencies>
</project>
"""


def missing() -> str | None:
    """What a person must install before the servers can start, in one sentence; None if nothing."""
    wanted: list[str] = []
    if java(APICURIO_JAVA) is None:
        wanted.append(f"Java {APICURIO_JAVA} or newer (Kafka alone: {KAFKA_JAVA})")
    if not (_kafka().exists() and _apicurio().exists()) and not shutil.which("mvn"):
        wanted.append("Maven (Debian: maven)")
    if postgres_programs() is None:
        wanted.append(f"PostgreSQL {POSTGRES} or newer (Debian: postgresql)")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        wanted.append("setpriv (Debian: util-linux)")
    return f"the real servers need {', '.join(wanted)}: install it and try again" if wanted else None


def java(version: int) -> Path | None:
    """The newest Java of this machine, if it is that new."""
    homes = [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else []
    if on_path := shutil.which("java"):
        homes.append(Path(on_path).resolve().parents[1])
    homes += JAVAS.glob("*")
    found = max(((_java_version(home), home / "bin" / "java") for home in homes), default=None)
    return found[1] if found and found[0] >= version else None


def jvm(version: int, heap: str, folder: Path) -> list[str]:
    """A Java that writes what it must unpack into this folder, not into /tmp. Raises ServerError if there is none."""
    found = java(version)
    if found is None:
        raise ServerError(f"no Java {version} or newer on this machine: install one, or name it in JAVA_HOME")
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    return [str(found), f"-Xmx{heap}", *QUICK, f"-Djava.io.tmpdir={folder / 'tmp'}"]


def _java_version(home: Path) -> int:
    with suppress(OSError):
        if (home / "bin" / "java").exists() and (
            found := re.search(r'JAVA_VERSION="(\d+)', (home / "release").read_text())
        ):
            return int(found[1])
    return 0


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, newest first; Debian keeps them off the PATH."""
    homes = sorted(POSTGRESES.glob("*/bin"), key=lambda home: float(home.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        homes.append(Path(on_path).resolve().parent)
    return next((home for home in homes if (home / "initdb").exists() and _postgres_version(home) >= POSTGRES), None)


def _postgres_version(home: Path) -> float:
    with suppress(ValueError):
        return float(home.parent.name)
    return POSTGRES  # found on the PATH of a person who put it there


def kafka_jars() -> Path:
    """The folder of Kafka's jars; fetched if need be. Raises ServerError."""
    return _cached(_kafka(), _fetch_kafka)


def unpacked_registry() -> Path:
    """The unpacked registry; fetched if need be. Raises ServerError."""
    return _cached(_apicurio(), _fetch_apicurio)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jietong-servers"


def _kafka() -> Path:
    return _cache() / f"kafka-{KAFKA}-log4j-{LOG4J}"


def _apicurio() -> Path:
    return _cache() / f"apicurio-{APICURIO}"


def _cached(folder: Path, fetch: Callable[[Path], None]) -> Path:
    """The folder, whole or not there: filled beside its place and moved there; a second process waits for the first."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            if not shutil.which("mvn"):
                raise ServerError(
                    f"{folder.name} is not in {folder.parent} and Maven is not here to fetch it: install maven"
                )
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as made:
                fetch(Path(made))
                (Path(made) / "whole").rename(folder)
    return folder


def _fetch_kafka(into: Path) -> None:
    (into / "pom.xml").write_text(POM)
    _maven(into, "dependency:copy-dependencies", f"-DoutputDirectory={into / 'whole'}")


def _fetch_apicurio(into: Path) -> None:
    artifact = f"io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all"
    _maven(into, "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={into}")
    (into / "whole").mkdir()
    run("unpacking the registry", ["tar", "-xzf", str(next(into.glob("*.tar.gz"))), "-C", "whole"], into)


def _maven(folder: Path, *goals: str) -> None:
    run("Maven's download", ["mvn", "--quiet", "--batch-mode", "--strict-checksums", *goals], folder, seconds=FETCH)
