"""The sections of the configuration file, as frozen models: strict types, no unknown keys, paths made absolute."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError


def refusal(message: str, *, key: str = "") -> PydanticCustomError:
    """A finding at the validated place, or at `key` below it."""
    return PydanticCustomError("refused", "{message}", {"message": message, "key": key})


def _resolve(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise refusal("must be a path in quotes")
    context = info.context if isinstance(info.context, dict) else {}
    return Path(context.get("directory", ".")) / value


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise refusal(f"no such file: {path}; correct the path, or make one with 'entente init'")
    return path


def _existing_directory(path: Path) -> Path:
    if not path.is_dir():
        raise refusal(f"no such directory: {path}; correct the path, or make one with 'entente init'")
    return path


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6]:port"; port 0 lets the system choose. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:7443")
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return host[1:-1], int(port)
    if any(c.isspace() or c in "/@[]:" for c in host):
        raise ValueError("must be HOST:PORT; write an IPv6 address in brackets, such as [::1]:7443")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _address(value: str) -> str:
    try:
        split_address(value)
    except ValueError as error:
        raise refusal(str(error)) from None
    return value


AnyPath = Annotated[Path, BeforeValidator(_resolve)]
FilePath = Annotated[AnyPath, AfterValidator(_existing_file)]
DirectoryPath = Annotated[AnyPath, AfterValidator(_existing_directory)]
Address = Annotated[str, AfterValidator(_address)]
Word = Annotated[str, Field(min_length=1, max_length=256)]


class Section(BaseModel):
    """What all sections have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Exchange(Section):
    """`audience` is what tokens must name in `aud`."""

    name: Word
    audience: Word


class Listen(Section):
    """Addresses of the TLS listener and, optionally, the one that requires client certificates."""

    tls: Address
    mtls: Address | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.mtls == self.tls and split_address(self.tls)[1] != 0:
            raise refusal("must differ from listen.tls; choose another port", key="mtls")
        return self


class Tls(Section):
    """PEM files: the server's chain and key, and the authority of client certificates."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class KafkaAccess(Section):
    """How to reach Kafka, and as whom; `prefix` begins the names of all topics that the exchange makes there."""

    bootstrap: list[Address] = Field(min_length=1)
    prefix: str = Field(default="entente.", pattern=r"^[a-zA-Z0-9._-]{1,80}$")
    security_protocol: Literal["SSL", "SASL_SSL", "PLAINTEXT", "SASL_PLAINTEXT"] = "SSL"
    ca_file: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Word | None = None
    sasl_password_file: FilePath | None = None
    insecure_plaintext: bool = False

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if not self.security_protocol.endswith("SSL") and not self.insecure_plaintext:
            raise refusal(
                "sends records in the clear; use SSL or set insecure_plaintext", key="security_protocol"
            )
        return self

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise refusal("certificate and key belong together; give both or neither", key="key")
        sasl = (self.sasl_mechanism, self.sasl_username, self.sasl_password_file)
        needed = self.security_protocol.startswith("SASL")
        if needed and None in sasl:
            raise refusal(
                "needs sasl_mechanism, sasl_username and sasl_password_file", key="security_protocol"
            )
        if not needed and any(value is not None for value in sasl):
            raise refusal("has no use without SASL; choose SASL_SSL or remove it", key="sasl_mechanism")
        return self


class Kafka(KafkaAccess):
    """The exchange's own Kafka.

    `timeout_s`: how long what must be stored waits for Kafka before the caller is told to try again.
    """

    replication: int = Field(default=3, ge=1, le=32)
    min_insync_replicas: int = Field(default=2, ge=1, le=32)
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    insecure_replication: bool = False
    insecure_unclean_election: bool = False

    @model_validator(mode="after")
    def _kept_safe(self) -> Self:
        if self.replication < 3 and not self.insecure_replication:
            raise refusal("must be at least 3; raise it or set insecure_replication", key="replication")
        if self.min_insync_replicas < 2 and not self.insecure_replication:
            raise refusal(
                "must be at least 2; raise it or set insecure_replication", key="min_insync_replicas"
            )
        if self.min_insync_replicas > self.replication:
            raise refusal("must not exceed replication; lower it", key="min_insync_replicas")
        return self


class Backend(Section):
    """Where records live: `data_dir` holds the embedded stores."""

    kind: Literal["embedded", "kafka"]
    data_dir: AnyPath | None = None
    kafka: Kafka | None = None

    @model_validator(mode="after")
    def _kafka_section(self) -> Self:
        if self.kind == "kafka" and self.kafka is None:
            raise refusal("section is missing; add [backend.kafka] with bootstrap", key="kafka")
        if self.kind == "embedded" and self.data_dir is None:
            raise refusal("is missing; name the directory of the embedded stores", key="data_dir")
        return self


class Rulebook(Section):
    """The rulebook that the first start of an exchange takes, and the OPA binary.

    The default binary is `opa` beside this Python, else on PATH. `insecure_from_directory`: each start activates what
    stands in the directory, without approval.
    """

    directory: DirectoryPath
    opa: FilePath | None = None
    insecure_from_directory: bool = False


class Control(Section):
    """How the instances of an exchange agree. `lease_s`: how long one counts as alive after its last sign of life.

    `ready_mb`: the largest revision for which an engine is held ready before it is activated; 0: none.
    `insecure_begin_anew`: start although the control log, with every suspension and withdrawal, was lost.
    """

    lease_s: float = Field(default=10.0, ge=0.5, le=300)
    ready_mb: int = Field(default=64, ge=0)
    insecure_begin_anew: bool = False


class KeyStore(Section):
    """The directory of cursor and pseudonym keys."""

    directory: DirectoryPath


class JwksFetch(Section):
    """How keys of issuers with a `jwks_url` are fetched; `stale_s` is how long they outlive an unreachable URL.

    `ca_file`: an authority to trust instead of the system's.
    """

    ttl_s: int = Field(default=300, ge=1, le=86_400)
    stale_s: int = Field(default=3_600, ge=0, le=604_800)
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    ca_file: FilePath | None = None
    insecure_http_loopback: bool = False


class Limits(Section):
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
    connections: int = Field(default=2_000, ge=1, le=1_000_000)
    handshake_s: float = Field(default=10.0, gt=0, le=120)
    idle_connection_s: float = Field(default=300.0, ge=1, le=86_400)
    slow_consumer_s: float = Field(default=60.0, gt=0, le=3_600)
    heartbeat_s: float = Field(default=20.0, gt=0, le=300)
    drain_s: float = Field(default=10.0, ge=0, le=600)
    token_leeway_s: int = Field(default=30, ge=0, le=300)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.record_bytes > self.message_bytes:
            raise refusal("must not exceed limits.message_bytes; lower it or raise that", key="record_bytes")
        if self.stream_buffer_bytes > self.total_buffer_bytes:
            raise refusal(
                "must not exceed limits.total_buffer_bytes; lower it or raise that", key="stream_buffer_bytes"
            )
        return self


class DevelopmentToken(Section):
    """Claims of a development token that the command line signs itself, with the agency's private issuer key."""

    issuer_key: AnyPath
    subject: Word
    roles: list[Word]
    purposes: list[Word]
    clearance: Word | None = None
    ttl_s: int = Field(default=3_600, ge=1)


class Context(Section):
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
            raise refusal("certificate and key belong together; give both or neither", key="key")
        if self.token_file is not None and self.development is not None:
            raise refusal("has two sources of tokens; keep token_file or development", key="token_file")
        return self


class Development(Section):
    """Only in exchanges made by `entente init`: the directory of the agencies' private issuer keys."""

    issuer_keys: AnyPath
