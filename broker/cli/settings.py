"""Where the exchange is and who calls: an option beats a variable, a variable beats the context."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat

if TYPE_CHECKING:
    from broker.app.config import ClientConfig, Context
    from connectors.client import Client

DEFAULT_CONFIG = Path("entente.toml")


@dataclass(frozen=True, slots=True)
class Given:
    """The options that every command shares, as they were given; None: not at all."""

    output: OutputFormat | None = None
    config: Path | None = None
    context: str | None = None
    endpoint: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None

    def over(self, general: Given) -> Given:
        """These where given, else those given before the command's name."""
        pairs = {name: getattr(self, name) for name in Given.__slots__}
        return Given(**{n: getattr(general, n) if value is None else value for n, value in pairs.items()})


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client is opened with; exactly one of token, token_file and token_provider is set."""

    endpoint: str
    ca_file: Path | None
    client_certificate: tuple[Path, Path] | None
    token: str | None = None
    token_file: Path | None = None
    token_provider: Callable[[], str] | None = None

    def client(self) -> Client:
        """A client that gives up after a few seconds without the exchange. Raises CommandFailed."""
        from connectors.client import Client
        from connectors.retry import Retry

        try:
            return Client(
                self.endpoint,
                token=self.token,
                token_file=self.token_file,
                token_provider=self.token_provider,
                ca_file=self.ca_file,
                client_certificate=self.client_certificate,
                retry=Retry(attempts=5, first_s=0.2, longest_s=2.0),
            )
        except ValueError as error:
            raise CommandFailed(str(error), ExitCode.USAGE) from None


def config_path(given: Given, environment: Mapping[str, str] = os.environ) -> Path:
    """The configuration file: --config, else ENTENTE_CONFIG, else ./entente.toml."""
    return given.config or _path(environment, "ENTENTE_CONFIG") or DEFAULT_CONFIG


def resolve(given: Given, environment: Mapping[str, str] = os.environ) -> Connection:
    """Put options, variables and the context together. Raises CommandFailed (usage)."""
    token, token_file = _given_token(given, environment)
    endpoint = given.endpoint or environment.get("ENTENTE_ENDPOINT")
    needed = not endpoint or (token is None and token_file is None)
    config, context = _find_context(given, config_path(given, environment), needed=needed)
    endpoint = endpoint or (context.endpoint if context else None)
    if not endpoint:
        raise CommandFailed(
            "no exchange to call; set --endpoint, ENTENTE_ENDPOINT or --context", ExitCode.USAGE
        )
    provider = None
    if token is None and token_file is None:
        provider = _provider(config, context)
    certificate = None
    if context is not None and context.certificate is not None and context.key is not None:
        certificate = (context.certificate, context.key)
    ca_file = given.ca_file or _path(environment, "ENTENTE_CA_FILE") or (context.ca_file if context else None)
    _check_endpoint(endpoint)
    _check_ca_file(ca_file)
    return Connection(endpoint, ca_file, certificate, token, token_file, provider)


def _check_endpoint(endpoint: str) -> None:
    """gRPC would take a misspelt one for an exchange that is away."""
    from broker.app.sections import split_address

    try:
        split_address(endpoint)
    except ValueError as error:
        raise CommandFailed(f"endpoint {endpoint}: {error}", ExitCode.USAGE) from None


def _check_ca_file(path: Path | None) -> None:
    """gRPC would report a file without a certificate as an exchange that is away."""
    if path is None:
        return
    try:
        holds_certificate = b"-----BEGIN CERTIFICATE-----" in path.read_bytes()
    except FileNotFoundError:
        raise CommandFailed(f"CA file {path}: no such file; correct the path", ExitCode.USAGE) from None
    except OSError as error:
        raise CommandFailed(f"CA file {path}: {error.strerror}; correct the path", ExitCode.USAGE) from None
    if not holds_certificate:
        raise CommandFailed(f"CA file {path}: holds no PEM certificate; name the CA's file", ExitCode.USAGE)


def _given_token(given: Given, environment: Mapping[str, str]) -> tuple[str | None, Path | None]:
    """At most one of token and token file; the option beats both variables."""
    if given.token_file is not None:
        return None, given.token_file
    token, file = environment.get("ENTENTE_TOKEN") or None, _path(environment, "ENTENTE_TOKEN_FILE")
    if token is not None and file is not None:
        message = "ENTENTE_TOKEN and ENTENTE_TOKEN_FILE are both set; unset one of them"
        raise CommandFailed(message, ExitCode.USAGE)
    return token, file


def _find_context(given: Given, path: Path, *, needed: bool) -> tuple[ClientConfig | None, Context | None]:
    """The context that was named, or the default one where something is missing without it."""
    if given.context is None and not needed:
        return None, None
    named = given.config is not None or path != DEFAULT_CONFIG
    if given.context is None and not named and not path.is_file():
        return None, None
    from broker.app.config import ConfigError, load_client_config, select_context

    try:
        config = load_client_config(path)
        if given.context is None and config.default_context is None:
            return config, None
        return config, select_context(config, path, given.context)[1]
    except ConfigError as error:
        raise CommandFailed("; ".join(error.findings), ExitCode.USAGE) from None


def _provider(config: ClientConfig | None, context: Context | None) -> Callable[[], str]:
    """Asks the context for a token each time that one is due. Raises CommandFailed if it has none to give."""
    from broker.adapters.clock import SystemClock
    from broker.app.config import ConfigError
    from broker.app.tokens import token_for_context

    audience = config.exchange.audience if config is not None and config.exchange is not None else None
    clock = SystemClock()

    def provide() -> str:
        token = None if context is None else token_for_context(context, audience, clock)
        if token is None:
            raise ConfigError(("no token; set ENTENTE_TOKEN, ENTENTE_TOKEN_FILE, --token-file or --context",))
        return token

    try:
        provide()  # so that a missing or broken key is told by name, before anything is called
    except ConfigError as error:
        raise CommandFailed("; ".join(error.findings), ExitCode.USAGE) from None
    return provide


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    return Path(environment[name]) if environment.get(name) else None
