"""Writes the golden vectors of invisible watermarks and perceptual hashes.

    python -m pip install --no-deps -r requirements.txt
    python make_vectors.py

Pictures are computed from formulas that `services/media/tests/golden.rs` repeats; marked ones, which the
reference implementation made, lie beside as PNG.
"""

import importlib.util
import json
import platform
from importlib import metadata
from pathlib import Path

import numpy as np
import pdqhash
from PIL import Image

HERE = Path(__file__).resolve().parent


def reference_method() -> type:
    """The package's class for `dwtDct`, without the package's own start, which wants PyTorch."""
    folder = importlib.util.find_spec("imwatermark").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("max_dct", Path(folder) / "maxDct.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EmbedMaxDct


EmbedMaxDct = reference_method()

MESSAGES = {
    "Stable Diffusion XL": [int(b) for b in bin(0b101100111110110010010000011110111011000110011110)[2:]],
    "FLUX": [int(b) for b in bin(0b001010101111111010000111100111001111010100101110)[2:]],
    "Stable Diffusion 1": list(np.unpackbits(np.frombuffer(b"StableDiffusionV1", dtype=np.uint8))),
    "Stable Diffusion 1 inpainting": list(
        np.unpackbits(np.frombuffer(b"StableDiffusionV1-Inpainting", dtype=np.uint8))
    ),
    "Stable Diffusion 2": list(np.unpackbits(np.frombuffer(b"SDV2", dtype=np.uint8))),
}


def picture(width: int, height: int, kind: int) -> np.ndarray:
    """RGB8 from whole-number arithmetic, so that every language computes the same."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    if kind == 0:
        red = (x * 255 // max(width - 1, 1) + y * 3) % 256
        green = (x * x // 97 + y * y // 53) % 256
        blue = (x * y // 31 + 40) % 256
    elif kind == 1:
        red = 255 - np.minimum((x - width // 2) ** 2 + (y - height // 3) ** 2, 25500) // 100
        green = np.where((x // 24 + y // 16) % 2 == 0, 200, 60)
        blue = (y * 200 // max(height - 1, 1)) % 256
    else:
        noise = (x * 7919 + y * 104729 + x * y * 31) % 251
        red, green, blue = noise, (noise * 3 + x) % 256, (noise * 5 + y) % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def smooth_picture(width: int, height: int) -> np.ndarray:
    """Soft colours that leave the mark room: 64 to 191."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = 64 + (x * 127 // (width - 1))
    green = 64 + (y * 127 // (height - 1))
    blue = 64 + ((x + y) * 127 // (width + height - 2))
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def block_bits(image: np.ndarray, plane: str) -> str:
    """The reference's bit of each block, by asking it for as many bits as there are blocks."""
    blocks = (image.shape[0] // 8) * (image.shape[1] // 8)
    bgr = image[:, :, ::-1] if plane != "floats_exchanged" else image
    if plane != "bytes":
        bgr = bgr.astype(np.float32)
    bits = EmbedMaxDct(wmLen=blocks).decode(np.ascontiguousarray(bgr))
    return "".join("1" if bit else "0" for bit in bits)


def marked(message: list[int], plane: str) -> np.ndarray:
    image = smooth_picture(264, 256)
    bgr = image[:, :, ::-1] if plane != "floats_exchanged" else image
    if plane != "bytes":
        bgr = bgr.astype(np.float32)
    embedded = EmbedMaxDct(message, wmLen=len(message)).encode(np.ascontiguousarray(bgr))
    embedded = np.clip(np.round(embedded), 0, 255).astype(np.uint8)
    return embedded[:, :, ::-1] if plane != "floats_exchanged" else embedded


def hash_text(vector: np.ndarray) -> str:
    return np.packbits(np.asarray(vector, dtype=np.uint8)).tobytes().hex()


def main() -> None:
    planes = ["bytes", "floats", "floats_exchanged"]
    reads = [
        {"width": width, "height": height, "kind": kind, "plane": plane,
         "bits": block_bits(picture(width, height, kind), plane)}
        for width, height, kind in [(64, 48, 0), (99, 70, 1), (131, 66, 2), (40, 203, 0)]
        for plane in planes
    ]
    files = []
    for name, plane in [
        ("Stable Diffusion XL", "floats"),
        ("Stable Diffusion XL", "floats_exchanged"),
        ("FLUX", "floats"),
        ("Stable Diffusion 1", "bytes"),
        ("Stable Diffusion 1 inpainting", "bytes"),
        ("Stable Diffusion 2", "bytes"),
    ]:
        file = f"{name.lower().replace(' ', '_')}_{plane}.png"
        Image.fromarray(np.ascontiguousarray(marked(MESSAGES[name], plane))).save(HERE / file, optimize=True)
        files.append({"file": file, "generator": name, "bits": len(MESSAGES[name])})
    hashes = []
    for width, height, kind in [
        (64, 64, 0), (64, 64, 1), (32, 32, 1), (5, 9, 2), (128, 96, 0), (200, 333, 1), (512, 512, 1),
        (640, 427, 2), (1000, 301, 0), (777, 1025, 1),
    ]:
        image = picture(width, height, kind)
        one, quality = pdqhash.compute(image)
        eight, _ = pdqhash.compute_dihedral(image)
        hashes.append({
            "width": width, "height": height, "kind": kind, "quality": quality,
            "hash": hash_text(one), "dihedral": [hash_text(vector) for vector in eight],
        })
    packages = ["invisible-watermark", "opencv-python-headless", "PyWavelets", "pdqhash", "numpy", "pillow"]
    (HERE / "vectors.json").write_text(json.dumps({
        "versions": {"python": platform.python_version()} | {p: metadata.version(p) for p in packages},
        "block_bits": reads, "marked": files, "hashes": hashes,
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
