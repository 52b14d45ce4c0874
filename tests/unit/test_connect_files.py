"""`entente connect new` and `validate`: what is printed to begin with is valid, and findings come a line each."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.cli.templates import TEMPLATES
from connectors.client import Client
from connectors.errors import EntenteClientError
from connectors.runtime import configuration
from connectors.runtime.configuration import plugins, read_configuration
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.directory import StateDirectoryRefused
from connectors.runtime.model import Direction
from connectors.runtime.run import Ready
from connectors.runtime.settings import ConfigurationRefused, ConnectorSettings
from tests.e2e.here import Done, run_here

_OPTIONAL = re.compile(r"^# (?=(?:group|subscription|id|time|purposes) = )", re.MULTILINE)


def test_every_plugin_that_is_installed_has_a_template() -> None:
    assert set(TEMPLATES) == set(plugins())


def filled(directory: Path, plugin: str, *, optional: bool) -> Path:
    """A printed configuration, with the files that it names."""
    printed = run_here(directory, "connect", "new", plugin, "Mine-1")
    assert (printed.returncode, printed.stderr) == (0, "")
    path = directory / f"{plugin}.toml"
    path.write_text(_OPTIONAL.sub("", printed.stdout) if optional else printed.stdout)
    for name in ("ca.pem", "token", "kafka-ca.pem", "kafka-password"):
        (directory / name).write_text("x")
        (directory / name).chmod(0o600)
    return path


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("plugin", TEMPLATES)
def test_what_is_printed_is_valid(plugin: str, optional: bool, tmp_path: Path) -> None:
    path = filled(tmp_path, plugin, optional=optional)
    done = run_here(tmp_path, "connect", "validate", path, "-o", "json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        {
            "name": "Mine-1",
            "plugin": plugin,
            "topic": "crash-reports",
            "file": str(path),
            "checked": "configuration",
        }
    ]


@pytest.mark.parametrize("plugin", TEMPLATES)
def test_what_is_printed_fits_a_terminal(plugin: str) -> None:
    assert max(map(len, TEMPLATES[plugin].splitlines())) <= 120
    assert "<-" in TEMPLATES[plugin]


@pytest.mark.parametrize("arguments", [("kafka",), ("kafka-source", "../x"), ("kafka-source", "")])
def test_other_kinds_and_names_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_here(tmp_path, "connect", "new", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# -- reaching out ---------------------------------------------------------------------------------------------------


class Reaching:
    """A plugin whose connectors find what they were made to find."""

    direction: Direction = "source"
    settings = ConnectorSettings

    def __init__(self, finds: Sequence[str] | Exception) -> None:
        self._finds = finds
        self.asked: list[Client] = []

    def make(self, name: str, settings: Any, directory: Path) -> Any:
        return self

    async def check(self, exchange: Client) -> Sequence[str]:
        self.asked.append(exchange)
        if isinstance(self._finds, Exception):
            raise self._finds
        return self._finds


def validated(
    finds: Sequence[str] | Exception, directory: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> tuple[Done, Reaching]:
    plugin = Reaching(finds)
    monkeypatch.setattr(configuration, "load_plugin", lambda name: plugin)
    (directory / "token").write_text("x")
    (directory / "token").chmod(0o600)
    (directory / "c.toml").write_text(
        '[exchange]\nendpoint = "127.0.0.1:1"\ninsecure_plaintext = true\ntoken_file = "token"\n'
        '[connectors.one]\nplugin = "any"\ntopic = "t"\n[connectors.two]\nplugin = "any"\ntopic = "t"\n'
    )
    return run_here(directory, "connect", "validate", "c.toml", *options), plugin


def test_without_connect_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, plugin = validated(("wrong",), tmp_path, monkeypatch)
    assert (done.returncode, done.stderr, plugin.asked) == (0, "", [])


def test_a_connector_that_finds_nothing_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, plugin = validated((), tmp_path, monkeypatch, "--connect", "-o", "jsonl")
    assert (done.returncode, done.stderr, len(plugin.asked)) == (0, "", 2)
    assert [json.loads(line)["checked"] for line in done.stdout.splitlines()] == [
        "configuration and connections"
    ] * 2


@pytest.mark.parametrize(
    ("finds", "told"),
    [
        (
            ("topic crashes: is not there; create it", "x\ny"),
            ["topic crashes: is not there; create it", "x y"],
        ),
        (EntenteClientError("TOPIC_NOT_FOUND", "NOT_FOUND", "There is no such topic.", "ref"), None),
        (RuntimeError("hunter2"), None),
        (TimeoutError(), ["no answer within 60 s; check that both sides can be reached from here"]),
    ],
)
def test_findings_are_told_a_line_each(
    finds: Sequence[str] | Exception,
    told: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, _ = validated(finds, tmp_path, monkeypatch, "--connect")
    assert (done.returncode, done.stdout) == (7, "")
    lines = done.stderr.splitlines()
    if told is None:
        assert [line.partition(": c.toml: connectors.")[2][:5] for line in lines] == ["one: ", "two: "]
        assert type(finds).__name__ in done.stderr or "TOPIC_NOT_FOUND" in done.stderr
        assert "hunter2" not in done.stderr
    else:
        assert lines == [
            f"entente: c.toml: connectors.{name}: {line}" for name in ("one", "two") for line in told
        ]


# -- running --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["", "x", "localhost:", "localhost:70000", "localhost:http", "٣"])
def test_a_metrics_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    done = run_here(tmp_path, "connect", "run", "absent.toml", "--metrics", address)
    assert (done.returncode, done.stderr) == (2, "entente: --metrics: write it as PORT or HOST:PORT\n")


@pytest.mark.parametrize("command", ["run", "validate"])
def test_every_finding_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x = 1\ny = 2\n")
    done = run_here(tmp_path, "connect", command, "a.toml", "absent.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "entente: a.toml: x: unknown key; use one of: connectors, exchange",
        "entente: a.toml: y: unknown key; use one of: connectors, exchange",
        "entente: absent.toml: no such file; begin one with 'entente connect new'",
    ]
    assert not (tmp_path / "entente-connect").exists()


# -- any mistake ----------------------------------------------------------------------------------------------------

CANARY = "canary5ec2e7"
_A_PUBLIC_FILE = re.compile(r"\.(ca_file|certificate): .*: no such file; correct the path$")
_VALUES = st.recursive(
    st.sampled_from(
        [
            CANARY,
            f"//{CANARY}",
            f"$.{CANARY}[",
            f"{CANARY}:0",
            "",
            0,
            -1,
            2**70,
            1.5,
            True,
            datetime(2026, 1, 31, tzinfo=UTC),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["file", "env", "header", "path", "constant", "table", "key"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mistakes")
    for plugin in TEMPLATES:
        filled(directory, plugin, optional=True)
    return directory


def places(table: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every key of a document, with the table that holds it, and a key that should not be there."""
    found = [(table, name) for name in (*table, "of_no_meaning")]
    return found + [place for value in table.values() if isinstance(value, dict) for place in places(value)]


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_wherever_is_a_finding_that_does_not_quote_it(
    somewhere: Path, data: st.DataObject
) -> None:
    plugin = data.draw(st.sampled_from(sorted(TEMPLATES)))
    document = tomllib.loads((somewhere / f"{plugin}.toml").read_text())
    table, name = data.draw(st.sampled_from(places(document)))
    table[name] = data.draw(_VALUES)
    (somewhere / "changed.toml").write_text(tomli_w.dumps(document))
    try:
        read_configuration([somewhere / "changed.toml"])
    except ConfigurationRefused as refused:
        assert refused.findings
        for finding in refused.findings:
            assert finding.startswith(f"{somewhere}/changed.toml: ") and "\n" not in finding
            assert CANARY not in finding or _A_PUBLIC_FILE.search(finding)


class Served:
    """Stands in for the runtime: says that it is ready, then ends as told."""

    def __init__(self, *, drained: bool = True, error: Exception | None = None) -> None:
        self._drained = drained
        self._error = error
        self.asked: list[tuple[list[str], Path, tuple[str, int] | None]] = []

    def __call__(
        self,
        definitions: Sequence[ConnectorDefinition],
        state: Path,
        metrics: tuple[str, int] | None,
        ready: Callable[[Ready], None],
    ) -> bool:
        names = [each.name for each in definitions]
        self.asked.append((names, state, metrics))
        if self._error is not None:
            raise self._error
        ready(Ready(tuple(names), state / "control.sock", metrics))
        return self._drained


def started(served: Served, directory: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Done:
    monkeypatch.setattr("connectors.runtime.run.serve", served)
    monkeypatch.setattr("connectors.cli.logs.log_to_stderr", lambda: None)
    monkeypatch.setattr(configuration, "load_plugin", lambda name: Reaching(()))
    (directory / "token").write_text("x")
    (directory / "token").chmod(0o600)
    for name, insecure in (("one", "true"), ("two", "false")):
        (directory / f"{name}.toml").write_text(
            f'[exchange]\nendpoint = "127.0.0.1:1"\ninsecure_plaintext = {insecure}\ntoken_file = "token"\n'
            f'[connectors.{name}]\nplugin = "any"\ntopic = "t"\n'
        )
    return run_here(directory, "connect", "run", "one.toml", "two.toml", *options)


@pytest.mark.parametrize(
    ("metrics", "address"),
    [
        (("--metrics", "9400"), ("127.0.0.1", 9400)),
        (("--metrics", "0.0.0.0:9400"), ("0.0.0.0", 9400)),
        (("--metrics", "[::1]:0"), ("::1", 0)),
        ((), None),
    ],
)
def test_metrics_are_served_on_this_machine_unless_said_otherwise(
    metrics: tuple[str, ...],
    address: tuple[str, int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served()
    done = started(served, tmp_path, monkeypatch, *metrics)
    assert (done.returncode, served.asked) == (0, [(["one", "two"], Path("entente-connect"), address)])


def test_that_it_is_ready_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--state", "s", "--metrics", "9400")
    for form in ("json", "jsonl"):
        done = started(Served(), tmp_path, monkeypatch, *options, "-o", form)
        assert done.stdout.count("\n") == 1
        assert json.loads(done.stdout) == {
            "ready": True,
            "connectors": ["one", "two"],
            "control": "s/control.sock",
            "metrics": "127.0.0.1:9400",
        }
    done = started(Served(), tmp_path, monkeypatch, *options, "-o", "table")
    assert done.stdout == "ready: one, two; control s/control.sock, metrics on 127.0.0.1:9400\n"


def test_what_gives_up_security_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = started(Served(), tmp_path, monkeypatch)
    assert done.stderr == (
        "entente: warning: one.toml: connectors.one: exchange.insecure_plaintext = true: "
        "others may read or change what is sent\n"
    )


@pytest.mark.parametrize(
    ("served", "code", "told"),
    [
        (Served(drained=False), 8, "not everything finished in time; what was not acknowledged comes again"),
        (Served(error=ConfigurationRefused(("a: b",))), 2, "a: b"),
        (Served(error=StateDirectoryRefused("s: others may enter it")), 1, "s: others may enter it"),
        (
            Served(error=OSError(98, "address already in use")),
            1,
            "connect run: address already in use; choose another address with --metrics, "
            "or another directory with --state",
        ),
        (Served(error=RuntimeError("hunter2")), 1, "unexpected RuntimeError at "),
    ],
)
def test_how_it_ended_is_told(
    served: Served, code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = started(served, tmp_path, monkeypatch)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last[: len(told) + 9]) == (code, f"entente: {told}")
    assert "hunter2" not in done.stderr
