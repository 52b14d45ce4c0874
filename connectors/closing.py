"""What is opened with `async with` and drained when that ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from connectors.errors import EntenteClientError


class Closing(ABC):
    """Closes at the end of `async with`; what fails in that is raised unless an error is on its way already."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun; idempotent. Raises EntenteClientError and OSError."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except (EntenteClientError, OSError):
            if error is None:
                raise
