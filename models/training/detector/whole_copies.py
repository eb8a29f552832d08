"""Make copies of whole pictures in which format, size and compression say nothing about the label.

    python whole_copies.py --pictures PICTURES --output .training/whole --tiers clean web hard

The semantic expert looks at what a picture shows, so its copies keep most of the picture, where those of
`fair_copies.py` keep a few patches. One random recipe for every label, drawn anew for each tier:

1. history: as in `fair_copies.py`;
2. size: half of the larger pictures are reduced as a whole to about 360 pixels, the others are cut at
   native resolution; half of all are rescaled besides, and of the hard tier all;
3. cut: 272 to 336 pixels a side before its aspect of 4:5 to 5:4, at a random offset to the 8x8 grid;
4. delivery: `clean`: the tables of a random photograph, or a lossless file; `web`: JPEG of quality 60;
   `hard`: JPEG of quality 40.

`index.csv` beside the copies lists them.
"""

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

import pictures
from fair_copies import HARD_QUALITY, TIERS, WEB_QUALITY, Tables, compressed, jpeg_tables, lossless, opened, quality_jpeg

# Larger pictures are looked at through a window of this side, as the recipe's own sizes are small.
WINDOW_SIDE = 2000
# Pictures whose shorter side is longer than this are reduced as a whole half of the time, to a side in between.
LARGE_SIDE, REDUCED_SIDES = 420, (336, 384)
CUT_SIDES, ASPECTS = (272, 337), (0.8, 1.25)
SCALES = {"clean": (0.7, 1.3), "web": (0.7, 1.0), "hard": (0.65, 0.9)}


def scaled(rgb: np.ndarray, scale: float) -> np.ndarray:
    height, width = rgb.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def window(rgb: np.ndarray) -> np.ndarray:
    """The middle of a very large picture."""
    height, width = rgb.shape[:2]
    if max(height, width) <= WINDOW_SIDE * 1.1:
        return rgb
    y = (height - min(WINDOW_SIDE, height)) // 2
    x = (width - min(WINDOW_SIDE, width)) // 2
    return rgb[y : y + WINDOW_SIDE, x : x + WINDOW_SIDE]


class Recipe:
    """Draws and applies one recipe. All draws happen in one order, whatever the picture is."""

    def __init__(self, pool: list, history_share: float):
        self.pool = pool
        self.history_share = history_share

    def cut(self, rgb: np.ndarray, lossy: bool, tier: str, rng: np.random.Generator) -> tuple[np.ndarray, Tables | None]:
        """Steps 1 to 3, and the tables of a clean delivery, none for a lossless one."""
        history = self.pool[rng.integers(len(self.pool))]
        delivery = self.pool[rng.integers(len(self.pool))]
        gets_history = rng.random() < self.history_share
        native, as_png = rng.random() < 0.5, rng.random() < 0.3
        side, scale = int(rng.integers(*CUT_SIDES)), rng.uniform(*SCALES[tier])
        whole, aspect, reduced = rng.random() < 0.5, rng.uniform(*ASPECTS), rng.uniform(*REDUCED_SIDES)
        if not lossy and gets_history:
            rgb = opened(compressed(rgb, history))
        if min(rgb.shape[:2]) > LARGE_SIDE and whole:
            rgb = scaled(rgb, reduced / min(rgb.shape[:2]))
        if not native or tier == "hard":
            rgb = scaled(rgb, scale)
        height = min(rgb.shape[0], int(side * aspect**0.5))
        width = min(rgb.shape[1], int(side / aspect**0.5))
        y = int(rng.integers(rgb.shape[0] - height + 1))
        x = int(rng.integers(rgb.shape[1] - width + 1))
        return rgb[y : y + height, x : x + width], None if as_png else delivery

    def apply(self, rgb: np.ndarray, lossy: bool, tier: str, rng: np.random.Generator) -> bytes:
        rgb, tables = self.cut(rgb, lossy, tier, rng)
        if tier == "web":
            return quality_jpeg(rgb, WEB_QUALITY)
        if tier == "hard":
            return quality_jpeg(rgb, HARD_QUALITY)
        return lossless(rgb) if tables is None else compressed(rgb, tables)


def recipe_of(folder: Path) -> Recipe:
    """The recipe that draws its tables from the photographs of the training role."""
    photographs = [p for p in pictures.listed(folder) if p.label == "real" and p.role == "train"]
    found = [jpeg_tables(folder / p.path) for p in photographs]
    pool = [tables for tables in found if tables is not None]
    return Recipe(pool, len(pool) / len(found))


def is_lossy(picture: pictures.Picture, path: Path) -> bool:
    """Whether the file has been compressed with loss before; sheets of tiles are WebP with loss."""
    with Image.open(path) as image:
        lossy = image.format in ("JPEG", "MPO")
    return lossy or picture.source in pictures.TILE_SIDES or picture.format in ("JPEG", "MPO", "WEBP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="pictures that give the compression tables [default: the same]")
    parser.add_argument("--output", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--tiers", nargs="+", choices=TIERS, default=TIERS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(args.tables or args.pictures)
    rows = []
    for number, picture in enumerate(pictures.listed(args.pictures)):
        path = args.pictures / picture.path
        rgb = window(pictures.tiles(picture, pictures.pixels(path))[0])
        lossy = is_lossy(picture, path)
        for tier in args.tiers:
            data = recipe.apply(rgb, lossy, tier, np.random.default_rng([number, 0, TIERS.index(tier)]))
            kind = "png" if Image.open(io.BytesIO(data)).format == "PNG" else "jpg"
            name = f"{number:05d}-{tier}.{kind}"
            (args.output / name).write_bytes(data)
            rows.append({
                "copy": name, "picture": picture.path, "label": picture.label, "role": picture.role,
                "source": picture.source, "generator": picture.generator, "tier": tier, "number": number,
            })
    with open(args.output / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} copies of {len({row['picture'] for row in rows})} pictures")


if __name__ == "__main__":
    main()
