"""The autoencoder: 64 x 64 x 3 pixels to 16 x 16 x 4 latents and back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 4
# Values of one 4 x 4 patch of RGB pixels.
PATCH_VALUES = 48


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
    """Pixels [b, 3, H, W] in [-1, 1] to mean and log-variance [b, 8, H/4, W/4].

    A linear map of 4 x 4 patches, started from principal components, plus what the convolutions add
    to it: training then starts from a usable autoencoder and not from nothing.
    """

    def __init__(self, width: int = 96):
        super().__init__()
        self.patches = nn.PixelUnshuffle(4)
        self.linear = nn.Conv2d(PATCH_VALUES, LATENT_CHANNELS, 1)
        # Convolutions at the full 64 x 64 would cost four times as much for little gain.
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, width, 3, stride=2, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.GroupNorm(16, width),
            nn.SiLU(),
        )
        # 3 x 3 convolutions to 4 or 8 channels have gradients 20 times slower than 1 x 1 ones in bf16.
        self.mean = nn.Conv2d(width, LATENT_CHANNELS, 1)
        self.logvar = nn.Conv2d(width, LATENT_CHANNELS, 1)
        _start_at(self.mean, bias=0.0)
        _start_at(self.logvar, bias=-5.0)

    def forward(self, sample: Tensor) -> Tensor:
        h = self.layers(sample)
        mean = self.linear(self.patches(sample)) + self.mean(h)
        return torch.cat([mean, self.logvar(h).clamp(-20.0, 10.0)], dim=1)


class Decoder(nn.Module):
    """Latents [b, 4, h, w] (already divided by the scaling factor) to pixels [b, 3, 4h, 4w]."""

    def __init__(self, width: int = 96, fine: int = 48):
        super().__init__()
        self.linear = nn.Conv2d(LATENT_CHANNELS, PATCH_VALUES, 1)
        self.pixels = nn.PixelShuffle(4)
        self.layers = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.Conv2d(width, 4 * fine, 1),
            nn.PixelShuffle(2),
            ResidualBlock(fine),
            nn.GroupNorm(16, fine),
            nn.SiLU(),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        _start_at(self.layers[-2], bias=0.0)

    def forward(self, latents: Tensor) -> Tensor:
        return self.pixels(self.linear(latents)) + self.layers(latents)


def _start_at(convolution: nn.Conv2d, bias: float) -> None:
    """Let a convolution begin as a constant."""
    nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        convolution.bias.fill_(bias)


class Autoencoder(nn.Module):
    """Encoder and decoder with a Gaussian posterior between them."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    @torch.no_grad()
    def start_from_principal_components(self, pictures: Tensor) -> None:
        """Set both linear maps to the whitened principal components of the pictures' 4 x 4 patches."""
        patches = self.encoder.patches(pictures).permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        values, vectors = values[-LATENT_CHANNELS:], vectors[:, -LATENT_CHANNELS:]
        into = (vectors / values.sqrt()).T
        self.encoder.linear.weight.copy_(into[:, :, None, None])
        self.encoder.linear.bias.copy_(-into @ mean)
        self.decoder.linear.weight.copy_((vectors * values.sqrt())[:, :, None, None])
        self.decoder.linear.bias.copy_(mean)

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, posterior mean and posterior log-variance."""
        mean, logvar = self.encoder(sample).float().chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return self.decoder(latents), mean, logvar
