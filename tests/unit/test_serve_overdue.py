"""An instance that has to stop ends within a time, whatever it still waits for, and says where it stood."""

from __future__ import annotations

import subprocess
import sys

import pytest

HELD_UP = {
    "its own end": "await asyncio.Event().wait()",
    "a thread of the event loop": "asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)",
}

FENCED = """
import asyncio, contextlib, threading
from broker.app import own_process, server
from broker.errors import LedgerFenced

@contextlib.asynccontextmanager
async def running(config):
    fenced = asyncio.get_running_loop().create_future()
    fenced.set_result(LedgerFenced("another broker has taken over"))
    yield server.Ready("", None, "", "", (), fenced)
    {held_up}

server.running, own_process.END_LIMIT_S = running, 0.2
asyncio.run(server.serve(None))
"""


@pytest.mark.parametrize("held_up", HELD_UP.values(), ids=HELD_UP)
def test_a_fenced_instance_is_ended_with_stacks(held_up: str) -> None:
    program = FENCED.format(held_up=held_up)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "has to stop, and did not within" in ended.stderr
    assert "most recent call first" in ended.stderr
