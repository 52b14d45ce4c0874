"""Runs connectors until a signal: what `entente connect run` calls."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.garbage import spare_collections
from connectors.runtime.causes import out_of_memory, trail, unexpected
from connectors.runtime.clock import SystemClock
from connectors.runtime.control import listening
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.desired import DesiredStates
from connectors.runtime.directory import locked, socket_path
from connectors.runtime.metrics import exposed
from connectors.runtime.notify import ServiceManager
from connectors.runtime.pulse import beating
from connectors.runtime.supervisor import Runtime

log = logging.getLogger(__name__)

END_LIMIT_S = 15.0
"""What the event loop is given to end after the connectors did; threads that it waits for may hang."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What runs now. control: the socket; metrics: the address that is served, where one was asked for."""

    connectors: tuple[str, ...]
    control: Path
    metrics: tuple[str, int] | None


def serve(
    definitions: Sequence[ConnectorDefinition],
    state_directory: Path,
    metrics_address: tuple[str, int] | None,
    ready: Callable[[Ready], None],
) -> bool:
    """Run them in an event loop of its own until SIGTERM or SIGINT; whether everything finished in time then.

    metrics_address: host and port (0: a free one). Raises ConfigurationRefused, StateDirectoryRefused, and OSError
    where an address cannot be had. A second signal ends the process at once; so does what does not end in time.
    """
    overdue = threading.Timer(END_LIMIT_S, _end_at_once)
    overdue.daemon = True

    def begun(what: Ready) -> None:
        spare_collections()
        ready(what)

    async def until_signalled() -> bool:
        try:
            return await run(definitions, state_directory, metrics_address, begun)
        finally:
            overdue.start()

    finished = True
    try:
        finished = asyncio.run(until_signalled())
    finally:
        if finished:
            overdue.cancel()
    return finished


async def run(
    definitions: Sequence[ConnectorDefinition],
    state_directory: Path,
    metrics_address: tuple[str, int] | None,
    ready: Callable[[Ready], None],
) -> bool:
    """As `serve`, in the caller's event loop, which it does not end."""
    control = socket_path(state_directory)
    async with AsyncExitStack() as held:
        held.enter_context(locked(state_directory))
        told = held.enter_context(_signals())
        runtime = Runtime(definitions, state_directory, DesiredStates.read(state_directory))
        held.enter_context(_unforeseen(runtime))
        held.enter_context(beating())
        await held.enter_async_context(listening(runtime, control))
        metrics = None
        if metrics_address is not None:
            metrics = await held.enter_async_context(exposed(runtime.statuses, metrics_address))
        names = tuple(one.name for one in runtime.statuses())
        return await _worked(runtime, told, lambda: ready(Ready(names, control, metrics)))


async def _worked(runtime: Runtime, told: asyncio.Event, ready: Callable[[], None]) -> bool:
    """Work until a signal comes or nothing can be relied on; whether everything finished in time."""
    manager = ServiceManager()
    waits = [
        asyncio.create_task(manager.stay_alive(SystemClock())),
        asyncio.create_task(told.wait()),
        asyncio.create_task(runtime.died()),
    ]
    finished = False
    try:
        await runtime.begin()
        ready()
        manager.tell("READY=1")
        await asyncio.wait(waits[1:], return_when=asyncio.FIRST_COMPLETED)
    finally:
        manager.tell("STOPPING=1")
        finished = await runtime.leave()
        for each in waits:
            each.cancel()
    return finished and not runtime.dead


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set by the first SIGTERM or SIGINT; the next one does what it does to every process."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def forget() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def heard() -> None:
        told.set()
        forget()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
    try:
        yield told
    finally:
        forget()


@contextmanager
def _unforeseen(runtime: Runtime) -> Iterator[None]:
    """Errors that reach nobody are logged by kind and place: their messages may quote a record."""
    loop = asyncio.get_running_loop()
    former = threading.excepthook

    def tell(error: BaseException | None, where: str) -> None:
        if error is None:
            return
        log.error("%s: %s: %s", where, unexpected(error), trail(error))
        if out_of_memory(error):
            loop.call_soon_threadsafe(runtime.die, error)

    def in_loop(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        tell(context.get("exception"), "event loop")

    loop.set_exception_handler(in_loop)
    threading.excepthook = lambda given: tell(given.exc_value, "a thread")
    try:
        yield
    finally:
        threading.excepthook = former
        loop.set_exception_handler(None)


def _end_at_once() -> None:
    """In a thread: the connectors have ended, and what is left keeps nothing that must not be lost."""
    log.error("the process did not end within %.0f s after its connectors; it is ended", END_LIMIT_S)
    faulthandler.dump_traceback()
    os._exit(1)
