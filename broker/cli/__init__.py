"""The command line `entente`: one module a command group, over the Python client.

Modules here import grpc, protobuf and pydantic inside their functions, so that `entente --help` answers at once.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """The program's entry point."""
    # The C core's own log would mix with the one line that an error is; read before grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from broker.cli.app import run

    sys.exit(run(sys.argv[1:]))
