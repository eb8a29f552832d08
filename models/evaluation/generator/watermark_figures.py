"""How much damage the watermark in the starting noise survives, and what chance and forgers can do.

    python watermark_figures.py --packages ../../training --generator ../../generator --pdq PROGRAM --out watermark.json

Marked pictures of the 48 prompts of prompts.txt with the folder's own settings, 8-bit pixels. A reading is the
service's: the autoencoder's mean, 20 steps of inversion with the empty prompt, the best of 2^40 ids; a mark is
found where chance gives as much once in a million pictures at most. `right id` asks that an entry would be
looked up under the id, `first` that it is the likeliest. Unmarked: pictures of the same model from noise that was
drawn, and real pictures. Transplants: other prompts from the noise that marked pictures invert to; called ours only
where the perceptual hashes are within 31 bits and both of quality 50. PROGRAM is the example `perceptual_hashes` of
the crate `media`.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "training" / "generator"))
import emoji
import inversion
from pipeline import Generator
from watermark import FALSE_POSITIVE_RATE, Reader, noise

COMMAND = "python watermark_figures.py --packages ../../training --generator ../../generator --pdq PROGRAM"
KEY = bytes(range(1, 33))
STEPS, SEEDS, BATCH = 20, 21, 16
VALUES, SHAPE = 1024, (4, 16, 16)
MATCH_DISTANCE, MATCH_QUALITY = 31, 50


def saved(picture: Image.Image, container: str, **options) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, container, **options)
    return Image.open(stream).convert("RGB")


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    side = round(64 * factor)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, area: float) -> Image.Image:
    side = round(64 * area**0.5)
    start = (64 - side) // 2
    return picture.crop((start, start, start + side, start + side))


def noisy(picture: Image.Image, sigma: float) -> Image.Image:
    values = np.asarray(picture, np.float64)
    drawn = np.random.default_rng(int(values.sum())).standard_normal(values.shape)
    return Image.fromarray(np.clip(np.rint(values + 255 * sigma * drawn), 0, 255).astype(np.uint8))


DAMAGE = {
    "none": lambda p: p,
    "JPEG 95": lambda p: saved(p, "JPEG", quality=95),
    "JPEG 75": lambda p: saved(p, "JPEG", quality=75),
    "JPEG 50": lambda p: saved(p, "JPEG", quality=50),
    "JPEG 25": lambda p: saved(p, "JPEG", quality=25),
    "WebP 75": lambda p: saved(p, "WEBP", quality=75),
    "double size, JPEG 75": lambda p: saved(scaled(p, 2), "JPEG", quality=75),
    "half size": lambda p: scaled(p, 0.5),
    "half size, JPEG 50": lambda p: saved(scaled(p, 0.5), "JPEG", quality=50),
    "quarter size": lambda p: scaled(p, 0.25),
    "blur, radius 1": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
    "blur, radius 2": lambda p: p.filter(ImageFilter.GaussianBlur(2)),
    "noise, 0.05": lambda p: noisy(p, 0.05),
    "noise, 0.1": lambda p: noisy(p, 0.1),
    "brightness x 1.5": lambda p: ImageEnhance.Brightness(p).enhance(1.5),
    "crop to 90 % of the area": lambda p: cropped(p, 0.9),
    "crop to 60 % of the area": lambda p: cropped(p, 0.6),
}


def to_images(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(p.transpose(1, 2, 0)) for p in pixels]


def to_pixels(images: list[Image.Image]) -> np.ndarray:
    """At the model's size, as uint8 [n, 3, 64, 64]."""
    fitted = [p if p.size == (64, 64) else p.resize((64, 64), Image.Resampling.BICUBIC) for p in images]
    return np.stack([np.asarray(p).transpose(2, 0, 1) for p in fitted])


def inverted(generator: Generator, pixels: np.ndarray) -> np.ndarray:
    """Noise [n, 1024] that pictures invert to."""
    empty, out = generator.encode_text([""]), []
    for start in range(0, len(pixels), BATCH):
        latents = generator.encode(pixels[start : start + BATCH] / 127.5 - 1.0)
        out.append(inversion.invert(generator, latents, empty))
    return np.concatenate(out).reshape(len(pixels), VALUES).astype(np.float64)


def drawn_from(generator: Generator, prompts: list[str], noises: np.ndarray) -> np.ndarray:
    """Pictures of prompts from these noises [n, 1024]."""
    empty, out = generator.encode_text([""]), []
    for start in range(0, len(prompts), BATCH):
        text = generator.encode_text(prompts[start : start + BATCH])
        latents = generator.sample(noises[start : start + BATCH].reshape(-1, *SHAPE), text, empty, generator.settings)
        out.append(generator.decode(latents))
    return np.concatenate(out)


def share(values: list[bool]) -> dict:
    """A share with its 95 % interval (Wilson 1927)."""
    n, z = len(values), 1.96
    p = float(np.mean(values))
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return {"share": round(p, 4), "interval": [round(low, 4), round(high, 4)], "pictures": n}


def figures(readings: list[tuple[float, float, list[bytes]]], ids: list[bytes]) -> dict:
    scores = np.array([score for score, _, _ in readings])
    return {
        "found": share([rate <= FALSE_POSITIVE_RATE for _, rate, _ in readings]),
        "right_id": share([own in likely for (_, _, likely), own in zip(readings, ids)]),
        "right_id_first": share([likely[:1] == [own] for (_, _, likely), own in zip(readings, ids)]),
        "score": {"median": round(float(np.median(scores)), 2), "percentile_1": round(float(np.quantile(scores, 0.01)), 2),
                  "least": round(float(scores.min()), 2)},
    }


def unmarked(readings: list[tuple[float, float, list[bytes]]]) -> dict:
    return {"pictures": len(readings), "found": sum(rate <= FALSE_POSITIVE_RATE for _, rate, _ in readings),
            "greatest_score": round(max(score for score, _, _ in readings), 2)}


def hashes(program: Path, images: list[Image.Image]) -> list[tuple[int, int]]:
    """Perceptual hash and quality of each picture."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:05}.png" for number in range(len(images))]
        for path, image in zip(paths, images):
            image.save(path)
        said = subprocess.run([program, *paths], check=True, capture_output=True, text=True).stdout.split("\n")
    fields = [line.split() for line in said if line.strip()]
    return [(int(line[0], 16), int(line[1])) for line in fields]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--pdq", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "watermark.json")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    inversion.STEPS = STEPS
    generator, reader = Generator(arguments.generator), Reader(KEY, VALUES)
    prompts = (HERE / "prompts.txt").read_text().split("\n")
    prompts = [prompt for prompt in prompts if prompt.strip()] * arguments.seeds
    drawn = np.random.default_rng(0)
    ids = [drawn.bytes(5) for _ in prompts]
    noises = np.stack([noise(KEY, own, VALUES) for own in ids])
    images = to_images(drawn_from(generator, prompts, noises))

    def read(pictures: list[Image.Image]) -> list[tuple[float, float, list[bytes]]]:
        return [reader.read(z) for z in inverted(generator, to_pixels(pictures))]

    report = {"command": COMMAND, "date": date.today().isoformat(), "inversion_steps": STEPS,
              "false_positive_rate": FALSE_POSITIVE_RATE, "damage": {}}
    for name, damage in DAMAGE.items():
        report["damage"][name] = figures(read([damage(image) for image in images]), ids)
        print(name, json.dumps(report["damage"][name]), flush=True)
    plain = to_images(drawn_from(generator, prompts, drawn.standard_normal((len(prompts), VALUES)).astype(np.float32)))
    real = to_images(emoji.pixels(emoji.load(arguments.packages)[: len(prompts)]))
    report["unmarked"] = {"own model": unmarked(read(plain)), "real pictures": unmarked(read(real)),
                          "own model, JPEG 75": unmarked(read([DAMAGE["JPEG 75"](image) for image in plain]))}
    print(json.dumps(report["unmarked"]), flush=True)
    stolen = inverted(generator, to_pixels(images))
    stolen /= stolen.std(axis=1, keepdims=True)
    moved = to_images(drawn_from(generator, prompts[1:] + prompts[:1], stolen.astype(np.float32)))
    readings = read(moved)
    pairs = zip(hashes(arguments.pdq, images), hashes(arguments.pdq, moved))
    alike = [min(q, r) >= MATCH_QUALITY and (a ^ b).bit_count() <= MATCH_DISTANCE for (a, q), (b, r) in pairs]
    found = [own in likely for (_, _, likely), own in zip(readings, ids)]
    report["transplants"] = {"pictures": len(moved), "mark_found": sum(found),
                             "called_ours": sum(a and f for a, f in zip(alike, found))}
    print(json.dumps(report["transplants"]), flush=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
