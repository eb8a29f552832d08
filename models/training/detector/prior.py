"""The photo prior: a small noise predictor in pixel space, trained on photographs alone.

Variance-preserving: `sample = sqrt(1 - noise_level^2) * picture + noise_level * noise` with pictures in
[-1, 1], and the network predicts `noise`. Work is done at half resolution after a pixel unshuffle
(FFDNet, Zhang et al. 2018, arXiv 1710.04026), conditioned on log(noise_level) by scale and shift.
"""

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = 48
BLOCKS = 4


class Block(nn.Module):
    """Residual block of two 3x3 convolutions, scaled and shifted by the noise level between them."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        hidden = self.first(F.silu(x)) * (1.0 + scale) + shift
        return x + self.second(F.silu(hidden))


class PhotoPrior(nn.Module):
    """`sample` [b, 3, h, w] in [-1, 1] with even sides, `noise_level` [b] -> `noise_pred` [b, 3, h, w]."""

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS):
        super().__init__()
        self.stem = nn.Conv2d(24, channels, 3, padding=1)
        self.embedding = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 2 * channels * blocks))
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.head = nn.Conv2d(channels, 12, 3, padding=1)
        # The fixed high pass shows the noise at unit scale at every level: at small levels it is a
        # few thousandths of the picture's own range, below the resolution of a bf16 activation.
        low_pass = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16.0
        self.register_buffer("low_pass", low_pass.expand(3, 1, 3, 3).contiguous())

    def forward(self, sample: torch.Tensor, noise_level: torch.Tensor) -> torch.Tensor:
        level = noise_level.reshape(-1, 1, 1, 1)
        with torch.autocast("cpu", enabled=False):
            blurred = F.conv2d(F.pad(sample, (1, 1, 1, 1), mode="reflect"), self.low_pass, groups=3)
            # Beyond +-8 noise levels a pixel is an edge, not noise.
            high_pass = 8.0 * torch.tanh((sample - blurred) / (8.0 * level))
        x = self.stem(F.pixel_unshuffle(torch.cat([sample, high_pass], dim=1), 2))
        log_level = noise_level.log().reshape(-1, 1)
        embedded = self.embedding(torch.cat([log_level, log_level.square(), noise_level.reshape(-1, 1)], dim=1))
        parts = embedded.reshape(-1, 2 * len(self.blocks) * x.shape[1], 1, 1).chunk(2 * len(self.blocks), dim=1)
        for index, block in enumerate(self.blocks):
            x = block(x, parts[2 * index], parts[2 * index + 1])
        return F.pixel_shuffle(self.head(F.silu(x)), 2)
