from splitrt.rpc.v1 import split_pb2 as _split_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Task(_message.Message):
    __slots__ = ("id", "principal", "width", "bits", "codec", "payloads", "left_us", "reference", "keep")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    LEFT_US_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    id: int
    principal: str
    width: int
    bits: int
    codec: _split_pb2.Codec
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    left_us: int
    reference: _split_pb2.Tensor
    keep: bool
    def __init__(self, id: _Optional[int] = ..., principal: _Optional[str] = ..., width: _Optional[int] = ..., bits: _Optional[int] = ..., codec: _Optional[_Union[_split_pb2.Codec, str]] = ..., payloads: _Optional[_Iterable[bytes]] = ..., left_us: _Optional[int] = ..., reference: _Optional[_Union[_split_pb2.Tensor, _Mapping]] = ..., keep: _Optional[bool] = ...) -> None: ...

class FromTails(_message.Message):
    __slots__ = ("done", "leaving")
    DONE_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    done: Done
    leaving: Leaving
    def __init__(self, done: _Optional[_Union[Done, _Mapping]] = ..., leaving: _Optional[_Union[Leaving, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("id", "outputs", "error", "symbols", "queue_us", "decode_us", "tail_us", "waiting", "wait_us", "frame_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_US_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    FRAME_US_FIELD_NUMBER: _ClassVar[int]
    id: int
    outputs: _containers.RepeatedCompositeFieldContainer[_split_pb2.Tensor]
    error: _split_pb2.FrameError
    symbols: _split_pb2.Tensor
    queue_us: int
    decode_us: int
    tail_us: int
    waiting: int
    wait_us: int
    frame_us: int
    def __init__(self, id: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[_split_pb2.Tensor, _Mapping]]] = ..., error: _Optional[_Union[_split_pb2.FrameError, _Mapping]] = ..., symbols: _Optional[_Union[_split_pb2.Tensor, _Mapping]] = ..., queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., tail_us: _Optional[int] = ..., waiting: _Optional[int] = ..., wait_us: _Optional[int] = ..., frame_us: _Optional[int] = ...) -> None: ...

class Leaving(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
