"""Ends the process if its event loop does not turn any more: what hangs holds places in consumer groups, and looks alive."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

EVERY_S = 5.0
MISSED = 24
"""Two minutes: whatever blocks the loop that long was to be in a thread."""


class Pulse:
    """A thread that asks the loop to answer; counts how often in a row it has not."""

    def __init__(self, end: Callable[[], None], *, every_s: float = EVERY_S, missed: int = MISSED) -> None:
        """Begin; belongs to the running loop. end: called once, in the thread."""
        self._end = end
        self._every_s = every_s
        self._most = missed
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self.asked = 0
        self.missed = 0
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        # Counts its own turns rather than time: a machine that slept has not hung.
        while not self._over.wait(self._every_s):
            self.missed += 1
            self.asked += 1
            if self.missed > self._most:
                self._end()
                return
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # the loop is closed
                return

    def _answer(self) -> None:
        self.missed = 0


@contextmanager
def beating() -> Iterator[None]:
    """Inside the block the process ends if the running loop hangs."""
    pulse = Pulse(_end_at_once)
    try:
        yield
    finally:
        pulse.stop()


def _end_at_once() -> None:
    log.critical("the event loop has not turned for %.0f s; the process is ended", EVERY_S * MISSED)
    faulthandler.dump_traceback()
    os._exit(1)
