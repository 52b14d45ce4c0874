"""What a process does first that works for a broker beside it: it ends with it, has bounds, and lets others go first."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

MEMORY_LIMIT_BYTES = 16 << 30
_PR_SET_PDEATHSIG = 1  # prctl(2)
_NICENESS = 10
"""Whoever waits for records goes first."""


def set_apart(parent: int) -> None:
    """Set this process apart; `parent` is the broker's process id. Ends the process if the broker is gone."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise SystemExit("prctl(PR_SET_PDEATHSIG) failed; this needs Linux")
    if os.getppid() != parent:
        raise SystemExit("the broker was gone before this process started")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
