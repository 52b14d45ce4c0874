"""How a broker ends its own process, whatever it still waits for."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading

from broker.errors import LedgerFenced

log = logging.getLogger(__name__)

END_LIMIT_S = 30.0
"""How long an instance that has lost its ledger or its membership may take to end, until its process is gone."""


def end_in_time(_: asyncio.Future[LedgerFenced]) -> None:
    """Nobody takes this back: threads that the event loop or the interpreter waits for may hang after `serve` as well."""
    overdue = threading.Timer(END_LIMIT_S, _end_at_once)
    overdue.daemon = True
    overdue.start()


def _end_at_once() -> None:
    """In a thread: an instance that others went on without must end, whatever it still waits for, to be started again."""
    log.error("this instance has to stop, and did not within %d s; it is ended", END_LIMIT_S)
    faulthandler.dump_traceback()
    os._exit(1)
