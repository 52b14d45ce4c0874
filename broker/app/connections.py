"""How many connections the listeners hold, and how long one that brings no call: anybody may open them, before any token.

gRPC counts the connections of a listener and not those of an address, so whoever may reach the port can still take all of
them; docs/operations.md says what to put in front.
"""

from __future__ import annotations

import logging
import resource

from broker.app.config import Limits

log = logging.getLogger(__name__)

RESERVED_FILES = 512
"""What stores, Kafka, the policy engines and the files of a start may have open."""


def server_options(limits: Limits, listeners: int) -> list[tuple[str, int]]:
    """The options of a gRPC server that listens on so many ports."""
    return [
        # Twice the limit reaches the catalogue's own answer; beyond it the transport refuses by itself.
        ("grpc.max_receive_message_length", 2 * limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 32 << 10),
        ("grpc.max_concurrent_streams", 1_000),
        # One more is closed as soon as it is accepted, before TLS costs anything.
        ("grpc.max_allowed_incoming_connections", room_for(limits.connections, listeners)),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", int(limits.idle_connection_s * 1000)),
        # Two instances must not share an address by accident.
        ("grpc.so_reuseport", 0),
        # Clients may ping each 10 s, with or without an open call.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def room_for(wanted: int, listeners: int) -> int:
    """The connections that each listener may hold: as many as wanted, if this process may open so many files.

    Raises the process's own limit (RLIMIT_NOFILE) as far as that is permitted: a broker that has no file left for its stores
    would serve nobody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted * listeners + RESERVED_FILES
    if resource.RLIM_INFINITY != soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(1, (soft - RESERVED_FILES) // listeners)
    log.warning(
        "limits.connections: %d connections on each of %d listeners need %d open files, and this process may have %d; each"
        " holds %d at most; raise the limit of open files (LimitNOFILE, ulimit -n), or lower limits.connections",
        *(wanted, listeners, needed, soft, room),
    )
    return room
