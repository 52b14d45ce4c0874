"""Items that fail again and again on a healthy engine (design rule 1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from broker.core.decide.limits import DeciderLimits
from broker.model.decision import Decision, Effect

ENGINE_FAULT = "engine_fault"
"""The only reason of a decision that stands for a broken item instead of for a verdict of the rulebook."""

_FAULT = Decision(Effect.WITHHOLD, reasons=(ENGINE_FAULT,))
_TRACKED = 10_000
_STRIKES = 2
_Value = TypeVar("_Value")


class Faults:
    """Counts failures by key, and holds the faults that came of them for a while."""

    def __init__(self, limits: DeciderLimits) -> None:
        self._spacing_s = limits.strike_spacing_s
        self._hold_s = limits.fault_hold_s
        self._strikes: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._held: OrderedDict[bytes, float] = OrderedDict()

    def held(self, key: bytes, now_s: float) -> Decision | None:
        """The fault that stands for this key now."""
        until_s = self._held.get(key)
        if until_s is None:
            return None
        if now_s < until_s:
            return _FAULT
        del self._held[key]
        return None

    def strike(self, key: bytes, now_s: float) -> Decision | None:
        """Count a failure on a healthy engine; the second in a row makes a fault, which is returned."""
        count, last_s = self._strikes.get(key, (0, float("-inf")))
        if now_s - last_s < self._spacing_s:
            return None
        if count + 1 < _STRIKES:
            _put(self._strikes, key, (count + 1, now_s))
            return None
        self._strikes.pop(key, None)
        _put(self._held, key, now_s + self._hold_s)
        return _FAULT

    def clear(self, key: bytes) -> None:
        """The item was answered: its earlier failure no longer counts."""
        self._strikes.pop(key, None)


def _put(table: OrderedDict[bytes, _Value], key: bytes, value: _Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _TRACKED:
        table.popitem(last=False)
