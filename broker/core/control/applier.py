"""What the agreement between instances makes happen in this one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from broker.model.overlay import Overlays


class PreparationFailed(Exception):
    """This instance cannot take the revision into force; the text is one line, for administrators of the exchange."""


class Prepared(Protocol):
    """A revision that can be put in force here at once: loaded, tried, its engine running beside the present one."""

    @property
    def revision(self) -> str:
        """The id of the revision."""

    @property
    def engine(self) -> str:
        """The engine that answers for it here, for example "opa 1.18.2"."""

    async def discard(self) -> None:
        """Release what it holds: it will not be put in force. Idempotent, and without effect once it was."""


class Applier(Protocol):
    """Called in the event loop, one call at a time, in the order of the control log."""

    async def prepare(self, revision_id: str) -> Prepared:
        """Make a revision ready beside the one in force, and change nothing else. Raises PreparationFailed."""

    def switch(self, prepared: Prepared) -> asyncio.Future[None]:
        """Put it in force, under the present overlays, before this returns.

        The result is done as soon as nothing can be released here any more under what was in force before.
        """

    def restrict(self, overlays: Overlays) -> asyncio.Future[None]:
        """Put other overlays over the present rules, before this returns; the result is done as for `switch`."""
