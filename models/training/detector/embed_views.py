"""Features of the semantic expert for copies of pictures.

    python embed_views.py --copies .training/whole --encoder ../../../.runtime/semantic/clip_encoder.int8.onnx \
        --detector ../../detector --output .training/views.npz

An independent implementation of what `retrace trace --views` writes; the golden vectors in
`tests/golden/detector` hold the two together. Of the two native squares, copies are given one, in turns, by their
`number`; where the index has no such column (the grid of `reencode.py`), both.
The encoder scales its whole numbers over everything that it is given at once, so it sees one view at a time.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

BOX_GAP = 2  # as in services/media/src/resample.rs


def with_outputs(model: bytes, names: list[str]) -> bytes:
    """The model with values inside it as further outputs: appended messages are merged."""
    known = {output.name for output in onnx.load_from_string(model).graph.output}
    more = onnx.ModelProto()
    for name in names:
        if name not in known:
            more.graph.output.append(onnx.ValueInfoProto(name=name))
    return model + more.SerializeToString()


class Encoder:
    """The encoder with the layers and the normalisation that `semantic.json` names."""

    def __init__(self, path: Path, contents: dict, threads: int = 1):
        self.contents = contents
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = with_outputs(path.read_bytes(), contents["layers"])
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def values(self, view: Image.Image) -> list[np.ndarray]:
        views = self.contents["views"]
        pixels = np.asarray(view, np.float32) / 255.0
        pixels = (pixels - np.float32(views["mean"])) / np.float32(views["deviation"])
        return self.session.run(self.contents["layers"], {"pixel_values": pixels.transpose(2, 0, 1)[None]})

    def features(self, view: Image.Image) -> np.ndarray:
        """Of each layer the class token."""
        return np.concatenate([v[0, 0] if v.ndim == 3 else v[0] for v in self.values(view)])

    def tokens(self, view: Image.Image) -> np.ndarray:
        """What each layer has in each place, shape (places, columns)."""
        return np.concatenate([v[0, 1:] for v in self.values(view)], axis=1)


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
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True, help="folder with semantic.json")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    contents = json.loads((args.detector / "semantic.json").read_text())
    encoder = Encoder(args.encoder, contents)
    with open(args.copies / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    features = []
    for done, row in enumerate(rows):
        cut = views(Image.open(args.copies / row["copy"]).convert("RGB"), contents["views"]["side"])
        chosen = [cut[0], cut[1 + int(row["number"]) % 2]] if "number" in row else cut
        features.append(np.stack([encoder.features(view) for view in chosen]))
        if done % 100 == 0:
            print(f"{done} of {len(rows)}", flush=True)
    table = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "number"}
    np.savez(args.output, features=np.asarray(features, np.float16), **table)


if __name__ == "__main__":
    main()
