"""Examines one proposed rulebook and prints what was found: run by ExaminerProcess, in a process of its own.

A rulebook of hostile rules and data takes time and memory to be looked at, which the exchange must not lack meanwhile. The
kernel ends this process with the broker that started it.
Usage: python -m broker.app.examining PARENT_PID DIRECTORY OPA [AGENCY]; DIRECTORY holds proposed.tar.gz and present.tar.gz.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson

from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.app.set_apart import set_apart
from broker.core.rulebook.archive import read_archive
from broker.core.rulebook.check import read_registry
from broker.core.rulebook.examine import examine
from broker.core.rulebook.examined import check_of, refused
from broker.core.rulebook.probing import probing_findings
from broker.core.rulebook.proposals import Check, check_body
from broker.core.rulebook.read_before import ReadBefore
from broker.core.rulebook.syntax import remembering
from broker.model.rulebook import Revision
from connectors.garbage import spare_collections

PRESENT, PROPOSED = "present.tar.gz", "proposed.tar.gz"


def main(parent: int, directory: Path, opa: Path, agency: str | None) -> None:
    """Print the check as JSON."""
    set_apart(parent)
    spare_collections()
    present, proposed = read_archive(directory / PRESENT), read_archive(directory / PROPOSED)
    check = asyncio.run(_check(opa, present, proposed, agency))
    sys.stdout.buffer.write(orjson.dumps(check_body(check)))


async def _check(opa: Path, present: Revision, proposed: Revision, agency: str | None) -> Check:
    compiler = OpaCompiler(opa)
    before = ReadBefore()
    registry = read_registry(present, before)
    if agency is not None and (
        found := probing_findings(remembering(compiler.parse), registry, proposed, agency)
    ):
        return refused(found)
    return check_of(await examine(compiler, OpaTrials(opa), proposed, present=registry, before=before))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
