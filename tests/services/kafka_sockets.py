"""For tests of refused TLS handshakes: kafka-python leaves their sockets to the garbage collector.

Import `sockets_collected` into a test module and add SOCKET_MARKS to its `pytestmark`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest

SOCKET_MARKS = (
    pytest.mark.filterwarnings("ignore:.*unclosed <s:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),
)


@pytest.fixture(autouse=True)
def sockets_collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Collect those sockets here, not in the midst of another test: captured log records would hold their frames."""
    with caplog.at_level(logging.CRITICAL, logger="kafka"):
        yield
    gc.collect()
