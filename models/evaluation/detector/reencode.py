"""Re-encode pictures over a grid, to see how far that moves the detector's answer.

    python reencode.py --pictures PICTURES --output .training/grid --count 20
    retrace score --offline --output .training/grid.csv .training/grid
    python flips.py --index .training/grid/index.csv --scores .training/grid.csv --output .

Photographs and art are of the validation role, generated pictures of all sets, the same number from each set as
far as there are so many. Every picture starts from its decoded pixels; `png`, which keeps them, is what the other
copies are compared with.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training/detector"))

import pictures
from fair_copies import HARD_QUALITY, WEB_QUALITY

# The tiers' limits of the longer side in pixels.
WEB_SIDE, HARD_SIDE = 768, 512
# A picture whose longer side is beyond this is looked at through its middle: the grid is about encodings.
SIDE_MAX = 1024


def jpeg(quality: int, shift: int = 0):
    def apply(image: Image.Image) -> tuple[str, bytes]:
        cut = image.crop((shift, shift, image.width, image.height))
        return "jpg", saved(cut, "JPEG", quality=quality)

    return apply


def webp(quality: int):
    return lambda image: ("webp", saved(image, "WEBP", quality=quality))


def png(change=lambda image: image):
    return lambda image: ("png", saved(change(image), "PNG", compress_level=1))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scaled(factor: float, kernel=Image.Resampling.BICUBIC):
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), kernel)


def cropped(share: float):
    """The middle, off the 8x8 grid by three pixels."""
    def apply(image: Image.Image) -> Image.Image:
        width, height = round(image.width * share), round(image.height * share)
        x, y = ((image.width - width) // 2 | 7) - 4, ((image.height - height) // 2 | 7) - 4
        return image.crop((x, y, x + width, y + height))

    return apply


def blurred(sigma: float):
    return lambda image: image.filter(ImageFilter.GaussianBlur(sigma))


def noisy(sigma: float):
    def apply(image: Image.Image) -> Image.Image:
        noise = np.random.default_rng(0).normal(0.0, sigma, (image.height, image.width, 3))
        return Image.fromarray(np.clip(np.asarray(image) + noise + 0.5, 0, 255).astype(np.uint8))

    return apply


def screenshot(image: Image.Image) -> Image.Image:
    """What a viewer shows: scaled by a little, sharpened."""
    return scaled(0.87, Image.Resampling.BILINEAR)(image).filter(ImageFilter.UnsharpMask(1, 60, 0))


def twice(image: Image.Image) -> tuple[str, bytes]:
    """JPEG of quality 85, then, shifted against its blocks, of quality 75."""
    first = Image.open(io.BytesIO(jpeg(85)(image)[1])).convert("RGB")
    return jpeg(75, shift=3)(first)


def tier(side: int, quality: int):
    def apply(image: Image.Image) -> tuple[str, bytes]:
        factor = min(1.0, side / max(image.size))
        return jpeg(quality)(image if factor == 1.0 else scaled(factor)(image))

    return apply


GRID = {
    "png": png(),
    **{f"jpeg {quality}": jpeg(quality) for quality in (95, 90, 85, 75, 60, 50, 40)},
    **{f"webp {quality}": webp(quality) for quality in (90, 75, 50)},
    **{f"resize {factor}": png(scaled(factor)) for factor in (0.25, 0.5, 0.75, 1.25, 1.5, 2.0)},
    "resize 0.5 lanczos": png(scaled(0.5, Image.Resampling.LANCZOS)),
    **{f"crop {share}": png(cropped(share)) for share in (0.9, 0.75)},
    **{f"blur {sigma}": png(blurred(sigma)) for sigma in (0.5, 1.0, 2.0)},
    **{f"noise {sigma}": png(noisy(sigma)) for sigma in (2.0, 5.0, 10.0)},
    "screenshot": png(screenshot),
    "jpeg 85, shifted, jpeg 75": twice,
    "web": tier(WEB_SIDE, WEB_QUALITY),
    "hard": tier(HARD_SIDE, HARD_QUALITY),
}


def chosen(folder: Path, label: str, count: int, rng: np.random.Generator) -> list[pictures.Picture]:
    """About `count` pictures of a label, as evenly over its sets as they allow."""
    by_set: dict[str, list[pictures.Picture]] = {}
    for picture in pictures.listed(folder):
        if picture.label == label and (label == "generated" or picture.role == "validation"):
            by_set.setdefault(picture.source, []).append(picture)
    queues = [list(rng.permutation(np.array(found, dtype=object))) for _, found in sorted(by_set.items())]
    out = []
    while len(out) < count and any(queues):
        out += [queue.pop() for queue in queues if queue]
    return out[:count]


def middle(rgb: np.ndarray) -> Image.Image:
    height, width = rgb.shape[:2]
    y, x = max(0, height - SIDE_MAX) // 2, max(0, width - SIDE_MAX) // 2
    return Image.fromarray(rgb[y : y + SIDE_MAX, x : x + SIDE_MAX])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--count", type=int, default=20, help="photographs, and as many generated pictures; half as much art")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    rows = []
    for label, count in (("real", args.count), ("art", args.count // 2), ("generated", args.count)):
        for picture in chosen(args.pictures, label, count, rng):
            image = middle(pictures.tiles(picture, pictures.pixels(args.pictures / picture.path))[0])
            number = len({row["picture"] for row in rows})
            for place, (name, encode) in enumerate(GRID.items()):
                ending, data = encode(image)
                copy = f"{number:04d}-{place:02d}.{ending}"
                (args.output / copy).write_bytes(data)
                rows.append({"copy": copy, "picture": picture.path, "label": label, "source": picture.source, "encoding": name})
    with open(args.output / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} copies of {len({row['picture'] for row in rows})} pictures")


if __name__ == "__main__":
    main()
