"""The log of a process that runs connectors: one line each, without anything of an exception but its kind and place."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from connectors.cli.program import origin
from connectors.cli.text import one_line

log = logging.getLogger(__name__)


class OneLine(logging.Formatter):
    """Texts of others (an exchange, a cluster, a library) cannot begin a line of their own, nor bring their values along."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """As the library's own, but a traceback is one place."""
        line = self.formatMessage(self._prepared(record))
        error = record.exc_info[1] if record.exc_info else None
        return one_line(line if error is None else f"{line}: {type(error).__name__} at {origin(error)}")

    def _prepared(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        return record


def log_to_stderr() -> None:
    """Information and what is worse; of libraries, warnings. What Python itself would print of errors comes here too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("aiohttp", "asyncio", "kafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # else a line that cannot be formatted is printed with its arguments
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught


def _unraisable(given: sys.UnraisableHookArgs) -> None:
    """Of a destructor, for example."""
    where = "nowhere" if given.exc_value is None else origin(given.exc_value)
    log.error("an error that reached nobody: %s at %s", given.exc_type.__name__, where)


def _uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    log.critical("the process ends: %s at %s", kind.__name__, origin(error))
