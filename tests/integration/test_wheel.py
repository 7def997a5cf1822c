"""What is shipped: the wheel, built from the sdist, is the SDK with its schemas and nothing else at the top."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRINT = "from jietong import catalog, contract; print(len(catalog.load().topics), contract.Contract(catalog.load()) is not None, catalog.SCHEMAS)"


def build(where: Path, kind: str, into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)],
        cwd=where,
        check=True,
        capture_output=True,
    )
    [made] = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def test_the_wheel_built_from_the_sdist_loads_its_own_schemas_and_ships_no_programs(tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.glob("jietong-*")
    wheel = build(source, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")  # noqa: S202 — our own wheel
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"jietong"}
    assert "jietong/schemas/ids.yaml" in names
    told = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    ).stdout.split()
    assert told[:2] == ["18", "True"]
    assert Path(told[2]).is_relative_to(tmp_path / "site")
