"""The training pictures: the manifest's rows and their pixels.

The folder of pictures has a `manifest.csv` with at least the columns `path`, `label` (`real`, `generated`
or `art`), `role` (`train` or `validation`), `set` and `generator`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# A contact sheet of tiles is cut into its tiles: a seam between two tiles is no trace of a generator.
TILE_SIDES = {"sd-cheatsheet": 512}


@dataclass(frozen=True)
class Picture:
    """One row of the manifest."""

    path: str
    label: str
    role: str
    source: str
    generator: str
    format: str


def listed(folder: Path) -> list[Picture]:
    """All rows in the order of the manifest."""
    with open(folder / "manifest.csv", newline="") as file:
        return [
            Picture(row["path"], row["label"], row["role"], row["set"], row["generator"], row["original_format"])
            for row in csv.DictReader(file)
        ]


def pixels(path: Path) -> np.ndarray:
    """RGB8, height x width x 3; grey pictures are repeated over the channels."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def tiles(picture: Picture, rgb: np.ndarray) -> list[np.ndarray]:
    """The picture itself, or the tiles of a contact sheet."""
    side = TILE_SIDES.get(picture.source)
    if side is None:
        return [rgb]
    height, width = rgb.shape[:2]
    return [rgb[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]
