"""Square crops of pictures: as many different real perceptual hashes as a log of many pictures has.

    python crops.py PICTURES OUT --each 40

Cuts of every picture of PICTURES squares of random size and place, their sides from a third to the whole of the
shorter side, reduces them to 256 pixels at most and writes them to OUT as JPEG of quality 90. Seed 7.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

SEED, SIDE_MAX, QUALITY, LEAST_SHARE = 7, 256, 90, 1 / 3
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=40, help="crops of a picture")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    draw, count = random.Random(SEED), 0
    for path in sorted(p for p in args.pictures.rglob("*") if p.suffix.lower() in SUFFIXES):
        picture = Image.open(path).convert("RGB")
        shorter = min(picture.size)
        for _ in range(args.each):
            side = round(shorter * draw.uniform(LEAST_SHARE, 1))
            left, top = (draw.randint(0, edge - side) for edge in picture.size)
            crop = picture.crop((left, top, left + side, top + side))
            crop.thumbnail((SIDE_MAX, SIDE_MAX))
            crop.save(args.out / f"{count:06}.jpg", quality=QUALITY)
            count += 1
    print(f"{count} crops in {args.out}")


if __name__ == "__main__":
    main()
