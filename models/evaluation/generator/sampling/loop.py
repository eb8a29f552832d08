"""The guided denoising loop with diffusers' schedulers and the exported U-Net in fp32."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[2] / "training" / "generator"))
import emoji
from pipeline import Generator, session

GUIDANCE_SCALE = 3.0
# Pictures per call: two rows each. On a busy processor larger batches are no faster.
BATCH = 16
# Prompts and noises that figures are taken on, and those that schedules are tuned on: no prompt and no
# noise is in both.
MEASURED, TUNED = 256, 128
MEASURED_SEED, TUNED_SEED, STEP_SEED = 500_000, 600_000, 700_000
# Several schedulers share their first evaluations from the same noise: the output for a sample that differs
# from an earlier one by rounding alone is taken from there. Later evaluations rarely coincide and are not kept.
SHARED_FROM, ROUNDING = 700, 1e-5


@dataclass(frozen=True)
class Shortcuts:
    """Evaluations that are saved. Evaluation i of n is guided where `start <= i / n < stop`, else only the
    prompt's row is computed; an index in `reuse` takes the output of the evaluation before it."""

    start: float = 0.0
    stop: float = 1.0
    reuse: tuple[int, ...] = ()

    def rows(self, evaluations: int) -> int:
        """Rows of the network's batch for one picture."""
        return sum(1 + self.is_guided(i, evaluations) for i in range(evaluations) if i not in self.reuse)

    def is_guided(self, index: int, evaluations: int) -> bool:
        return self.start <= index / evaluations < self.stop


class Model:
    """The network on a batch of prompts."""

    def __init__(self, generator: Generator, prompts: list[str], guidance_scale: float = GUIDANCE_SCALE):
        self.generator, self.guidance_scale = generator, np.float32(guidance_scale)
        self.text = generator.encode_text(prompts)
        self.empty = np.broadcast_to(generator.encode_text([""]), self.text.shape)
        self.known: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def shared(self, sample: np.ndarray, timestep: int) -> np.ndarray:
        """Guided v [n, 4, 16, 16], from an earlier evaluation where there was the same."""
        if timestep < SHARED_FROM:
            return self.guided(sample, timestep)
        known = self.known.setdefault(timestep, [])
        for before, output in known:
            if np.abs(before - sample).max() < ROUNDING:
                return output
        known.append((sample.copy(), self.guided(sample, timestep)))
        return known[-1][1]

    def guided(self, sample: np.ndarray, timestep: int) -> np.ndarray:
        """Guided v [n, 4, 16, 16]."""
        both = self.generator.v(np.concatenate([sample, sample]), timestep, np.concatenate([self.empty, self.text]))
        unconditional, conditional = np.split(both, 2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def conditional(self, sample: np.ndarray, timestep: int) -> np.ndarray:
        return self.generator.v(sample, timestep, self.text)


def denoise(model: Model, scheduler, noise: np.ndarray, shortcuts: Shortcuts = Shortcuts(), step: dict | None = None) -> np.ndarray:
    """Scaled latents [n, 4, 16, 16] from standard normal noise. Fractional timesteps are cut to the integer
    that the exported network takes, as the service does."""
    sample, count = torch.from_numpy(noise) * float(scheduler.init_noise_sigma), len(scheduler.timesteps)
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample, timestep).float().numpy()
        if index not in shortcuts.reuse:
            predict = model.shared if shortcuts.is_guided(index, count) else model.conditional
            output = torch.from_numpy(predict(scaled, int(timestep)))
        sample = scheduler.step(output, timestep, sample, **(step or {})).prev_sample
    return sample.float().numpy()


def noises(first: int, count: int) -> np.ndarray:
    """Standard normal noise [count, 4, 16, 16], one stream per picture."""
    drawn = [np.random.default_rng(first + i).standard_normal((4, 16, 16)) for i in range(count)]
    return np.stack(drawn).astype(np.float32)


def names(packages: Path) -> list[str]:
    """All training names in a fixed shuffled order: the first `MEASURED` are for figures, the next `TUNED`
    for tuning."""
    listed = sorted({p.name for p in emoji.load(packages) if not p.held_out})
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]


def write_array(path: Path, array: np.ndarray) -> None:
    """Completely or not at all, so that a run that was cut off can go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(path)
