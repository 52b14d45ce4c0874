"""A rulebook that gives a stored topic another number of partitions is refused at start, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app.config import load_config
from broker.app.initialise import initialise
from broker.app.server import running
from broker.errors import RulebookRefused
from tests.services.ports import free_port

pytestmark = pytest.mark.opa


async def test_another_number_of_partitions_is_refused_at_start(tmp_path: Path, opa_binary: Path) -> None:
    made = initialise(tmp_path / "exchange", f"127.0.0.1:{free_port(2)}")
    config = load_config(made.config)
    config = config.model_copy(update={"rulebook": config.rulebook.model_copy(update={"opa": opa_binary})})
    async with running(config):
        pass
    topics = config.rulebook.directory / "data/topics/data.yaml"
    topics.write_text(topics.read_text().replace("partitions: 3", "partitions: 4"))

    with pytest.raises(RulebookRefused) as refused:
        async with running(config):
            pass

    (finding,) = refused.value.findings
    assert finding.startswith("data/topics/data.yaml: topic 'crash-reports' is stored with 3 partitions")
