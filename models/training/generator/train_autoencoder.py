"""Train the autoencoder for a fixed wall-clock time.

    python train_autoencoder.py --packages . --minutes 10 --run .training/autoencoder
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import emoji
from autoencoder import Autoencoder
from clock import WallClockSchedule

KL_WEIGHT = 2e-4


def batch_of(pictures: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """A random batch in [-1, 1], half of it mirrored: the autoencoder sees no captions."""
    chosen = pictures[torch.randint(len(pictures), (size,), generator=generator)]
    mirrored = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, chosen.flip(-1), chosen).float() / 127.5 - 1.0


def gradient_l1(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 distance of horizontal and vertical pixel differences: keeps outlines sharp."""
    d = a - b
    return (d[..., 1:, :] - d[..., :-1, :]).abs().mean() + (d[..., 1:] - d[..., :-1]).abs().mean()


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: torch.Tensor) -> dict:
    """Reconstruction error from posterior means, pixels in [-1, 1], and the latents' spread."""
    l1, mse, latents = [], [], []
    for part in pictures.split(64):
        sample = part.float() / 127.5 - 1.0
        mean = model.encoder(sample)[:, :4]
        error = model.decoder(mean).clamp(-1, 1) - sample
        l1.append(error.abs().mean((1, 2, 3)))
        mse.append((error / 2).square().mean((1, 2, 3)))
        latents.append(mean)
    latents = torch.cat(latents)
    return {
        "l1": torch.cat(l1).mean().item(),
        "psnr_db": (-10 * torch.cat(mse).log10()).mean().item(),
        "latent_mean": latents.mean((0, 2, 3)).tolist(),
        "latent_std": latents.std().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the emoji packages")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one slows a machine that is busy with other work")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)

    listed = emoji.load(args.packages)
    training = torch.from_numpy(emoji.pixels([e for e in listed if not e.held_out]))
    held_out = torch.from_numpy(emoji.pixels([e for e in listed if e.held_out]))
    model = Autoencoder().to(memory_format=torch.channels_last)
    model.start_from_principal_components(training[::4].float() / 127.5 - 1.0)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(training)} training pictures, {len(held_out)} held out, {parameters} parameters", flush=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.99), fused=True)
    schedule = WallClockSchedule(minutes=args.minutes, warm_up=0.03)
    step, running = 0, 0.0
    while not schedule.finished():
        for group in optimizer.param_groups:
            group["lr"] = args.lr * schedule.factor()
        sample = batch_of(training, args.batch, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            reconstruction, mean, logvar = model(sample)
        reconstruction = reconstruction.float()
        l1 = F.l1_loss(reconstruction, sample)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        loss = l1 + 0.5 * gradient_l1(reconstruction, sample) + KL_WEIGHT * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        running = l1.item() if step == 1 else 0.98 * running + 0.02 * l1.item()
        if step % 50 == 0:
            print(f"{schedule.elapsed_s():6.0f} s  step {step}  l1 {running:.4f}  kl {kl.item():.2f}", flush=True)
            torch.save(model.state_dict(), args.run / "autoencoder.partial.pt")
    model.eval()
    report = {"steps": step, "batch": args.batch, "minutes": schedule.elapsed_s() / 60, "seed": args.seed,
              "parameters": parameters, "training": evaluate(model, training[::4]), "held_out": evaluate(model, held_out)}
    torch.save(model.state_dict(), args.run / "autoencoder.pt")
    (args.run / "autoencoder.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
