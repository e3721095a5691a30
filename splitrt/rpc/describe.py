"""Our own values <-> protobuf messages for what is asked beside the frame path: Describe and FetchHead."""

from __future__ import annotations

from dataclasses import dataclass

from splitrt.rpc.frames import PROTOCOL, Limits
from splitrt.rpc.messages import limits_from_wire, limits_to_wire
from splitrt.rpc.v1 import split_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """One bundle that a server has."""

    name: str
    version: str
    bundle_digest: bytes
    tables_digest: bytes
    widths: tuple[int, ...]
    bits: tuple[int, ...]
    head_bytes: int  # what FetchHead will send


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a server says of itself."""

    server: str  # splitrt's version there
    bundles: tuple[BundleInfo, ...]
    limits: Limits
    protocol: int = PROTOCOL


def describe_request() -> pb.DescribeRequest:
    return pb.DescribeRequest()


def described_to_wire(described: Described) -> pb.DescribeResponse:
    response = pb.DescribeResponse(
        protocol=described.protocol, server=described.server, limits=limits_to_wire(described.limits)
    )
    for one in described.bundles:
        response.bundles.append(
            pb.BundleInfo(
                name=one.name,
                version=one.version,
                bundle_digest=one.bundle_digest,
                tables_digest=one.tables_digest,
                widths=one.widths,
                bits=one.bits,
                head_bytes=one.head_bytes,
            )
        )
    return response


def described_from_wire(response: pb.DescribeResponse) -> Described:
    bundles = tuple(
        BundleInfo(
            name=one.name,
            version=one.version,
            bundle_digest=one.bundle_digest,
            tables_digest=one.tables_digest,
            widths=tuple(one.widths),
            bits=tuple(one.bits),
            head_bytes=one.head_bytes,
        )
        for one in response.bundles
    )
    limits = limits_from_wire(response.limits)
    return Described(server=response.server, bundles=bundles, limits=limits, protocol=response.protocol)


def fetch_request(bundle_digest: bytes) -> pb.FetchHeadRequest:
    return pb.FetchHeadRequest(bundle_digest=bundle_digest)


def head_chunk(path: str, data: bytes) -> pb.HeadChunk:
    """path: on a file's first chunk only."""
    return pb.HeadChunk(path=path, data=data)
