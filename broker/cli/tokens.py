"""`entente token`: a development token, signed with a key that `entente init` made."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from broker.cli.command import shared_options
from broker.cli.settings import Given, config_path
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, show_one, write_line

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@shared_options
def token(
    given: Given,
    agency: Annotated[str, typer.Option(help="The agency whose development issuer signs.")],
    role: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="A permitted purpose; may be repeated.")] = None,
    clearance: Annotated[str | None, typer.Option(help="A classification of the vocabulary.")] = None,
    subject: Annotated[str, typer.Option(help="The token's `sub`.")] = "developer",
    ttl: Annotated[str, typer.Option(help="Lifetime, for example 90s, 30m or 1h.")] = "1h",
) -> None:
    """Print a development token. What it may claim is for the exchange to judge."""
    from broker.adapters.clock import SystemClock
    from broker.app.config import ConfigError, load_client_config
    from broker.app.tokens import mint_token, read_issuer_key

    path = config_path(given)
    try:
        config = load_client_config(path)
        if config.development is None or config.exchange is None:
            message = "holds no development issuers; use a file that 'entente init' made"
            raise CommandFailed(f"{path}: {message}", ExitCode.USAGE)
        key = read_issuer_key(config.development.issuer_keys / f"{_name(agency)}.json")
    except ConfigError as error:
        raise CommandFailed("; ".join(error.findings), ExitCode.USAGE) from None
    minted = mint_token(
        key,
        subject=subject,
        roles=role or [],
        purposes=purpose or [],
        attributes={} if clearance is None else {"clearance": clearance},
        audience=config.exchange.audience,
        ttl_s=parse_ttl(ttl),
        clock=SystemClock(),
    )
    if given.output in (None, OutputFormat.TABLE):
        write_line(minted)  # bare, for TOKEN=$(entente token …)
    else:
        show_one(OutputFormat(given.output), {"token": minted})


def parse_ttl(text: str, option: str = "--ttl") -> int:
    """Seconds of a lifetime such as 90s, 30m, 1h or 1d. Raises CommandFailed (usage)."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if match is None:
        raise CommandFailed(f"{option} is a number and a unit, for example 90s, 30m or 1h", ExitCode.USAGE)
    return int(match[1]) * _UNITS_S[match[2]]


def _name(agency: str) -> str:
    # It becomes part of a path.
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", agency) is None:
        raise CommandFailed("--agency is an agency's name, of a-z, 0-9 and '-'", ExitCode.USAGE)
    return agency
