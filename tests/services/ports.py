"""Loopback ports for services that tests start, stop and start again."""

from __future__ import annotations

import os
import random
import socket

# Below Linux's and macOS's ephemeral ranges: an outgoing connection can neither take the port while its service
# is down nor connect to itself.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_FIRST, _LAST = 20_000 + 2_500 * (_WORKER % 4), 22_499 + 2_500 * (_WORKER % 4)
"""Each of the processes that run tests side by side has its own quarter, since a port found free is not yet taken."""
_given_out: set[int] = set()


def free_port(count: int = 1) -> int:
    """The first of `count` consecutive TCP ports on 127.0.0.1 that nothing listens on, never the same twice in a session."""
    for first in random.sample(range(_FIRST, _LAST + 2 - count), 500):
        ports = range(first, first + count)
        if _given_out.isdisjoint(ports) and all(map(_is_free, ports)):
            _given_out.update(ports)
            return first
    raise RuntimeError(f"no {count} free ports in a row between {_FIRST} and {_LAST} on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
