"""One map between our errors, the codes on the wire and gRPC's own status.

What a peer is shown is the error's message, which names values given and wanted; never a path, a
traceback or another client's data.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from splitrt import errors
from splitrt.errors import SplitError
from splitrt.rpc.v1 import split_pb2 as pb

MAX_DETAIL_CHARS = 200
MAX_RETRY_AFTER_MS = 60_000.0

_CODES: dict[type[SplitError], tuple[pb.ErrorCode, grpc.StatusCode]] = {
    errors.InvalidInput: (pb.ERROR_CODE_INVALID_INPUT, grpc.StatusCode.INVALID_ARGUMENT),
    errors.BadFrame: (pb.ERROR_CODE_BAD_FRAME, grpc.StatusCode.INVALID_ARGUMENT),
    errors.IntegrityError: (pb.ERROR_CODE_INTEGRITY, grpc.StatusCode.DATA_LOSS),
    errors.FrameTooLarge: (pb.ERROR_CODE_FRAME_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.WidthUnsupported: (pb.ERROR_CODE_WIDTH_UNSUPPORTED, grpc.StatusCode.INVALID_ARGUMENT),
    errors.ModelNotFound: (pb.ERROR_CODE_MODEL_NOT_FOUND, grpc.StatusCode.NOT_FOUND),
    errors.VersionMismatch: (pb.ERROR_CODE_VERSION_MISMATCH, grpc.StatusCode.FAILED_PRECONDITION),
    errors.VersionGone: (pb.ERROR_CODE_VERSION_GONE, grpc.StatusCode.NOT_FOUND),
    errors.Unauthenticated: (pb.ERROR_CODE_UNAUTHENTICATED, grpc.StatusCode.UNAUTHENTICATED),
    errors.Overloaded: (pb.ERROR_CODE_OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.DeadlineExceeded: (pb.ERROR_CODE_EXPIRED, grpc.StatusCode.DEADLINE_EXCEEDED),
    errors.ServerDraining: (pb.ERROR_CODE_DRAINING, grpc.StatusCode.UNAVAILABLE),
    errors.ReferenceGone: (pb.ERROR_CODE_REFERENCE_GONE, grpc.StatusCode.FAILED_PRECONDITION),
    errors.RemoteFailure: (pb.ERROR_CODE_REMOTE_FAILURE, grpc.StatusCode.INTERNAL),
}
_ERRORS = {code: kind for kind, (code, _) in _CODES.items()}

# How a stream that ends with our own status names its error beyond gRPC's few codes.
CODE_METADATA = "splitrt-error"


def to_wire(error: SplitError) -> pb.FrameError:
    """An error that has no code of its own becomes REMOTE_FAILURE without its text."""
    code = _CODES.get(type(error))
    wire = pb.FrameError(code=code[0] if code else pb.ERROR_CODE_REMOTE_FAILURE)
    wire.detail = str(error)[:MAX_DETAIL_CHARS] if code else "internal error"
    if isinstance(error, errors.BadFrame):
        wire.reason = error.reason
    elif isinstance(error, errors.DeadlineExceeded):
        wire.reason = error.stage
    elif isinstance(error, errors.Overloaded):
        wire.retry_after_ms = int(min(MAX_RETRY_AFTER_MS, max(0.0, error.retry_after_ms)))
    elif isinstance(error, errors.RemoteFailure):
        wire.request_id = error.request_id
    return wire


def from_wire(wire: pb.FrameError) -> SplitError:
    """A code from a newer server becomes RemoteFailure."""
    kind = _ERRORS.get(wire.code, errors.RemoteFailure)
    if issubclass(kind, errors.BadFrame):
        return kind(wire.detail, reason=wire.reason or "malformed")
    if kind is errors.DeadlineExceeded:
        return errors.DeadlineExceeded(wire.detail, stage=wire.reason or "queue")
    if kind is errors.Overloaded:
        return errors.Overloaded(wire.detail, retry_after_ms=float(wire.retry_after_ms))
    if kind is errors.RemoteFailure:
        return errors.RemoteFailure(wire.detail, request_id=wire.request_id)
    return kind(wire.detail)


def grpc_code(error: SplitError) -> grpc.StatusCode:
    """The status that ends a whole call with this error."""
    code = _CODES.get(type(error))
    return code[1] if code else grpc.StatusCode.INTERNAL


async def abort(context: Any, error: SplitError) -> NoReturn:
    """End the call with the error's status; its code travels beside, because gRPC has too few."""
    await context.abort(grpc_code(error), to_wire(error).detail, ((CODE_METADATA, error.code),))
    raise AssertionError("abort does not return")


def from_grpc(error: grpc.RpcError, where: str) -> SplitError:
    """What a failed call means to a device; `where` names the server for the message."""
    code, details = error.code(), str(error.details() or "")[:MAX_DETAIL_CHARS]
    named = dict(error.trailing_metadata() or ()).get(CODE_METADATA)
    for kind in _CODES:
        if kind.code == named:
            return from_wire(pb.FrameError(code=_CODES[kind][0], detail=details))
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return errors.Unauthenticated(f"{where}: {details or 'a valid certificate or token is wanted'}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.VersionMismatch(f"{where} does not speak splitrt.rpc.v1")
    return errors.LinkLost(f"{where}: {code.name.lower()}: {details}")
