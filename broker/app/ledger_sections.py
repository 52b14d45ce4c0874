"""The sections of the configuration file for the ledger and its witnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from broker.app.sections import AnyPath, FilePath, KafkaAccess, Section, Word, refusal


def _mounted_file(path: Path) -> Path:
    if not path.is_file():
        raise refusal(f"no such file: {path}; mount its storage, or create it empty for a new witness")
    return path


class LedgerWitness(Section):
    """Somebody who keeps this ledger's checkpoints: a file, a topic of another Kafka, or a co-signing service.

    `name` is for messages. `topic` follows the prefix of that Kafka. `timeout_s` is how long a service or Kafka may take for
    one checkpoint.
    """

    name: Word
    kind: Literal["file", "kafka", "http"]
    path: Annotated[AnyPath, AfterValidator(_mounted_file)] | None = None
    topic: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    url: Word | None = None
    vkey: Word | None = None
    ca_file: FilePath | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    insecure_http_loopback: bool = False
    kafka: KafkaAccess | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        needed = {"file": ("path",), "kafka": ("kafka", "topic"), "http": ("url", "vkey")}
        allowed = {*needed[self.kind], "name", "kind", "timeout_s"}
        if self.kind == "http":
            allowed |= {"ca_file", "insecure_http_loopback"}
        for key in needed[self.kind]:
            if getattr(self, key) is None:
                raise refusal(f"is missing, and a witness of kind {self.kind} needs it; add it", key=key)
        for key in sorted(self.model_fields_set - allowed):
            raise refusal(f"has no use for a witness of kind {self.kind}; remove it", key=key)
        return self

    @model_validator(mode="after")
    def _service(self) -> Self:
        # Late, since the command line reads configurations without them.
        from broker.core.checkpoint.note import COSIGNATURE_V1, NoteInvalid, VerifierKey
        from broker.core.witness.address import UrlRefused, check_url

        if self.kind != "http" or self.url is None or self.vkey is None:
            return self
        try:
            check_url(self.url, insecure_http_loopback=self.insecure_http_loopback)
        except UrlRefused as error:
            raise refusal(str(error), key="url") from None
        try:
            key = VerifierKey.parse(self.vkey)
        except NoteInvalid as error:
            raise refusal(f"{error}; copy the line that the witness's operator gave", key="vkey") from None
        if key.algorithm != COSIGNATURE_V1:
            raise refusal("is a log's key, not a witness's; copy the witness's line", key="vkey")
        return self


class Ledger(Section):
    """This instance's ledger: no two brokers of one Kafka may share its name.

    A checkpoint is signed at each interval in which the ledger grew, or after so many entries. Entries expire after
    `retention_days`, if that is given. `partitions`: how many instances a new topic has room for, on Kafka.
    """

    instance: str = Field(default="broker", pattern=r"^[a-z0-9-]{1,32}$")
    checkpoint_interval_s: float = Field(default=1.0, gt=0, le=3_600)
    checkpoint_entries: int = Field(default=10_000, ge=1, le=10_000_000)
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    partitions: int = Field(default=16, ge=1, le=1_000)
    witnesses: list[LedgerWitness] = Field(default_factory=list, max_length=16)

    @model_validator(mode="after")
    def _witnesses_by_name(self) -> Self:
        names = [witness.name for witness in self.witnesses]
        if len(set(names)) != len(names):
            raise refusal("have a name twice; give each its own", key="witnesses")
        return self

    @property
    def retention_ms(self) -> int | None:
        """The retention in milliseconds, or None if entries are kept for good."""
        return None if self.retention_days is None else self.retention_days * 86_400_000
