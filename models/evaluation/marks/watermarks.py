"""Measures the decoder of open watermarks: false positives on unmarked pictures, and what damage marks survive.

    python watermarks.py PICTURES watermarks.json

PICTURES is a folder with `manifest.csv`. Needs the packages of `tests/golden/media/requirements.txt` and the program
`cargo build --example watermark_agreements`. Pictures are marked by the reference implementation.
"""

import csv
import io
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/golden/media"))
from make_vectors import MESSAGES, EmbedMaxDct  # noqa: E402

PROGRAM = ROOT / "target/debug/examples/watermark_agreements"
SEED = 7
MARKED_PICTURES = 60
BATCH = 100

DAMAGES = {
    "none": lambda image: image,
    "jpeg 95": lambda image: compressed(image, "JPEG", 95),
    "jpeg 90": lambda image: compressed(image, "JPEG", 90),
    "jpeg 75": lambda image: compressed(image, "JPEG", 75),
    "jpeg 50": lambda image: compressed(image, "JPEG", 50),
    "webp 90": lambda image: compressed(image, "WEBP", 90),
    "half size": lambda image: image.resize((image.width // 2, image.height // 2), Image.LANCZOS),
    "crop of 8 px": lambda image: image.crop((8, 8, image.width, image.height)),
    "crop of 5 px": lambda image: image.crop((5, 5, image.width, image.height)),
    "brightness +10 %": lambda image: image.point(lambda value: min(255, round(value * 1.1))),
}
# Texts that other programs might embed with the same method, to see that they are not taken for known ones.
OTHER_TEXTS = [b"test", b"my watermark", b"Copyright 2024 somebody", b"StableDiffusionV3", b"hello world, a long text of mine"]


def compressed(image: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def marked(image: Image.Image, bits: list[int], floats: bool) -> Image.Image:
    bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    if floats:
        bgr = bgr.astype(np.float32)
    out = EmbedMaxDct(bits, wmLen=len(bits)).encode(bgr)
    out = np.clip(np.round(out), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(out[:, :, ::-1]))


def read(files: list[Path]) -> list[dict]:
    lines = []
    for start in range(0, len(files), BATCH):
        command = [str(PROGRAM), *map(str, files[start : start + BATCH])]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines += [json.loads(line) for line in output.splitlines()]
    return lines


def saved(folder: Path, images: list[Image.Image]) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images):
        image.save(path, compress_level=1)
    return paths


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = list(csv.DictReader((data / "manifest.csv").open()))
    report = {"seed": SEED, "unmarked": {}, "marked": {}, "other_texts": {}}
    for label in ["real", "art", "generated"]:
        files = [data / row["path"] for row in rows if row["label"] == label]
        files = [file for file in files if file.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}]
        lines = read(files)
        large = [line for line in lines if line["width"] * line["height"] >= 65536]
        best = {name: max(line["agreements"][name][0] for line in large) for name in MESSAGES}
        found = Counter((line["path"].split("/")[-2], mark) for line in lines for mark in line["found"])
        report["unmarked"][label] = {
            "pictures": len(lines), "large_enough": len(large), "most_agreeing_bits": best,
            "found": {" / ".join(key): count for key, count in found.items()},
        }
    random.seed(SEED)
    real = [data / row["path"] for row in rows if row["label"] == "real"]
    random.shuffle(real)
    pictures = []
    for file in real:
        image = Image.open(file).convert("RGB")
        if image.width * image.height >= 4 * 65536 // 2:
            pictures.append(image)
        if len(pictures) == MARKED_PICTURES:
            break
    report["marked_pictures"] = len(pictures)
    for name in MESSAGES:
        floats = len(MESSAGES[name]) in (46, 48)
        originals = [marked(image, MESSAGES[name], floats) for image in pictures]
        damages = DAMAGES if name in ("Stable Diffusion XL", "Stable Diffusion 1") else {"none": DAMAGES["none"]}
        report["marked"][name] = {}
        for damage, change in damages.items():
            with tempfile.TemporaryDirectory() as folder:
                lines = read(saved(Path(folder), [change(image) for image in originals]))
            agreeing = sorted(line["agreements"][name][0] for line in lines)
            report["marked"][name][damage] = {
                "found": sum(name in line["found"] for line in lines) / len(lines),
                "found_as_another": sum(any(m != name for m in line["found"]) for line in lines),
                "median_bits": agreeing[len(agreeing) // 2], "lowest_tenth_bits": agreeing[len(agreeing) // 10],
            }
    for text in OTHER_TEXTS:
        bits = list(np.unpackbits(np.frombuffer(text, dtype=np.uint8)))
        with tempfile.TemporaryDirectory() as folder:
            lines = read(saved(Path(folder), [marked(image, bits, False) for image in pictures[:20]]))
        most = {n: max(line["agreements"][n][0] for line in lines) for n in MESSAGES}
        report["other_texts"][text.decode()] = {
            "pictures": len(lines), "found": sum(bool(line["found"]) for line in lines), "most_agreeing_bits": most,
        }
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
