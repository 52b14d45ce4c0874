"""What every connector is configured with; a plugin's settings add their own keys.

A secret is never written in a configuration file: it is named, as a file or a variable, and read when it is needed.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from connectors.retry import Retry
from connectors.runtime.names import default_subscription

MOST_SECRET_BYTES = 64 * 1024


class ConfigurationRefused(Exception):
    """A configuration that cannot be used; each finding is one line: file, key, what is wrong and what to do."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the configuration file, which the validation's context names."""
    if "\0" in str(path):
        raise ValueError("is no path; correct it")
    directory = (info.context or {}).get("directory")
    return path if directory is None else directory / path


FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path in a configuration file."""

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SUBSCRIPTION = re.compile(r"[a-z0-9._-]{1,64}")
"""What is shown as the name of an environment variable; anything else may be a secret that was misplaced."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@,]+):([0-9]{1,5})")


def _host_and_port(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ValueError("write an address as host:port, for example exchange.example:7443")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]
"""host:port; an IPv6 address in brackets."""


class Settings(BaseModel):
    """A table of a configuration file: no unknown keys, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Secret(Settings):
    """Where a secret is: exactly one of a file, whose last line end does not count, and an environment variable."""

    file: FilePath | None = None
    env: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if not isinstance(value, dict | Secret):
            raise ValueError(
                'a secret is never written here; name it as { file = "…" } or { env = "…" }, and change this one'
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError('name it as { file = "…" } or { env = "…" }')
        return self

    def read(self) -> str:
        """The secret as it is now. Raises ConfigurationRefused, which names the place only."""
        if self.file is not None:
            return _read_secret(self.file)
        found = os.environ.get(self.env or "")
        if not found:
            named = (
                f"variable {self.env}" if _VARIABLE.fullmatch(self.env or "") else "the variable named there"
            )
            raise ConfigurationRefused((f"{named} is not set; set it to the secret",))
        return found


def _read_secret(path: Path) -> str:
    try:
        text = read_private_file(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationRefused((f"{path}: is no text; put the secret there",)) from None
    if not text:
        raise ConfigurationRefused((f"{path}: is empty; put the secret there",))
    return text


def read_private_file(path: Path) -> bytes:
    """A file that only its owner may read, of at most MOST_SECRET_BYTES. Raises ConfigurationRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if not os.path.lexists(path):  # then what stands there may be the secret itself
            raise ConfigurationRefused(("no such file; name the one that holds the secret",)) from None
        raise ConfigurationRefused((f"{path}: {error.strerror}; let its owner read it",)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationRefused((f"{path}: is no plain file; replace it",))
        if status.st_mode & 0o077:
            remedy = "run 'chmod 600' on it, and change the secret"
            raise ConfigurationRefused((f"{path}: other users may read or write it; {remedy}",))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MOST_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MOST_SECRET_BYTES:
        raise ConfigurationRefused((f"{path}: larger than {MOST_SECRET_BYTES} bytes; this is no secret",))
    return content


class ExchangeSettings(Settings):
    """Where the exchange is and as whom the connector calls it."""

    endpoint: Address = Field(description="The exchange's address, `host:port`.")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of the exchange's CA; without it the system's authorities."
    )
    token_file: FilePath | None = Field(
        default=None,
        description="The agency's token; not readable by every user. Read again before the token ends.",
    )
    token_env: str | None = Field(default=None, description="Or the environment variable that holds it.")
    certificate: FilePath | None = Field(
        default=None, description="PEM file of the connector's own chain, for the mTLS listener; with `key`."
    )
    key: FilePath | None = Field(default=None, description="PEM file of its key, readable by its owner only.")
    insecure_plaintext: bool = Field(
        default=False, description="Without TLS: whoever sees the network can take the token."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.token_file is None) == (self.token_env is None):
            raise ValueError("set either token_file or token_env")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("set certificate and key together")
        return self


class RetrySettings(Settings):
    """How often what failed for a while is tried again before the task fails, and how long it waits in between."""

    attempts: int = Field(
        default=10, ge=1, le=1_000, description="How often something is tried before the task fails."
    )
    first_s: float = Field(
        default=0.1, gt=0, le=60, description="The first pause between attempts, which doubles, in seconds."
    )
    longest_s: float = Field(default=10.0, gt=0, le=600, description="The longest pause, in seconds.")

    def policy(self) -> Retry:
        """The same for the client."""
        return Retry(self.attempts, self.first_s, self.longest_s)


OnError = Literal["fail", "skip", "dead-letter"]


class ConnectorSettings(Settings):
    """The keys that every connector has."""

    plugin: str = Field(description="The kind of connector.")
    exchange: ExchangeSettings
    topic: str = Field(min_length=1, description="The exchange's topic.")
    on_error: OnError = Field(
        default="fail",
        description="What becomes of a record that can never be moved as it is: `fail` stops before it, `skip` goes "
        "on without it, `dead-letter` keeps it on the agency's own side, untouched, and goes on.",
    )
    retry: RetrySettings = RetrySettings()
    receipts: FilePath | None = Field(
        default=None, description="A file to which the receipts of all that is moved are appended."
    )
    receipts_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        le=2**40,
        description="What it and the file before it, with `.1` behind the name, may take together.",
    )


class SinkSettings(ConnectorSettings):
    """The keys that every sink has."""

    purpose: str = Field(min_length=1, description="What the records are for; the token must permit it.")
    subscription: str | None = Field(
        default=None, description='Its name; default "connect-" and the connector\'s.'
    )
    start: Literal["earliest", "latest"] | datetime = Field(
        default="earliest", description="Where a new subscription begins."
    )
    on_expired: Literal["fail", "earliest"] = Field(
        default="fail",
        description="Where records have gone that were not read: stop, or go on with the earliest.",
    )

    @field_validator("subscription")
    @classmethod
    def _subscription(cls, name: str | None) -> str | None:
        if name is not None and _SUBSCRIPTION.fullmatch(name) is None:
            raise ValueError("a subscription's name is 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        return name

    @field_validator("start")
    @classmethod
    def _zoned(
        cls, start: Literal["earliest", "latest"] | datetime
    ) -> Literal["earliest", "latest"] | datetime:
        if isinstance(start, datetime) and start.tzinfo is None:
            raise ValueError(
                "the time has no zone; write it with Z or an offset, for example 2026-01-31T12:00:00Z"
            )
        return start

    def subscription_of(self, name: str) -> str:
        """The subscription's name for a connector's. Names of connectors may have capitals, subscriptions' may not."""
        return self.subscription or default_subscription(name)
