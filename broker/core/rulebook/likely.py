"""Which revisions may come into force next: what is approved, and what a rollback would take."""

from __future__ import annotations

from broker.core.control.activations import Activations
from broker.core.rulebook.proposals import Proposals

APPROVED_MOST = 2
"""So many approved revisions, the newest ones: each costs every instance an engine."""


def likely_next(proposals: Proposals, activations: Activations) -> tuple[str, ...]:
    """Revisions other than the one in force, without repetition, the likeliest first.

    Those of open proposals that somebody has approved, whether or not that is enough, then the one that was in force before.
    """
    present = activations.revision
    done = {each.proposal for each in activations.history}
    approved = [
        each.revision
        for each in reversed(tuple(proposals.by_id.values()))
        if each.approvals and each.parent == present and each.rejected is None and each.id not in done
    ]
    before = next((past.revision for past in reversed(activations.history) if past.revision != present), None)
    likely = [*dict.fromkeys(approved)][:APPROVED_MOST] + ([] if before is None else [before])
    return tuple(each for each in dict.fromkeys(likely) if each != present)
