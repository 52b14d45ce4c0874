"""The options that say which ledger to read, which all commands of `entente audit` share but `check`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from broker.cli.settings import DEFAULT_CONFIG, Given, config_path
from connectors.cli.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from broker.app.config import KafkaAccess
    from broker.app.ledger_sources import LedgerSource

_P = ParamSpec("_P")
_PANEL = "The ledger"
_KAFKA = "The ledger on Kafka (over the configuration file's section ledger_reader)"
CONFIGURED = "kafka"
"""What `--ledger` says for Kafka at the addresses of the configuration file."""


class SecurityProtocol(StrEnum):
    """Kafka's security protocols."""

    SSL = "SSL"
    SASL_SSL = "SASL_SSL"
    PLAINTEXT = "PLAINTEXT"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"


class Mechanism(StrEnum):
    """SASL mechanisms."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class LedgerGiven:
    """The options as they were given; None: not at all."""

    ledger: str | None = None
    revisions: Path | None = None
    index: Path | None = None
    kafka_prefix: str | None = None
    kafka_protocol: SecurityProtocol | None = None
    kafka_ca_file: Path | None = None
    kafka_certificate: Path | None = None
    kafka_key: Path | None = None
    kafka_sasl_mechanism: Mechanism | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password_file: Path | None = None
    insecure_plaintext: bool = False


def _ledger(
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|HOST:PORT",
            help="An export, an exchange's data directory, or Kafka ('kafka': as the configuration file says)."
            " Without it the exchange itself is asked, where it can answer.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    revisions: Annotated[
        Path | None,
        typer.Option(
            help="A rulebook, or a directory of several, that the ledger's place lacks.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            help="Keep an index of the entries in this file, made from them; else an export's own is used.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    kafka_prefix: Annotated[
        str | None, typer.Option(help="Begins the topics' names; default: entente.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_protocol: Annotated[
        SecurityProtocol | None, typer.Option(help="Default: SSL.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_ca_file: Annotated[
        Path | None, typer.Option(help="The authority to trust, PEM.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_certificate: Annotated[
        Path | None, typer.Option(help="Your own certificate, PEM.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_key: Annotated[Path | None, typer.Option(help="Its key, PEM.", rich_help_panel=_KAFKA)] = None,
    kafka_sasl_mechanism: Annotated[
        Mechanism | None, typer.Option(help="Needed with SASL.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_sasl_username: Annotated[
        str | None, typer.Option(help="Needed with SASL.", rich_help_panel=_KAFKA)
    ] = None,
    kafka_sasl_password_file: Annotated[
        Path | None,
        typer.Option(help="A file that only you may read; needed with SASL.", rich_help_panel=_KAFKA),
    ] = None,
    insecure_plaintext: Annotated[
        bool,
        typer.Option("--insecure-plaintext", help="Permits a protocol without TLS.", rich_help_panel=_KAFKA),
    ] = False,
) -> None:
    """Only its signature is used."""


_PARAMETERS = [
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(_ledger, eval_str=True).parameters.values()
]


def ledger_options(function: Callable[Concatenate[Given, LedgerGiven, _P], None]) -> Callable[..., None]:
    """Give a command the options of the ledger; it receives them as a LedgerGiven after the common ones."""

    def command(given: Given, **values: Any) -> None:
        ledger = LedgerGiven(**{parameter.name: values.pop(parameter.name) for parameter in _PARAMETERS})
        function(given, ledger, **values)  # type: ignore[call-arg]

    first, _, *own = inspect.signature(function, eval_str=True).parameters.values()
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([first, *own, *_PARAMETERS])  # type: ignore[attr-defined]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def source_of(given: Given, ledger: LedgerGiven) -> LedgerSource:
    """The ledger that the options name. Raises CommandFailed (usage)."""
    from broker.app.ledger_sources import LedgerSource

    if ledger.ledger is None:
        raise CommandFailed(
            "needs --ledger: an export, a data directory, or Kafka's HOST:PORT", ExitCode.USAGE
        )
    directory = Path(ledger.ledger)
    if directory.is_dir():
        return LedgerSource(directory=directory, rulebooks=ledger.revisions, index=ledger.index)
    if directory.is_file():  # ledger.db itself, or a file of an export
        return LedgerSource(directory=directory.parent, rulebooks=ledger.revisions, index=ledger.index)
    kafka = _kafka(given, ledger, ledger.ledger)
    return LedgerSource(kafka=kafka, rulebooks=ledger.revisions, index=ledger.index)


def _kafka(given: Given, ledger: LedgerGiven, named: str) -> KafkaAccess:
    """The configuration's section, with the options over it."""
    from pydantic import ValidationError

    from broker.app.config import KafkaAccess, split_address
    from connectors.runtime.findings import describe

    configured = _configured(given)
    values: dict[str, object] = {} if configured is None else configured.model_dump(exclude_unset=True)
    if named != CONFIGURED:
        try:
            addresses = [address.strip() for address in named.split(",")]
            for address in addresses:
                split_address(address)
        except ValueError:
            message = f"--ledger: no such directory, and not HOST:PORT: {named}"
            raise CommandFailed(message, ExitCode.USAGE) from None
        values["bootstrap"] = addresses
    elif configured is None:
        message = (
            f"{config_path(given)}: ledger_reader: section is missing; add it, or say --ledger HOST:PORT"
        )
        raise CommandFailed(message, ExitCode.USAGE)
    values |= {name: value for name, value in _given(ledger).items() if value is not None}
    values |= {name: str(value.absolute()) for name, value in values.items() if isinstance(value, Path)}
    try:
        return KafkaAccess.model_validate(values)
    except ValidationError as error:
        raise CommandFailed(describe(KafkaAccess, error, Path("--ledger"))[0], ExitCode.USAGE) from None


def _given(ledger: LedgerGiven) -> dict[str, object]:
    """By the configuration's names, what was given on the command line."""
    return {
        "prefix": ledger.kafka_prefix,
        "security_protocol": None if ledger.kafka_protocol is None else ledger.kafka_protocol.value,
        "ca_file": ledger.kafka_ca_file,
        "certificate": ledger.kafka_certificate,
        "key": ledger.kafka_key,
        "sasl_mechanism": None if ledger.kafka_sasl_mechanism is None else ledger.kafka_sasl_mechanism.value,
        "sasl_username": ledger.kafka_sasl_username,
        "sasl_password_file": ledger.kafka_sasl_password_file,
        "insecure_plaintext": ledger.insecure_plaintext or None,
    }


def _configured(given: Given) -> KafkaAccess | None:
    """The section `ledger_reader`; None without a file, unless one was named."""
    from broker.app.config import ConfigError, load_client_config

    path = config_path(given)
    if given.config is None and path == DEFAULT_CONFIG and not path.is_file():
        return None
    try:
        return load_client_config(path).ledger_reader
    except ConfigError as error:
        raise CommandFailed("; ".join(error.findings), ExitCode.USAGE) from None
