"""The set-up's own promises: what the wheel holds, and what is said when a tool is missing."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.services.wheel import build_wheel

ROOT = Path(__file__).resolve().parents[2]
SHELL_TOOLS = (
    "bash",
    "cat",
    "dirname",
    "env",
    "grep",
    "head",
    "ln",
    "make",
    "mkdir",
    "mv",
    "sed",
    "sort",
    "touch",
    "uname",
)


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A directory for PATH with the shell's ordinary tools and nothing else: no go, opa, regal, java or mvn."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in SHELL_TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (folder / tool).symlink_to(found)
    return folder


def _add_program(folder: Path, name: str, script: str) -> Path:
    program = folder / name
    program.write_text(f"#!/usr/bin/env bash\n{script}\n")
    program.chmod(0o755)
    return program


def _run(path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(path), **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _build(path: Path, tool: str, out: Path) -> subprocess.CompletedProcess[str]:
    return _run(path, str(ROOT / "deploy/tools/build.sh"), tool, ENTENTE_TOOLS_BIN=str(out))


@pytest.mark.parametrize("tool", ["opa", "buf", "grpcurl", "ledgercheck"])
def test_a_missing_go_is_one_line_with_the_remedy(bare_path: Path, tmp_path: Path, tool: str) -> None:
    done = _build(bare_path, tool, tmp_path / "out")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "install Go" in done.stderr
    assert not (tmp_path / "out" / tool).exists()


def test_an_opa_of_the_pinned_minor_on_path_is_used(bare_path: Path, tmp_path: Path) -> None:
    opa = _add_program(bare_path, "opa", "echo 'Version: 1.22.9'")
    done = _build(bare_path, "opa", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "opa").resolve() == opa.resolve()


@pytest.mark.parametrize("version", ["1.21.0", "1.220.0", "11.22.0", "1.2.2"])
def test_an_opa_of_another_version_is_not(bare_path: Path, tmp_path: Path, version: str) -> None:
    _add_program(bare_path, "opa", f"echo 'Version: {version}'")
    done = _build(bare_path, "opa", tmp_path / "out")
    assert done.returncode == 1
    assert not (tmp_path / "out" / "opa").exists()


def test_an_opa_in_its_own_place_is_not_linked_to_itself(bare_path: Path, tmp_path: Path) -> None:
    opa = _add_program(bare_path, "opa", "echo 'Version: 1.22.2'")
    done = _build(bare_path, "opa", bare_path)
    assert done.returncode == 0
    assert not opa.is_symlink()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "regal was not found"),
        ("echo 'Version: 0.35.1'", "regal on PATH is '0.35.1'"),
        ("echo nonsense", "of an unknown version"),
    ],
)
def test_without_a_fitting_regal_it_is_said(bare_path: Path, script: str | None, said: str) -> None:
    if script is not None:
        _add_program(bare_path, "regal", script)
    done = _run(bare_path, str(ROOT / "deploy/tools/regal.sh"), "0.36", "policy")
    assert done.returncode == 0
    assert said in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_fitting_regal_decides(bare_path: Path) -> None:
    _add_program(bare_path, "regal", 'if [ "$1" = version ]; then echo "Version: 0.100.0"; else exit 3; fi')
    done = _run(bare_path, str(ROOT / "deploy/tools/regal.sh"), "0.36", "policy")
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("target", "programs", "said"),
    [
        (".venv/bin/python", {}, "absent-python was not found"),
        (".venv/bin/python", {"absent-python": "exit 1"}, "older than 3.11"),
        (".tools/kafka/.stamp", {}, "java was not found"),
        (".tools/kafka/.stamp", {"java": "true"}, "mvn was not found"),
    ],
)
def test_make_names_what_is_missing(
    bare_path: Path, tmp_path: Path, target: str, programs: dict[str, str], said: str
) -> None:
    for name, script in programs.items():
        _add_program(bare_path, name, script)
    for name in ("Makefile", "deploy", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = _run(bare_path, "make", "-C", str(tmp_path), target, "PYTHON=absent-python")
    assert done.returncode == 2
    complaint = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(complaint) == 1
    assert said in complaint[0]
    assert "install" in complaint[0]


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        assert not [line for line in lines if "://" in line or line.startswith("-")]
        for number, line in enumerate(lines):
            if not line.startswith(" "):
                assert "==" in line
                assert lines[number + 1].startswith("    --hash=sha256:")


def test_the_wheel_holds_the_rulebook_and_the_stubs(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    held = set(zipfile.ZipFile(wheel).namelist())
    rulebook = {path.relative_to(ROOT).as_posix() for path in (ROOT / "policy").rglob("*") if path.is_file()}
    assert {name for name in rulebook if "__pycache__" not in name} <= held
    assert "policy/manifest.yaml" in held
    assert "protos/entente/v1/exchange_pb2.pyi" in held
    assert not [name for name in held if name.startswith(("tests/", "deploy/"))]
