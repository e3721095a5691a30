"""Every error splitrt raises on purpose, one tree.

SplitError
 ├─ InvalidInput        the caller's or the peer's values: dtype, shape, length, NaN
 ├─ ConfigError         a setting that cannot be used
 │   ├─ CalibrationRefused  images that cannot give the guarantee asked for
 │   └─ CaptureError    a model that cannot be captured as a graph: which operator or control flow, and where
 ├─ EngineError         tails that cannot be run where they were asked for: no cluster, too little room, a port taken
 ├─ BundleError         a bundle that is damaged, incomplete or disagrees with its golden sample
 ├─ FrameTooLarge       over the cap agreed for one frame
 ├─ BadFrame            bytes that do not decode to what their header says (`reason`)
 │   ├─ IntegrityError  the checksum does not match
 │   └─ ReferenceGone   the difference to a frame that the server does not hold: send it whole
 ├─ ModelNotFound       no bundle of that name here
 ├─ VersionMismatch     protocol, bundle digest or table digest differ
 │   └─ VersionGone     the server no longer serves this version
 ├─ WidthUnsupported    a width or bit depth that this bundle does not have
 ├─ Unauthenticated     no certificate or token, or a wrong one
 ├─ Overloaded          refused by admission (`retry_after_ms`)
 ├─ DeadlineExceeded    too late (`stage` says where)
 ├─ LinkLost            the connection ended under the frame
 ├─ ServerDraining      the server is going away and takes no new work
 ├─ RemoteFailure       the server failed inside (`request_id` finds its log line)
 ├─ Withdrawn           taken back by the device before it was sent
 └─ ClientClosed        the client was closed with this frame unanswered

A message says what happened, what was given and what was wanted. `code` is the closed name used on
the wire and as a metric label; `retryable` says whether the same frame may be sent again.
"""

from __future__ import annotations

from typing import ClassVar


class SplitError(Exception):
    """The root: catch this to catch everything splitrt raises on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class InvalidInput(SplitError):
    code = "invalid_input"


class ConfigError(SplitError):
    code = "config"


class CaptureError(ConfigError):
    code = "capture"


class CalibrationRefused(ConfigError):
    """The images cannot give the guarantee that was asked for: too few, or ones that training has seen."""

    code = "calibration"


class EngineError(SplitError):
    """No cluster at the address, another version of Ray, too few resources, a replica that does not start, a port."""

    code = "engine"


class BundleError(SplitError):
    code = "bundle"


class FrameTooLarge(SplitError):
    code = "frame_too_large"


class BadFrame(SplitError):
    """`reason` is one of a closed set of words, safe to show to a peer."""

    code = "bad_frame"

    def __init__(self, message: str, *, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class IntegrityError(BadFrame):
    code = "integrity"
    retryable = True

    def __init__(self, message: str, *, reason: str = "checksum") -> None:
        super().__init__(message, reason=reason)


class ReferenceGone(BadFrame):
    code = "reference_gone"
    retryable = True

    def __init__(self, message: str, *, reason: str = "reference") -> None:
        super().__init__(message, reason=reason)


class ModelNotFound(SplitError):
    code = "model_not_found"


class VersionMismatch(SplitError):
    code = "version_mismatch"


class VersionGone(VersionMismatch):
    code = "version_gone"


class WidthUnsupported(SplitError):
    code = "width_unsupported"


class Unauthenticated(SplitError):
    code = "unauthenticated"


class Overloaded(SplitError):
    """`reason` is what was full: stream, streams, queue, time, fairness, tails or unread. It does not travel."""

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: float = 0.0, reason: str = "other") -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.reason = reason


class DeadlineExceeded(SplitError):
    """`stage` is where time ran out: head, uplink, assembly, queue or tail."""

    code = "expired"

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(message)
        self.stage = stage


class LinkLost(SplitError):
    code = "link_lost"
    retryable = True


class ServerDraining(SplitError):
    code = "draining"
    retryable = True


class RemoteFailure(SplitError):
    code = "remote_failure"
    retryable = True

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class Withdrawn(SplitError):
    code = "withdrawn"


class ClientClosed(SplitError):
    code = "client_closed"
