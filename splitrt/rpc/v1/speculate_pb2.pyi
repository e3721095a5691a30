from splitrt.rpc.v1 import split_pb2 as _split_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromDrafter(_message.Message):
    __slots__ = ("open", "round")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    open: Open
    round: Round
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., round: _Optional[_Union[Round, _Mapping]] = ...) -> None: ...

class FromVerifier(_message.Message):
    __slots__ = ("opened", "verdict")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    verdict: Verdict
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "bundle", "version", "bundle_digest", "tokenizer_digest", "vocabulary", "session", "sampling", "ends", "states")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    bundle: str
    version: str
    bundle_digest: bytes
    tokenizer_digest: bytes
    vocabulary: int
    session: bytes
    sampling: Sampling
    ends: _containers.RepeatedScalarFieldContainer[int]
    states: bool
    def __init__(self, protocol: _Optional[int] = ..., bundle: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[bytes] = ..., tokenizer_digest: _Optional[bytes] = ..., vocabulary: _Optional[int] = ..., session: _Optional[bytes] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., ends: _Optional[_Iterable[int]] = ..., states: _Optional[bool] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("protocol", "context", "max_nodes", "held", "held_hash")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    HELD_HASH_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    context: int
    max_nodes: int
    held: int
    held_hash: int
    def __init__(self, protocol: _Optional[int] = ..., context: _Optional[int] = ..., max_nodes: _Optional[int] = ..., held: _Optional[int] = ..., held_hash: _Optional[int] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("round", "base", "base_hash", "prefix", "ids", "back", "more", "drafted", "stated")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    BASE_HASH_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    BACK_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    STATED_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: int
    base_hash: int
    prefix: _containers.RepeatedScalarFieldContainer[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    back: bytes
    more: int
    drafted: int
    stated: int
    def __init__(self, round: _Optional[int] = ..., base: _Optional[int] = ..., base_hash: _Optional[int] = ..., prefix: _Optional[_Iterable[int]] = ..., ids: _Optional[_Iterable[int]] = ..., back: _Optional[bytes] = ..., more: _Optional[int] = ..., drafted: _Optional[int] = ..., stated: _Optional[int] = ..., **kwargs) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("round", "base", "path", "tokens", "queue_us", "verify_us", "need_prefix", "error", "states")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    VERIFY_US_FIELD_NUMBER: _ClassVar[int]
    NEED_PREFIX_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: int
    path: bytes
    tokens: _containers.RepeatedScalarFieldContainer[int]
    queue_us: int
    verify_us: int
    need_prefix: bool
    error: _split_pb2.FrameError
    states: bytes
    def __init__(self, round: _Optional[int] = ..., base: _Optional[int] = ..., path: _Optional[bytes] = ..., tokens: _Optional[_Iterable[int]] = ..., queue_us: _Optional[int] = ..., verify_us: _Optional[int] = ..., need_prefix: _Optional[bool] = ..., error: _Optional[_Union[_split_pb2.FrameError, _Mapping]] = ..., states: _Optional[bytes] = ...) -> None: ...
