from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt import errors
from splitrt.errors import SplitError
from splitrt.rpc import status
from splitrt.rpc.v1 import split_pb2 as pb

relaxed = settings(deadline=None)

SENDABLE: list[SplitError] = [
    errors.InvalidInput("shape must be (3,)"),
    errors.BadFrame("payload is no zstd", reason="zstd_size"),
    errors.IntegrityError("checksum differs", reason="checksum"),
    errors.ReferenceGone("frame 3 is not kept", reason="reference"),
    errors.FrameTooLarge("payload must be at most 9 bytes"),
    errors.WidthUnsupported("width must be one of (1, 2)"),
    errors.ModelNotFound("no such bundle"),
    errors.VersionMismatch("digest differs"),
    errors.VersionGone("version 1 is gone"),
    errors.Unauthenticated("a token is wanted"),
    errors.Overloaded("32 frames wait", retry_after_ms=250.0),
    errors.DeadlineExceeded("waited 9 ms", stage="tail"),
    errors.ServerDraining("draining"),
    errors.RemoteFailure("the tail failed", request_id="0123abcd"),
]
LOCAL: list[SplitError] = [
    SplitError("/home/someone/secret"),
    errors.ConfigError("/home/someone/secret"),
    errors.CaptureError("/home/someone/secret"),
    errors.CalibrationRefused("/home/someone/secret"),
    errors.EngineError("/home/someone/secret"),
    errors.BundleError("/home/someone/secret"),
    errors.LinkLost("/home/someone/secret"),
    errors.Withdrawn("/home/someone/secret"),
    errors.ClientClosed("/home/someone/secret"),
]


def kinds(root: type[SplitError] = SplitError) -> Iterator[type[SplitError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def ours() -> list[type[SplitError]]:
    return [kind for kind in kinds() if kind.__module__ == "splitrt.errors"]


def over_the_wire(error: SplitError) -> SplitError:
    return status.from_wire(pb.FrameError.FromString(status.to_wire(error).SerializeToString()))


def test_every_error_is_tried_here() -> None:
    assert sorted(kind.__name__ for kind in ours()) == sorted(type(error).__name__ for error in [*SENDABLE, *LOCAL])


@pytest.mark.parametrize("error", SENDABLE, ids=lambda error: type(error).__name__)
def test_a_sent_error_arrives_with_its_type_its_text_and_its_field(error: SplitError) -> None:
    arrived = over_the_wire(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize("error", LOCAL, ids=lambda error: type(error).__name__)
def test_an_error_that_is_not_for_peers_arrives_without_its_text(error: SplitError) -> None:
    wire = status.to_wire(error)
    assert b"secret" not in wire.SerializeToString()
    assert type(over_the_wire(error)) is errors.RemoteFailure


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in ours()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^.*─ (\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(["SplitError", *drawn]) == sorted(kind.__name__ for kind in ours())


def test_only_what_may_succeed_when_sent_again_is_retryable() -> None:
    assert {kind.__name__ for kind in ours() if kind.retryable} == {
        "IntegrityError",
        "Overloaded",
        "LinkLost",
        "ServerDraining",
        "ReferenceGone",
        "RemoteFailure",
    }


@relaxed
@given(detail=st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
def test_a_long_text_is_cut_and_never_refused(detail: str) -> None:
    arrived = over_the_wire(errors.InvalidInput(detail))
    assert str(arrived) == detail[: status.MAX_DETAIL_CHARS]


@relaxed
@given(
    code=st.integers(0, 2**31 - 1),
    detail=st.text(max_size=20),
    reason=st.text(max_size=20),
    after=st.integers(0, 2**32 - 1),
)
def test_any_error_off_the_wire_is_one_of_ours(code: int, detail: str, reason: str, after: int) -> None:
    wire = pb.FrameError(detail=detail, reason=reason, retry_after_ms=after)
    wire.code = code  # type: ignore[assignment]
    assert type(status.from_wire(wire)) in ours()


def test_a_code_from_a_newer_server_is_a_remote_failure() -> None:
    wire = pb.FrameError(detail="newer", request_id="7")
    wire.code = 9999  # type: ignore[assignment]
    arrived = status.from_wire(wire)
    assert isinstance(arrived, errors.RemoteFailure)
    assert arrived.request_id == "7"
