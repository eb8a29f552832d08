"""The denoising U-Net: v-prediction on 16 x 16 x 4 latents, conditioned on 24 text states."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEXT_WIDTH = 384
HEAD_WIDTH = 32


@dataclass(frozen=True)
class UNetConfig:
    """Channels and stages per resolution, finest first. The latents' 2 x 2 patches become channels
    before the first convolution, so that the finest resolution inside is 8 x 8."""

    in_channels: int = 4
    sample_size: int = 16
    patch: int = 2
    channels: tuple[int, ...] = (128, 192)
    stages: tuple[int, ...] = (2, 1)
    embedding: int = 384
    layout_width: int = 512
    layout_channels: int = 32

    def as_dict(self) -> dict:
        return asdict(self)


def timestep_embedding(timestep: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding [b, width] of timesteps [b]."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) / half * torch.arange(half, dtype=torch.float32))
    angles = timestep.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class VectorLinear(nn.Linear):
    """A dense layer on one vector per picture, [b, in] to [b, out].

    ONNX Runtime multiplies a single row by another routine than several rows, which rounds otherwise.
    The export therefore computes each row twice, so that there is never a single one and a picture
    alone has the same bits as in a batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return super().forward(torch.stack([x, x], dim=1))[:, 0]
        return super().forward(x)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions; the embedding scales and shifts the second normalisation."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(16, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = VectorLinear(embedding, 2 * channels)
        self.norm2 = nn.GroupNorm(16, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Multi-head attention from positions to `context` (to themselves when there is none)."""

    def __init__(self, width: int, context_width: int):
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        nn.init.zeros_(self.to_out.weight)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, HEAD_WIDTH)).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(context)), self.split(self.to_v(context))
        # Written out: at these small sizes PyTorch's fused attention takes four to ten times as long on
        # a processor in the backward pass.
        scores = ((q * HEAD_WIDTH**-0.5) @ k.transpose(2, 3)).float()
        scores = scores if bias is None else scores + bias
        out = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.to_out(out.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text states, feed-forward; each with its own skip."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attention = Attention(width, TEXT_WIDTH)
        self.norm3 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width))
        nn.init.zeros_(self.feed_forward[2].weight)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor) -> Tensor:
        height, width = x.shape[2:]
        h = x.flatten(2).transpose(1, 2)
        normed = self.norm1(h)
        h = h + self.self_attention(normed, normed, None)
        h = h + self.cross_attention(self.norm2(h), text, bias)
        h = h + self.feed_forward(self.norm3(h))
        return h.transpose(1, 2).unflatten(2, (height, width))


class Stage(nn.Module):
    """A residual block, followed by a transformer block where attention is wanted."""

    def __init__(self, channels: int, embedding: int, attention: bool):
        super().__init__()
        self.residual = ResidualBlock(channels, embedding)
        self.transformer = TransformerBlock(channels) if attention else None

    def forward(self, x: Tensor, embedding: Tensor, text: Tensor, bias: Tensor) -> Tensor:
        x = self.residual(x, embedding)
        return x if self.transformer is None else self.transformer(x, text, bias)


class Layout(nn.Module):
    """The pooled text and the timestep as a map of features for every position: where things go.

    Dense layers from one vector cost one multiplication per weight and picture, while a convolution
    costs one per weight and position: this is the cheapest place to remember what a name looks like.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.side = config.sample_size // config.patch
        self.channels = config.layout_channels
        self.hidden = VectorLinear(TEXT_WIDTH + config.embedding, config.layout_width)
        self.out = VectorLinear(config.layout_width, self.channels * self.side**2)

    def forward(self, pooled: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.hidden(torch.cat([pooled, embedding], dim=1)))
        return self.out(h).unflatten(1, (self.channels, self.side, self.side))


class Upsample(nn.Module):
    """Doubles height and width; the convolution runs at the small size, where it is cheap."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class UNet(nn.Module):
    """`forward(sample [b, 4, 16, 16], timestep [] or [b], encoder_hidden_states [b, s, 384])` gives the
    predicted v [b, 4, 16, 16]. Text states that are all zero are padding: they take no part."""

    def __init__(self, config: UNetConfig = UNetConfig()):
        super().__init__()
        self.config = config
        width, channels = config.embedding, config.channels
        values = config.in_channels * config.patch**2
        self.time_mlp = nn.Sequential(VectorLinear(128, width), nn.SiLU(), VectorLinear(width, width))
        self.text_norm = nn.LayerNorm(TEXT_WIDTH)
        self.pooled_mlp = nn.Sequential(VectorLinear(TEXT_WIDTH, width), nn.SiLU(), VectorLinear(width, width))
        self.layout = Layout(config)
        self.conv_in = nn.Conv2d(values + config.layout_channels, channels[0], 3, padding=1)
        self.down, self.downsamples, self.up, self.upsamples = (nn.ModuleList() for _ in range(4))
        for level, (count, here) in enumerate(zip(config.stages, channels)):
            # Attention at the last stage of a resolution on the way down, at each on the way up.
            self.down.append(nn.ModuleList(Stage(here, width, i == count - 1) for i in range(count)))
            self.up.append(nn.ModuleList(Stage(here, width, i == 0) for i in range(count)))
            if level + 1 < len(channels):
                self.downsamples.append(nn.Conv2d(here, channels[level + 1], 3, stride=2, padding=1))
                self.upsamples.append(Upsample(channels[level + 1], here))
        self.mid = Stage(channels[-1], width, True)
        self.norm_out = nn.GroupNorm(16, channels[0])
        self.conv_out = nn.Conv2d(channels[0], values, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        present = (encoder_hidden_states.abs().amax(dim=2) > 0).float()
        bias = ((present - 1.0) * 1e4)[:, None, None, :]
        count = present.sum(dim=1, keepdim=True).clamp(min=1.0)
        # A product and not a sum: ONNX Runtime's sums round otherwise for other batch sizes.
        mean = ((present / count)[:, None] @ encoder_hidden_states)[:, 0]
        pooled = F.normalize(mean, dim=1) * math.sqrt(TEXT_WIDTH)
        text = self.text_norm(encoder_hidden_states)
        times = timestep.reshape(-1).expand(sample.shape[0])
        embedding = F.silu(self.time_mlp(timestep_embedding(times, 128)) + self.pooled_mlp(pooled))
        patches = F.pixel_unshuffle(sample, self.config.patch)
        x = self.conv_in(torch.cat([patches, self.layout(pooled, embedding)], dim=1))
        skips = []
        for level, stages in enumerate(self.down):
            for stage in stages:
                x = stage(x, embedding, text, bias)
                skips.append(x)
            if level < len(self.downsamples):
                x = self.downsamples[level](x)
        x = self.mid(x, embedding, text, bias)
        for level in reversed(range(len(self.up))):
            for stage in self.up[level]:
                # Skips are added, not concatenated: the convolutions stay half as dear.
                x = stage(x + skips.pop(), embedding, text, bias)
            if level > 0:
                x = self.upsamples[level - 1](x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.config.patch)
