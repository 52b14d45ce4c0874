"""Fixtures that several modules of unit tests use."""

from __future__ import annotations

import pytest

from broker.core.deliver import collect, group


@pytest.fixture
def quick_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of subscriptions neither linger for more records nor pause for long after a failure."""
    monkeypatch.setattr(group, "BACKOFF_S", (0.001, 0.004))
    monkeypatch.setattr(collect, "LINGER_S", 0.0)
