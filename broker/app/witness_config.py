"""The configuration file of a co-signing witness, `witness.toml`: its key, where it listens, and the logs that it trusts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from broker.adapters.keyring import KeysRefused, read_private_file
from broker.adapters.witness.state import file_name
from broker.app.config import load_file
from broker.app.sections import Address, AnyPath, FilePath, Section, Word, refusal, split_address
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import COSIGNATURE_V1, ED25519, PUBLIC_KEY_BYTES, NoteInvalid, VerifierKey
from broker.core.witness.address import is_loopback
from broker.core.witness.cosigning import TrustedLog

_KEY_FILE_BYTES = 1_024


class ServerTls(Section):
    """PEM files: the server's chain and key."""

    certificate: FilePath
    key: FilePath


class WitnessedLog(Section):
    """A log whose checkpoints are cosigned. `vkeys`: lines of its public keys, under whatever name."""

    origin: Word
    vkeys: list[Word] = Field(min_length=1, max_length=64)

    @field_validator("origin")
    @classmethod
    def _fits_a_file_name(cls, origin: str) -> str:
        try:
            file_name(origin)
            VerifierKey.ed25519(origin, bytes(PUBLIC_KEY_BYTES))
        except (NoteInvalid, ValueError) as error:
            raise refusal(str(error)) from None
        return origin

    @field_validator("vkeys")
    @classmethod
    def _sign_notes(cls, vkeys: list[str]) -> list[str]:
        for vkey in vkeys:
            try:
                algorithm = VerifierKey.parse(vkey).algorithm
            except NoteInvalid as error:
                raise refusal(f"{error}; copy the lines of the log's ledger.vkey") from None
            if algorithm != ED25519:
                raise refusal("is a witness's key, not a log's; copy the lines of the log's ledger.vkey")
        return vkeys

    @property
    def trusted(self) -> TrustedLog:
        """As the witness uses it."""
        return TrustedLog(self.origin, tuple(VerifierKey.parse(vkey) for vkey in self.vkeys))


class WitnessConfig(Section):
    """The whole file. `name`: what stands in its cosignatures. `state`: the directory of what it holds."""

    name: Word
    listen: Address
    key: FilePath
    state: AnyPath
    tls: ServerTls | None = None
    insecure_http_loopback: bool = False
    logs: list[WitnessedLog] = Field(default_factory=list, max_length=1_000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        loopback = is_loopback(split_address(self.listen)[0])
        if self.tls is None and not (loopback and self.insecure_http_loopback):
            raise refusal(
                "section is missing; add it, or listen on this machine only with insecure_http_loopback",
                key="tls",
            )
        origins = [log.origin for log in self.logs]
        if len(set(origins)) != len(origins):
            raise refusal("have an origin twice; put its keys together", key="logs")
        try:
            VerifierKey(self.name, COSIGNATURE_V1, bytes(PUBLIC_KEY_BYTES))
        except NoteInvalid as error:
            raise refusal(f"{error}; write a name such as witness.example/w1", key="name") from None
        return self

    def cosigner(self) -> Cosigner:
        """Raises KeysRefused, also for a key file that other users may read."""
        content = read_private_file(self.key, _KEY_FILE_BYTES)
        try:
            return Cosigner(self.name, base64.b64decode(content.strip(), validate=True))
        except ValueError:
            raise KeysRefused(f"{self.key}: is no key of a witness; restore it from a backup") from None


def load_witness_config(path: Path) -> WitnessConfig:
    """Read and check the file. Raises ConfigError with every finding."""
    return load_file(WitnessConfig, path, "entente witness init DIR")
