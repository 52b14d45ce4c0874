"""Configuration of connectors: each mistake is one line with file, key and remedy, and never shows a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from connectors.kafka.settings import KafkaSettings
from connectors.mapping.settings import MappingSettings
from connectors.runtime import configuration
from connectors.runtime.configuration import read_configuration
from connectors.runtime.model import Direction
from connectors.runtime.settings import ConfigurationRefused, ConnectorSettings, FilePath

SECRET = "hunter2-canary"


class AnySettings(ConnectorSettings):
    tasks: int = 1
    kafka: KafkaSettings | None = None
    map: MappingSettings | None = None
    directory: FilePath | None = None


class AnyPlugin:
    direction: Direction = "source"
    settings = AnySettings

    def make(self, name: str, settings: Any, directory: Path) -> Any:
        if settings.tasks > 8:
            raise ConfigurationRefused(("tasks: at most 8 here; choose fewer",))
        return object()


PLUGIN = AnyPlugin()


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"any": f"{__name__}:PLUGIN", "broken": "connectors.of_no_module:PLUGIN"}
    found = {name: EntryPoint(name, value, configuration.ENTRY_POINTS) for name, value in names.items()}
    monkeypatch.setattr(EntryPoint, "load", lambda self: _load(self.name))
    monkeypatch.setattr(configuration, "plugins", lambda: found)


def _load(name: str) -> object:
    if name == "broken":
        raise ModuleNotFoundError("No module named 'kafka'", name="kafka")
    return PLUGIN


def document() -> dict[str, Any]:
    return {
        "exchange": {"endpoint": "exchange.example:7443", "ca_file": "ca.pem", "token_file": "token"},
        "connectors": {
            "crashes": {
                "plugin": "any",
                "topic": "crash-reports",
                "directory": "outgoing",
                "kafka": {
                    "bootstrap": ["kafka.example:9093"],
                    "ca_file": "ca.pem",
                    "certificate": "ca.pem",
                    "key": "kafka.key",
                    "sasl_mechanism": "PLAIN",
                    "sasl_user": "entente",
                    "sasl_password": {"file": "password"},
                },
                "map": {
                    "type": "gov.niem.crash-driver.v1",
                    "source": "//highway-patrol/crashes",
                    "labels": {"dataclassification": {"header": "tlp"}},
                },
            }
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    for name in ("ca.pem", "token", "password", "kafka.key"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)

    def written(content: dict[str, Any], name: str = "connect.toml") -> Path:
        (tmp_path / name).write_text(tomli_w.dumps(content))
        return tmp_path / name

    return written


def refused(files: Sequence[Path]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationRefused) as caught:
        read_configuration(files)
    findings = caught.value.findings
    assert all("\n" not in finding for finding in findings)
    assert SECRET not in repr(caught.value)
    return findings


def change(content: dict[str, Any], key: str, value: object) -> None:
    """Set, or with ... remove, the key at that path."""
    *above, last = key.split("/")
    for part in above:
        content = content.setdefault(part, {})
    if value is ...:
        del content[last]
    else:
        content[last] = value


def test_a_whole_file_is_read(write: Callable[..., Path], tmp_path: Path) -> None:
    (found,) = read_configuration([write(document())])
    assert (found.definition.name, found.definition.plugin) == ("crashes", PLUGIN)
    settings = found.definition.settings
    assert isinstance(settings, AnySettings)
    assert settings.directory == tmp_path / "outgoing"
    assert settings.exchange.token_file == tmp_path / "token"
    assert settings.kafka is not None and settings.kafka.cluster().sasl_password == SECRET


C = "connectors.crashes"
AN_ADDRESS = "write an address as host:port, for example exchange.example:7443"
NAME_IT = 'name it as { file = "…" } or { env = "…" }'


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("conectors", {}, "conectors: unknown key; did you mean 'connectors'?"),
        ("metrics", {}, "metrics: unknown key; use one of: connectors, exchange"),
        ("connectors", {}, "connectors: is missing; add a table [connectors.NAME], or see 'entente connect new'"),
        ("connectors", [], "connectors: must be a table; correct it"),
        ("exchange", ..., "exchange: is missing; add it"),
        ("exchange/endpoint", ..., "exchange.endpoint: is missing; add it"),
        ("exchange/endpoint", "nowhere", f"exchange.endpoint: {AN_ADDRESS}"),
        ("exchange/endpont", "x:1", "exchange.endpont: unknown key; did you mean 'endpoint'?"),
        ("exchange/token_env", "T", "exchange: set either token_file or token_env"),
        ("exchange/ca_file", "absent.pem", "exchange.ca_file: {}/absent.pem: no such file; correct the path"),
        ("connectors/crashes", "x", f"{C}: must be a table; write it as [connectors.NAME]"),
        ("connectors/crashes/plugin", ..., f"{C}.plugin: is missing; add it: one of any, broken"),
        ("connectors/crashes/plugin", 5, f"{C}.plugin: must be a string in quotes: one of any, broken"),
        ("connectors/crashes/plugin", "anny", f"{C}.plugin: no plugin of that name is installed; did you mean 'any'?"),
        ("connectors/crashes/plugin", SECRET, f"{C}.plugin: no plugin of that name is installed; use one of: any, broken"),
        ("connectors/crashes/plugin", "broken",
            f"{C}.plugin: 'broken' cannot be loaded for want of kafka; install it, "
            "for example as entente-client[connect,kafka]"),
        ("connectors/crashes/topik", "t", f"{C}.topik: unknown key; did you mean 'topic'?"),
        ("connectors/crashes/topic", ..., f"{C}.topic: is missing; add it"),
        ("connectors/crashes/topic", 5, f"{C}.topic: must be a string in quotes, not an integer; correct it"),
        ("connectors/crashes/on_error", SECRET, f"{C}.on_error: must be 'fail', 'skip' or 'dead-letter'; correct it"),
        ("connectors/crashes/tasks", "many", f"{C}.tasks: must be an integer without quotes, not a string; correct it"),
        ("connectors/crashes/tasks", 9, f"{C}: tasks: at most 8 here; choose fewer"),
        ("connectors/crashes/retry/attempts", 0, f"{C}.retry.attempts: must be greater than or equal to 1; correct it"),
        ("connectors/crashes/exchange/token_env", "SET", None),
        ("connectors/crashes/exchange/token_fil", "t", f"{C}.exchange.token_fil: unknown key; did you mean 'token_file'?"),
        ("connectors/crashes/exchange/endpoint", "other.example:1", f"{C}.exchange: set either token_file or token_env"),
        ("connectors/crashes/kafka/sasl_password", SECRET,
            f"{C}.kafka.sasl_password: a secret is never written here; {NAME_IT}, and change this one"),
        ("connectors/crashes/kafka/sasl_password", {"file": SECRET, "env": SECRET},
            f"{C}.kafka.sasl_password: {NAME_IT}"),
        ("connectors/crashes/kafka/sasl_password", {"env": "NOT_SET"},
            f"{C}.kafka.sasl_password: variable NOT_SET is not set; set it to the secret"),
        ("connectors/crashes/kafka/sasl_password", {"file": "absent"},
            f"{C}.kafka.sasl_password: no such file; name the one that holds the secret"),
        ("connectors/crashes/kafka/sasl_password", {"env": SECRET},
            f"{C}.kafka.sasl_password: the variable named there is not set; set it to the secret"),
        ("connectors/crashes/kafka/sasl_password", {"file": "a\0b"},
            f"{C}.kafka.sasl_password.file: is no path; correct it"),
        ("exchange/token_file", SECRET, "exchange.token_file: no such file; name the one that holds the token"),
        ("connectors/crashes/kafka/key", SECRET, f"{C}.kafka.key: no such file; name the one that holds the secret"),
        ("connectors/crashes/exchange/token_env", "NOT_SET",
            f"{C}.exchange.token_env: variable NOT_SET is not set; set it to the secret"),
        ("connectors/crashes/kafka/sasl_mechanism", SECRET,
            f"{C}.kafka.sasl_mechanism: must be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or 'OAUTHBEARER'; correct it"),
        ("connectors/crashes/kafka/bootstrap", ["ok:1", SECRET],
            f"{C}.kafka.bootstrap[1]: {AN_ADDRESS}"),
        ("connectors/crashes/kafka/ca_file", ...,
            f"{C}.kafka: sends records in the clear; set ca_file or tls = true, or insecure_plaintext = true"),
        ("connectors/crashes/map/type", 5,
            f'{C}.map.type: write a text in quotes, or a table such as {{ path = "$.name" }}'),
        ("connectors/crashes/map/type", {"headr": "h"}, f"{C}.map.type.headr: unknown key; did you mean 'header'?"),
        ("connectors/crashes/map/subject", {"constant": 5},
            f"{C}.map.subject.constant: must be a string in quotes or an array, not an integer; correct it"),
        ("connectors/crashes/map/subject", {"key": True, "table": {"a": ["b", 5]}},
            f"{C}.map.subject.table.a[1]: must be a string in quotes, not an integer; correct it"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(
    key: str,
    value: object,
    says: str | None,
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SET", SECRET)
    content = document()
    change(content, key, value)
    path = write(content)
    if says is None:
        assert len(read_configuration([path])) == 1
    else:
        assert refused([path]) == (
            f"{path}: {says.replace('{}', str(tmp_path), 1) if '{}/' in says else says}",
        )


@pytest.mark.parametrize(
    ("file", "mode", "key", "why"),
    [
        ("password", 0o640, f"{C}.kafka.sasl_password", "other users may read or write it"),
        ("kafka.key", 0o604, f"{C}.kafka.key", "other users may read or write it"),
        ("token", 0o644, "exchange.token_file", "every user may read or write it"),
    ],
)
def test_secrets_that_others_may_read_are_refused(
    file: str, mode: int, key: str, why: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(document())
    (tmp_path / file).chmod(mode)
    (finding,) = refused([path])
    assert finding.startswith(f"{path}: {key}: {tmp_path / file}: {why}; run 'chmod 600' on it, and ")


def test_a_token_file_may_be_renewed_by_another_user_of_the_group(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "token").chmod(0o640)
    assert len(read_configuration([write(document())])) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 70_000, b"\xff\xfe"])
def test_what_is_no_secret_is_refused(content: bytes, write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(document())
    (tmp_path / "password").write_bytes(content)
    (finding,) = refused([path])
    assert finding.startswith(f"{path}: {C}.kafka.sasl_password: {tmp_path / 'password'}: ")


def test_a_folder_is_no_secret(write: Callable[..., Path], tmp_path: Path) -> None:
    content = document()
    change(content, "connectors/crashes/kafka/sasl_password", {"file": "."})
    (finding,) = refused([write(content)])
    assert finding.endswith("is no plain file; replace it")


def test_a_connector_with_an_endpoint_of_its_own_inherits_no_token(write: Callable[..., Path]) -> None:
    content = document()
    change(content, "connectors/crashes/exchange", {"endpoint": "other.example:7443", "token_env": "PATH"})
    (found,) = read_configuration([write(content)])
    exchange = found.definition.settings.exchange
    assert (exchange.endpoint, exchange.token_file, exchange.ca_file) == ("other.example:7443", None, None)


def test_a_connector_changes_single_keys_of_the_files_exchange(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    content = document()
    change(content, "connectors/crashes/exchange", {"token_env": "PATH"})
    (found,) = read_configuration([write(content)])
    exchange = found.definition.settings.exchange
    assert (exchange.endpoint, exchange.token_env) == ("exchange.example:7443", "PATH")
    assert (exchange.token_file, exchange.ca_file) == (None, tmp_path / "ca.pem")


def test_names_are_unique_over_all_files(write: Callable[..., Path]) -> None:
    one, two = write(document(), "one.toml"), write(document(), "two.toml")
    assert refused([one, two]) == (f"{two}: {C}: is in {one} too; rename one",)


def test_capitals_do_not_tell_names_apart(write: Callable[..., Path]) -> None:
    content = document()
    content["connectors"]["Crashes"] = content["connectors"]["crashes"]
    path = write(content)
    finding = f"{path}: connectors.Crashes: differs by capitals only from 'crashes' in {path}; rename one"
    assert refused([path]) == (finding,)


def test_names_can_stand_wherever_names_stand(write: Callable[..., Path]) -> None:
    content = document()
    content["connectors"]["../x\ny"] = content["connectors"].pop("crashes")
    (finding,) = refused([write(content)])
    assert "a connector's name is 1 to 63 letters, digits, - and _" in finding


def test_findings_of_all_files_are_told_at_once(write: Callable[..., Path], tmp_path: Path) -> None:
    content = document()
    change(content, "connectors/crashes/topic", 5)
    change(content, "connectors/crashes/tasks", [])
    one = write(content, "one.toml")
    assert [finding.partition(": ")[0] for finding in refused([one, tmp_path / "absent.toml"])] == [
        str(one),
        str(one),
        str(tmp_path / "absent.toml"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = 1\nb = ", "not TOML: Invalid value (at "),
        (b"\xff", "not TOML: UnicodeDecodeError; correct the syntax"),
        (b"[" * 50_000, "not TOML: "),
        (b"#" * 1_048_577, "larger than 1048576 bytes; this is no configuration file"),
    ],
)
def test_what_is_no_toml_is_one_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "connect.toml"
    path.write_bytes(content)
    (finding,) = refused([path])
    assert finding.startswith(f"{path}: {says}")


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert refused([path]) == (f"{path}: no such file; begin one with 'entente connect new'",)
    (finding,) = refused([tmp_path])
    assert finding.endswith("cannot be read: Is a directory; correct the path or its mode")
