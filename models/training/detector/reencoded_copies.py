"""Make copies as the web re-encodes them, in which format, size and compression say nothing about the label.

    python reencoded_copies.py --pictures PICTURES --output .training/reencoded

History, size and cut as in `whole_copies.py`; then one of three deliveries, whatever the label:

- `webp`: WebP of quality 90, 75 or 50; half of the copies were compressed with the JPEG tables of a random photograph
  first;
- `double`: JPEG of quality 70 to 95, cut by 1 to 7 pixels against its own blocks, then JPEG of quality 60 to 90;
- `blur`: a Gaussian of 0.4 to 2.2 pixels, then the tables of a random photograph, or a lossless file.

`index.csv` beside the copies lists them, the delivery in the column `tier`.
"""

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import pictures
from fair_copies import TIERS, compressed, lossless, opened, quality_jpeg
from whole_copies import Recipe, is_lossy, recipe_of, window

DELIVERIES = ("webp", "double", "blur")
WEBP_QUALITIES = (90, 75, 50)
FIRST_QUALITIES, LAST_QUALITIES = (70, 96), (60, 91)
SHIFTS, SIGMAS = (1, 8), (0.4, 2.2)


def webp(rgb: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def blurred(rgb: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(sigma)))


def delivered(recipe: Recipe, rgb: np.ndarray, lossy: bool, delivery: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """The file and its ending. All draws happen in one order, whatever the picture is."""
    rgb, tables = recipe.cut(rgb, lossy, "clean", rng)
    quality, jpeg_before = int(rng.choice(WEBP_QUALITIES)), rng.random() < 0.5
    before = recipe.pool[rng.integers(len(recipe.pool))]
    first, last = int(rng.integers(*FIRST_QUALITIES)), int(rng.integers(*LAST_QUALITIES))
    y, x = rng.integers(*SHIFTS, 2)
    sigma = rng.uniform(*SIGMAS)
    if delivery == "webp":
        return webp(opened(compressed(rgb, before)) if jpeg_before else rgb, quality), "webp"
    if delivery == "double":
        return quality_jpeg(opened(quality_jpeg(rgb, first))[y:, x:], last), "jpg"
    rgb = blurred(rgb, sigma)
    return (lossless(rgb), "png") if tables is None else (compressed(rgb, tables), "jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="pictures that give the compression tables [default: the same]")
    parser.add_argument("--output", type=Path, required=True, help="folder outside the repository")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(args.tables or args.pictures)
    rows = []
    for number, picture in enumerate(pictures.listed(args.pictures)):
        path = args.pictures / picture.path
        rgb = window(pictures.tiles(picture, pictures.pixels(path))[0])
        lossy = is_lossy(picture, path)
        for place, delivery in enumerate(DELIVERIES):
            # The third number goes on where the tiers of `whole_copies.py` end: no two copies share their draws.
            rng = np.random.default_rng([number, 0, len(TIERS) + place])
            data, ending = delivered(recipe, rgb, lossy, delivery, rng)
            name = f"{number:05d}-{delivery}.{ending}"
            (args.output / name).write_bytes(data)
            rows.append({
                "copy": name, "picture": picture.path, "label": picture.label, "role": picture.role,
                "source": picture.source, "generator": picture.generator, "tier": delivery, "number": number,
            })
    with open(args.output / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} copies of {len({row['picture'] for row in rows})} pictures")


if __name__ == "__main__":
    main()
