"""The configuration file: one TOML file, checked whole before anything starts.

Relative paths are relative to the file. Each finding is one line: file, key path, what is wrong, what to do. Values are
never quoted in findings, since a misplaced one may be a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from broker.app.config_findings import describe

_Model = TypeVar("_Model", bound=BaseModel)

CONFIG_BYTES = 1024 * 1024
"""The largest configuration file that is read."""


class ConfigError(Exception):
    """The configuration cannot be used; `findings` are one line each."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


def _refuse(message: str, *, key: str = "") -> PydanticCustomError:
    return PydanticCustomError("refused", "{message}", {"message": message, "key": key})


def _resolve(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _refuse("must be a path in quotes")
    context = info.context if isinstance(info.context, dict) else {}
    return Path(context.get("directory", ".")) / value


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise _refuse(f"no such file: {path}; correct the path, or make one with 'entente init'")
    return path


def _existing_directory(path: Path) -> Path:
    if not path.is_dir():
        raise _refuse(f"no such directory: {path}; correct the path, or make one with 'entente init'")
    return path


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6]:port"; port 0 lets the system choose. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:7443")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
        ip_address(host)
    if not bracketed and (":" in host or any(c.isspace() or c in "/@[]" for c in host)):
        raise ValueError("must be HOST:PORT; write an IPv6 address in brackets, such as [::1]:7443")
    return host, int(port)


def _address(value: str) -> str:
    try:
        split_address(value)
    except ValueError as error:
        raise _refuse(str(error)) from None
    return value


AnyPath = Annotated[Path, BeforeValidator(_resolve)]
FilePath = Annotated[AnyPath, AfterValidator(_existing_file)]
DirectoryPath = Annotated[AnyPath, AfterValidator(_existing_directory)]
Address = Annotated[str, AfterValidator(_address)]
Word = Annotated[str, Field(min_length=1, max_length=256)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Exchange(_Section):
    """`audience` is what tokens must name in `aud`."""

    name: Word
    audience: Word


class Listen(_Section):
    """Addresses of the TLS listener and, optionally, the one that requires client certificates."""

    tls: Address
    mtls: Address | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.mtls == self.tls and split_address(self.tls)[1] != 0:
            raise _refuse("must differ from listen.tls; choose another port", key="mtls")
        return self


class Tls(_Section):
    """PEM files: the server's chain and key, and the authority of client certificates."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class Kafka(_Section):
    """How to reach Kafka; `prefix` begins the names of all topics that the exchange makes there."""

    bootstrap: list[Address] = Field(min_length=1)
    prefix: str = Field(default="entente.", pattern=r"^[a-zA-Z0-9._-]{1,80}$")
    security_protocol: Literal["SSL", "SASL_SSL", "PLAINTEXT", "SASL_PLAINTEXT"] = "SSL"
    ca_file: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Word | None = None
    sasl_password_file: FilePath | None = None
    replication: int = Field(default=3, ge=1, le=32)
    min_insync_replicas: int = Field(default=2, ge=1, le=32)
    insecure_plaintext: bool = False
    insecure_replication: bool = False
    insecure_unclean_election: bool = False

    @model_validator(mode="after")
    def _secure(self) -> Self:
        if not self.security_protocol.endswith("SSL") and not self.insecure_plaintext:
            raise _refuse(
                "sends records in the clear; use SSL or set insecure_plaintext", key="security_protocol"
            )
        if self.replication < 3 and not self.insecure_replication:
            raise _refuse("must be at least 3; raise it or set insecure_replication", key="replication")
        if self.min_insync_replicas < 2 and not self.insecure_replication:
            raise _refuse(
                "must be at least 2; raise it or set insecure_replication", key="min_insync_replicas"
            )
        if self.min_insync_replicas > self.replication:
            raise _refuse("must not exceed replication; lower it", key="min_insync_replicas")
        return self

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise _refuse("certificate and key belong together; give both or neither", key="key")
        sasl = (self.sasl_mechanism, self.sasl_username, self.sasl_password_file)
        needed = self.security_protocol.startswith("SASL")
        if needed and None in sasl:
            raise _refuse(
                "needs sasl_mechanism, sasl_username and sasl_password_file", key="security_protocol"
            )
        if not needed and any(value is not None for value in sasl):
            raise _refuse("has no use without SASL; choose SASL_SSL or remove it", key="sasl_mechanism")
        return self


class Backend(_Section):
    """Where records live: `data_dir` holds the embedded stores (with Kafka: local indexes only)."""

    kind: Literal["embedded", "kafka"]
    data_dir: AnyPath
    kafka: Kafka | None = None

    @model_validator(mode="after")
    def _kafka_section(self) -> Self:
        if self.kind == "kafka" and self.kafka is None:
            raise _refuse("section is missing; add [backend.kafka] with bootstrap", key="kafka")
        return self


class Rulebook(_Section):
    """The rulebook's directory, and the OPA binary (default: `opa` beside this Python, else on PATH)."""

    directory: DirectoryPath
    opa: FilePath | None = None


class KeyStore(_Section):
    """The directory of cursor and pseudonym keys."""

    directory: DirectoryPath


class JwksFetch(_Section):
    """How keys of issuers with a `jwks_url` are fetched; `stale_s` is how long they outlive an unreachable URL."""

    ttl_s: int = Field(default=300, ge=1, le=86_400)
    stale_s: int = Field(default=3_600, ge=0, le=604_800)
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    insecure_http_loopback: bool = False


class Limits(_Section):
    """What bounds memory and work (design rule 8); sizes in bytes, times in seconds."""

    message_bytes: int = Field(default=4_194_304, ge=1_024, le=268_435_456)
    record_bytes: int = Field(default=1_048_576, ge=256, le=67_108_864)
    attributes: int = Field(default=32, ge=8, le=256)
    attribute_bytes: int = Field(default=1_024, ge=64, le=65_536)
    batch_records: int = Field(default=1_000, ge=1, le=100_000)
    streams_per_agency: int = Field(default=200, ge=1, le=100_000)
    stream_buffer_bytes: int = Field(default=4_194_304, ge=1_024, le=1_073_741_824)
    total_buffer_bytes: int = Field(default=268_435_456, ge=1_024, le=68_719_476_736)
    publish_records_per_s: int = Field(default=50_000, ge=1)
    publish_bytes_per_s: int = Field(default=104_857_600, ge=1_024)
    calls_per_s: int = Field(default=1_000, ge=1)
    slow_consumer_s: float = Field(default=60.0, gt=0, le=3_600)
    heartbeat_s: float = Field(default=20.0, gt=0, le=300)
    drain_s: float = Field(default=10.0, ge=0, le=600)
    token_leeway_s: int = Field(default=30, ge=0, le=300)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.record_bytes > self.message_bytes:
            raise _refuse("must not exceed limits.message_bytes; lower it or raise that", key="record_bytes")
        if self.stream_buffer_bytes > self.total_buffer_bytes:
            raise _refuse(
                "must not exceed limits.total_buffer_bytes; lower it or raise that", key="stream_buffer_bytes"
            )
        return self


class DevelopmentToken(_Section):
    """Claims of a development token that the command line signs itself, with the agency's private issuer key."""

    issuer_key: AnyPath
    subject: Word
    roles: list[Word]
    purposes: list[Word]
    clearance: Word | None = None
    ttl_s: int = Field(default=3_600, ge=1)


class Context(_Section):
    """How the command line reaches an exchange and as whom. Files are looked for when the context is used."""

    endpoint: Address
    ca_file: AnyPath | None = None
    certificate: AnyPath | None = None
    key: AnyPath | None = None
    token_file: AnyPath | None = None
    development: DevelopmentToken | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise _refuse("certificate and key belong together; give both or neither", key="key")
        if self.token_file is not None and self.development is not None:
            raise _refuse("has two sources of tokens; keep token_file or development", key="token_file")
        return self


class Development(_Section):
    """Only in exchanges made by `entente init`: the directory of the agencies' private issuer keys."""

    issuer_keys: AnyPath


class _Shared(BaseModel):
    """What the command line reads of the file as well as the server."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    default_context: Word | None = None
    contexts: dict[str, Context] = Field(default_factory=dict)
    development: Development | None = None

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default_context is not None and self.default_context not in self.contexts:
            raise _refuse("names no context of this file; add it or choose another", key="default_context")
        return self


class ClientConfig(_Shared):
    """The command line's part of the file: a partner's file may hold nothing else."""

    exchange: Exchange | None = None


class Config(_Shared):
    """The whole file, as the server needs it."""

    exchange: Exchange
    listen: Listen
    tls: Tls
    backend: Backend
    rulebook: Rulebook
    keys: KeyStore
    jwks: JwksFetch = JwksFetch()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _client_authority(self) -> Self:
        if self.listen.mtls is not None and self.tls.client_ca is None:
            raise _refuse(
                "is missing, and listen.mtls needs it; add it or remove listen.mtls", key="tls.client_ca"
            )
        return self


def load_config(path: Path) -> Config:
    """Read and check the whole file. Raises ConfigError with every finding."""
    return _check(Config, _read(path), path)


def load_client_config(path: Path) -> ClientConfig:
    """Read and check the command line's part; the server's sections are left alone. Raises ConfigError."""
    document = _read(path)
    unknown = {key: value for key, value in document.items() if key not in Config.model_fields}
    mine = {key: value for key, value in document.items() if key in ClientConfig.model_fields}
    return _check(ClientConfig, mine | unknown, path)


def select_context(config: ClientConfig | Config, path: Path, name: str | None = None) -> tuple[str, Context]:
    """The named context, else the default one, with its files present. Raises ConfigError."""
    chosen = name if name is not None else config.default_context
    if chosen is None:
        raise ConfigError((f"{path}: default_context: not set; name a context with --context",))
    context = config.contexts.get(chosen)
    if context is None:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise ConfigError((f"{path}: contexts: no context of that name; choose one of: {known}",))
    for key in ("ca_file", "certificate", "key", "token_file"):
        file = getattr(context, key)
        if file is not None and not file.is_file():
            raise ConfigError((f"{path}: contexts.{chosen}.{key}: no such file: {file}; correct the path",))
    return chosen, context


def _read(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES + 1)
    except FileNotFoundError:
        remedy = "make one with 'entente init DIR', or name another with --config"
        raise ConfigError((f"{path}: no such file; {remedy}",)) from None
    except OSError as error:
        raise ConfigError(
            (f"{path}: cannot be read: {error.strerror}; correct the path or its mode",)
        ) from None
    if len(content) > CONFIG_BYTES:
        raise ConfigError((f"{path}: larger than {CONFIG_BYTES} bytes; this is no configuration file",))
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        what = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise ConfigError((f"{path}: not TOML: {what}; correct the syntax",)) from None


def _check(model: type[_Model], document: Mapping[str, object], path: Path) -> _Model:
    try:
        return model.model_validate(dict(document), context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(describe(model, error, path)) from None
