"""Pictures with a region of another one pasted in, and what the semantic expert's encoder sees in each place of them.

    python splice_tokens.py --pictures PICTURES MORE --encoder ../../../.runtime/semantic/clip_encoder.int8.onnx \\
        --detector ../../detector --output .training/splices.npz --part 0 2

A quarter of the pictures are whole. The others hold a rectangle, an ellipse or a polygon of a photograph, an artwork
or a generated picture, with a hard or a soft edge, and are compressed afterwards as `whole_copies.py` does it: what is
pasted in is generated in half of the cases only, so that a seam alone says little. Pictures of the training and of the
validation role are never mixed (generated ones have no role of their own here).
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import pictures
import whole_copies
from embed_views import Encoder, views
from fair_copies import HARD_QUALITY, TIERS, WEB_QUALITY, compressed, lossless, opened, quality_jpeg
from fusion import NOT_FITTED

# Tokens of a side of the view: 224 pixels in patches of 16.
GRID = 14
# What the encoder has after 5, 7, 9 and 11 layers.
LAYERS = [f"tokens_{layers}" for layers in (5, 7, 9, 11)]
SIDES = (300, 420)
# Share of the splices of the validation role, which are for judging.
VALIDATION_SHARE = 1 / 3
# A fit needs a sample of a picture's places only.
TOKENS_FITTED = 60
LEFT_OUT = (*NOT_FITTED, "imagenet-sample")
BASES = ("real", "real", "generated", "art", "real", "generated")
DONORS = ("generated", "generated", "real", "art")
WHOLE_SHARE = 0.25


@dataclass
class Spliced:
    image: Image.Image
    mask: np.ndarray  # GRID x GRID, share of each place that was pasted in
    base: pictures.Picture
    donor: pictures.Picture | None
    tier: str


class Splicer:
    def __init__(self, folders: list[Path]):
        self.pool = whole_copies.recipe_of(folders[0]).pool
        self.by_set: dict[tuple[str, str], dict[str, list]] = {}
        for folder in folders:
            for picture in pictures.listed(folder):
                if picture.source in LEFT_OUT:
                    continue
                roles = ("train", "validation") if picture.label == "generated" else (picture.role,)
                for role in roles:
                    found = self.by_set.setdefault((picture.label, role), {})
                    found.setdefault(picture.source, []).append((folder, picture))

    def picked(self, label: str, role: str, rng: np.random.Generator) -> tuple[Path, pictures.Picture]:
        sets = self.by_set[label, role]
        found = sets[sorted(sets)[rng.integers(len(sets))]]
        return found[rng.integers(len(found))]

    def square(self, chosen: tuple[Path, pictures.Picture], side: int, rng: np.random.Generator) -> np.ndarray:
        """A random square of `side` pixels, of the picture as it is or reduced first."""
        folder, picture = chosen
        path = folder / picture.path
        rgb = whole_copies.window(pictures.tiles(picture, pictures.pixels(path))[0])
        if not whole_copies.is_lossy(picture, path) and rng.random() < 0.8:
            rgb = opened(compressed(rgb, self.tables(rng)))
        shorter = min(rgb.shape[:2])
        if (shorter > side * 1.3 and rng.random() < 0.6) or shorter < side:
            rgb = whole_copies.scaled(rgb, (side + 1) * rng.uniform(1, 1.3) / shorter)
        y, x = rng.integers(rgb.shape[0] - side + 1), rng.integers(rgb.shape[1] - side + 1)
        return rgb[y : y + side, x : x + side].astype(np.float32)

    def tables(self, rng: np.random.Generator):
        return self.pool[rng.integers(len(self.pool))]

    def spliced(self, role: str, rng: np.random.Generator) -> Spliced:
        label = BASES[rng.integers(len(BASES))]
        whole, donor_label = rng.random() < WHOLE_SHARE, DONORS[rng.integers(len(DONORS))]
        tier, side = TIERS[rng.integers(len(TIERS))], int(rng.integers(*SIDES))
        base, donor, mask = self.picked(label, role, rng), None, np.zeros((side, side), np.float32)
        rgb = self.square(base, side, rng)
        if not whole:
            donor, mask = self.picked(donor_label, role, rng), region(side, rng)
            rgb += (self.square(donor, side, rng) - rgb) * mask[..., None]
        rgb = np.clip(rgb + 0.5, 0, 255).astype(np.uint8)
        if tier == "hard" or rng.random() < 0.3:
            rgb = whole_copies.scaled(rgb, rng.uniform(0.65, 0.95))
        image = Image.open(io.BytesIO(self.delivered(rgb, tier, rng))).convert("RGB")
        places = Image.fromarray((mask * 255).astype(np.uint8)).resize((GRID, GRID), Image.Resampling.BOX)
        return Spliced(image, np.asarray(places, np.float32) / 255, base[1], donor and donor[1], tier)

    def delivered(self, rgb: np.ndarray, tier: str, rng: np.random.Generator) -> bytes:
        if tier == "web":
            return quality_jpeg(rgb, WEB_QUALITY)
        if tier == "hard":
            return quality_jpeg(rgb, HARD_QUALITY)
        return lossless(rgb) if rng.random() < 0.3 else compressed(rgb, self.tables(rng))


def region(side: int, rng: np.random.Generator) -> np.ndarray:
    """A rectangle, an ellipse or a polygon, 9 to 42 % of the square at most, 1 where the donor shows."""
    image = Image.new("L", (side, side))
    draw, kind = ImageDraw.Draw(image), rng.integers(3)
    width, height = side * rng.uniform(0.3, 0.65), side * rng.uniform(0.3, 0.65)
    x, y = rng.uniform(0, side - width), rng.uniform(0, side - height)
    if kind == 0:
        draw.rectangle((x, y, x + width, y + height), fill=255)
    elif kind == 1:
        draw.ellipse((x, y, x + width, y + height), fill=255)
    else:
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, 9)), rng.uniform(0.55, 1, 9)
        draw.polygon([(x + width / 2 * (1 + far * np.cos(angle)), y + height / 2 * (1 + far * np.sin(angle)))
                      for angle, far in zip(angles, reach, strict=True)], fill=255)
    soft = int(rng.choice([0, 1, 2, 5]))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(soft)) if soft else image, np.float32) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, nargs="+", required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True, help="folder with semantic.json")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2400)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("PART", "PARTS"))
    args = parser.parse_args()
    encoder, splicer = Encoder(args.encoder, args.detector), Splicer(args.pictures)
    tokens, place, mask, owner, rows = [], [], [], [], []
    for number in range(args.part[0], args.count, args.part[1]):
        rng = np.random.default_rng([77, number])
        role = "validation" if number % round(1 / VALIDATION_SHARE) == 0 else "train"
        made = splicer.spliced(role, rng)
        seen = encoder.tokens(views(made.image, encoder.contents["views"]["side"])[0], LAYERS)
        kept = np.arange(len(seen)) if role == "validation" else rng.permutation(len(seen))[:TOKENS_FITTED]
        tokens.append(seen[kept].astype(np.float16))
        place.append(kept)
        mask.append(made.mask.ravel()[kept])
        owner.append(np.full(len(kept), len(rows)))
        donor = made.donor
        rows.append((role, made.base.label, made.base.source, donor.label if donor else "", donor.source if donor else "", made.tier))
        if len(rows) % 50 == 0:
            print(f"{len(rows)} of {args.count // args.part[1]}", flush=True)
    names = ("role", "base", "base_source", "donor", "donor_source", "tier")
    table = {name: np.array(values) for name, values in zip(names, zip(*rows), strict=True)}
    np.savez(args.output, tokens=np.concatenate(tokens), place=np.concatenate(place), mask=np.concatenate(mask),
             owner=np.concatenate(owner), **table)


if __name__ == "__main__":
    main()
