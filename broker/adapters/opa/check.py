"""The rulebook compiler port on the `opa` program."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from broker.adapters.opa.answers import compile_schema
from broker.adapters.opa.builtins import PERMITTED
from broker.adapters.opa.layout import BUNDLE, CAPABILITIES, inside, lay_out_modules
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision
from broker.ports.rulebook_compiler import TooComplex

VERSION_MINOR = "1.22"
"""The minor version of OPA that this broker is tested with; decisions are replayed by the version that made them."""

_TIMEOUT_S = 120
_PARSE_TIMEOUT_S = 10
"""A module takes about 15 ms."""
_TIMED_OUT = -1
_REMEDY_OPA = "run `make setup`, or install the pinned version"


class OpaCompiler:
    """Runs `opa check` and `opa parse`, in a clean environment and on copies in a directory of mode 0700."""

    def __init__(self, opa: Path) -> None:
        self._opa = opa.absolute()

    def compile(self, revision: Revision) -> Sequence[str]:
        """See the port: OPA's version, the permitted built-ins, the schemas, and `opa check --strict`."""
        return self.version_findings() or self.compile_by_any_version(revision)

    def compile_by_any_version(self, revision: Revision) -> Sequence[str]:
        """As `compile`, for replay: a revision that another version of OPA has served is checked by that version."""
        findings = _capability_findings(revision)
        for name in ("input", "decision"):
            try:
                compile_schema(revision, name)
            except RulebookRefused as refused:
                findings += refused.findings
        return findings or self._check_findings(revision)

    def parse(self, path: str, source: bytes) -> Mapping[str, object]:
        """See the port."""
        with tempfile.TemporaryDirectory(prefix="entente-opa-") as directory:
            (Path(directory) / "module.rego").write_bytes(source)
            done = self._run(
                directory,
                *("parse", "--format", "json", "--json-include", "locations,-comments", "module.rego"),
                timeout_s=_PARSE_TIMEOUT_S,
            )
        if done.returncode == _TIMED_OUT:
            raise TooComplex(f"{path} takes longer than {_PARSE_TIMEOUT_S} s to parse")
        if done.returncode != 0:
            raise ValueError(f"{path} is not valid Rego")
        try:
            tree = orjson.loads(done.stdout)
        except orjson.JSONDecodeError as error:
            fault = TooComplex if "depth" in str(error) else ValueError  # orjson reads 1,024 levels
            raise fault(f"the syntax tree of {path} cannot be read") from None
        if not isinstance(tree, dict):
            raise ValueError(f"{path} holds no module")
        return tree

    def compile_tests(self, revision: Revision) -> Sequence[str]:
        """See the port."""
        return self._check_findings(revision, with_tests=True)

    def _check_findings(self, revision: Revision, *, with_tests: bool = False) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="entente-opa-") as directory:
            lay_out_modules(Path(directory), revision, with_tests=with_tests)
            done = self._run(
                directory,
                *("check", "--strict", "--bundle", "--format", "json", "--max-errors", "100"),
                *("--schema", "schemas", "--capabilities", CAPABILITIES, BUNDLE),
            )
        if done.returncode == 0:
            return []
        return _lines(done.stdout or done.stderr)

    def version(self) -> str:
        """What this OPA says that it is, such as "1.22.2"; "" if it says nothing. Raises OSError if it does not start."""
        found = re.search(rb"^Version: (\S+)$", self._run("/", "version").stdout, re.MULTILINE)
        return "" if found is None else found.group(1).decode(errors="replace")

    def version_findings(self) -> list[str]:
        """One line if this is not the OPA that the broker is tested with, or does not start."""
        try:
            found = self.version()
        except OSError as error:
            return [f"{self._opa}: cannot be started ({error.strerror}); {_REMEDY_OPA}"]
        if not found.startswith(f"{VERSION_MINOR}."):
            return [f"{self._opa}: is not OPA {VERSION_MINOR}; {_REMEDY_OPA}"]
        return []

    def _run(
        self, directory: str, *arguments: str, timeout_s: float = _TIMEOUT_S
    ) -> subprocess.CompletedProcess[bytes]:
        command = [str(self._opa), *arguments]
        try:
            return subprocess.run(
                command,
                cwd=directory,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"it took longer than {timeout_s} s".encode()
            return subprocess.CompletedProcess(command, _TIMED_OUT, b"", said)


def _capability_findings(revision: Revision) -> list[str]:
    """A revision may permit itself less than PERMITTED, never more."""
    try:
        capabilities = orjson.loads(revision.files[CAPABILITIES])
        names = [builtin["name"] for builtin in capabilities["builtins"]]
        network = capabilities["allow_net"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return [f"{CAPABILITIES}: is not what OPA reads; write it as `opa capabilities` does, with allow_net"]
    findings = [
        f"{CAPABILITIES}: built-in '{name}' is not permitted here; leave it out"
        for name in names
        if name not in PERMITTED
    ]
    if network != []:
        findings.append(
            f"{CAPABILITIES}: allow_net must be an empty list; a decision depends on its input only"
        )
    return findings


def _lines(output: bytes) -> list[str]:
    """OPA's errors, one line each, with the path inside the rulebook."""
    try:
        errors: list[dict[str, Any]] = orjson.loads(output)["errors"]
        return [_line(error) for error in errors] or ["opa check failed without a reason; run it by hand"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = " ".join(output.decode(errors="replace").split()) or "no output"
        return [f"opa check: {text[:500]}; correct the rulebook"]


def _line(error: Mapping[str, Any]) -> str:
    location = error.get("location") or {}
    place = inside(location.get("file", "rulebook"))
    message = " ".join(str(error.get("message", "")).split())
    remedy = "correct the module"
    if message.startswith("undefined function"):
        remedy = f"correct the name, or do without it: {CAPABILITIES} holds the permitted built-ins"
    return f"{place}:{location.get('row', 1)}: {message[:500]}; {remedy}"
