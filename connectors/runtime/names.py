"""Names that follow from a connector's."""

from __future__ import annotations

import hashlib

_LONGEST = 64
_DIGITS = 12


def default_subscription(connector: str) -> str:
    """The subscription of a sink that names none: "connect-" and its own name, without capitals, which the exchange lacks.

    What would be too long ends with a hash of the name instead, so that two connectors never share one.
    """
    name = f"connect-{connector.lower()}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _LONGEST - 1 - _DIGITS]}-{digest}"
