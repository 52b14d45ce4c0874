"""The program `entente-connect`: the commands of `entente connect`, for a partner who has no exchange."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from connectors.cli.connect import connect
from connectors.cli.program import run_program


def main() -> None:
    """The program's entry point."""
    # The C core's own log would mix with the one line that an error is; read before grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    return run_program(connect, "entente-connect", arguments)
