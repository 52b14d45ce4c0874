"""What the instances agree on: the folds over the control log, side by side."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field

from broker.core.control.activations import Activations
from broker.core.control.fold import Fold
from broker.core.control.members import Members
from broker.core.overlay.fold import OverlayFold
from broker.core.rulebook.proposals import Proposals
from broker.errors import fault_place
from broker.model.control import ControlEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControlState:
    """The same on every instance at the same position. Each field is a fold; an event counts for all of them or none."""

    members: Members = field(default_factory=Members)
    activations: Activations = field(default_factory=Activations)
    overlays: OverlayFold = field(default_factory=OverlayFold)
    proposals: Proposals = field(default_factory=Proposals)

    @property
    def kinds(self) -> frozenset[str]:
        """All kinds of events that this version knows."""
        return frozenset().union(*(fold.kinds for fold in self._folds().values()))

    def takes_effect(self, kind: str) -> bool:
        """Whether callers may wait until an event of this kind is applied everywhere: another revision, or overlays."""
        return kind == "activated" or kind in self.overlays.kinds

    def apply(self, event: ControlEvent, position: int) -> ControlState | None:
        """The state after the event, or None if it does not count."""
        if event.kind == "activated" and not self._is_everybody_ready():
            return None
        changed: dict[str, object] = {}
        try:
            for name, fold in self._folds().items():
                if event.kind in fold.kinds:
                    changed[name] = fold.apply(event, position)
        except (KeyError, TypeError, ValueError) as error:
            log.error(
                "the control event at %d has not the form of its kind: %s", position, fault_place(error)
            )
            return None
        if not changed or None in changed.values():
            return None
        return dataclasses.replace(self, **changed)  # type: ignore[arg-type]

    def _is_everybody_ready(self) -> bool:
        """Nobody may hear that a revision is in force which it has not prepared."""
        pending = self.activations.pending
        return pending is not None and pending.is_ready(self.members)

    def _folds(self) -> dict[str, Fold]:
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
