"""Places in a topic of the exchange, as they are shown to people and kept by sinks."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from connectors.cloudevents import parse_time
from connectors.delivery import Start


def encode_place(place: Start) -> dict[str, str]:
    """A place as shown to people: {"cursor": base64url} or {"from": earliest, latest or a time}."""
    if isinstance(place, bytes):
        return {"cursor": base64.urlsafe_b64encode(place).rstrip(b"=").decode("ascii")}
    return {"from": place.isoformat() if isinstance(place, datetime) else place}


def decode_place(content: object) -> Start:
    """The place that such a mapping names. Raises ValueError."""
    match content:
        case {"cursor": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("cursor is not base64url") from None
        case {"from": "earliest", **rest} if not rest:
            return "earliest"
        case {"from": "latest", **rest} if not rest:
            return "latest"
        case {"from": str(text), **rest} if not rest:
            return parse_time(text)
    raise ValueError('write {"cursor": "…"} or {"from": "earliest", "latest" or an RFC 3339 time}')
