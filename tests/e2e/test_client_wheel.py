"""What a partner installs: entente-client, run where nothing can be imported that it does not declare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

from tests.services import isolated
from tests.services.broker import BrokerProcess
from tests.services.wheel import ROOT, build_client_wheel, importable, install

pytestmark = pytest.mark.timeout(300)  # it is built first, and machines may be busy

WAITING = """
import os, sys
from pathlib import Path
from connectors.blocking import BlockingClient

ca_file, token_file = Path(os.environ["ENTENTE_CA_FILE"]), Path(sys.argv[1])
with (
    BlockingClient(os.environ["ENTENTE_ENDPOINT"], token_file=token_file, ca_file=ca_file) as exchange,
    exchange.subscribe("crash-reports", "emergency-response", subscription="interrupted") as stream,
):
    for delivery in stream:
        stream.ack(delivery)
        print("read", flush=True)
"""

IMPORTING = """
import importlib, sys
from importlib.metadata import distribution

for name in sys.argv[1].split(","):
    importlib.import_module(name)
for point in distribution("entente-client").entry_points:
    if point.value.partition(":")[0] in sys.argv[1].split(","):
        print(point.name, point.load() is not None)
"""


@dataclass(frozen=True)
class Installed:
    """The distribution in a folder of its own: where, the wheel's modules, and what it requires by extra ("": always)."""

    target: Path
    modules: tuple[str, ...]
    requires: dict[str, tuple[str, ...]]

    def command(self, extras: Sequence[str], program: Path, *arguments: str) -> list[str]:
        """Runs a program with the packages that installing it with these extras would bring."""
        wanted = [each for extra in ("", *extras) for each in self.requires[extra]]
        packages = {"connectors", "protos", *importable(wanted)}
        folders = f"{self.target}:{sysconfig.get_path('purelib')}"
        isolation = [sys.executable, "-I", "-S", isolated.__file__, ",".join(sorted(packages)), folders]
        return [*isolation, str(program), *arguments]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built and installed from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("client-wheel")
    wheel = build_client_wheel(folder)
    install(wheel, folder / "installed")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    requires: dict[str, tuple[str, ...]] = {}
    for line in Parser().parsestr(metadata).get_all("Requires-Dist") or ():
        requirement, _, extra = line.partition("; extra == ")
        requires[extra.strip('"')] = (*requires.get(extra.strip('"'), ()), requirement)
    files = (name for name in names if name.startswith("connectors/") and name.endswith(".py"))
    modules = (name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files)
    return Installed(folder / "installed", tuple(sorted(modules)), requires)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running exchange."""
    process = BrokerProcess(tmp_path / "exchange")
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.mark.slow
def test_the_client_needs_nothing_but_what_it_declares(
    installed: Installed, exchange: BrokerProcess, tmp_path: Path
) -> None:
    tokens = []
    for context in ("highway-patrol", "ems"):
        tokens.append(str(tmp_path / f"{context}.jwt"))
        Path(tokens[-1]).write_text(exchange.metadata(context)[0][1].removeprefix("Bearer "))
    environment = {
        "ENTENTE_ENDPOINT": exchange.config.listen.tls,
        "ENTENTE_CA_FILE": str(exchange.directory / "tls" / "ca.pem"),
    }
    command = installed.command((), ROOT / "docs/examples/without_asyncio.py", *tokens)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert (done.stdout, done.returncode) == ("durable\nread one of //highway-patrol/records\n", 0), (
        done.stderr
    )

    program = tmp_path / "waiting.py"
    program.write_text(WAITING)
    with subprocess.Popen(
        installed.command((), program, tokens[1]),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        try:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == "read\n"
            os.kill(waiting.pid, signal.SIGINT)
            _, told = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    assert waiting.returncode == -signal.SIGINT, told
    assert "\nKeyboardInterrupt" in told


def test_it_holds_the_client_and_the_connectors_and_nothing_of_the_exchange(installed: Installed) -> None:
    folders = {path.name for path in installed.target.iterdir() if not path.name.endswith(".dist-info")}
    assert folders == {"bin", "connectors", "protos"}
    assert {path.name for path in (installed.target / "bin").iterdir()} == {"entente-connect"}
    assert all((installed.target / name / "py.typed").exists() for name in ("connectors", "protos"))


@pytest.mark.parametrize(
    ("extras", "left_out", "plugins"),
    [
        ((), ("cli", "files", "kafka", "mapping", "runtime"), ()),
        (("connect",), ("kafka",), ("file-sink", "file-source")),
        (("connect", "kafka"), (), ("file-sink", "file-source", "kafka-sink", "kafka-source")),
    ],
    ids=["client", "connect", "kafka"],
)
def test_each_extra_brings_what_its_modules_import(
    installed: Installed,
    tmp_path: Path,
    extras: Sequence[str],
    left_out: Sequence[str],
    plugins: Sequence[str],
) -> None:
    """What is imported late, in functions, is found by the connectors' own tests."""
    program = tmp_path / "importing.py"
    program.write_text(IMPORTING)
    folders = tuple(f"connectors.{name}" for name in left_out)
    modules = [name for name in installed.modules if not name.startswith(folders or ("\0",))]
    command = installed.command(extras, program, ",".join(modules))
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    points = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" True")}
    assert points == {*plugins, *(["entente-connect"] if extras else [])}


def test_the_command_runs_with_its_extra_and_names_the_one_that_is_missing(
    installed: Installed, tmp_path: Path
) -> None:
    script = installed.target / "bin" / "entente-connect"

    def connect(extras: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = installed.command(extras, script, *arguments)
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)

    alone = connect((), "--help")
    assert alone.returncode != 0
    assert "entente-client[connect]" in alone.stderr
    assert "Traceback" not in alone.stderr
    (tmp_path / "crashes.toml").write_text(connect(["connect"], "new", "kafka-source", "crashes").stdout)
    without, with_kafka = (
        connect(extras, "validate", "crashes.toml") for extras in (["connect"], ["connect", "kafka"])
    )
    assert "connectors.crashes.plugin" in without.stderr
    assert "entente-client[connect,kafka]" in without.stderr
    assert (
        "connectors.crashes.kafka" in with_kafka.stderr
    )  # its files are not there, which only the plugin knows
    assert "entente-client" not in with_kafka.stderr
