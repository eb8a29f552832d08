"""Timesteps that are chosen on the deployed model, in place of a formula.

    python search.py --packages ../../../training --generator ../../../generator --run DIR --solver "dpm++ 2m" --evaluations 8

Minimises the same-noise error of DPM-Solver++ (order 1 is DDIM) over its integer timesteps on noises and
prompts that no figure is taken on. Levenberg-Marquardt: the error is a sum of squares of a few numbers per
picture and depends smoothly on a handful of timesteps, so that differences in each of them tell where to go
far more cheaply than trying one timestep after the other. Starts from trailing spacing. The network's
outputs are kept by the timesteps before them, which never change when a later one moves.

Found timesteps go to timesteps.json, which the other scripts read.
"""

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from loop import BATCH, HERE, MEASURED, TUNED_SEED, Generator, Model, names, noises, write_array
from same_noise import REFERENCE
from settings import SOLVERS, scheduler_config

COMMAND = "python search.py --packages ../../../training --generator ../../../generator --run DIR --solver SOLVER --evaluations N"
# Damping of the normal equations that each iteration tries, relative to their diagonal.
DAMPINGS = (0.01, 0.1, 1.0, 10.0)


def tuned(solver: str, timesteps: list[int], config: dict):
    """The scheduler of `solver` at explicit timesteps."""
    return replace(SOLVERS[solver], timesteps={len(timesteps): timesteps}).build(config, len(timesteps))


class Objective:
    """Residuals of the last samples against the reference, on the pictures for tuning."""

    def __init__(self, packages: Path, generator: Path, run: Path, count: int, solver: str):
        self.config, self.solver = scheduler_config(generator), solver
        network = Generator(generator)
        prompts = names(packages)[MEASURED : MEASURED + count]
        self.noise = noises(TUNED_SEED, count)
        self.models = [Model(network, prompts[i : i + BATCH]) for i in range(0, count, BATCH)]
        self.outputs: dict[tuple, torch.Tensor] = {}
        self.rows = 0
        path = run / "reference" / f"tuned-{count}.npy"
        if not path.exists():
            write_array(path, self.run_loop(REFERENCE.build(self.config, 200)))
        self.reference = np.load(path)
        self.outputs, self.rows = {}, 0

    def guided(self, sample: torch.Tensor, timestep: int) -> torch.Tensor:
        parts = np.split(sample.numpy(), range(BATCH, len(self.noise), BATCH))
        return torch.from_numpy(np.concatenate([m.guided(p, timestep) for m, p in zip(self.models, parts)]))

    def run_loop(self, scheduler) -> np.ndarray:
        sample, before = torch.from_numpy(self.noise) * float(scheduler.init_noise_sigma), ()
        for timestep in scheduler.timesteps:
            before = (*before, int(timestep))
            if before not in self.outputs:
                self.outputs[before] = self.guided(scheduler.scale_model_input(sample, timestep).float(), int(timestep))
                self.rows += 2
            sample = scheduler.step(self.outputs[before], timestep, sample).prev_sample
        return sample.float().numpy()

    def residuals(self, timesteps: list[int]) -> np.ndarray:
        """[pictures, 1024]."""
        end = self.run_loop(tuned(self.solver, timesteps, self.config))
        return (end - self.reference).reshape(len(end), -1).astype(np.float64)


def legal(timesteps: np.ndarray) -> list[int]:
    """Falling integers from 999 to 0 at least one apart."""
    whole = np.clip(np.rint(timesteps), 0, 999).astype(int)
    for i in range(1, len(whole)):
        whole[i] = min(whole[i], whole[i - 1] - 1)
    for i in range(len(whole) - 1, -1, -1):
        whole[i] = max(whole[i], len(whole) - 1 - i)
    return whole.tolist()


def weight(residuals: np.ndarray) -> np.ndarray:
    """Square roots of Huber's weights by picture: those that went to another picture altogether, several
    times as far as the middle one, do not decide alone."""
    size = np.sqrt(np.square(residuals).mean(1))
    return np.sqrt(np.minimum(1.0, 2.0 * np.median(size) / np.maximum(size, 1e-12)))[:, None]


def loss(residuals: np.ndarray) -> float:
    return float(np.sqrt(np.square(residuals).mean()))


def improve(objective: Objective, timesteps: list[int], iterations: int, log) -> tuple[list[int], float]:
    """Levenberg-Marquardt from one schedule; the differences shrink with the steps taken."""
    best, best_residuals = timesteps, objective.residuals(timesteps)
    reach = 0.25
    for iteration in range(iterations):
        factor = weight(best_residuals)
        columns, moves = [], []
        for i in range(len(best)):
            gap = best[i] - (best[i + 1] if i + 1 < len(best) else 0)
            room = best[i - 1] - best[i] if i else 999 - best[i]
            size = max(1, int(reach * max(gap, 1)))
            move = size if room > size else -size
            trial = legal(np.array(best) + move * (np.arange(len(best)) == i))
            moved = trial[i] - best[i]
            if moved == 0:
                columns.append(np.zeros(best_residuals.size))
                continue
            columns.append(((objective.residuals(trial) - best_residuals) * factor / moved).ravel())
            moves.append((trial, moved))
        jacobian = np.stack(columns, axis=1)
        normal, slope = jacobian.T @ jacobian, jacobian.T @ (best_residuals * factor).ravel()
        diagonal = np.maximum(np.diag(normal), 1e-9 * np.diag(normal).max())
        trials = [legal(np.array(best) - np.linalg.solve(normal + d * np.diag(diagonal), slope)) for d in DAMPINGS]
        trials += [trial for trial, _ in moves]
        found = sorted(((loss(objective.residuals(t)), t) for t in trials), key=lambda pair: pair[0])[0]
        log(iteration, reach, found)
        if found[0] < loss(best_residuals) - 1e-6:
            best, best_residuals = found[1], objective.residuals(found[1])
        elif reach < 0.03:
            break
        else:
            reach /= 3
    return best, loss(best_residuals)


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--solver", choices=SOLVERS, required=True)
    parser.add_argument("--evaluations", type=int, required=True)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--start", type=lambda text: [int(t) for t in text.split(",")], help="timesteps; trailing spacing otherwise")
    args = parser.parse_args()
    objective = Objective(args.packages, args.generator, args.run, args.pictures, args.solver)
    began = time.time()
    trailing = legal(np.arange(1000, 0, -1000 / args.evaluations) - 1)
    stock = loss(objective.residuals(trailing))
    print(args.solver, "trailing", stock, trailing, flush=True)

    def log(iteration: int, reach: float, found: tuple) -> None:
        print(f"{time.time() - began:6.0f} s  iteration {iteration} reach {reach:.3f} {found}", flush=True)

    best, error = improve(objective, args.start or trailing, args.iterations, log)
    found = {"timesteps": best, "rms_on_tuning_noises": round(error, 4), "trailing_on_tuning_noises": round(stock, 4),
             "tuning_noises": args.pictures}
    record(args.solver, args.evaluations, found)


def record(solver: str, evaluations: int, found: dict) -> None:
    path = HERE / "timesteps.json"
    table = json.loads(path.read_text()) if path.exists() else {"command": COMMAND, "found": {}}
    by_count = table["found"].setdefault(solver, {})
    by_count[str(evaluations)] = found
    table["found"][solver] = dict(sorted(by_count.items(), key=lambda item: int(item[0])))
    path.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
