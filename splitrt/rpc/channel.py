"""gRPC options of both ends, side by side because they only work as a pair.

Keepalive needs three options: without `grpc.http2.ping_timeout_ms` a frozen peer goes unnoticed for 60 s
whatever the other two say. And a server cuts off a client that pings more often than it permits, so what
the client sends and what the server permits are written here together.

Message caps of the transport lie well above our own payload cap: an oversized message ends the whole
stream, so refusals must be ours, one frame at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

Options = Sequence[tuple[str, int]]

PING_EVERY_MS = 1_000
PING_TIMEOUT_MS = 1_000
WINDOW_BYTES = 1 << 20  # a slow reader must not look like a slow link


def client_options(max_message_bytes: int) -> Options:
    return [
        ("grpc.keepalive_time_ms", PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # One channel a connection attempt: back-off is ours, and no attempt inherits another's.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]


def server_options(max_message_bytes: int, max_streams_per_connection: int) -> Options:
    return [
        ("grpc.keepalive_time_ms", 10 * PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", 5 * PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", 5 * PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_EVERY_MS // 2),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.max_concurrent_streams", max_streams_per_connection),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.so_reuseport", 0),
    ]
