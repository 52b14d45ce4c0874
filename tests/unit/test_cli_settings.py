"""An option beats a variable, a variable beats the context; what is missing or double is told."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from broker.app.initialise import initialise
from broker.cli.settings import Given, resolve
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ready exchange."""
    return initialise(tmp_path_factory.mktemp("settings") / "exchange", "127.0.0.1:21000").config


def test_the_default_context_gives_everything(config: Path) -> None:
    found = resolve(Given(config=config), {})
    assert found.endpoint == "127.0.0.1:21000"
    assert found.ca_file == config.parent / "tls" / "ca.pem"
    assert found.token_provider is not None
    claims = jwt.decode(found.token_provider(), options={"verify_signature": False})
    assert claims["purposes"] == ["law-enforcement"]


def test_a_named_context_is_its_own_principal(config: Path) -> None:
    found = resolve(Given(config=config, context="ems"), {})
    assert found.token_provider is not None
    claims = jwt.decode(found.token_provider(), options={"verify_signature": False})
    assert (claims["iss"], claims["roles"]) == ("https://ems.example/issuer", ["paramedic"])


def test_variables_beat_the_context_and_options_beat_variables(config: Path, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes((config.parent / "tls" / "ca.pem").read_bytes())
    another = config.parent / "tls" / "server.pem"
    environment = {
        "ENTENTE_CONFIG": str(config),
        "ENTENTE_ENDPOINT": "variable:1",
        "ENTENTE_TOKEN": "variable-token",
        "ENTENTE_CA_FILE": str(authority),
    }
    found = resolve(Given(context="ems"), environment)
    assert (found.endpoint, found.token, found.ca_file) == ("variable:1", "variable-token", authority)
    assert found.token_provider is None
    given = Given(endpoint="option:1", token_file=Path("t"), ca_file=another)
    found = resolve(given, environment)
    assert (found.endpoint, found.token, found.token_file, found.ca_file) == (
        "option:1",
        None,
        Path("t"),
        another,
    )


def test_without_a_file_variables_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = resolve(Given(), {"ENTENTE_ENDPOINT": "variable:1", "ENTENTE_TOKEN_FILE": "t"})
    assert (found.endpoint, found.token_file, found.ca_file) == ("variable:1", Path("t"), None)


def test_the_default_file_is_found_in_the_working_directory(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert resolve(Given(context="transport"), {}).endpoint == "127.0.0.1:21000"


@pytest.mark.parametrize(
    ("given", "environment", "told"),
    [
        (Given(), {}, "no exchange to call"),
        (Given(), {"ENTENTE_ENDPOINT": "e:1"}, "no token"),
        (Given(endpoint="e:1"), {"ENTENTE_TOKEN": "a", "ENTENTE_TOKEN_FILE": "b"}, "both set"),
        (Given(context="ems"), {"ENTENTE_ENDPOINT": "e:1", "ENTENTE_TOKEN": "a"}, "no such file"),
        (Given(config=Path("absent.toml")), {}, "no such file"),
        (Given(), {"ENTENTE_CONFIG": "absent.toml"}, "absent.toml: no such file"),
        (Given(endpoint="e:1", ca_file=Path("absent.pem")), {"ENTENTE_TOKEN": "a"}, "CA file"),
        (Given(endpoint="e:1", ca_file=Path()), {"ENTENTE_TOKEN": "a"}, "CA file .: Is a directory"),
        (Given(endpoint="e:1", ca_file=Path("/dev/null")), {"ENTENTE_TOKEN": "a"}, "no PEM certificate"),
        (Given(endpoint="https://e"), {"ENTENTE_TOKEN": "a"}, "endpoint https://e: must be HOST:PORT"),
        (Given(), {"ENTENTE_ENDPOINT": "e:https", "ENTENTE_TOKEN": "a"}, "must be HOST:PORT"),
    ],
)
def test_what_is_missing_or_double_is_a_usage_error(
    given: Given,
    environment: dict[str, str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match=told) as caught:
        resolve(given, environment)
    assert caught.value.code is ExitCode.USAGE


def test_an_unknown_context_names_the_known_ones(config: Path) -> None:
    with pytest.raises(CommandFailed, match="highway-patrol"):
        resolve(Given(config=config, context="absent"), {})


def test_a_broken_key_is_told_before_anything_is_called(config: Path, tmp_path: Path) -> None:
    own = initialise(tmp_path / "own", "127.0.0.1:21002").config
    (own.parent / "issuers" / "ems.json").write_text("{}")
    with pytest.raises(CommandFailed, match="issuer key"):
        resolve(Given(config=own, context="ems"), {})


def test_options_before_the_command_are_the_weaker_ones() -> None:
    general = Given(output=OutputFormat.JSON, context="a", endpoint="e:1")
    assert Given(context="b").over(general) == Given(output=OutputFormat.JSON, context="b", endpoint="e:1")
