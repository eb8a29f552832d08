"""Features of the semantic expert for copies of pictures.

    python embed_views.py --copies .training/whole --encoder ../../../.runtime/semantic/clip_encoder.int8.onnx \
        --detector ../../detector --output .training/views.npz

An independent implementation of what `retrace trace --views` writes; the golden vectors in
`tests/golden/detector` hold the two together. Of the two native squares, copies are given one, in turns, by their
`number`; where the index has no such column (the grid of `reencode.py`), both.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

BOX_GAP = 2  # as in services/media/src/resample.rs


class Encoder:
    """The detector's graph of the encoder over the weights of the package's file `weights`, as `semantic.json` in the
    folder `detector` names both."""

    def __init__(self, weights: Path, detector: Path, threads: int = 1):
        self.contents = json.loads((detector / "semantic.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.resolve().parent))
        # Products in 32 bits; left alone ONNX Runtime rounds the other factor to 8 bits too.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        graph = (detector / self.contents["graph"]).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def values(self, view: Image.Image, names: list[str]) -> list[np.ndarray]:
        views = self.contents["views"]
        pixels = np.asarray(view, np.float32) / 255.0
        pixels = (pixels - np.float32(views["mean"])) / np.float32(views["deviation"])
        return self.session.run(names, {"pixel_values": pixels.transpose(2, 0, 1)[None]})

    def features(self, view: Image.Image) -> np.ndarray:
        """What the semantic head takes of one view."""
        return np.concatenate([value[0] for value in self.values(view, self.contents["layers"])])

    def tokens(self, view: Image.Image, names: list[str]) -> np.ndarray:
        """What the outputs `names` have in each place, shape (places, columns)."""
        return np.concatenate([value[0, 1:] for value in self.values(view, names)], axis=1)


def resampled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    factor = min(image.width // size[0], image.height // size[1]) // BOX_GAP
    if factor > 1:
        image = image.reduce(factor)
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def views(image: Image.Image, side: int) -> list[Image.Image]:
    """The whole picture and two native squares, as services/detector/src/views.rs cuts them."""
    shorter = min(image.size)
    size = tuple(max(side, (length * side + shorter // 2) // shorter) for length in image.size)
    whole = resampled(image, size)
    x, y = (whole.width - side) // 2, (whole.height - side) // 2
    out = [whole.crop((x, y, x + side, y + side))]
    native = whole if shorter < side else image
    for far in (False, True):
        corner = []
        for length in native.size:
            free = length - side
            edge = 0 if free < side else free // 4
            corner.append(free - edge if far else edge)
        out.append(native.crop((*corner, corner[0] + side, corner[1] + side)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=Path, required=True, help="folder with index.csv, from whole_copies.py")
    parser.add_argument("--encoder", type=Path, required=True, help="the package's file, which holds the weights")
    parser.add_argument("--detector", type=Path, required=True, help="folder with semantic.json and the graph")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    encoder = Encoder(args.encoder, args.detector)
    with open(args.copies / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    features = []
    for done, row in enumerate(rows):
        cut = views(Image.open(args.copies / row["copy"]).convert("RGB"), encoder.contents["views"]["side"])
        chosen = [cut[0], cut[1 + int(row["number"]) % 2]] if "number" in row else cut
        features.append(np.stack([encoder.features(view) for view in chosen]))
        if done % 100 == 0:
            print(f"{done} of {len(rows)}", flush=True)
    table = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "number"}
    np.savez(args.output, features=np.asarray(features, np.float16), **table)


if __name__ == "__main__":
    main()
