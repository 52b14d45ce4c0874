"""A record's labels: what decisions know of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels in the order of the design; lists sorted, without duplicates, empty where the record has none."""

    dataclassification: str
    dataregulation: tuple[str, ...] = ()
    datacategory: str = ""
    purposes: tuple[str, ...] = ()
    releasableto: tuple[str, ...] = ()

    def as_input(self) -> dict[str, object]:
        """The `labels` member of a decision's input: all five keys, always."""
        return {
            "dataclassification": self.dataclassification,
            "dataregulation": list(self.dataregulation),
            "datacategory": self.datacategory,
            "purposes": list(self.purposes),
            "releasableto": list(self.releasableto),
        }
