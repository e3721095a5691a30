"""Claim `codec`: bytes and time of the entropy coder, beside zstd and beside what its model allows.

Shape letters: B images, F feature channels, C channels, H W space.
Two kinds of symbols. A stem's features, quantised with no training for their rate: what the coder finds
by itself; ranges and prior come from other images. And the bundle's own bottleneck under its own tables.
On test images, which no recipe can read. Times are process CPU. What deltas save on video: splitrt.bench.motion.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.motion import PANS, motion_rows
from splitrt.bench.report import Asked, Claim
from splitrt.bundle import find_bundle
from splitrt.codec import bitpack, context, entropy, payload, pixels, zstd
from splitrt.codec.fitting import fit
from splitrt.codec.payload import Codec
from splitrt.codec.prior import Prior
from splitrt.codec.quantise import Ranges, quantise
from splitrt.device.head import Head, OnnxHead
from splitrt.errors import ConfigError
from splitrt.manifest import Pixels

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

DATA = "scenes"
CALIBRATE = 9_000  # the first image of the split that fits what training did not see
FEATURE_BITS = 4
OUTLIERS = 0.1  # percent beyond the ranges, on either side
TIMED_SYMBOLS = 10_000


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench codec needs images: give their folder with --data or SPLITRT_DATA")
    bundle = find_bundle(asked.bundle)
    head, wanted = OnnxHead(bundle), bundle.manifest.photograph
    photographs = _photographs(asked.data / DATA / "test.npz", 0, 40 if asked.quick else 300)
    others = _photographs(asked.data / DATA / "train.npz", CALIBRATE, 60 if asked.quick else 400)
    fitted, tested = (_stems(head, wanted, some) for some in (others, photographs))
    symbols_BFHW, prior = _features(fitted, tested)
    rows: list[dict[str, Any]] = [{"what": "features", "bits": FEATURE_BITS, **_bytes(symbols_BFHW, prior)}]
    for bits, known in bundle.tables.priors.items():
        for width in bundle.manifest.seam.widths:
            ranges = bundle.tables.ranges_at(bits)
            sent_BCHW = np.stack([quantise(head.encode(one, width), ranges, bits) for one in tested])
            rows.append({"what": f"width {width}", "bits": bits, **_bytes(sent_BCHW, known)})
    gaps = [row["gap"] for row in rows[1:]]
    moving = motion_rows(bundle, head, photographs[: 10 if asked.quick else 100])
    summary = {
        "bytes_vs_zstd": rows[0]["ours"] / rows[0]["zstd"],
        **_times(symbols_BFHW, prior, 40 if asked.quick else 300),
        "entropy_gap": max(gaps, default=None),
        "entropy_gap_mean": float(np.mean(gaps)) if gaps else None,
        **{f"delta_{motion}": _saved(moving, motion) for motion in PANS},
        "images": len(tested),
    }
    return Claim(summary=summary, rows=[*rows, *moving], draw=lambda file: _draw(rows, file))


def _saved(moving: list[dict[str, Any]], motion: str) -> float:
    """Bytes where each frame goes as the smaller of key frame and delta, over those of key frames: the worst point."""
    shares: list[float] = [row["smaller_bytes"] / row["key_bytes"] for row in moving if row["what"] == motion]
    return max(shares)


def _photographs(path: Path, first: int, count: int) -> list[UInt8]:
    if not path.is_file():
        raise ConfigError(f"images must be at {path}")
    with np.load(path, allow_pickle=False) as archive:
        jpeg, offset = archive["jpeg"], archive["offset"]
    bounds = zip(offset[first : first + count], offset[first + 1 : first + count + 1], strict=False)
    return [pixels.from_jpeg(jpeg[start:stop].tobytes()) for start, stop in bounds]


def _stems(head: Head, wanted: Pixels, photographs: list[UInt8]) -> list[Float32]:
    """Each photograph's features_1FHW."""
    fitted = [pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit) for frame_HWC in photographs]
    return [head.stem(pixels.normalise(frame_HWC, wanted.mean, wanted.std)) for frame_HWC in fitted]


def _features(fitted: list[Float32], tested: list[Float32]) -> tuple[UInt8, Prior]:
    """Symbols of the tested images under ranges and a prior that come from the fitted ones."""
    values_BFHW = np.concatenate(fitted)
    low_F, high_F = np.percentile(values_BFHW, [OUTLIERS, 100 - OUTLIERS], axis=(0, 2, 3)).astype(np.float32)
    ranges = Ranges(low_C=low_F, high_C=high_F)
    of_fitted, of_tested = (
        np.stack([quantise(one_1FHW[0], ranges, FEATURE_BITS) for one_1FHW in some]) for some in (fitted, tested)
    )
    return of_tested, fit(of_fitted, FEATURE_BITS)


def _bytes(symbols_BCHW: UInt8, prior: Prior) -> dict[str, float]:
    """Mean bytes an image by each codec; `ours` is the smallest of all image by image, as on the wire.

    `gap` is the range coder's bytes over the ideal code length, both under the context model.
    """
    sizes: dict[str, list[float]] = {}
    for symbols_CHW in symbols_BCHW:
        packed = bitpack.pack(symbols_CHW, prior.bits)
        contextual = context.contextual(symbols_CHW, prior, None)
        found = {
            "packed": len(packed),
            "zstd": len(zstd.compress(packed)),
            "factorised": len(entropy.encode(prior.models, context.factorised(symbols_CHW, prior, None))),
            "context": len(entropy.encode(prior.models, contextual)),
            "ours": len(payload.encode(symbols_CHW, prior.bits, prior)[1]),
            "ideal": payload.ideal_bits(symbols_CHW, prior, Codec.CONTEXT) / 8,
        }
        for name, size in found.items():
            sizes.setdefault(name, []).append(size)
    means = {name: float(np.mean(some)) for name, some in sizes.items()}
    return {**means, "gap": means["context"] / means["ideal"]}


def _times(symbols_BFHW: UInt8, prior: Prior, runs: int) -> dict[str, float]:
    """CPU ms for 10,000 symbols, from a chunk of about as many."""
    _, features, height, width = symbols_BFHW.shape
    channels = min(features, max(1, round(TIMED_SYMBOLS / (height * width))))
    shape, bits, encode_s, decode_s = (channels, height, width), prior.bits, [], []
    for run in range(runs):
        symbols_CHW = symbols_BFHW[run % len(symbols_BFHW), :channels]
        payload.encode(symbols_CHW, bits, prior)  # builds the coder's models, once a process
        started = time.process_time()
        codec, data = payload.encode(symbols_CHW, bits, prior)
        encoded = time.process_time()
        payload.decode(codec, data, shape, bits, prior)
        encode_s.append(encoded - started)
        decode_s.append(time.process_time() - encoded)
    scale = 1e3 * TIMED_SYMBOLS / (channels * height * width)
    return {"encode_ms": float(np.median(encode_s)) * scale, "decode_ms": float(np.median(decode_s)) * scale}


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 3)
    places = np.arange(len(rows))
    names = ("zstd", "factorised", "context", "ideal")
    for offset, name in enumerate(names):
        shares = [row[name] / row["packed"] for row in rows]
        axes[0, 0].bar(places + 0.2 * (offset - 1.5), shares, 0.2, label=name)
    axes[0, 0].set_xticks(places, [f"{row['what']}\n{row['bits']} bits" for row in rows], fontsize=7)
    axes[0, 0].set_ylabel("bytes, of packed")
    axes[0, 0].legend(ncols=len(names))
    save(drawing, file)
