"""What somebody sends as a proposal, as the whole rulebook that it would make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.core.rulebook.archive import read_archive, read_files
from broker.core.rulebook.areas import Area, areas_of
from broker.core.rulebook.load import revision_of
from broker.core.rulebook.proposals import AREAS_MOST, Pair
from broker.core.rulebook.scope import View, merged, own_keys
from broker.errors import EntenteError, Reason, RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision


@dataclass(frozen=True, slots=True)
class Submission:
    """A rulebook that was sent, beside the one in force. areas: in which the two differ, as (kind, owner), sorted."""

    present: Revision
    proposed: Revision
    areas: tuple[Pair, ...]


def read_submission(present: Revision, registry: Registry, view: View, archive: Path) -> Submission:
    """What was sent, for who sees all a whole rulebook, else the agency's own part of it. Blocking.

    registry: of the present revision. Raises EntenteError RULEBOOK_REFUSED, RULEBOOK_UNCHANGED.
    """
    try:
        if view.agency is None:
            proposed = read_archive(archive)
        else:
            keys = own_keys(registry, view.agency)
            proposed = revision_of(merged(present, read_files(archive), view.agency, keys))
    except RulebookRefused as refused:
        raise _refused(refused, archive) from None
    return submission_of(present, registry, proposed)


def submission_of(present: Revision, registry: Registry, proposed: Revision) -> Submission:
    """A submission of files that are there; as `read_submission`."""
    if proposed.id == present.id:
        raise EntenteError(Reason.RULEBOOK_UNCHANGED)
    areas: tuple[Area, ...] = areas_of(present, proposed, registry)
    if len(areas) > AREAS_MOST:
        raise EntenteError(
            Reason.RULEBOOK_REFUSED, f"it is about more than {AREAS_MOST} areas; propose it in parts"
        )
    return Submission(present, proposed, tuple((area.kind, area.owner) for area in areas))


def _refused(refused: RulebookRefused, archive: Path) -> EntenteError:
    """The first finding; where this instance keeps what was sent is nobody's business."""
    first = refused.findings[0].removeprefix(f"{archive}: ")
    more = f" (and {len(refused.findings) - 1} more)" if len(refused.findings) > 1 else ""
    return EntenteError(Reason.RULEBOOK_REFUSED, first + more)
