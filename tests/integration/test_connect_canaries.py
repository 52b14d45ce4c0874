"""A secret in every place that may hold one, and connectors that fail with it in their hands: nothing ever shows it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.runtime.control_client import ControlClient
from tests.e2e.here import run_here
from tests.services.broker import ENTENTE
from tests.services.ports import free_port

CANARY = "canary-5ec2e7"

_PLUGIN = """
import asyncio
import logging

from connectors.kafka.settings import KafkaSettings
from connectors.runtime.settings import ConnectorSettings


class Settings(ConnectorSettings):
    kafka: KafkaSettings


class Dropped:
    def __init__(self, secret):
        self.secret = secret

    def __del__(self):
        raise RuntimeError(self.secret)


class Connector:
    tasks = 1

    def __init__(self, name, settings):
        self.name, self.settings = name, settings

    def fail(self):
        cluster = self.settings.kafka.cluster()
        raise RuntimeError(cluster.sasl_password, cluster.key_password, cluster)

    async def fail_later(self):
        self.fail()

    async def run(self, task):
        if self.name == "calls":
            await task.exchange.who_am_i()
        try:
            self.fail()
        except RuntimeError:
            logging.getLogger("plugin").exception("noted")
        logging.getLogger("plugin").error("%d", self.settings.kafka.cluster().sasl_password)
        Dropped(self.settings.kafka.cluster().sasl_password)
        asyncio.create_task(self.fail_later())
        await asyncio.sleep(0)
        self.fail()

    async def check(self, exchange):
        self.fail()

    async def offsets(self, exchange):
        self.fail()

    async def alter_offsets(self, exchange, offsets):
        self.fail()

    async def redrive(self, task, most):
        self.fail()


class Plugin:
    direction = "source"
    settings = Settings

    def make(self, name, settings, directory):
        return Connector(name, settings)


PLUGIN = Plugin()
"""

_CONNECTOR = """
[connectors.{name}]
plugin = "canary"
topic = "crash-reports"
retry = {{ attempts = 1 }}
[connectors.{name}.kafka]
bootstrap = ["127.0.0.1:1"]
ca_file = "ca.pem"
certificate = "ca.pem"
key = "kafka.key"
key_password = {{ env = "CANARY_KEY_PASSWORD" }}
sasl_mechanism = "SCRAM-SHA-512"
sasl_user = "entente"
sasl_password = {{ file = "password" }}
"""


class Canaries:
    """A directory with the configuration, and where `entente connect` finds the plugin."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("token", "password", "kafka.key"):
            (directory / name).write_text(f"{CANARY}-{name}")
            (directory / name).chmod(0o600)
        (directory / "ca.pem").write_text("")
        content = f'[exchange]\nendpoint = "127.0.0.1:{free_port()}"\ntoken_file = "token"\n'
        content += "insecure_plaintext = true\n"
        content += "".join(_CONNECTOR.format(name=name) for name in ("raises", "calls"))
        (directory / "connect.toml").write_text(content)
        self.shown: list[str] = []
        self.plugins = self._installed()
        self.variables = {"CANARY_KEY_PASSWORD": f"{CANARY}-key-password"}

    def _installed(self) -> Path:
        """A place on Python's path with a distribution that brings the plugin."""
        place = self.directory / "plugins"
        described = place / "canary-1.0.dist-info"
        described.mkdir(parents=True)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: canary\nVersion: 1.0\n")
        (described / "entry_points.txt").write_text("[entente.connectors]\ncanary = canary_plugin:PLUGIN\n")
        (place / "canary_plugin.py").write_text(_PLUGIN)
        return place

    def run(self, *arguments: str) -> int:
        """Run a command in this process and keep what it shows."""
        done = run_here(self.directory, "connect", *arguments, **self.variables)
        self.shown += [done.stdout, done.stderr]
        return done.returncode

    def start(self, *options: str) -> subprocess.Popen[str]:
        with (self.directory / "log").open("w") as log:
            return subprocess.Popen(
                [ENTENTE, "connect", "run", "connect.toml", "--state", "state", *options],
                cwd=self.directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(self.plugins),
                    "PYTHONASYNCIODEBUG": "1",
                    **self.variables,
                },
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canaries]:
    with tempfile.TemporaryDirectory(prefix="connect-") as directory:
        made = Canaries(Path(directory))
        monkeypatch.syspath_prepend(made.plugins)
        yield made


async def failed(state: Path) -> list[Any]:
    """The statuses, once every connector has told a cause."""
    give_up_at = time.monotonic() + 60
    async with ControlClient(state) as control:
        while True:
            found = await control.connectors()
            if all(each.tasks[0].cause for each in found):
                return found
            assert time.monotonic() < give_up_at, found
            await asyncio.sleep(0.05)


def test_no_secret_is_ever_shown(canaries: Canaries) -> None:
    assert canaries.run("validate", "connect.toml") == 0
    assert canaries.run("validate", "connect.toml", "--connect") == 7
    process = canaries.start("--metrics", f"{(port := free_port())}")
    try:
        assert process.stdout is not None
        canaries.shown.append(process.stdout.readline())
        assert '"ready":true' in canaries.shown[-1]
        causes = {
            each.name: each.tasks[0].cause for each in asyncio.run(failed(canaries.directory / "state"))
        }
        assert canaries.run("status", "--state", "state", "-o", "table") == 0
        assert canaries.run("offsets", "show", "raises", "--state", "state") == 1
        assert canaries.run("redrive", "raises", "--state", "state") == 1
        assert canaries.run("stop", "raises", "--state", "state") == 0
        assert canaries.run("offsets", "alter", "raises", "--reset", "--yes", "--state", "state") == 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            canaries.shown.append(answer.read().decode())
        canaries.shown.append(Path(f"/proc/{process.pid}/cmdline").read_text())
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=60)
    log = (canaries.directory / "log").read_text()
    kept = [path.read_bytes() for path in (canaries.directory / "state").rglob("*") if path.is_file()]

    assert "canary_plugin.py" in causes["raises"]
    assert "failed to connect" in causes["calls"]
    assert "noted: RuntimeError at" in log
    assert "event loop: unexpected RuntimeError at" in log
    assert "an error that reached nobody: RuntimeError at" in log
    assert "entente_connector_" in canaries.shown[-2]
    assert CANARY not in "".join([*canaries.shown, *causes.values(), log, out])
    assert not [each for each in kept if CANARY.encode() in each]
