"""The log of a process that runs connectors: one line each, without anything of an exception but its kind and place."""

from __future__ import annotations

import logging
import sys

from connectors.cli.program import origin
from connectors.cli.text import one_line


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
    """Information and what is worse; of libraries, warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("aiohttp", "asyncio", "kafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
