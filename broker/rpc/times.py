"""Times in requests."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from broker.errors import EntenteError, Reason


def milliseconds(time: Timestamp) -> int:
    """Milliseconds since the epoch; raises EntenteError REQUEST_INVALID outside the years 1 to 9999."""
    try:
        return time.ToMilliseconds()
    except ValueError:
        raise EntenteError(Reason.REQUEST_INVALID, "its time is no valid timestamp") from None
