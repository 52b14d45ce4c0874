"""An event loop in a thread of its own, on which other threads have coroutines run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")


class LoopThread:
    """Serves any number of threads from `start` to `stop`, once."""

    def __init__(self, name: str) -> None:
        self._begun: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._lock = threading.Lock()  # nothing begins once it is stopped
        self._stopped = False
        self._end = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether coroutines are run."""
        return self._begun.done() and not self._stopped

    def start(self) -> None:
        """Returns when the loop runs. Raises RuntimeError the second time."""
        self._thread.start()
        self._begun.result()

    def require_running(self) -> None:
        """Raises RuntimeError."""
        if not self.running:
            raise RuntimeError("a blocking client is used inside `with`")

    def run(self, begin: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        """Run a coroutine and wait for its answer, whose exceptions it raises; an interrupt cancels the coroutine.

        Raises RuntimeError if the loop does not run, or is stopped meanwhile, and within a coroutine of its own.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking client cannot be used by what it calls itself")
        with self._lock:
            self.require_running()
            answer = asyncio.run_coroutine_threadsafe(begin(), self._begun.result())
        try:
            return answer.result()
        except CancelledError:
            raise RuntimeError("the blocking client was closed meanwhile") from None
        except BaseException:
            answer.cancel()
            raise

    def stop(self) -> None:
        """Cancel what still runs and end the thread; idempotent."""
        with self._lock:
            if not self.running:
                return
            self._stopped = True
            self._begun.result().call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._begun.set_result(asyncio.get_running_loop())
        await self._end.wait()
