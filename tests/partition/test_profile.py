from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from splitrt.bundle import find_bundle  # noqa: E402
from splitrt.device.profile import compare, profile_device, save_profile  # noqa: E402
from splitrt.errors import ConfigError  # noqa: E402
from splitrt.manifest import Pixels  # noqa: E402
from splitrt.onnx_session import open_session  # noqa: E402
from splitrt.partition.capture import Captured, capture  # noqa: E402
from splitrt.partition.costs import activation_bytes, count_flops  # noqa: E402
from splitrt.partition.cuts import candidates, cuts  # noqa: E402
from splitrt.partition.divide import divide  # noqa: E402
from splitrt.partition.onnx import Cutter  # noqa: E402
from splitrt.partition.profile import assumed_bytes, profile  # noqa: E402
from splitrt.partition.trained import profile_bundle  # noqa: E402

pytestmark = pytest.mark.torch


class Silent:
    def line(self, text: str) -> None: ...

    def step(self, phase: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def small() -> Captured:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    return capture(net, (torch.randn(1, 3, 32, 32),))


def test_every_way_of_a_small_network_is_there_and_none_takes_no_time(small: Captured) -> None:
    found = candidates(small, cuts(small))
    wanted = Pixels(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1))
    options = profile(small, found, tuple(one.numpy() for one in small.inputs), wanted, Silent(), rounds=3)
    kinds = {option.how for option in options}
    assert {"device", "JPEG 90", "8 bit", "bottleneck (assumed)"} <= kinds
    assert all(option.head_ms > 0 for option in options)
    assert all(option.tail_ms > 0 for option in options if option.payload_bytes)
    assert [option.position for option in options] == sorted(option.position for option in options)


def test_operations_of_both_halves_are_those_of_the_whole_at_every_cut(small: Captured) -> None:
    given = list(small.inputs)
    whole, _ = count_flops(small, given)
    for cut in cuts(small)[1:-1]:
        halves = divide(small, cut)
        head, sent = count_flops(halves.head, given)
        tail, _ = count_flops(halves.tail, sent)
        assert head + tail == whole, cut.name
    assert whole == 2 * (16 * 16 * 8 * 27 + 8 * 8 * 4 * 72 + 4 * 5)


def test_memory_is_that_of_the_two_largest_neighbours(small: Captured) -> None:
    assert activation_bytes(small) == 4 * (3 * 32 * 32 + 8 * 16 * 16)  # the input, and the map made of it


def test_candidates_settle_behind_norm_and_activation(small: Captured) -> None:
    nodes = {node.name: node for node in small.graph.nodes}
    chosen = [cut for cut in candidates(small, cuts(small)) if cut.position]
    assert "aten.relu.default" in {nodes[cut.name].op for cut in chosen}
    assert not {nodes[cut.name].op for cut in chosen} & {"aten.conv2d.default", "aten.batch_norm.default"}


def test_fewer_bytes_cross_at_each_candidate_than_before_or_a_bottleneck_fits(small: Captured) -> None:
    chosen = candidates(small, cuts(small))
    assert chosen[0].name == "input"
    for cut in chosen[1:]:
        is_least = cut.bytes < min(one.bytes for one in chosen if one.position < cut.position)
        assert (
            is_least
            or cut.fits_bottleneck
            or cut.bytes < min(one.bytes for one in chosen if one.position > cut.position)
        )


def test_an_assumed_bottleneck_is_no_larger_than_a_small_map() -> None:
    assert assumed_bytes((1, 64, 112, 112)) == assumed_bytes((1, 3, 16, 16)) == 1024
    assert assumed_bytes((1, 17, 64)) == 68


def test_a_bundles_ways_hold_its_calibrated_points() -> None:
    bundle = find_bundle("photos")
    options = profile_bundle(bundle, Silent(), rounds=2)
    front = bundle.calibration.front()
    trained = [option for option in options if option.cut == "bottleneck"]
    assert [option.payload_bytes for option in trained] == [point.payload_bytes_mean for point in front]
    assert {option.how for option in options} >= {"device", "JPEG 90"}


def test_a_device_profiled_on_this_very_machine_is_about_as_fast(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "photos-3"
    shutil.copytree(find_bundle("photos").folder, folder)
    bundle = find_bundle(str(folder))
    profile = profile_device(bundle)
    file = save_profile(profile, bundle)
    assert file.parent == tmp_path
    assert not list(folder.glob("*profile*"))  # what lies in a bundle is what its manifest lists
    assert len(profile.encode) == len(bundle.manifest.seam.widths) * len(bundle.manifest.seam.bits)
    assert 0.05 < compare(file) < 20
    slower = profile.model_copy(update={"digest": "00" * 32})
    file.write_text(slower.model_dump_json())
    with pytest.raises(ConfigError, match="another digest"):
        compare(file)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="doctor --profile"):
        compare(file)
    assert np.isfinite(profile.look.spread_ms)


def test_a_batch_norm_folded_by_the_exporter_is_not_undone(tmp_path: Path) -> None:
    """The exporter keeps the folded weight under the name of the one that lies on disk."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(8)
    norm.running_var = torch.rand(8) * 4 + 0.1
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), norm, nn.ReLU()).eval()
    x_BCHW = torch.randn(1, 3, 16, 16)
    cutter = Cutter(capture(net, (x_BCHW,)), tmp_path)
    session = open_session(cutter.whole)
    (given,) = session.run(None, {session.get_inputs()[0].name: x_BCHW.numpy()})
    with torch.inference_mode():
        assert np.abs(given - net(x_BCHW).numpy()).max() < 1e-5
