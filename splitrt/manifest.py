"""A bundle's manifest: everything a device or server must know of a bundle, as data.

Pre- and post-processing are declared here, so that a device imports no family module. The digest of the
manifest's bytes names the bundle: the manifest holds the digest of every other file.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from splitrt.codec import spectrogram
from splitrt.codec.parts import DTYPES, EXACT, Part, channels
from splitrt.errors import BundleError, InvalidInput

SCHEMA = 1
MAX_TENSOR_BYTES = 64 << 20  # as on the wire
LEAST_SIDE, MOST_SIDE = 8, 4096  # of a photograph
MOST_INPUTS = 64  # tensors that a captured network takes
MAX_WIDTH = 65_535  # a frame's checksum covers its width in two bytes
FILE_NAME = re.compile(r"^[a-z0-9_]+(/[a-z0-9_]+)?\.(onnx|safetensors|npz|json)$")

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VERSION = re.compile(r"[0-9A-Za-z.]{1,20}")


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Pixels(Table):
    """From a photograph to the stem's input: fit, scale to 0..1, subtract mean, divide by std, CHW."""

    height: int = Field(ge=LEAST_SIDE, le=MOST_SIDE)
    width: int = Field(ge=LEAST_SIDE, le=MOST_SIDE)
    mean: tuple[float, float, float]
    std: Annotated[tuple[float, float, float], Field(description="each above zero")]
    fit: Literal["cover", "stretch"] = "cover"  # short side to size, then the centre crop; or each side to its size

    @model_validator(mode="after")
    def _positive(self) -> Pixels:
        if min(self.std) <= 0:
            raise ValueError(f"pixels.std must be above zero, got {self.std}")
        return self


class Audio(Table):
    """From a sound to the stem's input (1, 1, bands, frames): its middle `samples`, log-mel, against the voice's mean.

    A sound is mono, int16 or float in -1..1, at `rate_hz`.
    """

    rate_hz: int = Field(ge=4_000, le=192_000)
    samples: int = Field(ge=64, le=1 << 22)
    window: int = Field(ge=32, le=1 << 14)  # samples of a frame of the spectrogram
    hop: int = Field(ge=1, le=1 << 14)
    bands: int = Field(ge=4, le=256)
    low_hz: float = Field(ge=0)
    high_hz: float = Field(gt=0)
    mean: tuple[float, ...]  # a band's in voiced frames of the training speakers: where hearing starts from
    deviation: tuple[float, ...]
    memory: int = Field(100, ge=1, le=1 << 20)  # frames that this mean counts for

    @model_validator(mode="after")
    def _sound(self) -> Audio:
        if self.window > self.samples:
            raise ValueError(f"audio.window must be at most audio.samples {self.samples}, got {self.window}")
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                f"audio.high_hz must lie above low_hz and up to {self.rate_hz / 2:g}, got {self.low_hz}, {self.high_hz}"
            )
        if not len(self.mean) == len(self.deviation) == self.bands or min(self.deviation) <= 0:
            raise ValueError(f"audio.mean and deviation (above 0) must be one number a band, {self.bands} of them")
        if self.frames * self.bands > 1 << 20:
            raise ValueError(f"audio must give at most {1 << 20} values, got {self.bands} x {self.frames}")
        return self

    @property
    def frames(self) -> int:
        return 1 + (self.samples - self.window) // self.hop

    def hearing(self) -> spectrogram.Hearing:
        """Of a stream that begins."""
        mean_B, deviation_B = (np.array(one, np.float32) for one in (self.mean, self.deviation))
        return spectrogram.Hearing(mean_B, deviation_B, self.memory)

    def log_mel(self, sound_S: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(bands, frames) of a float sound of any length."""
        bank_BF = spectrogram.mel_bank(self.rate_hz, self.window, self.bands, self.low_hz, self.high_hz)
        placed_1S = spectrogram.placed(sound_S, self.samples)[None]
        log_1BT = spectrogram.log_mel(spectrogram.power(placed_1S, self.window, self.hop), bank_BF)
        return np.asarray(log_1BT[0])


class Output(Table):
    """From the tail's output to an answer."""

    kind: Literal["classes", "boxes", "tensor"]
    labels: tuple[str, ...] = ()
    nms_iou: float = Field(0.45, ge=0, le=1)  # boxes: of two of a class that overlap more, the better stays
    min_score: float = Field(0.25, ge=0, le=1)  # boxes: below it, nothing was found


class TensorSpec(Table):
    """A tensor as a captured network takes or gives it, its batch of one included."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,200}$")
    dtype: str
    shape: tuple[Annotated[int, Field(ge=1, le=1 << 30)], ...] = Field((), max_length=8)
    order: tuple[int, ...] = ()  # dimensions from the slowest in memory to the fastest

    @model_validator(mode="after")
    def _sound(self) -> TensorSpec:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if sorted(self.order) != [*range(len(self.shape))]:
            raise ValueError(f"order must name each of {len(self.shape)} dimensions once, got {self.order}")
        if self.part.bytes_at(EXACT) > MAX_TENSOR_BYTES:
            raise ValueError(f"a tensor must be at most {MAX_TENSOR_BYTES} bytes, got shape {self.shape}")
        return self

    @property
    def part(self) -> Part:
        return Part(dtype=self.dtype, shape=self.shape, order=self.order)


class Seam(Table):
    """The contract at the cut: bottleneck channels over a height x width map, or a captured network's tensors.

    Nested: widths are channel counts, in groups of which a prefix is sent. An ensemble's widths are how many
    members were summed, and `sum_channels` are sent at each. Where there are `tensors`, all of them cross in every
    frame, at 1 to 8 bits a value or exactly (32); the one width counts the channels that have ranges.
    """

    widths: tuple[int, ...] = Field(min_length=1, max_length=16)
    bits: tuple[int, ...] = Field(min_length=1)
    height: int = Field(1, ge=1, le=1024)
    width: int = Field(1, ge=1, le=1024)
    sum_channels: int | None = Field(None, ge=1, le=4096)
    tensors: tuple[TensorSpec, ...] = Field((), max_length=256)

    @model_validator(mode="after")
    def _sound(self) -> Seam:
        if not self.tensors and not {"height", "width"} <= self.model_fields_set:
            raise ValueError("seam must say the height and width of its map")
        most = MAX_WIDTH if self.tensors else 4096
        if list(self.widths) != sorted(set(self.widths)) or not 1 <= self.widths[0] <= self.widths[-1] <= most:
            raise ValueError(f"seam.widths must rise strictly from 1 up, to {most} at most, got {self.widths}")
        if not set(self.bits) <= {*range(1, 9), *([EXACT] if self.tensors else [])}:
            raise ValueError(f"seam.bits must be among 1 to 8 (tensors: or {EXACT}), got {self.bits}")
        if self.tensors and self.widths != (channels(self.parts),):
            raise ValueError(f"seam.widths must be ({channels(self.parts)},) for these tensors, got {self.widths}")
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(one.part for one in self.tensors)

    @property
    def channels(self) -> int:
        """Channels at the widest."""
        return self.sum_channels or self.widths[-1]

    def channels_at(self, width: int) -> int:
        """Channels that are sent at a width."""
        return self.sum_channels or width

    def group_sizes(self, width: int) -> list[int]:
        """Channels of each chunk that a frame of this width may come in."""
        if self.sum_channels:
            return [self.sum_channels]
        stops = (0, *self.widths[: self.widths.index(width) + 1])
        return [stop - start for start, stop in zip(stops[:-1], stops[1:], strict=True)]


class Branch(Table):
    """Sizes of an exit's branch: a row of blocks of so many channels, hidden ones `expand` times those given."""

    channels: int = Field(ge=1, le=1024)
    blocks: int = Field(1, ge=1, le=16)
    expand: int = Field(1, ge=1, le=8)


class Exit(Branch):
    """One exit of a device: its confidence is one of softmax(logits / temperature)."""

    temperature: float = Field(gt=0)


class Exits(Table):
    """The device's own answers, cheap first, and how sure one must be before it may be the result.

    One threshold for all of them: that is the path along which it was certified (see splitrt.policy.guarantee).
    """

    confidence: Literal["top1", "entropy", "margin"] = "top1"
    threshold: float = Field(ge=0, le=1.01)  # above 1: never
    classes: int = Field(ge=1, le=1 << 20)
    chain: tuple[Exit, ...] = Field(min_length=1, max_length=8)


class Gate(Table):
    """When there is nothing to answer: P(nothing) at or above the threshold, in any gate of the row, ends the frame.

    Gate k is `head/gate_k.onnx`: `x` to `odds`, the logarithm of P(something) / P(nothing), and, where the next one
    reads what it carries on, to `carried`. One threshold holds for the whole row, so that one certificate covers all
    that the row loses together.
    """

    reads: tuple[Literal["frame", "features", "carried"], ...] = Field(min_length=1, max_length=4)  # as they run
    threshold: float = Field(ge=0, le=1.01)  # above 1: never
    answer: str = Field("nothing", min_length=1, max_length=64)  # what a stopped frame's label says
    positives: tuple[str, ...] = ()  # what is let through

    @model_validator(mode="after")
    def _in_order(self) -> Gate:
        places = [place for place in self.reads if place != "carried"]
        if places != sorted(places, reverse=True):
            raise ValueError(f"gate.reads must name frames before features, got {list(self.reads)}")
        if self.reads[0] == "carried":
            raise ValueError(f"gate.reads must not begin with what a gate before carries on, got {list(self.reads)}")
        return self

    def carries(self, k: int) -> bool:
        """Whether the gate at place k, from 0, carries something on for the next."""
        return self.reads[k + 1 : k + 2] == ("carried",)


class Manifest(Table):
    schema_version: Literal[1]
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = Field(pattern=f"^{VERSION.pattern}$")
    base: str | None = Field(
        None, pattern=f"^{NAME.pattern}-{VERSION.pattern}$"
    )  # a bundle beside it, whose files it shares
    family: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    head_arguments: dict[str, int | float | str] = {}
    tail_arguments: dict[str, int | float | str] = {}
    pixels: Pixels | None = None  # None: it takes `audio` or `inputs`, not photographs
    audio: Audio | None = None
    inputs: tuple[TensorSpec, ...] = Field((), max_length=MOST_INPUTS)
    output: Output
    seam: Seam
    # Sizes of encoder and decoder; None: the features themselves are sent.
    bottleneck: dict[Literal["hidden", "decoder_hidden"], Annotated[int, Field(ge=1, le=4096)]] | None = None
    gate: Gate | None = None
    exits: Exits | None = None
    golden_tolerance: float = Field(gt=0)  # of the logits, absolute; of tensors, as a share of the largest value
    files: dict[str, str]  # path in the bundle -> SHA-256, hex

    @model_validator(mode="after")
    def _inputs_sound(self) -> Manifest:
        if sum((self.pixels is not None, self.audio is not None, bool(self.inputs))) != 1:
            raise ValueError("a bundle takes either photographs (pixels), sounds (audio) or tensors (inputs)")
        return self

    @property
    def photograph(self) -> Pixels:
        """What a photograph becomes. Raises InvalidInput where the bundle takes something else."""
        if self.pixels is None:
            takes = f"{len(self.inputs)} tensors" if self.audio is None else "sounds"
            raise InvalidInput(f"bundle {self.name} takes {takes}, got a photograph")
        return self.pixels

    @model_validator(mode="after")
    def _files_sound(self) -> Manifest:
        for path, digest in self.files.items():
            if not FILE_NAME.fullmatch(path) or not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"files must map plain names to SHA-256 digests, got {path!r}: {digest!r}")
        return self


def parse_manifest(data: bytes) -> Manifest:
    """Raises BundleError with the key, what was given and what was wanted."""
    try:
        return Manifest.model_validate(tomllib.loads(data.decode()))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise BundleError(f"manifest.toml: {place}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise BundleError(f"manifest.toml must be valid TOML: {error}") from error


def write_manifest(manifest: Manifest) -> bytes:
    """TOML that `parse_manifest` reads back to the same manifest."""
    tables = manifest.model_dump(mode="json", exclude_none=True)
    plain = [f"{key} = {_value(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    nested = [_table(key, value) for key, value in tables.items() if isinstance(value, dict)]
    return ("\n".join([*plain, *nested]) + "\n").encode()


def _table(name: str, table: dict[str, Any]) -> str:
    lines = [f"{_value(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join([f"\n[{name}]", *lines])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(_value(one) for one in value) + ",\n]"
    # JSON's strings, finite numbers, booleans and arrays are TOML's as well, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
