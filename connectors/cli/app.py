"""The program `entente-connect`: the commands of `entente connect`, for a partner who has no exchange."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from connectors.cli.failures import ExitCode, complain


def main() -> None:
    """The program's entry point."""
    # The C core's own log would mix with the one line that an error is; read before grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        from connectors.cli.connect import connect
        from connectors.cli.program import run_program
    except ModuleNotFoundError as missing:  # the client alone has no need of what the commands need
        complain(
            f"{missing.name} is not installed; install 'entente-client[connect]', for Kafka with [connect,kafka]"
        )
        return ExitCode.FAILED
    return run_program(connect, "entente-connect", arguments)
