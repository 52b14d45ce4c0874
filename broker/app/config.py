"""The configuration file: one TOML file, checked whole before anything starts.

Relative paths are relative to the file. Each finding is one line: file, key path, what is wrong, what to do. Values are
never quoted in findings, since a misplaced one may be a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from broker.app.ledger_sections import Ledger, LedgerWitness
from broker.app.sections import (
    Backend,
    Context,
    Control,
    Development,
    DevelopmentToken,
    Exchange,
    JwksFetch,
    Kafka,
    KafkaAccess,
    KeyStore,
    Limits,
    Listen,
    Rulebook,
    Section,
    Tls,
    Word,
    refusal,
    split_address,
)
from connectors.runtime.findings import describe

__all__ = [
    "Backend",
    "ClientConfig",
    "Config",
    "ConfigError",
    "Context",
    "Control",
    "Development",
    "DevelopmentToken",
    "Exchange",
    "JwksFetch",
    "Kafka",
    "KafkaAccess",
    "KeyStore",
    "Ledger",
    "LedgerWitness",
    "Limits",
    "Listen",
    "Rulebook",
    "Tls",
    "load_client_config",
    "load_config",
    "load_file",
    "select_context",
    "split_address",
]

_Model = TypeVar("_Model", bound=BaseModel)

CONFIG_BYTES = 1024 * 1024
"""The largest configuration file that is read."""


class ConfigError(Exception):
    """The configuration cannot be used; `findings` are one line each."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


class _Shared(Section):
    """What the command line reads of the file as well as the server.

    `ledger_reader`: how auditors reach the ledger's topics on Kafka, with credentials that can only read them.
    """

    default_context: Word | None = None
    contexts: dict[str, Context] = Field(default_factory=dict)
    development: Development | None = None
    ledger_reader: KafkaAccess | None = None

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default_context is not None and self.default_context not in self.contexts:
            raise refusal("names no context of this file; add it or choose another", key="default_context")
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
    ledger: Ledger = Ledger()
    control: Control = Control()
    jwks: JwksFetch = JwksFetch()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _client_authority(self) -> Self:
        if self.listen.mtls is not None and self.tls.client_ca is None:
            raise refusal(
                "is missing, and listen.mtls needs it; add it or remove listen.mtls", key="tls.client_ca"
            )
        return self


def load_config(path: Path) -> Config:
    """Read and check the whole file. Raises ConfigError with every finding."""
    return load_file(Config, path)


def load_file(model: type[_Model], path: Path, made_by: str = "entente init DIR") -> _Model:
    """Read and check a file of another form in the same way. Raises ConfigError with every finding."""
    return _check(model, _read(path, made_by), path)


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


def _read(path: Path, made_by: str = "entente init DIR") -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES + 1)
    except FileNotFoundError:
        remedy = f"make one with '{made_by}', or name another with --config"
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
