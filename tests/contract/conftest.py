"""The `backend` fixture: every suite here that asks for it runs on each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest

from broker.ports.record_log import RecordLog
from tests.contract.backend import BACKENDS, Backend, backend_module


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.kafka] * (name == "kafka")) for name in BACKENDS]
)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """A backend with fresh storage, stopped after the test."""
    name: str = request.param
    if find_spec(f"tests.contract.{name}_backend") is None:
        pytest.skip(f"tests/contract/{name}_backend.py is missing")
    started = await backend_module(name).start(request)
    yield started
    await started.stop()


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[RecordLog]:
    """The backend's record log, closed after the test."""
    opened = await backend.open_record_log()
    yield opened
    await opened.close()
