"""Runs connectors until a signal: what `entente connect run` calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.runtime.definition import ConnectorDefinition


@dataclass(frozen=True, slots=True)
class Ready:
    """What runs now. control: the socket; metrics: the address that is served, where one was asked for."""

    connectors: tuple[str, ...]
    control: Path
    metrics: tuple[str, int] | None


async def run(
    definitions: Sequence[ConnectorDefinition],
    state_directory: Path,
    metrics_address: tuple[str, int] | None,
    ready: Callable[[Ready], None],
) -> bool:
    """As `serve`, in the caller's event loop."""
    raise NotImplementedError


def serve(
    definitions: Sequence[ConnectorDefinition],
    state_directory: Path,
    metrics_address: tuple[str, int] | None,
    ready: Callable[[Ready], None],
) -> bool:
    """Run them in an event loop of its own until SIGTERM or SIGINT; whether everything finished in time then.

    metrics_address: host and port (0: a free one). Raises ConfigurationRefused, StateDirectoryRefused, and OSError
    where the metrics' address cannot be had.
    """
    raise NotImplementedError
