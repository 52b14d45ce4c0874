"""Per-agency limits: a slow or hostile partner costs itself (design rule 8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from broker.errors import EntenteError, Reason
from broker.ports.clock import Clock

PACE_S = 0.05
"""How often a stream that sends too fast is looked at again."""


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Rates are per agency and second, with one second's worth of burst.

    stream_messages_per_s: messages on open subscriptions, many times what acknowledging each batch takes.
    """

    calls_per_s: int = 1_000
    publish_records_per_s: int = 50_000
    publish_bytes_per_s: int = 104_857_600
    streams_per_agency: int = 200
    stream_messages_per_s: int = 5_000


class _Bucket:
    """A token bucket; a request larger than the burst empties it and is let through once it is full."""

    __slots__ = ("_at_s", "_level", "_rate")

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate = rate
        self._level = rate
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Whether the amount may pass now."""
        self._level = min(self._rate, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._level < min(amount, self._rate):
            return False
        self._level -= amount
        return True


class Quotas:
    """Counts what each agency uses; agencies come from verified tokens, so their number is bounded."""

    def __init__(self, limits: QuotaLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._streams: Counter[str] = Counter()

    def take_call(self, agency: str) -> None:
        """One call; raises LIMIT_EXCEEDED."""
        self._take(agency, "calls a second", 1, self._limits.calls_per_s)

    def take_publish(self, agency: str, records: int, size_bytes: int) -> None:
        """A batch to publish; raises LIMIT_EXCEEDED."""
        self._take(agency, "published records a second", records, self._limits.publish_records_per_s)
        self._take(agency, "published bytes a second", size_bytes, self._limits.publish_bytes_per_s)

    async def pace(self, agency: str) -> None:
        """Wait until one more message of the agency's streams may be read; meanwhile flow control holds its client."""
        rate = self._limits.stream_messages_per_s
        while not self._bucket(agency, "stream messages", rate).take(1, self._clock.monotonic_s()):  # noqa: ASYNC110
            await asyncio.sleep(PACE_S)

    @contextmanager
    def stream(self, agency: str) -> Iterator[None]:
        """Holds one of the agency's streams; raises LIMIT_EXCEEDED."""
        if self._streams[agency] >= self._limits.streams_per_agency:
            raise EntenteError(
                Reason.LIMIT_EXCEEDED, f"{self._limits.streams_per_agency} open streams an agency"
            )
        self._streams[agency] += 1
        try:
            yield
        finally:
            self._streams[agency] -= 1

    def _take(self, agency: str, what: str, amount: int, rate: int) -> None:
        if not self._bucket(agency, what, rate).take(amount, self._clock.monotonic_s()):
            raise EntenteError(Reason.LIMIT_EXCEEDED, f"{rate} {what}")

    def _bucket(self, agency: str, what: str, rate: int) -> _Bucket:
        return self._buckets.setdefault((agency, what), _Bucket(rate, self._clock.monotonic_s()))
