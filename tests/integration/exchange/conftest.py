"""One exchange for each module, on the default rulebook unless the module sets `RULEBOOK` to a function of a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.app.initialise import DEFAULT_RULEBOOK
from tests.integration.exchange.live import Live, running_live


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, opa_binary: Path
) -> AsyncIterator[Live]:
    """A running exchange; `LIMITS` of the module is added to its configuration."""
    root = tmp_path_factory.mktemp("live")
    make = getattr(request.module, "RULEBOOK", None)
    rulebook = DEFAULT_RULEBOOK if make is None else make(root / "rulebook")
    limits = getattr(request.module, "LIMITS", {})
    async with running_live(root / "exchange", opa_binary, rulebook=rulebook, limits=limits) as running:
        yield running
