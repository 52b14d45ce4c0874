"""The program as a whole: help, usage errors, how quickly it answers, what its modules import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli.app import run
from broker.cli.tokens import parse_ttl
from connectors.cli.app import run as run_partners
from connectors.cli.failures import CommandFailed

COMMANDS = [
    (),
    ("init",),
    ("serve",),
    ("token",),
    ("whoami",),
    ("can-i",),
    ("publish",),
    ("subscribe",),
    ("demo",),
    ("audit",),
    *(("audit", name) for name in ("export", "verify", "replay", "who-saw", "what-saw")),
    *(("audit", name) for name in ("checkpoint", "prove", "check", "check-receipts", "records")),
    *((("catalog", name)) for name in ("topics", "types", "agencies", "vocabulary", "show")),
    *((("subscription", name)) for name in ("list", "show", "seek", "delete")),
    ("suspend",),
    ("withdraw",),
    *((("suspension", name)) for name in ("list", "ratify", "lift")),
    ("rulebook",),
    *((("rulebook", name)) for name in ("new", "check", "test", "diff")),
    *((("witness", name)) for name in ("init", "serve", "show", "checkpoint")),
    ("connect",),
    *((("connect", name)) for name in ("new", "validate", "run", "list", "status", "redrive")),
    *((("connect", name)) for name in ("pause", "resume", "stop", "restart")),
    *((("connect", "offsets", *name)) for name in ((), ("show",), ("alter",))),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--help"]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last.strip().startswith(f"Example: entente {' '.join(command)}".rstrip())


@pytest.mark.parametrize("command", [(), ("run",), ("offsets", "alter")], ids=" ".join)
def test_a_partners_program_has_the_commands_of_connect(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_partners([*command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(('entente-connect', *command))} ")
    assert run_partners([*command, "--nonsense"]) == 2
    told = f"entente: No such option: --nonsense (see '{' '.join(('entente-connect', *command))} --help')\n"
    assert capsys.readouterr().err == told


def test_a_partners_program_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "connectors.cli.connect")
    monkeypatch.setitem(sys.modules, "typer", None)
    assert run_partners(["list"]) == 1
    told = (
        "entente: typer is not installed; install 'entente-client[connect]', for Kafka with [connect,kafka]\n"
    )
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("whoami", "--nonsense"),
        ("publish",),
        ("catalog",),
        ("-o", "xml", "whoami"),
        ("can-i", "read", "t"),
    ],
)
def test_usage_errors_are_one_line_and_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("entente: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonsense",), "entente: No such command 'nonsense'. (see 'entente --help')"),
        (("can-i", "subscribe"), "entente: Missing argument 'TOPIC'. (see 'entente can-i --help')"),
        (
            ("whoami", "-o", "xml"),
            "entente: Invalid value for '--output' / '-o': 'xml' is not one of 'table', 'json', 'jsonl'."
            " (see 'entente whoami --help')",
        ),
    ],
)
def test_usage_errors_name_the_help_that_explains(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err == told + "\n"


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: entente" in capsys.readouterr().out


def test_help_and_usage_errors_load_neither_grpc_nor_pydantic_nor_rich() -> None:
    """What makes `entente --help` quick, measured without a clock."""
    program = (
        "import sys\n"
        "from broker.cli.app import run\n"
        "run(['--help'])\n"
        "heavy = {'grpc', 'google.protobuf', 'pydantic', 'rich', 'orjson', 'cryptography', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


def test_init_makes_an_exchange_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "exchange"
    assert run(["init", str(target), "--listen", "127.0.0.1:21010"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["tls_address"], made["mtls_address"]) == ("127.0.0.1:21010", "127.0.0.1:21011")
    assert {"ems", "transport", "admin-1", "admin-2"} <= set(made["contexts"])
    assert (target / "entente.toml").is_file()
    assert run(["init", str(target)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_token_is_printed_bare_or_as_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["init", str(tmp_path / "exchange"), "--listen", "127.0.0.1:21012"])
    capsys.readouterr()
    arguments = ["token", "--config", str(tmp_path / "exchange" / "entente.toml"), "--agency", "ems"]
    arguments += [
        "--role",
        "paramedic",
        "--purpose",
        "emergency-response",
        "--clearance",
        "red",
        "--ttl",
        "5m",
    ]
    assert run(arguments) == 0
    assert capsys.readouterr().out.count(".") == 2
    assert run([*arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["token"].count(".") == 2


@pytest.mark.parametrize("agency", ["absent", "../../etc/passwd", "EMS", ""])
def test_a_token_of_no_agency_is_refused(
    agency: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["init", str(tmp_path / "exchange"), "--listen", "127.0.0.1:21014"])
    capsys.readouterr()
    config = str(tmp_path / "exchange" / "entente.toml")
    assert run(["token", "--config", config, "--agency", agency]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("1d", 86_400)])
def test_lifetimes_have_units(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "0s", "-1h", "1w", "1.5h", "1h30m"])
def test_other_lifetimes_are_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="--ttl"):
        parse_ttl(text)


def test_serve_without_a_configuration_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--config", str(tmp_path / "absent.toml")]) == 2
    assert "entente init" in capsys.readouterr().err
