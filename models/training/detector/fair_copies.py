"""Make copies of the pictures in which format, size and compression say nothing about the label.

    python fair_copies.py --pictures PICTURES --output .training/copies --seed 1

Originals give the label away: photographs are JPEG files of odd sizes, generated pictures are lossless
files of 512 or 1024 pixels. So every copy, whatever its label, is made by one random recipe:

1. history: a picture that was never compressed with loss is compressed with the JPEG tables of a random
   photograph, as often as photographs have such a history themselves;
2. view: a random cut of one size, at a random offset to the 8x8 grid of the first compression; half of
   the cuts are rescaled at random; then a second random cut;
3. delivery: one of three tiers. `clean`: the tables of a random photograph, or a lossless file; `web`:
   JPEG of quality 60; `hard`: a reduction, then JPEG of quality 40.

Nothing in a recipe depends on the label: scale, side, tables and container are drawn from one
distribution. `index.csv` beside the copies lists them with their recipe.
"""

import argparse
import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import pictures

# Every picture is cut to this side first, so that a scale never depends on the size of the original.
BASE_SIDE = 256
# Sides of the final cut: four to nine candidate patches of 128 pixels.
SIDES = (176, 208, 240, 256)
TIERS = ("clean", "web", "hard")
WEB_QUALITY, HARD_QUALITY = 60, 40
# The web and hard tiers limit the longer side to 768 and 512 pixels. The pictures here are cuts of larger
# ones, so the reduction that their whole would need is drawn at random instead.
SCALES = {"clean": (0.7, 1.3), "web": (0.7, 1.0), "hard": (0.7, 0.95)}


@dataclass(frozen=True)
class Tables:
    """How a photograph's JPEG file was compressed."""

    quantisation: dict[int, list[int]]
    subsampling: int


def jpeg_tables(path: Path) -> Tables | None:
    """Tables of a colour JPEG file, or nothing."""
    with Image.open(path) as image:
        if image.format not in ("JPEG", "MPO") or image.mode != "RGB" or len(image.quantization) < 2:
            return None
        sampling = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
        first = image.layer[0]
        chosen = sampling.get((first[1], first[2]))
        if chosen is None:
            return None
        return Tables({k: list(v) for k, v in image.quantization.items()}, chosen)


def compressed(rgb: np.ndarray, tables: Tables) -> bytes:
    buffer = io.BytesIO()
    quantisation = {0: tables.quantisation[0], 1: tables.quantisation[1]}
    Image.fromarray(rgb).save(buffer, "JPEG", qtables=quantisation, subsampling=tables.subsampling)
    return buffer.getvalue()


def quality_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def lossless(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def luminance_quality(tables: Tables) -> float:
    """Quality whose scaled standard table has this table's mean."""
    mean = float(np.mean(tables.quantisation[0]))
    scale = mean / 57.625 * 100.0
    return 100.0 - scale / 2.0 if scale <= 100.0 else 5000.0 / scale


def rescaled(rgb: np.ndarray, scale: float) -> np.ndarray:
    side = round(rgb.shape[0] * scale)
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))


def cut(rgb: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    y = int(rng.integers(rgb.shape[0] - side + 1))
    x = int(rng.integers(rgb.shape[1] - side + 1))
    return rgb[y : y + side, x : x + side]


class Recipe:
    """Draws and applies one recipe. All draws happen in one order, whatever the picture is."""

    def __init__(self, pool: list[Tables], history_share: float):
        self.pool = pool
        self.history_share = history_share

    def apply(self, rgb: np.ndarray, lossy: bool, tier: str, rng: np.random.Generator) -> tuple[bytes, dict]:
        history = self.pool[rng.integers(len(self.pool))]
        delivery = self.pool[rng.integers(len(self.pool))]
        gets_history = rng.random() < self.history_share
        side = int(rng.choice(SIDES))
        native, as_png = rng.random() < 0.5, rng.random() < 0.3
        scale = rng.uniform(*SCALES[tier])
        if not lossy and gets_history:
            rgb = opened(compressed(rgb, history))
        rgb = cut(rgb, BASE_SIDE, rng)
        if native and tier != "hard":
            scale = 1.0
        else:
            rgb = rescaled(rgb, scale)
        side = min(side, len(rgb))
        rgb = cut(rgb, side, rng)
        quality = luminance_quality(delivery)
        if tier == "web":
            data, quality, kind = quality_jpeg(rgb, WEB_QUALITY), WEB_QUALITY, "jpg"
        elif tier == "hard":
            data, quality, kind = quality_jpeg(rgb, HARD_QUALITY), HARD_QUALITY, "jpg"
        elif as_png:
            data, quality, kind = lossless(rgb), 100.0, "png"
        else:
            data, kind = compressed(rgb, delivery), "jpg"
        return data, {"tier": tier, "side": side, "scale": round(float(scale), 3), "quality": round(quality, 1), "kind": kind}


def units(folder: Path, tiles_max: int):
    """Each picture, or some tiles of each contact sheet: (picture, tile index, pixels, lossy)."""
    for picture in pictures.listed(folder):
        path = folder / picture.path
        rgb = pictures.pixels(path)
        with Image.open(path) as image:
            lossy_file = image.format in ("JPEG", "MPO")
        # The sheet of tiles is a WebP file with loss; other WebP files hold lossless cuts.
        lossy = lossy_file or picture.source == "sd-cheatsheet" or picture.format in ("JPEG", "MPO", "WEBP")
        for index, tile in enumerate(pictures.tiles(picture, rgb)[:tiles_max]):
            yield picture, index, tile, lossy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--training-copies", type=int, default=2, help="of each training picture, tiers at random")
    parser.add_argument("--tiles-max", type=int, default=2, help="of each contact sheet")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    photographs = [p for p in pictures.listed(args.pictures) if p.label == "real" and p.role == "train"]
    found = [jpeg_tables(args.pictures / p.path) for p in photographs]
    pool = [tables for tables in found if tables is not None]
    history_share = len(pool) / len(found)
    recipe = Recipe(pool, history_share)
    print(f"{len(pool)} of {len(found)} photographs give tables")
    rows = []
    for picture, index, rgb, lossy in units(args.pictures, args.tiles_max):
        if min(rgb.shape[:2]) < BASE_SIDE:
            continue
        if picture.role == "train":
            tiers = rng.choice(TIERS, args.training_copies, p=[0.4, 0.3, 0.3])
        else:
            tiers = TIERS
        for copy, tier in enumerate(tiers):
            data, made = recipe.apply(rgb, lossy, str(tier), rng)
            name = f"{len(rows):06d}.{made['kind']}"
            (args.output / name[:3]).mkdir(parents=True, exist_ok=True)
            (args.output / name[:3] / name).write_bytes(data)
            rows.append({
                "copy": f"{name[:3]}/{name}", "picture": f"{picture.path}#{index}", "label": picture.label,
                "role": picture.role, "source": picture.source, "generator": picture.generator,
                "history": lossy, **made, "bytes": len(data),
            })
    with open(args.output / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} copies of {len({r['picture'] for r in rows})} pictures")


if __name__ == "__main__":
    main()
