"""Tells systemd that the process is up, alive and ending (sd_notify(3)); does nothing elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from connectors.runtime.clock import Clock


class ServiceManager:
    """What the environment says of who started the process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is an abstract one, whose first byte is NUL (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit_us = environment.get("WATCHDOG_USEC", "")
        self._alive_every_s = int(limit_us) / 2e6 if mine and limit_us.isdecimal() and int(limit_us) else None

    def tell(self, state: str) -> None:
        """READY=1, WATCHDOG=1 or STOPPING=1. A manager that cannot be told must not end the work."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.setblocking(False)
                told.sendto(state.encode(), self._address)
        except OSError:
            return

    async def stay_alive(self, clock: Clock) -> None:
        """Say so from the event loop, twice as often as asked: if the loop dies, the process is started again."""
        while self._alive_every_s is not None:
            self.tell("WATCHDOG=1")
            await clock.sleep(self._alive_every_s)
