"""Runs all connectors of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from connectors.runtime.causes import unexpected
from connectors.runtime.clock import Clock, Pace, SystemClock
from connectors.runtime.connector import CommandRefused, SupervisedConnector
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.desired import DesiredStates
from connectors.runtime.exchange import SharedClient, make_client
from connectors.runtime.plugin import Connector
from connectors.runtime.settings import ConfigurationRefused
from connectors.runtime.status import ConnectorStatus

log = logging.getLogger(__name__)


class Runtime:
    """The connectors of one process, by name."""

    def __init__(
        self,
        definitions: Sequence[ConnectorDefinition],
        state_directory: Path,
        desired: DesiredStates,
        *,
        clock: Clock | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Make them; nothing is connected yet. Raises ConfigurationRefused with the findings of all."""
        self._clock = clock or SystemClock()
        self._pace = pace or Pace()
        self._died: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._connectors: dict[str, SupervisedConnector] = {}
        self._watching: asyncio.Task[None] | None = None
        for definition, connector in _made(definitions, state_directory / "connectors"):
            self._connectors[definition.name] = self._supervised(definition, connector, desired)

    def _supervised(
        self, definition: ConnectorDefinition, connector: Connector, desired: DesiredStates
    ) -> SupervisedConnector:
        settings = definition.settings
        exchange = SharedClient(lambda: make_client(settings))
        return SupervisedConnector(
            definition, connector, desired, exchange, clock=self._clock, pace=self._pace, died=self.die
        )

    async def begin(self) -> None:
        """Start what is wanted to run."""
        await asyncio.gather(*(each.begin() for each in self._connectors.values()))
        self._watching = asyncio.create_task(self._watch(), name="watchdog")
        self._watching.add_done_callback(self._watched)

    async def leave(self) -> bool:
        """End everything; whether all finished by itself in time."""
        if self._watching is not None:
            self._watching.cancel()
        return all(await asyncio.gather(*(each.leave() for each in self._connectors.values())))

    def die(self, error: BaseException) -> None:
        """Nothing can be relied on any more: the process must end rather than look as if it worked."""
        if not self._died.done():
            log.critical("the process ends: %s", unexpected(error))
            self._died.set_result(error)

    @property
    def dead(self) -> bool:
        """Whether it must."""
        return self._died.done()

    async def died(self) -> None:
        """Returns if the process must end."""
        await asyncio.shield(self._died)

    def connector(self, name: str) -> SupervisedConnector:
        """The one of that name. Raises CommandRefused."""
        found = self._connectors.get(name)
        if found is None:
            known = ", ".join(sorted(self._connectors)) or "none"
            raise CommandRefused(f"no connector of that name runs here; there are: {known}", 404)
        return found

    def statuses(self) -> list[ConnectorStatus]:
        """Of all, by name."""
        return [each.status() for _, each in sorted(self._connectors.items())]

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(self._pace.watch_s)
            for each in self._connectors.values():
                each.look()

    def _watched(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            self.die(error)


def _made(
    definitions: Sequence[ConnectorDefinition], directory: Path
) -> list[tuple[ConnectorDefinition, Connector]]:
    made: list[tuple[ConnectorDefinition, Connector]] = []
    findings: list[str] = []
    for definition in definitions:
        name = definition.name
        try:
            if any(name == other.name for other, _ in made):
                raise ConfigurationRefused((f"connectors.{name}: stands twice; give one another name",))
            made.append((definition, definition.plugin.make(name, definition.settings, directory / name)))
        except ConfigurationRefused as refused:
            findings += refused.findings
        except Exception as error:  # noqa: BLE001 - its message may quote a setting
            findings.append(f"connectors.{name}: {unexpected(error)}")
    if findings:
        raise ConfigurationRefused(tuple(findings))
    return made
