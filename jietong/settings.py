"""Settings: environment `JIETONG_…`, nested with `__`, secrets from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jietong.errors import UsageError

SECRETS = "JIETONG_SECRETS_DIR"
"""Names a folder with one file a secret, each called as its variable: `jietong_password`."""


class Settings(BaseSettings):
    """Every setting there is; a field's description is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="JIETONG_",
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,
    )

    engine: Literal["embedded"] = Field("embedded", description="what stands behind the ports")
    data: Path = Field(Path("data"), description="the folder of this city's databases")
    city: str = Field("jiangmen", description="a pack in `cities/`, or the path of one")
    host: str = Field(
        "127.0.0.1", description="the address the page listens on; any other than loopback needs `password`"
    )
    port: int = Field(8440, ge=0, le=65535, description="the page's port; 0 takes a free one")
    password: SecretStr | None = Field(None, description="the page's login, user `jietong`")
    log_cap: int = Field(4 * 1024**3, gt=0, description="bytes the embedded log may take before its oldest records go")
    real_data: Path | None = Field(None, description="folder with the real input that some tests run on")


def load(**overrides: object) -> Settings:
    """From the environment; what is given here wins. Raises UsageError naming the variable, never its value."""
    try:
        given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
        return Settings(_secrets_dir=os.environ.get(SECRETS), **given)  # pyright: ignore[reportCallIssue] — pydantic-settings takes it
    except ValidationError as error:
        faults = "; ".join(
            f"JIETONG_{'__'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise UsageError(f"settings: {faults}") from None
