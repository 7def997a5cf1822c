"""Settings: environment `JIETONG_…`, nested with `__`, secrets from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jietong.errors import UsageError

SECRETS = "JIETONG_SECRETS_DIR"
"""Names a folder with one file a secret, each called as its variable: `jietong_password`."""


def _known_as(name: str) -> AliasChoices:
    """The name everyone knows, and ours."""
    return AliasChoices(f"JIETONG_{name}", name)


class Settings(BaseSettings):
    """Every setting there is; a field's description is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="JIETONG_",
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    engine: Literal["embedded", "city"] = Field(
        "embedded", description="what stands behind the ports: one folder, or the servers of a city"
    )
    data: Path = Field(
        Path("data"), description="the folder of this city's databases and keys; on the city engine of its keys alone"
    )
    city: str = Field("jiangmen", description="a pack in `cities/`, or the path of one")
    host: str = Field(
        "127.0.0.1", description="the address the page listens on; any other than loopback needs `password`"
    )
    port: int = Field(8440, ge=0, le=65535, description="the page's port; 0 takes a free one")
    password: SecretStr | None = Field(None, description="the page's login, user `jietong`")
    database_url: SecretStr | None = Field(
        None,
        validation_alias=_known_as("DATABASE_URL"),
        description="city engine: `postgresql://user:password@host:port/name`",
    )
    kafka_bootstrap_servers: str | None = Field(
        None,
        validation_alias=_known_as("KAFKA_BOOTSTRAP_SERVERS"),
        description="city engine: `host:port`, several with commas",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias=_known_as("KAFKA_SECURITY_PROTOCOL"), description="how brokers are spoken to"
    )
    kafka_sasl_mechanism: str = Field(
        "SCRAM-SHA-512", validation_alias=_known_as("KAFKA_SASL_MECHANISM"), description="how we say who we are"
    )
    kafka_sasl_username: str | None = Field(
        None, validation_alias=_known_as("KAFKA_SASL_USERNAME"), description="our user there"
    )
    kafka_sasl_password: SecretStr | None = Field(
        None, validation_alias=_known_as("KAFKA_SASL_PASSWORD"), description="its password"
    )
    kafka_ssl_cafile: Path | None = Field(
        None, validation_alias=_known_as("KAFKA_SSL_CAFILE"), description="the CA of the brokers' certificates"
    )
    kafka_poll_interval: float = Field(
        300.0, gt=1, validation_alias=_known_as("KAFKA_POLL_INTERVAL"),
        description="seconds a member may work on one batch before its group gives its partitions to others",
    )  # fmt: skip
    schema_registry_url: str | None = Field(
        None, validation_alias=_known_as("SCHEMA_REGISTRY_URL"),
        description="city engine: a Confluent-compatible registry, also with a path (`…/apis/ccompat/v7`)",
    )  # fmt: skip
    schema_registry_user: str | None = Field(
        None, validation_alias=_known_as("SCHEMA_REGISTRY_USER"), description="our user there"
    )
    schema_registry_password: SecretStr | None = Field(
        None, validation_alias=_known_as("SCHEMA_REGISTRY_PASSWORD"), description="its password"
    )
    schema_registry_cafile: Path | None = Field(
        None, validation_alias=_known_as("SCHEMA_REGISTRY_CAFILE"), description="the CA of its certificate"
    )
    member: str | None = Field(
        None, description="names this copy of a program, the same after a restart (default: the host's name)"
    )
    watchdog: float = Field(
        300.0, gt=0, description="seconds after which a process whose loop does not move says where it is, and ends"
    )
    log_cap: int = Field(4 * 1024**3, gt=0, description="bytes the embedded log may take before its oldest records go")
    real_data: Path | None = Field(None, description="folder with the real input that some tests run on")

    def needed(self, name: str) -> str:
        """A setting the city engine cannot do without. Raises UsageError naming it."""
        value = getattr(self, name)
        if not value:
            raise UsageError(f"JIETONG_ENGINE=city needs {name.upper()}")
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    def kafka_security(self) -> dict[str, Any]:
        """In kafka-python's words."""
        if self.kafka_security_protocol == "PLAINTEXT":
            return {}
        said: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if self.kafka_ssl_cafile:
            said["ssl_cafile"] = str(self.kafka_ssl_cafile)
        if self.kafka_security_protocol.startswith("SASL"):
            said |= {
                "sasl_mechanism": self.kafka_sasl_mechanism, "sasl_plain_username": self.needed("kafka_sasl_username"),
                "sasl_plain_password": self.needed("kafka_sasl_password"),
            }  # fmt: skip
        return said

    def registry_login(self) -> tuple[str | None, str | None, str | None]:
        """(user, password, CA file) of the registry."""
        password = self.schema_registry_password
        return (
            self.schema_registry_user,
            password.get_secret_value() if password else None,
            str(self.schema_registry_cafile) if self.schema_registry_cafile else None,
        )


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
