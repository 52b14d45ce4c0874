"""A clock for what is judged as at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from broker.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class StandingClock:
    """Its wall time stands: what is judged is judged as at this moment. The time that passes is the other clock's."""

    time_ms: int
    clock: Clock

    def now_ms(self) -> int:
        """See Clock."""
        return self.time_ms

    def monotonic_s(self) -> float:
        """See Clock."""
        return self.clock.monotonic_s()
