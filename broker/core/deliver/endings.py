"""Telling streams that they are over, a few at a time.

To end a stream takes its entry, its answer, and before long its client's next attempt. Of those that a suspension ends there
may be thousands, and all of that waits until the instances have agreed on it: nothing is handed out meanwhile either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from broker.core.deliver.session import Session
from broker.errors import EntenteError

AFTER_S = 0.1
"""How long instances may take to agree before it is told: as long as a suspension should take at most."""

AT_ONCE = 5
PAUSE_S = 0.005
"""So many, and then whatever else is due."""


class Endings:
    """Streams whose failure stands, and that were not told; used from the event loop only."""

    def __init__(self) -> None:
        self._untold: deque[tuple[Session, EntenteError]] = deque()
        self._telling: asyncio.Task[None] | None = None

    def add(self, ended: Iterable[tuple[Session, EntenteError]]) -> None:
        """Nothing is written to these any more from now on; they are told soon."""
        for session, error in ended:
            session.bar(error)
            self._untold.append((session, error))
        if self._untold and (self._telling is None or self._telling.done()):
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def close(self) -> None:
        """Tell nobody any more; idempotent."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        await asyncio.sleep(AFTER_S)
        while self._untold:
            for _ in range(min(AT_ONCE, len(self._untold))):
                session, error = self._untold.popleft()
                session.fail(error)
            await asyncio.sleep(PAUSE_S)
