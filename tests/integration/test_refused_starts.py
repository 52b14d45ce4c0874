"""What an exchange does not start with is said in one line that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.keyring import KeysRefused
from broker.app.config import Config, load_config
from broker.app.initialise import initialise
from broker.app.server import running
from broker.errors import RulebookRefused
from tests.services.ports import free_port

pytestmark = pytest.mark.opa


@pytest.fixture
def config(tmp_path: Path, opa_binary: Path) -> Config:
    made = initialise(tmp_path / "exchange", f"127.0.0.1:{free_port(2)}")
    read = load_config(made.config)
    return read.model_copy(update={"rulebook": read.rulebook.model_copy(update={"opa": opa_binary})})


@pytest.mark.parametrize("content", ["another key", "no key at all"])
async def test_a_key_that_is_not_the_certificates_is_named(config: Config, content: str) -> None:
    other = config.tls.key.with_name("ca.key").read_text()
    config.tls.key.write_text(other if content == "another key" else content)

    with pytest.raises(OSError, match="not the key of tls") as refused:
        async with running(config):
            pass

    assert refused.value.filename == str(config.tls.key)


async def test_a_key_that_others_may_read_is_refused(config: Config) -> None:
    config.tls.key.chmod(0o640)

    with pytest.raises(KeysRefused, match="chmod 600"):
        async with running(config):
            pass


async def test_another_number_of_partitions_is_refused(config: Config) -> None:
    async with running(config):
        pass
    topics = config.rulebook.directory / "data/topics/data.yaml"
    topics.write_text(topics.read_text().replace("partitions: 3", "partitions: 4"))

    with pytest.raises(RulebookRefused) as refused:
        async with running(config):
            pass

    (finding,) = refused.value.findings
    assert finding.startswith("data/topics/data.yaml: topic 'crash-reports' is stored with 3 partitions")
