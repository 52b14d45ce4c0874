"""`opa test` on a revision, and what it says."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from broker.adapters.opa.bundle import PackedData
from broker.adapters.opa.layout import BUNDLE, CAPABILITIES, inside, lay_out
from broker.adapters.opa.one_shot import Done, OneShot, RunFailed
from broker.model.rulebook import Revision
from broker.ports.rulebook_trial import RegoTest, Verdict

_TEST_CAPABILITIES = "test-capabilities.json"
_TEST_CASE = {
    "name": "internal.test_case",
    "decl": {"args": [{"dynamic": {"type": "any"}, "type": "array"}], "type": "function"},
}
"""What OPA puts into tests of several cases, `test_x[case]`, by itself."""
_DETAILED = 20
"""Of so many failures the values are shown; each is run again for that."""
_TIMEOUT_S = 600.0  # the caller's is the one that counts
_PATH = re.compile(r"^(\s*)/(?=(?:agencies|entente)/)")
_HEADING = re.compile(r"^(data\.\S+): (?:FAIL|ERROR)\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RegoTests:
    """The tests of one revision."""

    one_shot: OneShot
    revision: Revision
    data: PackedData
    timeout_s: float

    async def run(self) -> Sequence[RegoTest]:
        """Every test, by file and line. Raises RunFailed."""
        with tempfile.TemporaryDirectory(prefix="entente-opa-") as name:
            directory = Path(name)
            await asyncio.to_thread(self._write, directory)
            tests = _read((await self._test(directory, "--format", "json")).output)
            failed = [test.name for test in tests if test.verdict is Verdict.FAILED][:_DETAILED]
            shown = await self._details(directory, failed) if failed else {}
        found = [replace(test, detail=shown.get(test.name, test.detail)) for test in tests]
        return sorted(found, key=lambda test: (test.file, test.line, test.name))

    def _write(self, directory: Path) -> None:
        lay_out(directory, self.revision, self.data, with_tests=True)
        permitted = orjson.loads(self.revision.files[CAPABILITIES])
        permitted["builtins"] = [*permitted["builtins"], _TEST_CASE]
        (directory / _TEST_CAPABILITIES).write_bytes(orjson.dumps(permitted))

    async def _details(self, directory: Path, names: Sequence[str]) -> Mapping[str, str]:
        """What OPA shows of each failure: its line, with the values that it had."""
        pattern = "|".join(re.escape(name) for name in names)
        done = await self._test(directory, "--var-values", "--run", f"^({pattern})$")
        return _sections(done.output.decode(errors="replace"))

    async def _test(self, directory: Path, *options: str) -> Done:
        arguments = ["test", "--bundle", "--capabilities", _TEST_CAPABILITIES]
        arguments += ["--timeout", f"{self.timeout_s}s", *options, BUNDLE]
        done = await self.one_shot.run(directory, arguments, timeout_s=_TIMEOUT_S)
        if done.code not in {0, 2}:
            said = " ".join(done.errors.decode(errors="replace").split()) or f"it ended with {done.code}"
            raise RunFailed(said[:500])
        return done


def _read(output: bytes) -> list[RegoTest]:
    try:
        return [_test(each) for each in orjson.loads(output) or ()]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise RunFailed("its output is not what this broker reads") from None


def _test(result: Mapping[str, Any]) -> RegoTest:
    name = f"{result['package']}.{result['name']}"
    place = result["location"]
    verdict, detail = Verdict.PASSED, ""
    if error := result.get("error"):
        where = next((at["location"] for at in error.get("stack_trace", ()) if at["location"]["file"]), None)
        line = f" at {inside(where['file'])}:{where['row']}" if where else ""
        verdict, detail = Verdict.ERROR, f"{error['message']}{line}"
    elif result.get("fail"):
        verdict = Verdict.FAILED
    elif result.get("skip"):
        verdict = Verdict.SKIPPED
    return RegoTest(inside(place["file"]), place["row"], name, verdict, detail)


def _sections(text: str) -> dict[str, str]:
    """The part of OPA's report that is about each failure."""
    _, _, report = text.partition("\nFAILURES\n")
    headings = list(_HEADING.finditer(report))
    ends = [*(heading.start() for heading in headings[1:]), len(report)]
    found: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        lines = report[heading.end() : end].partition("\n-----")[0].splitlines()
        found[heading[1]] = "\n".join(_PATH.sub(r"\1", line) for line in lines if line.strip())
    return found
