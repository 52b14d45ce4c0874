"""What connectors of one run would take from each other: subscriptions, and files of receipts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.settings import (
    MOST_SECRET_BYTES,
    ConfigurationRefused,
    ExchangeSettings,
    Secret,
    SinkSettings,
)
from connectors.tokens import claims_of


@dataclass(frozen=True, slots=True)
class Clash:
    """Two connectors, by their places in the run, that have `key` in common; what: the matter and the remedy."""

    first: int
    second: int
    key: str
    what: str


def clashes(definitions: Sequence[ConnectorDefinition]) -> Iterator[Clash]:
    """Each connector that has something in common with an earlier one."""
    subscriptions: dict[Hashable, int] = {}
    receipts: dict[Path, int] = {}
    for number, each in enumerate(definitions):
        settings = each.settings
        if isinstance(settings, SinkSettings):
            held = (_principal(settings.exchange), settings.subscription_of(each.name))
            first = subscriptions.setdefault(held, number)
            if first != number:
                what = "as the same principal: each would end the other's stream; name another"
                yield Clash(first, number, "subscription", what)
        if settings.receipts is not None:
            files = {settings.receipts.absolute(), settings.receipts.with_name(f"{settings.receipts.name}.1")}
            first = min(receipts.setdefault(file.absolute(), number) for file in files)
            if first != number:
                yield Clash(first, number, "receipts", "and each needs a file of its own; name another")


def _principal(exchange: ExchangeSettings) -> Hashable:
    """Who a connector is at which address: as its token says, which may be renewed, else by where the token is."""
    token = _token(exchange)
    claims = None if token is None else claims_of(token)
    if claims is not None and "sub" in claims:
        return exchange.endpoint, str(claims.get("iss")), str(claims["sub"])
    file = None if exchange.token_file is None else exchange.token_file.absolute()
    return exchange.endpoint, file, exchange.token_env


def _token(exchange: ExchangeSettings) -> str | None:
    """None if there is none to be read, which is told elsewhere."""
    try:
        if exchange.token_file is None:
            return Secret(env=exchange.token_env).read()
        with exchange.token_file.open(encoding="utf-8") as file:
            return file.read(MOST_SECRET_BYTES).strip()
    except (OSError, UnicodeDecodeError, ConfigurationRefused):
        return None
