"""Fixtures that many tests share: the built-in bundle, a frame, and where real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from splitrt.bundle import Bundle, find_bundle, load_bundle

UInt8 = npt.NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run: a build is red for what was changed. `make fuzz` looks for new ones.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("fuzz", max_examples=2_000)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def photos() -> Bundle:
    """The bundle that ships with splitrt."""
    return find_bundle("photos")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle that nothing was trained for: nested, two widths, 8 bits."""
    pytest.importorskip("onnxscript", reason="needs the torch extra")
    from splitrt.bench.made import make_bundle

    folder = tmp_path_factory.mktemp("made")
    return load_bundle(
        make_bundle(folder, widths=(2, 4), width=0.5, resolution=96, decoder_hidden=16, is_coded=True, exits=2)
    )


@pytest.fixture
def frame_HWC() -> UInt8:
    """A photograph-like frame: smooth, coloured, not constant."""
    rows, columns = np.mgrid[0:128, 0:128] / 127
    planes = [rows, columns, 0.5 + 0.5 * np.sin(9 * rows * columns)]
    return (255 * np.stack(planes, axis=-1)).astype(np.uint8)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Maps as small as ours are slower on two threads, most of all on a machine that has other work."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data() -> Path:
    """Real data; the test is skipped, saying so, where there is none."""
    named = os.environ.get("SPLITRT_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data folder: set SPLITRT_DATA, {folder} is absent")
    return folder
