"""The service as gRPC knows it: its base class, its name, a stub for a channel."""

from __future__ import annotations

from typing import Any

from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.rpc.v1 import split_pb2_grpc as pb_grpc

Servicer = pb_grpc.SplitServicer
NAME: str = pb.DESCRIPTOR.services_by_name["Split"].full_name


def add_servicer(servicer: Servicer, server: Any) -> None:
    pb_grpc.add_SplitServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def open_stub(channel: Any) -> Any:
    """Describe, FetchHead and Infer of the server at the channel's far end."""
    return pb_grpc.SplitStub(channel)  # type: ignore[no-untyped-call]
