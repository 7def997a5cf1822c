"""The options that many commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path | None, typer.Option("--data", help="The city's data folder (default: JIETONG_DATA, else data).")]
CityPack = Annotated[str | None, typer.Option("--city", help="The city pack (default: JIETONG_CITY, else jiangmen).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of lines.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")]
Consumer = Annotated[str, typer.Argument(help="The consumer, as `jietong status` names it.")]
