"""How far each scheduler ends from the solution of the differential equation, from the same noise.

    python same_noise.py --packages ../../../training --generator ../../../generator --run DIR [--shard 0/2]
    python same_noise.py ... --report

256 noises with one training name each and guidance 3. The reference is DPM-Solver++ 2M with 200 steps, itself
checked against 1,000 steps on 16 noises. The error of a picture is the root mean square
over its scaled latents; those have a standard deviation of one. DIR keeps the errors picture by picture, so
that a run goes on where it stopped; `--report` writes same_noise.json from them.
"""

import argparse
import json
import warnings
from datetime import date
from pathlib import Path

import numpy as np

from loop import HERE, MEASURED, MEASURED_SEED, Model, denoise, names, noises, write_array
from loop import BATCH, Generator
from settings import DETERMINISTIC, SETTINGS, Setting, found, scheduler_config

EVALUATIONS = (5, 8, 10, 4, 6, 15, 20, 30, 50)
BLOCK = 64
CHECKED = 16
REFERENCE = SETTINGS["dpm++ 2m"]
COMMAND = "python same_noise.py --packages ../../../training --generator ../../../generator --run DIR"


class Measurement:
    """The noises, their prompts and the reference solutions."""

    def __init__(self, packages: Path, generator: Path, run: Path):
        self.config, self.run = scheduler_config(generator), run
        self.generator = Generator(generator)
        self.prompts, self.noise = names(packages)[:MEASURED], noises(MEASURED_SEED, MEASURED)
        self.models: dict[int, Model] = {}

    def solve(self, setting: Setting, evaluations: int, chosen: range) -> np.ndarray:
        parts = []
        for start in range(chosen.start, chosen.stop, BATCH):
            part = slice(start, min(start + BATCH, chosen.stop))
            scheduler = setting.build(self.config, evaluations)
            if start not in self.models:
                self.models[start] = Model(self.generator, self.prompts[part])
            parts.append(denoise(self.models[start], scheduler, self.noise[part]))
        return np.concatenate(parts)

    def reference(self, block: int) -> np.ndarray:
        path = self.run / "reference" / f"{block}.npy"
        if not path.exists():
            write_array(path, self.solve(REFERENCE, 200, range(block * BLOCK, (block + 1) * BLOCK)))
        return np.load(path)

    def check(self) -> None:
        """The reference against a finer solution, on the first noises."""
        path = self.run / "check.npy"
        if not path.exists():
            write_array(path, rms(self.solve(REFERENCE, 1000, range(CHECKED)) - self.reference(0)[:CHECKED]))

    def errors(self, setting: Setting, evaluations: int, block: int) -> Path:
        path = self.run / "errors" / f"{setting.name}" / f"{evaluations}-{block}.npy"
        if not path.exists():
            reference = self.reference(block)
            ended = self.solve(setting, evaluations, range(block * BLOCK, (block + 1) * BLOCK))
            write_array(path, rms(ended - reference))
        return path


def rms(difference: np.ndarray) -> np.ndarray:
    """Root mean square of each picture, [n]."""
    return np.sqrt(np.square(difference.astype(np.float64)).mean(axis=(1, 2, 3)))


def summary(errors: np.ndarray) -> dict:
    """Root mean square over pictures with its 95 % interval (bootstrap over pictures), and the median."""
    drawn = np.random.default_rng(0).integers(0, len(errors), (2000, len(errors)))
    low, high = np.quantile(np.sqrt(np.square(errors)[drawn].mean(1)), (0.025, 0.975))
    return {"noises": len(errors), "rms": float(f"{np.sqrt(np.square(errors).mean()):.4g}"),
            "interval": [float(f"{low:.4g}"), float(f"{high:.4g}")], "median": float(f"{np.median(errors):.4g}")}


def report(run: Path, config: dict) -> dict:
    table = {}
    for setting in [*DETERMINISTIC, *found()]:
        for asked in sorted(setting.timesteps or EVALUATIONS):
            parts = sorted((run / "errors" / setting.name).glob(f"{asked}-*.npy"))
            if parts:
                taken = len(setting.build(config, asked).timesteps)
                table.setdefault(setting.name, {})[str(taken)] = summary(np.concatenate([np.load(p) for p in parts]))
    return {"command": COMMAND, "date": date.today().isoformat(), "guidance_scale": 3.0, "reference": "dpm++ 2m, 200 steps",
            "reference_against_1000_steps": summary(np.load(run / "check.npy")), "evaluations": table}


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the emoji packages")
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder for the errors of single pictures")
    parser.add_argument("--shard", default="0/1", help="this process's part of the work")
    parser.add_argument("--blocks", type=int, default=MEASURED // BLOCK, help="of 64 noises each")
    parser.add_argument("--evaluations", type=int, nargs="*", default=list(EVALUATIONS))
    parser.add_argument("--only", nargs="*", help="names of settings; all otherwise")
    parser.add_argument("--check", action="store_true", help="the reference against 1,000 steps")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    if args.report:
        table = report(args.run, scheduler_config(args.generator))
        (HERE / "same_noise.json").write_text(json.dumps(table, indent=1) + "\n")
        return
    shard, shards = map(int, args.shard.split("/"))
    measurement = Measurement(args.packages, args.generator, args.run)
    if args.check:
        measurement.check()
    chosen = [s for s in [*DETERMINISTIC, *found()] if not args.only or s.name in args.only]
    work = [(s, e, b) for b in range(args.blocks) for e in args.evaluations for s in chosen if e in (s.timesteps or EVALUATIONS)]
    for number, (setting, evaluations, block) in enumerate(work):
        if number % shards == shard:
            errors = np.load(measurement.errors(setting, evaluations, block))
            print(f"{setting.name:22} {evaluations:3} block {block} {summary(errors)}", flush=True)


if __name__ == "__main__":
    main()
