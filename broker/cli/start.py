"""Where to begin, as the command line spells it: earliest, latest, an RFC 3339 time, or a cursor."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from connectors.cli.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from connectors.delivery import Start


def encode_cursor(cursor: bytes) -> str:
    """A cursor as base64url without padding, so that it is one word everywhere."""
    return base64.urlsafe_b64encode(cursor).rstrip(b"=").decode("ascii")


def parse_start(text: str, *, option: str) -> Start:
    """The start that the text means. Raises CommandFailed (usage), naming the option."""
    from connectors.cloudevents import parse_time

    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if re.match(r"\d{4}-\d\d-\d\d", text):
        try:
            return parse_time(text)
        except ValueError as error:
            raise CommandFailed(f"{option}: {error}", ExitCode.USAGE) from None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        message = f"{option} is earliest, latest, an RFC 3339 time or a cursor of an earlier record"
        raise CommandFailed(message, ExitCode.USAGE) from None
