"""The generator's quality gate and its contact sheet.

    python gate.py --packages ../../training --generator ../../generator --out .

Over 200 training names and the 100 phrases of paraphrases.tsv, one picture each: does the nearest training
picture, in the autoencoder's latents, have the right subcategory? Beside it: how far pictures of one prompt
differ between seeds, and how many are near-copies. Writes gate.json and contact_sheet.png.
"""

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training" / "generator"))
import emoji
from pipeline import Generator, Settings

HERE = Path(__file__).resolve().parent
# Written into the report without the folders of the machine that it ran on.
COMMAND = "python gate.py --packages ../../training --generator ../../generator"
NAMES, AIMS = 200, {"names": 0.60, "paraphrases": 0.45}
# Prompts and seeds of the diversity figure.
DIVERSITY_PROMPTS, DIVERSITY_SEEDS = 16, 4


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root-mean-square distances [n, m] between scaled latents."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    return np.sqrt(np.maximum(squared, 0.0) / a.shape[1])


def training_names(pictures: list, seed: int) -> list[tuple[str, str]]:
    """`NAMES` names that training saw, with their subcategory."""
    subcategory = {p.name: p.subcategory for p in pictures}
    chosen = np.random.default_rng(seed).choice(sorted(subcategory), NAMES, replace=False)
    return [(str(name), subcategory[str(name)]) for name in chosen]


def paraphrases() -> list[tuple[str, str]]:
    lines = (HERE / "paraphrases.tsv").read_text().splitlines()
    return [tuple(line.split("\t")) for line in lines]


def score(wanted: list[tuple[str, str]], latents: np.ndarray, training: np.ndarray, pictures: list) -> dict:
    """The share of right subcategories, with the misses by subcategory."""
    nearest = distances(latents, training).argmin(1)
    right = [pictures[n].subcategory == subcategory for n, (_, subcategory) in zip(nearest, wanted)]
    named = [pictures[n].name == name for n, (name, _) in zip(nearest, wanted)]
    misses = [f"{name} -> {pictures[n].name} ({pictures[n].subcategory})" for n, (name, _), ok in zip(nearest, wanted, right) if not ok]
    return {"pictures": len(wanted), "right_subcategory": round(float(np.mean(right)), 4),
            "right_name": round(float(np.mean(named)), 4), "misses": misses}


def diversity(generator: Generator, names: list[str], training: np.ndarray, settings: Settings, seed: int) -> dict:
    """Distances between seeds of one prompt, against distances between unrelated training pictures."""
    prompts = [n for n in names[:DIVERSITY_PROMPTS] for _ in range(DIVERSITY_SEEDS)]
    latents = generator.generate(prompts, [seed + i for i in range(len(prompts))], settings)
    within = [distances(group, group)[np.triu_indices(DIVERSITY_SEEDS, 1)] for group in np.split(latents, DIVERSITY_PROMPTS)]
    chosen = training[np.random.default_rng(seed).permutation(len(training))[:64]]
    return {"between_seeds_rms": round(float(np.mean(within)), 4),
            "between_training_pictures_rms": round(float(distances(chosen, chosen)[np.triu_indices(64, 1)].mean()), 4)}


def contact_sheet(generator: Generator, prompts: list[str], seed: int, settings: Settings, path: Path) -> None:
    """Eight pictures a row at twice their size, each above its prompt."""
    pixels = generator.decode(generator.generate(prompts, [seed + i for i in range(len(prompts))], settings))
    columns, cell, caption = 8, 136, 16
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (cell + caption)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, prompt) in enumerate(zip(pixels, prompts)):
        x, y = i % columns * cell, i // columns * (cell + caption)
        sheet.paste(Image.fromarray(picture.transpose(1, 2, 0)).resize((128, 128), Image.NEAREST), (x + 4, y + 4))
        draw.text((x + 4, y + 134), prompt[:22], fill="black")
    sheet.quantize(256).save(path, optimize=True)


def evaluate(generator: Generator, packages: Path, settings: Settings, seed: int, noise_seed: int) -> dict:
    pictures = emoji.load(packages)
    seen, unseen = [p for p in pictures if not p.held_out], [p for p in pictures if p.held_out]
    training = generator.encode(emoji.pixels(seen) / 127.5 - 1.0)
    held_out = generator.encode(emoji.pixels(unseen) / 127.5 - 1.0)
    report, made = {}, []
    for part, wanted in (("names", training_names(seen, seed)), ("paraphrases", paraphrases())):
        latents = generator.generate([name for name, _ in wanted], [noise_seed + i for i in range(len(wanted))], settings)
        report[part] = score(wanted, latents, training, seen) | {"aim": AIMS[part]}
        made.append(latents)
        if part == "names":
            report["diversity"] = diversity(generator, [name for name, _ in wanted], training, settings, seed)
    nearest = distances(np.concatenate(made), training).min(1)
    reference = distances(held_out, training).min(1)
    limit = float(np.quantile(reference, 0.05))
    report["near_copies"] = {
        "meaning": "nearer to a training picture than 95 % of the held-out pictures are, rms of scaled latents",
        "limit_rms": round(limit, 4), "share": round(float((nearest < limit).mean()), 4),
        "share_of_held_out": round(float((reference < limit).mean()), 4),
        "nearest_rms_median": round(float(np.median(nearest)), 4),
        "nearest_rms_median_of_held_out": round(float(np.median(reference)), 4)}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the emoji packages")
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--settings", type=json.loads, help="in place of the folder's generation_config.json, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise-seed", type=int, help="other noises for the same names and phrases")
    parser.add_argument("--sheet-only", action="store_true", help="the contact sheet alone")
    args = parser.parse_args()
    generator = Generator(args.generator)
    settings = Settings(**args.settings) if args.settings else generator.settings
    prompts = (HERE / "prompts.txt").read_text().splitlines()
    contact_sheet(generator, prompts, args.seed, settings, args.out / "contact_sheet.png")
    if args.sheet_only:
        return
    noise_seed = args.seed if args.noise_seed is None else args.noise_seed
    report = evaluate(generator, args.packages, settings, args.seed, noise_seed)
    report["made_with"] = {"command": COMMAND, **settings.as_dict(),
                           "seed": args.seed, "noise_seed": noise_seed, "date": date.today().isoformat(), "processor": platform.machine()}
    (args.out / "gate.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({k: v if k not in AIMS else {n: w for n, w in v.items() if n != "misses"} for k, v in report.items()}, indent=2))


if __name__ == "__main__":
    main()
