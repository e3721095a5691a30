from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[Codec]
    CODEC_PACKED: _ClassVar[Codec]
    CODEC_ZSTD: _ClassVar[Codec]
    CODEC_JPEG: _ClassVar[Codec]
    CODEC_FACTORISED: _ClassVar[Codec]
    CODEC_CONTEXT: _ClassVar[Codec]
    CODEC_DELTA: _ClassVar[Codec]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_INPUT: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_FRAME: _ClassVar[ErrorCode]
    ERROR_CODE_INTEGRITY: _ClassVar[ErrorCode]
    ERROR_CODE_FRAME_TOO_LARGE: _ClassVar[ErrorCode]
    ERROR_CODE_WIDTH_UNSUPPORTED: _ClassVar[ErrorCode]
    ERROR_CODE_MODEL_NOT_FOUND: _ClassVar[ErrorCode]
    ERROR_CODE_VERSION_MISMATCH: _ClassVar[ErrorCode]
    ERROR_CODE_VERSION_GONE: _ClassVar[ErrorCode]
    ERROR_CODE_UNAUTHENTICATED: _ClassVar[ErrorCode]
    ERROR_CODE_OVERLOADED: _ClassVar[ErrorCode]
    ERROR_CODE_EXPIRED: _ClassVar[ErrorCode]
    ERROR_CODE_DRAINING: _ClassVar[ErrorCode]
    ERROR_CODE_REMOTE_FAILURE: _ClassVar[ErrorCode]
    ERROR_CODE_REFERENCE_GONE: _ClassVar[ErrorCode]
CODEC_UNSPECIFIED: Codec
CODEC_PACKED: Codec
CODEC_ZSTD: Codec
CODEC_JPEG: Codec
CODEC_FACTORISED: Codec
CODEC_CONTEXT: Codec
CODEC_DELTA: Codec
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_INVALID_INPUT: ErrorCode
ERROR_CODE_BAD_FRAME: ErrorCode
ERROR_CODE_INTEGRITY: ErrorCode
ERROR_CODE_FRAME_TOO_LARGE: ErrorCode
ERROR_CODE_WIDTH_UNSUPPORTED: ErrorCode
ERROR_CODE_MODEL_NOT_FOUND: ErrorCode
ERROR_CODE_VERSION_MISMATCH: ErrorCode
ERROR_CODE_VERSION_GONE: ErrorCode
ERROR_CODE_UNAUTHENTICATED: ErrorCode
ERROR_CODE_OVERLOADED: ErrorCode
ERROR_CODE_EXPIRED: ErrorCode
ERROR_CODE_DRAINING: ErrorCode
ERROR_CODE_REMOTE_FAILURE: ErrorCode
ERROR_CODE_REFERENCE_GONE: ErrorCode

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol", "server", "bundles", "limits")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    server: str
    bundles: _containers.RepeatedCompositeFieldContainer[BundleInfo]
    limits: Limits
    def __init__(self, protocol: _Optional[int] = ..., server: _Optional[str] = ..., bundles: _Optional[_Iterable[_Union[BundleInfo, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class BundleInfo(_message.Message):
    __slots__ = ("name", "version", "bundle_digest", "tables_digest", "widths", "bits", "head_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TABLES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WIDTHS_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    HEAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    bundle_digest: bytes
    tables_digest: bytes
    widths: _containers.RepeatedScalarFieldContainer[int]
    bits: _containers.RepeatedScalarFieldContainer[int]
    head_bytes: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[bytes] = ..., tables_digest: _Optional[bytes] = ..., widths: _Optional[_Iterable[int]] = ..., bits: _Optional[_Iterable[int]] = ..., head_bytes: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_payload_bytes", "max_deadline_ms", "max_in_flight")
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    max_payload_bytes: int
    max_deadline_ms: int
    max_in_flight: int
    def __init__(self, max_payload_bytes: _Optional[int] = ..., max_deadline_ms: _Optional[int] = ..., max_in_flight: _Optional[int] = ...) -> None: ...

class FetchHeadRequest(_message.Message):
    __slots__ = ("bundle_digest",)
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    bundle_digest: bytes
    def __init__(self, bundle_digest: _Optional[bytes] = ...) -> None: ...

class HeadChunk(_message.Message):
    __slots__ = ("path", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    data: bytes
    def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class FromDevice(_message.Message):
    __slots__ = ("hello", "frame", "chunk")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    frame: Frame
    chunk: bytes
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class FromServer(_message.Message):
    __slots__ = ("welcome", "result", "drain", "acks")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    result: Result
    drain: Drain
    acks: Acks
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., acks: _Optional[_Union[Acks, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "bundle", "version", "bundle_digest", "tables_digest", "session_epoch", "deltas", "degrades", "stream")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TABLES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    DEGRADES_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    bundle: str
    version: str
    bundle_digest: bytes
    tables_digest: bytes
    session_epoch: int
    deltas: bool
    degrades: bool
    stream: int
    def __init__(self, protocol: _Optional[int] = ..., bundle: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[bytes] = ..., tables_digest: _Optional[bytes] = ..., session_epoch: _Optional[int] = ..., deltas: _Optional[bool] = ..., degrades: _Optional[bool] = ..., stream: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "limits", "session_epoch")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SESSION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    limits: Limits
    session_epoch: int
    def __init__(self, protocol: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., session_epoch: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("seq", "width", "bits", "codec", "deadline_ms", "crc32c", "payload", "tables", "chunks", "back", "open")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    BACK_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    seq: int
    width: int
    bits: int
    codec: Codec
    deadline_ms: int
    crc32c: int
    payload: bytes
    tables: int
    chunks: int
    back: int
    open: bool
    def __init__(self, seq: _Optional[int] = ..., width: _Optional[int] = ..., bits: _Optional[int] = ..., codec: _Optional[_Union[Codec, str]] = ..., deadline_ms: _Optional[int] = ..., crc32c: _Optional[int] = ..., payload: _Optional[bytes] = ..., tables: _Optional[int] = ..., chunks: _Optional[int] = ..., back: _Optional[int] = ..., open: _Optional[bool] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("seq", "outputs", "error", "queue_us", "decode_us", "tail_us", "chunks")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_US_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    error: FrameError
    queue_us: int
    decode_us: int
    tail_us: int
    chunks: int
    def __init__(self, seq: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ..., queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., tail_us: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...

class Acks(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    def __init__(self, messages: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("grace_ms",)
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    grace_ms: int
    def __init__(self, grace_ms: _Optional[int] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("code", "detail", "reason", "retry_after_ms", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    detail: str
    reason: str
    retry_after_ms: int
    request_id: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., detail: _Optional[str] = ..., reason: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...
