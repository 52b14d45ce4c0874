"""What may still be handed out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """What may still go out: records, and bytes, of which the last record may use more than are left."""

    records: int
    size_bytes: int

    @property
    def is_open(self) -> bool:
        """Whether one more record may go out."""
        return self.records > 0 and self.size_bytes > 0

    def take(self, size_bytes: int) -> None:
        """Account for one record."""
        self.records -= 1
        self.size_bytes -= size_bytes
