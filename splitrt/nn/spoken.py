"""A network for short words, made of gated compression: an always-on core, an application core and a server.

Shape letters: B batch, M mel bands, T time, N classes.

    (B, 1, M, T) ── core ── layer 1 ── application ── layer 2 ── seam ── server ── logits_BN

The server's half reads the few channels that layer 2 lets through. The gates hear a word in another voice, as a longer
vocal tract would say it: of voices left out of training more words were kept so, and why is not known (docs/gates.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splitrt.nn.blocks import conv_bn
from splitrt.nn.gate import GatedCompression, GatedRow, log_odds

DROPPED = 0.1  # of whole channels, in training


class Spoken(nn.Module):
    """width: channels of the first convolution; the seam has four times as many, most of which are never sent."""

    voice_MM: Tensor

    def __init__(self, classes: int, voice_MM: Tensor, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("voice_MM", voice_MM)  # reads the bands elsewhere
        narrow, middle, wide = width, 2 * width, 4 * width
        core = nn.Sequential(
            conv_bn(1, narrow, 5, stride=2),
            conv_bn(narrow, middle, 3, stride=2),
            nn.Dropout2d(DROPPED),
        )
        application = nn.Sequential(
            conv_bn(middle, wide, 3, stride=2), nn.Dropout2d(DROPPED), conv_bn(wide, wide, 3), nn.Dropout2d(DROPPED)
        )
        layers = [GatedCompression(middle, classes, hidden=wide), GatedCompression(wide, classes, hidden=wide)]
        self.row = GatedRow([core, application], layers)
        self.server = Server(wide, classes)

    def forward(self, x_B1MT: Tensor) -> Tensor:
        """Without gates, with masks: logits_BN."""
        logits_BN: Tensor = self.server(self.row.plain(x_B1MT))
        return logits_BN

    def odds(self, x_B1MT: Tensor, is_in_N: Tensor, handicaps: Sequence[float]) -> Tensor:
        """(B,): the row's, see GatedRow.odds."""
        return self.row.odds(self.voice_MM @ x_B1MT, is_in_N, handicaps)


class Server(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(channels, channels, 3), conv_bn(channels, channels, 3))
        self.answer = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * channels, classes))

    def forward(self, h_BCHW: Tensor) -> Tensor:
        h_BCHW = self.body(h_BCHW)
        logits_BN: Tensor = self.answer(torch.cat([h_BCHW.mean((2, 3)), h_BCHW.amax((2, 3))], 1))
        return logits_BN


class Deployed(nn.Module):
    """The same with hard masks and no gates, its seam made of the kept channels alone: what is cut in two halves.

    `seam` is what to cut after.
    """

    def __init__(self, spoken: Spoken) -> None:
        super().__init__()
        first, last = spoken.row.layer(0), spoken.row.layer(1)
        self.core, self.application = spoken.row.blocks
        self.first = Masked(first.mask().detach())
        self.seam = Kept(last.kept())
        self.spread = Spread(last.kept(), last.openness_C.numel())
        self.server = spoken.server

    def forward(self, x_B1MT: Tensor) -> Tensor:
        sent_BCHW = self.seam(self.application(self.first(self.core(x_B1MT))))
        logits_BN: Tensor = self.server(self.spread(sent_BCHW))
        return logits_BN


class Masked(nn.Module):
    def __init__(self, mask_C: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask_1C11", mask_C.view(1, -1, 1, 1))

    def forward(self, h_BCHW: Tensor) -> Tensor:
        assert isinstance(self.mask_1C11, Tensor)
        return h_BCHW * self.mask_1C11


class Kept(nn.Module):
    """The kept channels, in order."""

    def __init__(self, kept: list[int]) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor(kept))

    def forward(self, h_BCHW: Tensor) -> Tensor:
        assert isinstance(self.kept, Tensor)
        return h_BCHW.index_select(1, self.kept)


class Spread(nn.Module):
    """The kept channels back in their places, the others zero."""

    def __init__(self, kept: list[int], channels: int) -> None:
        super().__init__()
        place_CK = torch.zeros(channels, len(kept))
        place_CK[kept, range(len(kept))] = 1
        self.register_buffer("place_CK", place_CK)

    def forward(self, sent_BKHW: Tensor) -> Tensor:
        assert isinstance(self.place_CK, Tensor)
        return torch.einsum("ck,bkhw->bchw", self.place_CK, sent_BKHW)


class GateGraph(nn.Module):
    """What a device runs for gate k: a frame, or what the gate before carries on, to odds_1; with what it carries on
    itself where it is not the last. So no block is computed twice for a row of gates.

    handicap: added to the odds. An early gate sees less, and one threshold holds for the row.
    """

    voice_MM: Tensor
    is_in_N: Tensor

    def __init__(self, spoken: Spoken, k: int, is_in_N: Tensor, handicap: float) -> None:
        super().__init__()
        self.is_first, self.is_last, self.handicap = k == 0, k == len(spoken.row.layers) - 1, handicap
        self.block, self.layer = spoken.row.blocks[k], spoken.row.layer(k)
        self.mask = Masked(self.layer.mask().detach())
        self.register_buffer("voice_MM", spoken.voice_MM)
        self.register_buffer("is_in_N", is_in_N)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h_1CHW = self.block(self.voice_MM @ x if self.is_first else x)
        odds_1 = log_odds(self.layer.logits(h_1CHW), self.is_in_N) + self.handicap
        return odds_1 if self.is_last else (odds_1, self.mask(h_1CHW))
