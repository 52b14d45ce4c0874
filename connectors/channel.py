"""Opens the gRPC channel: TLS with the exchange's CA, and a client certificate where tokens are bound to one."""

from __future__ import annotations

from pathlib import Path

import grpc

ClientCertificate = tuple[Path, Path]
"""PEM files of the certificate chain and of its private key."""

_RECEIVE_LIMIT_BYTES = 64 * 1024 * 1024
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _RECEIVE_LIMIT_BYTES),
    ("grpc.max_send_message_length", _RECEIVE_LIMIT_BYTES),
    # The client repeats calls itself, because only it knows which ones may be repeated.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Notices a dead peer within 30 s; the exchange accepts pings 10 s apart.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Channels to one endpoint with different tokens do not share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(
    endpoint: str,
    *,
    ca_file: Path | None = None,
    client_certificate: ClientCertificate | None = None,
    insecure_plaintext: bool = False,
) -> grpc.aio.Channel:
    """A channel to `host:port`, connected when it is first used.

    Without `ca_file` the exchange's certificate must chain to the public roots that grpcio ships. Raises OSError if
    a file cannot be read and ValueError for plaintext together with TLS files.
    """
    if insecure_plaintext:
        if ca_file is not None or client_certificate is not None:
            raise ValueError("insecure_plaintext excludes ca_file and client_certificate")
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    chain, key = (path.read_bytes() for path in client_certificate) if client_certificate else (None, None)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca_file.read_bytes() if ca_file else None, private_key=key, certificate_chain=chain
    )
    return grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)
