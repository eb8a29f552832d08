"""The autoencoder: 64 x 64 x 3 pixels to 16 x 16 x 4 latents and back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 4


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3 x 3 convolution, twice, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(16, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(16, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Encoder(nn.Module):
    """Pixels [b, 3, H, W] in [-1, 1] to mean and log-variance [b, 8, H/4, W/4]."""

    def __init__(self, fine: int = 64, coarse: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            # Convolutions at the full 64 x 64 would cost four times as much for little gain.
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, fine, 3, padding=1),
            ResidualBlock(fine),
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
            ResidualBlock(coarse),
            ResidualBlock(coarse),
            nn.GroupNorm(16, coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, 2 * LATENT_CHANNELS, 3, padding=1),
        )

    def forward(self, sample: Tensor) -> Tensor:
        mean, logvar = self.layers(sample).chunk(2, dim=1)
        return torch.cat([mean, logvar.clamp(-20.0, 10.0)], dim=1)


class Decoder(nn.Module):
    """Latents [b, 4, h, w] (already divided by the scaling factor) to pixels [b, 3, 4h, 4w]."""

    def __init__(self, fine: int = 64, coarse: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, coarse, 3, padding=1),
            ResidualBlock(coarse),
            ResidualBlock(coarse),
            ResidualBlock(coarse),
            nn.Conv2d(coarse, 4 * fine, 3, padding=1),
            nn.PixelShuffle(2),
            ResidualBlock(fine),
            ResidualBlock(fine),
            nn.GroupNorm(16, fine),
            nn.SiLU(),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


class Autoencoder(nn.Module):
    """Encoder and decoder with a Gaussian posterior between them."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, posterior mean and posterior log-variance."""
        mean, logvar = self.encoder(sample).float().chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return self.decoder(latents), mean, logvar
