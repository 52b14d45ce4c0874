"""Whether the broker on this machine serves: `python healthcheck.py HOST:PORT CA_FILE`; exit status 0 if it does.

Asks grpc.health.v1 over TLS, as any client would. Prints one line, for `docker inspect`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 4.0


def serves(address: str, ca_pem: bytes, timeout_s: float = _TIMEOUT_S) -> tuple[bool, str]:
    """Whether the server at `address` answers SERVING, and what it answered in one word."""
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_pem)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            status = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s).status
        except grpc.RpcError as error:
            return False, str(error.code().name)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    return status == health_pb2.HealthCheckResponse.SERVING, str(name)


def main(arguments: Sequence[str]) -> int:
    """Check once; returns the exit status."""
    if len(arguments) != 2:
        print("usage: healthcheck.py HOST:PORT CA_FILE", file=sys.stderr)
        return 2
    address, ca_file = arguments
    try:
        ca_pem = Path(ca_file).read_bytes()
    except OSError as error:
        print(f"{ca_file}: cannot be read: {error.strerror}")
        return 1
    good, word = serves(address, ca_pem)
    print(f"{address}: {word}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
