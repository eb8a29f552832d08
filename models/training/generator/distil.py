"""Distil the exported U-Net for two and four evaluations a picture, guidance included.

    python distil.py --packages .. --generator ../../generator --run .training/distil --minutes 20

The teacher is the folder's own default: the settings of `generation_config.json`. Its samples at some of its
timesteps are recorded for noises and captions of the training pictures. The student starts from the teacher's
weights, goes by DDIM over the plans below with one row an evaluation, and learns at each of its timesteps the v
that leads from its own sample to the teacher's next one (Salimans and Ho 2022, arXiv 2202.00512, give the target;
here the teacher is a multistep solver and the student's samples are its own, so that it learns to come back to
the teacher's path).

Writes `teacher.npz`, a checkpoint and, at the end, `generator/`, the folder with the student's U-Net and the
settings of its longest plan. A run that was cut off goes on with `--continue-run`.
"""

import argparse
import copy
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import emoji
from clock import WallClockSchedule
from export import export_unet
from schedule import alphas_cumprod
from train_unet import load_exported
from unet import UNet

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "evaluation" / "generator"))
from pipeline import Generator

# Timestep told to the student, and the index of the teacher's timestep whose sample it should have there. One
# network learns both plans: they share no timestep.
PLANS = {4: ((974, 0), (737, 3), (566, 5), (328, 7)), 2: ((999, 0), (656, 4))}
# Neither noises nor choices of captions that an evaluation uses.
SEED = 900_000
EMA_DECAY = 0.99
CHECKPOINT_S = 120.0
TEACHER_BATCH = 16


def teach(generator: Generator, text: np.ndarray, empty: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The teacher's samples [n, timesteps + 1, 4, 16, 16] as the network sees them, the last one the picture's."""
    settings, states, kept = generator.settings, [], None
    times, (start, stop) = np.array(settings.timesteps), settings.guidance_interval

    def predict(index: int, sample: np.ndarray) -> np.ndarray:
        nonlocal kept
        states.append(sample)
        if index not in settings.reuse:
            guided = start <= index / len(times) < stop
            kept = generator.guided(sample, times[index], text, empty, settings.guidance_scale) if guided else generator.v(sample, times[index], text)
        return kept

    end = generator.lms(noise, times, predict)
    return np.stack([*states, end], axis=1).astype(np.float32)


def record_teacher(args: argparse.Namespace, path: Path) -> None:
    """Samples of the teacher and text states [n, 24, 384] as fp16."""
    generator = Generator(args.generator)
    draw = np.random.default_rng(SEED)
    seen = [p for p in emoji.load(args.packages) if not p.held_out]
    captions = [draw.choice(seen[i % len(seen)].captions()) for i in draw.permutation(args.pictures)]
    empty, samples, texts = generator.encode_text([""]), [], []
    for start in range(0, args.pictures, TEACHER_BATCH):
        text = generator.encode_text([str(c) for c in captions[start : start + TEACHER_BATCH]])
        noise = draw.standard_normal((len(text), 4, 16, 16)).astype(np.float32)
        kept = sorted({index for plan in PLANS.values() for _, index in plan} | {len(generator.settings.timesteps)})
        samples.append(teach(generator, text, empty, noise)[:, kept])
        texts.append(text.astype(np.float16))
    np.savez(path.with_suffix(".partial.npz"), samples=np.concatenate(samples), text=np.concatenate(texts), kept=kept)
    path.with_suffix(".partial.npz").replace(path)


@dataclass(frozen=True)
class Step:
    """One DDIM step without noise from a timestep to the next of a plan: `ahead(x, v)` is linear in v."""

    told: int
    keep: float
    turn: float

    @staticmethod
    def between(alphas: Tensor, told: int, following: int | None) -> "Step":
        a, s = alphas[told].sqrt().item(), (1 - alphas[told]).sqrt().item()
        b, r = (alphas[following].sqrt().item(), (1 - alphas[following]).sqrt().item()) if following is not None else (1.0, 0.0)
        return Step(told, b * a + r * s, r * a - b * s)

    def ahead(self, sample: Tensor, v: Tensor) -> Tensor:
        return self.keep * sample + self.turn * v

    def wanted(self, sample: Tensor, following: Tensor) -> Tensor:
        """The v that leads to `following`."""
        return (following - self.keep * sample) / self.turn


def plan_steps(plan: tuple) -> list[Step]:
    told = [timestep for timestep, _ in plan]
    return [Step.between(alphas_cumprod(), *pair) for pair in zip(told, [*told[1:], None])]


@dataclass
class Distillation:
    """The state of one run."""

    student: UNet
    average: UNet
    optimizer: torch.optim.AdamW
    samples: Tensor
    text: Tensor
    columns: dict[int, int]
    step: int = 0
    history: list[dict] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)

    def train_step(self, lr: float, batch: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # A generator of the step's own: a run that goes on draws what it would have drawn.
        chosen = torch.randint(len(self.samples), (batch,), generator=torch.Generator().manual_seed(SEED + self.step))
        samples, text = self.samples[chosen], self.text[chosen].float()
        self.optimizer.zero_grad(set_to_none=True)
        for count, plan in PLANS.items():
            targets = [samples[:, self.columns[index]] for _, index in plan[1:]] + [samples[:, -1]]
            sample = samples[:, self.columns[plan[0][1]]]
            for number, (step, target) in enumerate(zip(plan_steps(plan), targets)):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    v = self.student(sample, torch.full((batch,), step.told), text)
                v = v.float()
                loss = (v - step.wanted(sample, target)).square().mean()
                loss.backward()
                sample = step.ahead(sample, v.detach())
                self._note(f"{count} steps, v {number}", loss.item())
            self._note(f"{count} steps, end", (sample - targets[-1]).square().mean().item())
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for a, p in zip(self.average.parameters(), self.student.parameters()):
                a.lerp_(p, 1.0 - decay)

    def _note(self, name: str, value: float) -> None:
        self.running[name] = value if name not in self.running else 0.95 * self.running[name] + 0.05 * value

    def save(self, path: Path, elapsed_s: float) -> None:
        state = {"student": self.student.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "history": self.history, "running": self.running, "elapsed_s": elapsed_s}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> float:
        state = torch.load(path)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history, self.running = state["step"], state["history"], state["running"]
        return state["elapsed_s"]


def start(args: argparse.Namespace, teacher: Path) -> Distillation:
    torch.manual_seed(SEED)
    student = UNet()
    load_exported(student, args.generator)
    student = student.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    with np.load(teacher) as file:
        samples, text, kept = torch.from_numpy(file["samples"]), torch.from_numpy(file["text"]), file["kept"]
    columns = {int(index): column for column, index in enumerate(kept)}
    return Distillation(student, copy.deepcopy(student), optimizer, samples, text, columns)


def export(distillation: Distillation, generator: Path, out: Path) -> None:
    """The teacher's folder with the student's U-Net."""
    shutil.copytree(generator, out, dirs_exist_ok=True)
    average = UNet()
    average.load_state_dict(distillation.average.state_dict())
    export_unet(average, out)
    plan = PLANS[max(PLANS)]
    settings = {"scheduler": "ddim", "num_inference_steps": len(plan), "timesteps": [told for told, _ in plan], "guidance_scale": 1.0}
    (out / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the emoji packages")
    parser.add_argument("--generator", type=Path, required=True, help="exported folder: teacher and start")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock time of the training, without the teacher's")
    parser.add_argument("--pictures", type=int, default=3072, help="of the teacher")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--continue-run", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run.mkdir(parents=True, exist_ok=True)
    teacher, checkpoint = args.run / "teacher.npz", args.run / "student.pt"
    if not teacher.exists():
        record_teacher(args, teacher)
    distillation = start(args, teacher)
    schedule = WallClockSchedule(minutes=args.minutes, warm_up=0.03, hold=0.3)
    if args.continue_run:
        schedule.start -= distillation.load(checkpoint)
    saved_s = schedule.elapsed_s()
    while not schedule.finished():
        distillation.train_step(args.lr * schedule.factor(), args.batch)
        if distillation.step % 10 == 0:
            record = {"step": distillation.step, "elapsed_s": round(schedule.elapsed_s())}
            record |= {name: round(value, 4) for name, value in distillation.running.items()}
            distillation.history.append(record)
            print(json.dumps(record), flush=True)
        if schedule.elapsed_s() - saved_s > CHECKPOINT_S:
            saved_s = schedule.elapsed_s()
            distillation.save(checkpoint, saved_s)
    distillation.save(checkpoint, schedule.elapsed_s())
    report = {"steps": distillation.step, "batch": args.batch, "pictures": len(distillation.samples), "peak_lr": args.lr,
              "minutes": round(schedule.elapsed_s() / 60, 1), "history": distillation.history}
    (args.run / "distil.json").write_text(json.dumps(report, indent=1) + "\n")
    export(distillation, args.generator, args.run / "generator")


if __name__ == "__main__":
    main()
