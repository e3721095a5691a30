"""The spoken network cut for service: what a device and a server compute is what was trained."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from splitrt.nn.spoken import Deployed, GateGraph, Spoken

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
IS_IN = torch.tensor([False, True, False, False])
HANDICAPS = (1.0, 0.0)


def voice() -> Tensor:
    """A band higher."""
    return torch.eye(20).roll(1, 1)


@pytest.fixture
def spoken() -> Spoken:
    """Half of the last layer's channels and some of the first's are closed."""
    torch.manual_seed(0)
    made = Spoken(4, voice(), width=4)
    with torch.no_grad():
        made.row.layer(0).openness_C[:2] = -1
        made.row.layer(1).openness_C[::2] = -1
    return made.eval()


def test_the_halves_give_what_the_masked_network_gives(spoken: Spoken) -> None:
    x_B1MT = torch.randn(3, 1, 20, 32)
    with torch.no_grad():
        torch.testing.assert_close(Deployed(spoken).eval()(x_B1MT), spoken(x_B1MT))


def test_no_channel_that_a_mask_closes_is_sent(spoken: Spoken) -> None:
    deployed, x_B1MT = Deployed(spoken).eval(), torch.randn(3, 1, 20, 32)
    with torch.no_grad():
        sent_BKHW = deployed.seam(deployed.application(deployed.first(deployed.core(x_B1MT))))
        whole_BCHW = spoken.row.plain(x_B1MT)
    assert sent_BKHW.shape[1] == 8 == len(spoken.row.layer(1).kept())
    torch.testing.assert_close(sent_BKHW, whole_BCHW[:, spoken.row.layer(1).kept()])


def test_a_devices_gates_give_the_rows_odds(spoken: Spoken) -> None:
    x_11MT = torch.randn(1, 1, 20, 32)
    with torch.no_grad():
        first, second = (GateGraph(spoken, k, IS_IN, HANDICAPS[k]).eval() for k in range(2))
        odds_1, carried = first(x_11MT)
        wanted = spoken.odds(x_11MT, IS_IN, HANDICAPS)
    torch.testing.assert_close(torch.minimum(odds_1, second(carried)), wanted)


def test_gates_hear_the_bands_elsewhere_and_the_server_hears_them_as_they_are(spoken: Spoken) -> None:
    x_B1MT = torch.randn(4, 1, 20, 32)
    said = torch.cat([x_B1MT[:, :, 1:], x_B1MT[:, :, :1]], 2)
    torch.testing.assert_close(spoken.odds(x_B1MT, IS_IN, HANDICAPS), spoken.row.odds(said, IS_IN, HANDICAPS))
    with torch.no_grad():
        torch.testing.assert_close(spoken(x_B1MT), spoken.server(spoken.row.plain(x_B1MT)))
