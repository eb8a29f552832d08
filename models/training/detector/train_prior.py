"""Train the photo prior on the photographs of the training role for a fixed wall-clock time.

    nice -n 19 python train_prior.py --pictures PICTURES --minutes 30 --run .training/detector
"""

import argparse
import copy
import io
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import pictures
from prior import PhotoPrior

CROP = 64
LEVEL_MIN, LEVEL_MAX = 0.007, 0.4


def as_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def rescaled(rgb: np.ndarray, factor: float) -> np.ndarray:
    height, width = rgb.shape[:2]
    size = (max(round(width * factor), CROP), max(round(height * factor), CROP))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def variants(rgb: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Half of the crops come from native pixels, the rest from re-compressed and rescaled copies."""
    return [
        rgb,
        rgb,
        as_jpeg(rgb, int(rng.integers(40, 96))),
        rescaled(rgb, float(rng.uniform(0.5, 1.0))),
        as_jpeg(rescaled(rgb, float(rng.uniform(0.5, 1.0))), int(rng.integers(40, 96))),
    ]


def crops(sources: list[list[np.ndarray]], count: int, rng: np.random.Generator) -> torch.Tensor:
    """`count` random crops, mirrored and turned at random: uint8 [count, 3, CROP, CROP]."""
    out = np.empty((count, 3, CROP, CROP), np.uint8)
    for index in range(count):
        choices = sources[rng.integers(len(sources))]
        rgb = choices[rng.integers(len(choices))]
        y = int(rng.integers(rgb.shape[0] - CROP + 1))
        x = int(rng.integers(rgb.shape[1] - CROP + 1))
        crop = np.rot90(rgb[y : y + CROP, x : x + CROP], int(rng.integers(4)))
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        out[index] = crop.transpose(2, 0, 1)
    return torch.from_numpy(out)


def noised(picture: torch.Tensor, level: torch.Tensor, generator: torch.Generator):
    """The forward process at one noise level for each sample."""
    noise = torch.randn(picture.shape, generator=generator)
    level4 = level.reshape(-1, 1, 1, 1)
    return (1.0 - level4.square()).sqrt() * picture + level4 * noise, noise


@torch.no_grad()
def evaluate(model: PhotoPrior, held_out: torch.Tensor) -> dict:
    """Mean squared error of the predicted noise at six levels, in fp32."""
    generator = torch.Generator().manual_seed(1)
    errors = {}
    for level in (0.01, 0.02, 0.04, 0.08, 0.15, 0.3):
        squared = []
        for part in held_out.split(64):
            levels = torch.full((len(part),), level)
            sample, noise = noised(part.float() / 127.5 - 1.0, levels, generator)
            squared.append((model(sample, levels) - noise).square().mean((1, 2, 3)))
        errors[str(level)] = round(torch.cat(squared).mean().item(), 4)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    real = [p for p in pictures.listed(args.pictures) if p.label == "real"]
    load = lambda p: pictures.pixels(args.pictures / p.path)
    training = [variants(load(p), rng) for p in real if p.role == "train"]
    held_out = crops([[load(p)] for p in real if p.role == "validation"], 256, np.random.default_rng(2))
    model = PhotoPrior().to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).eval()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(training)} photographs, {parameters} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step, running = time.monotonic(), 0, 0.0
    while (progress := (time.monotonic() - start) / (60.0 * args.minutes)) < 1.0:
        rate = min((step + 1) / 200.0, 1.0) * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        picture = crops(training, args.batch, rng).float() / 127.5 - 1.0
        span = math.log(LEVEL_MAX / LEVEL_MIN)
        level = LEVEL_MIN * (torch.rand(args.batch, generator=generator) * span).exp()
        sample, noise = noised(picture, level, generator)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(sample.contiguous(memory_format=torch.channels_last), level)
        loss = (predicted.float() - noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), model.parameters()):
                kept.lerp_(new, 1.0 - decay)
        running = loss.item() if step == 1 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"{time.monotonic() - start:6.0f} s  step {step}  loss {running:.4f}", flush=True)
        if step % 500 == 0:
            torch.save(averaged.state_dict(), args.run / "prior.partial.pt")
    torch.save(averaged.state_dict(), args.run / "prior.pt")
    report = {
        "photographs": len(training), "steps": step, "batch": args.batch, "seed": args.seed,
        "minutes": round((time.monotonic() - start) / 60, 1), "parameters": parameters,
        "training_loss": round(running, 4), "held_out_mse_by_noise_level": evaluate(averaged, held_out),
    }
    (args.run / "prior.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
