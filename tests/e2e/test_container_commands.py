"""What the containers run, run without an engine: the wheel, installed outside the checkout, in a plain environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services.ports import free_port
from tests.services.wheel import ROOT, build_wheel, install

pytestmark = [pytest.mark.kafka, pytest.mark.opa]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, opa_binary: Path) -> dict[str, str]:
    """The image's environment: its programs on PATH, opa among them, and no variable of the caller."""
    folder = tmp_path_factory.mktemp("image")
    variables = install(build_wheel(folder), folder / "entente")
    (folder / "entente" / "bin" / "opa").symlink_to(opa_binary)
    return variables


@pytest.fixture
def services(kafka_bootstrap: str) -> dict[str, Any]:
    """The services of compose.yaml with free ports and the tests' Kafka in place of the containers' own."""
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    port = free_port(2)  # the mTLS listener takes the one after it
    text = text.replace("0.0.0.0:7443", f"127.0.0.1:{port}").replace("127.0.0.1:7443", f"127.0.0.1:{port}")
    text = text.replace("127.0.0.1:9092", kafka_bootstrap)
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.fixture
def exchange(services: dict[str, Any], environment: dict[str, str], tmp_path: Path) -> Path:
    """The volume after the service `init` has run, twice as on a second `up`."""
    init = services["init"]
    for _ in range(2):
        subprocess.run(
            [*init["entrypoint"], *init["command"]], cwd=tmp_path, env=environment, check=True, timeout=60
        )
    return tmp_path / "exchange"


@pytest.fixture
def broker(
    services: dict[str, Any], environment: dict[str, str], exchange: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The service `broker`, started and not waited for."""
    process = subprocess.Popen(
        ["entente", *services["broker"]["command"]],
        cwd=exchange.parent,
        env=environment | {"ENTENTE_CONFIG": str(exchange / "entente.toml")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def _is_healthy(services: dict[str, Any], environment: dict[str, str], exchange: Path) -> bool:
    command = services["broker"]["healthcheck"]["test"][1:]
    translate = {
        "python": sys.executable,
        "/opt/entente/healthcheck.py": str(ROOT / "deploy" / "healthcheck.py"),
        "/var/lib/entente/exchange/tls/ca.pem": str(exchange / "tls" / "ca.pem"),
    }
    words = [translate.get(word, word) for word in command]
    return (
        subprocess.run(words, env=environment, capture_output=True, timeout=30, check=False).returncode == 0
    )


def test_the_installed_rulebook_is_the_checkouts(exchange: Path) -> None:
    original = {
        path.relative_to(ROOT / "policy"): path.read_bytes()
        for path in (ROOT / "policy").rglob("*")
        if path.is_file() and path.suffix in (".rego", ".yaml", ".json")
    }
    made = {path: (exchange / "rulebook" / path).read_bytes() for path in original}
    assert made == original


def test_secrets_are_the_owners_alone(exchange: Path) -> None:
    secret = [path for path in exchange.rglob("*") if path.suffix in (".key", ".keys")]
    assert secret
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}


def test_the_broker_becomes_healthy_and_drains(
    services: dict[str, Any], environment: dict[str, str], exchange: Path, broker: subprocess.Popen[bytes]
) -> None:
    # each check itself waits up to its own timeout, so this is bounded polling of a condition
    for _ in range(60):
        if _is_healthy(services, environment, exchange):
            break
        assert broker.poll() is None, broker.communicate()[1].decode()
    else:
        pytest.fail("the broker did not become healthy")
    os.kill(broker.pid, signal.SIGTERM)
    assert broker.wait(timeout=30) == 0
    assert not _is_healthy(services, environment, exchange)
