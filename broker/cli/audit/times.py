"""Times as auditors give and read them: in with any offset, or a date; out always in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, timezone

from connectors.cli.failures import CommandFailed, ExitCode

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)")
_DAY_MINUTES = 24 * 60


def parse_since(text: str | None, option: str, zone_minutes: int = 0) -> int | None:
    """Milliseconds since 1970 of an RFC 3339 time, or of a date's first moment in the zone. Raises CommandFailed."""
    return None if text is None else _parse(text, option, zone_minutes, days=0)


def parse_until(text: str | None, option: str, zone_minutes: int = 0) -> int | None:
    """As `parse_since`, but the last millisecond of a date, so that the day is part of what is asked for."""
    if text is None:
        return None
    is_date = _DATE.fullmatch(text) is not None
    return _parse(text, option, zone_minutes, days=1 if is_date else 0) - (1 if is_date else 0)


def parse_zone(text: str | None, option: str) -> int:
    """Minutes east of UTC of "Z" or "+02:00". Raises CommandFailed (usage)."""
    if text is None or text in ("Z", "z", "UTC"):
        return 0
    match = _ZONE.fullmatch(text)
    minutes = 0 if match is None else int(match[2]) * 60 + int(match[3])
    if match is None or int(match[3]) > 59 or minutes >= _DAY_MINUTES:
        raise CommandFailed(f"{option} is Z or an offset such as +02:00", ExitCode.USAGE)
    return -minutes if match[1] == "-" else minutes


def format_ms(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, ending in Z; a number that is no time of years 1 to 9999 as it is."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{time_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(time_ms: int) -> str:
    """As `format_ms`, for people: seconds, a space, and UTC by name."""
    text = format_ms(time_ms)
    return f"{text[:10]} {text[11:19]} UTC" if text.endswith("Z") else text


def _parse(text: str, option: str, zone_minutes: int, days: int) -> int:
    try:
        if _DATE.fullmatch(text):
            zone = timezone(timedelta(minutes=zone_minutes))
            moment = datetime.combine(datetime.fromisoformat(text).date(), time(), zone)
        elif _RFC3339.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            raise ValueError
        since = moment - datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
    except (ValueError, OverflowError):
        message = f"{option} is an RFC 3339 time such as 2026-01-31T12:00:00+01:00, or a date"
        raise CommandFailed(message, ExitCode.USAGE) from None
    return since // timedelta(milliseconds=1)
