"""Train the U-Net for a fixed wall-clock time on the cached latents and text states.

    python train_unet.py --cache .training/cache --run .training/unet --minutes 95
    python train_unet.py --cache .training/cache --run .training/unet-2 --minutes 240 --resume ../../generator

The first form starts afresh; with `--resume` the weights come from an exported folder and the optimiser
starts afresh. A run that was cut off goes on from its own last checkpoint with `--continue-run`.
"""

import argparse
import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

import weights
from clock import WallClockSchedule
from schedule import alphas_cumprod
from unet import UNet

CHECKPOINT_S = 180.0
# The share of samples that see the empty prompt, so that guidance has its unconditional branch.
UNCONDITIONAL = 0.1
EMA_DECAY = 0.998


@dataclass
class Cache:
    """Latents [n, 4, 16, 16], text states [m, 24, 384] (the first is the empty prompt's) and, for each
    picture, the indices of its captions [n, k]."""

    latents: Tensor
    text: Tensor
    captions: Tensor

    @staticmethod
    def load(folder: Path) -> "Cache":
        return Cache(*(torch.from_numpy(np.load(folder / f"{n}.npy")) for n in ("latents", "text", "captions")))


@dataclass
class Batches:
    """Every picture once per pass in random order, each with one of its captions or none."""

    cache: Cache
    size: int
    generator: torch.Generator
    queue: list[int] = field(default_factory=list)

    def draw(self) -> tuple[Tensor, Tensor]:
        count = len(self.cache.latents)
        while len(self.queue) < self.size:
            self.queue.extend(torch.randperm(count, generator=self.generator).tolist())
        chosen, self.queue = torch.tensor(self.queue[: self.size]), self.queue[self.size :]
        which = torch.randint(self.cache.captions.shape[1], (self.size,), generator=self.generator)
        rows = self.cache.captions[chosen, which].long()
        rows[torch.rand(self.size, generator=self.generator) < UNCONDITIONAL] = 0
        return self.cache.latents[chosen], self.cache.text[rows].float()


def load_exported(model: UNet, folder: Path) -> None:
    """Take the weights of an exported `unet/model.onnx`; its initializers carry the module's names."""
    exported = weights.load(onnx.load(folder / "unet" / "model.onnx"))
    state = model.state_dict()
    missing = [name for name in state if name not in exported]
    if missing:
        raise SystemExit(f"the exported U-Net lacks {len(missing)} weights, among them {missing[0]}")
    model.load_state_dict({name: torch.from_numpy(exported[name].copy()) for name in state})


@torch.no_grad()
def update_average(average: UNet, model: UNet, step: int) -> None:
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1.0 - decay)


@dataclass
class Training:
    """The state of one run."""

    model: UNet
    average: UNet
    optimizer: torch.optim.AdamW
    batches: Batches
    alphas: Tensor
    step: int = 0
    history: list[dict] = field(default_factory=list)
    # Running losses: overall and for each quarter of the timesteps, least noise first.
    running: Tensor = field(default_factory=lambda: torch.full((5,), float("nan")))

    def train_step(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        latents, text = self.batches.draw()
        size = len(latents)
        # One timestep from each of `size` equal parts of the schedule: less variance than free draws.
        uniform = (torch.randperm(size) + torch.rand(size)) / size
        timesteps = (uniform * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)
        noise = torch.randn_like(latents)
        alpha = self.alphas[timesteps].sqrt()[:, None, None, None]
        sigma = (1.0 - self.alphas[timesteps]).sqrt()[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.model(alpha * latents + sigma * noise, timesteps, text)
        losses = (predicted.float() - (alpha * noise - sigma * latents)).square().mean((1, 2, 3))
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        update_average(self.average, self.model, self.step)
        self._note(losses.detach(), timesteps)

    def _note(self, losses: Tensor, timesteps: Tensor) -> None:
        quarter = timesteps * 4 // len(self.alphas)
        values = torch.stack([losses.mean(), *(losses[quarter == q].mean() for q in range(4))])
        self.running = torch.where(self.running.isnan(), values, self.running.lerp(values, 0.01))

    def save(self, path: Path, elapsed_s: float) -> None:
        state = {"model": self.model.state_dict(), "average": self.average.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "step": self.step, "elapsed_s": elapsed_s,
                 "history": self.history, "running": self.running}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> float:
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history, self.running = state["step"], state["history"], state["running"]
        return state["elapsed_s"]


def start(args: argparse.Namespace) -> Training:
    torch.manual_seed(args.seed)
    model = UNet()
    if args.resume:
        load_exported(model, args.resume)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    batches = Batches(Cache.load(args.cache), args.batch, torch.Generator().manual_seed(args.seed))
    return Training(model, copy.deepcopy(model), optimizer, batches, alphas_cumprod())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that cache.py wrote")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock time until the rate reaches zero")
    parser.add_argument("--resume", type=Path, help="exported generator to take the weights from")
    parser.add_argument("--continue-run", action="store_true", help="go on from this run's checkpoint")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--hold", type=float, default=0.5, help="share of the time before the rate decays")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one slows a machine that is busy with other work")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    checkpoint = args.run / "unet.pt"
    training = start(args)
    schedule = WallClockSchedule(minutes=args.minutes, warm_up=0.02, hold=args.hold)
    if args.continue_run:
        schedule.start -= training.load(checkpoint)
    parameters = sum(p.numel() for p in training.model.parameters())
    print(f"{len(training.batches.cache.latents)} pictures, {parameters} parameters", flush=True)
    saved_s = schedule.elapsed_s()
    while not schedule.finished():
        training.train_step(args.lr * schedule.factor())
        if training.step % 100 == 0:
            record = {"step": training.step, "elapsed_s": round(schedule.elapsed_s()), "lr": args.lr * schedule.factor(),
                      "loss": round(training.running[0].item(), 4),
                      "loss_by_quarter": [round(v, 4) for v in training.running[1:].tolist()]}
            training.history.append(record)
            print(json.dumps(record), flush=True)
        if schedule.elapsed_s() - saved_s > CHECKPOINT_S:
            saved_s = schedule.elapsed_s()
            training.save(checkpoint, saved_s)
    training.save(checkpoint, schedule.elapsed_s())
    report = {"steps": training.step, "batch": args.batch, "samples": training.step * args.batch,
              "minutes": schedule.elapsed_s() / 60, "peak_lr": args.lr, "seed": args.seed, "parameters": parameters,
              "history": training.history}
    (args.run / "unet.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
