"""What may come into force next is looked at and held ready, so that whoever activates it need not wait for that."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from broker.app.engines import Engines
from broker.app.rulebook import RulebookDoor
from broker.core.control.activations import Activations
from broker.core.control.runtime import ControlRuntime
from broker.core.rulebook.likely import likely_next
from broker.core.rulebook.proposals import Proposals
from broker.errors import RulebookRefused, StorageUnavailable


@dataclass(frozen=True, slots=True, eq=False)
class LookAhead:
    """Checks the revisions of open proposals, and has engines for those that are approved. Used from one event loop."""

    door: RulebookDoor
    engines: Engines
    _looked_at: set[str] = field(default_factory=set)

    async def follow(self, runtime: ControlRuntime) -> None:
        """At each change of what is proposed or in force, until cancelled."""
        proposals: Proposals | None = None
        activations: Activations | None = None
        unseen: list[str] = []
        while True:
            state = runtime.state
            if state.proposals is not proposals or state.activations is not activations:
                proposals, activations = state.proposals, state.activations
                self.engines.hold(likely_next(proposals, activations))
                unseen = self._unseen(proposals, activations)
            if not unseen:
                await runtime.news.wait(runtime.settings.beat_s)
                continue
            revision = unseen[0]
            self._looked_at.add(revision)
            # Whatever it meets, preparing meets it again and says so.
            with suppress(RulebookRefused, StorageUnavailable, OSError):
                await self.door.look_ahead(revision)
            unseen = [each for each in unseen if each != revision]

    def _unseen(self, proposals: Proposals, activations: Activations) -> list[str]:
        """Revisions of open proposals that passed the checks elsewhere, and were not looked at here."""
        return [
            each.revision
            for each in proposals.by_id.values()
            if each.check is not None
            and each.check.accepted
            and each.rejected is None
            and each.parent == activations.revision
            and each.revision not in self._looked_at
        ]
