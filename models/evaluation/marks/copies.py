"""Measures which damaged copies of generated pictures are traced back by their perceptual hash.

    python copies.py PICTURES copies.json

PICTURES is a folder of PNG files as `retrace generate` writes them. Needs Pillow and the program
`cargo build --example perceptual_hashes`. A copy is traced back where the hash of its original is within
distance 31 and no other picture's is nearer.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "target/debug/examples/perceptual_hashes"
DISTANCE_MAX = 31


def compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)), Image.LANCZOS)


DAMAGES = {
    "jpeg 75": lambda image: compressed(image, 75),
    "jpeg 50": lambda image: compressed(image, 50),
    "jpeg 25": lambda image: compressed(image, 25),
    "half size": lambda image: scaled(image, 0.5),
    "jpeg 50, then half size": lambda image: scaled(compressed(image, 50), 0.5),
    "half size, then jpeg 50": lambda image: compressed(scaled(image, 0.5), 50),
    "double size, jpeg 75": lambda image: compressed(scaled(image, 2), 75),
    "crop of 5 %": lambda image: image.crop((round(image.width * 0.05),) * 2 + image.size),
}


def hashes(files: list[Path]) -> list[tuple[int, int]]:
    found = []
    for start in range(0, len(files), 200):
        command = [str(PROGRAM), *map(str, files[start : start + 200])]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        found += [(int(line.split()[0], 16), int(line.split()[1])) for line in lines]
    return found


def main() -> None:
    files = sorted(Path(sys.argv[1]).rglob("*.png"))
    images = [Image.open(file).convert("RGB") for file in files]
    known = hashes(files)
    between = [
        bin(a ^ b).count("1") for n, (a, _) in enumerate(known) for (b, _) in known[:n]
    ]
    report = {
        "pictures": len(files),
        "lowest_quality": min(quality for _, quality in known),
        "different_pictures": {
            "pairs": len(between), "nearest": min(between),
            "within_31": sum(distance <= DISTANCE_MAX for distance in between),
        },
        "copies": {},
    }
    for name, damage in DAMAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            copies = [Path(folder) / f"{number}.png" for number in range(len(images))]
            for path, image in zip(copies, images):
                damage(image).save(path)
            copied = hashes(copies)
        distances = [[bin(hash_ ^ other).count("1") for other, _ in known] for hash_, _ in copied]
        own = sorted(row[number] for number, row in enumerate(distances))
        traced = sum(row[n] <= DISTANCE_MAX and row[n] == min(row) for n, row in enumerate(distances))
        report["copies"][name] = {
            "traced_back": traced / len(own),
            "own_is_nearest": sum(row[n] == min(row) for n, row in enumerate(distances)) / len(own),
            "wrong_within_31": sum(
                distance <= DISTANCE_MAX for n, row in enumerate(distances) for m, distance in enumerate(row) if m != n
            ),
            "median_distance": own[len(own) // 2], "largest_distance": own[-1],
        }
    Path(sys.argv[2]).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
