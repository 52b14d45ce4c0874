"""The container's health check, against a real TLS server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from broker.app.pki import make_authority, make_server
from deploy import healthcheck
from tests.services.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, health.HealthServicer]]:
    """An address, its authority's certificate, and the servicer whose answer can be set."""
    now_ms = int(time.time() * 1000)
    authority = make_authority("Test authority", ["127.0.0.1"], now_ms)
    credential = make_server(authority, ["127.0.0.1"], now_ms)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.certificate_pem)
    running = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    address = f"127.0.0.1:{free_port()}"
    running.add_secure_port(
        address, grpc.ssl_server_credentials([(credential.key_pem, credential.certificate_pem)])
    )
    running.start()
    yield address, ca_file, servicer
    running.stop(None).wait()


def test_it_follows_what_the_server_says(
    server: tuple[str, Path, health.HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    address, ca_file, servicer = server
    assert healthcheck.main([address, str(ca_file)]) == 0
    assert capsys.readouterr().out == f"{address}: SERVING\n"
    servicer.set("", NOT_SERVING)
    assert healthcheck.main([address, str(ca_file)]) == 1
    assert capsys.readouterr().out == f"{address}: NOT_SERVING\n"


def test_a_server_of_another_authority_is_not_trusted(
    server: tuple[str, Path, health.HealthServicer], tmp_path: Path
) -> None:
    address, _, _ = server
    other = tmp_path / "other.pem"
    other.write_bytes(make_authority("Another", ["127.0.0.1"], int(time.time() * 1000)).certificate_pem)
    assert healthcheck.main([address, str(other)]) == 1


def test_nothing_there_is_unhealthy(server: tuple[str, Path, health.HealthServicer]) -> None:
    _, ca_file, _ = server
    assert healthcheck.main([f"127.0.0.1:{free_port()}", str(ca_file)]) == 1


def test_a_missing_authority_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main(["127.0.0.1:1", "/nonexistent/ca.pem"]) == 1
    assert "/nonexistent/ca.pem: cannot be read" in capsys.readouterr().out
    assert healthcheck.main([]) == 2
