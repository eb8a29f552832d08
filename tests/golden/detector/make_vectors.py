"""Write `vectors.json`: the trace features of a synthetic picture under an analytic noise predictor,
`end_to_end.json`: raw scores and probability of the same picture by the exported detector, `views.json`: pixels of
the semantic expert's views of that picture and of 8x8 copies of it side by side, and `semantic.json`: their raw scores.

    python make_vectors.py --detector ../../../models/detector --encoder ../../../.runtime/semantic/clip_encoder.int8.onnx

Picture and predictor are simple enough to be written again, in a few lines, by the test that reads the
vectors: integer arithmetic gives the pixels, and the predictor is the picture's own high pass.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import reference

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "training" / "detector"))

import embed_views

WIDTH, HEIGHT = 272, 200


def picture():
    """Ramps, hashed noise whose strength grows to the right, a block grid below, a white corner."""
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(3), indexing="ij")
    hashed = (x * 374761393 + y * 668265263 + c * 2246822519) % 2**32
    hashed = ((hashed ^ (hashed >> 13)) * 1274126177) % 2**32
    noise = (hashed ^ (hashed >> 16)) % 32
    value = 60 + x // 4 + y // 5 + 8 * c + noise * x // WIDTH
    value = np.where((y > 120) & ((x // 8 + y // 8) % 2 == 0), value + 9, value)
    value = np.where((x < 90) & (y < 90), 255, value)
    return np.clip(value, 0, 255).astype(np.uint8)


def predict(batch, level):
    """`tanh((sample - blur) / (4 * level)) * 2` with a 3x3 binomial blur, edges repeated."""
    padded = np.pad(batch, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    blur = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / np.float32(16)
    return (2 * np.tanh((batch - blur) / np.float32(4 * level))).astype(np.float32)


def written(name, document):
    Path(__file__).with_name(name).write_text(json.dumps(document) + "\n")


def end_to_end(folder):
    """Prior and heads run by ONNX Runtime, features by `reference.py`, calibration from its file."""
    contents = json.loads((folder / "detector.json").read_text())
    names = [contents["prior"], *contents["heads"]]
    opened = [onnxruntime.InferenceSession(str(folder / n), providers=["CPUExecutionProvider"]) for n in names]
    prior, heads = opened[0], opened[1:]
    noise = lambda batch, level: prior.run(None, {"sample": batch, "noise_level": np.full(len(batch), level, np.float32)})[0]
    config = json.loads((folder / "features.json").read_text())["config"]
    counts = {name: config[name] for name in ("flattest", "richest", "spread")}
    rows = np.array(reference.features(picture(), noise, **counts)[1], np.float32)
    scores = np.mean([head.run(None, {"features": rows})[0] for head in heads], axis=0)
    calibration = json.loads((folder / "calibration.json").read_text())
    weights = np.array(calibration["quality"]["weights"])
    quality = np.clip(rows.astype(float).mean(0) @ weights + calibration["quality"]["intercept"], 0, 100)
    stratum = next(s for s in calibration["strata"] if quality >= s["quality_min"])
    logit = stratum["slope"] * scores.mean() + stratum["intercept"]
    return {
        "digests": {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names},
        "raw_scores": [round(float(s), 5) for s in scores], "raw_score": round(float(scores.mean()), 5),
        "quality": round(float(quality), 3), "stratum": stratum["name"],
        "probability": round(float(1 / (1 + np.exp(-logit))), 5),
    }


# Of each view every pixel of this step, both ways.
STEP = 16


def semantic(folder, encoder):
    """Sampled pixels of the views as Pillow makes them, and raw scores by encoder and head."""
    contents = json.loads((folder / "semantic.json").read_text())
    encoder = embed_views.Encoder(encoder, folder)
    head = onnxruntime.InferenceSession(str(folder / contents["head"]), providers=["CPUExecutionProvider"])
    pixels, scores = [], []
    for shown in (picture(), np.tile(picture(), (8, 8, 1))):
        views = embed_views.views(Image.fromarray(shown), contents["views"]["side"])
        pixels.append([np.asarray(view)[::STEP, ::STEP].ravel().tolist() for view in views])
        rows = np.stack([encoder.features(view) for view in views]).astype(np.float32)
        scores.append([round(float(score), 4) for score in head.run(None, {"features": rows})[0]])
    digest = hashlib.sha256((folder / contents["head"]).read_bytes()).hexdigest()
    return {"step": STEP, "pictures": pixels}, {"head": digest, "raw_scores": scores}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", type=Path, help="the exported folder; without it end_to_end.json stays")
    parser.add_argument("--encoder", type=Path, help="the image encoder; without it the last two files stay")
    args = parser.parse_args()
    if args.encoder:
        views, scores = semantic(args.detector, args.encoder)
        written("views.json", views)
        written("semantic.json", scores)
    places, rows = reference.features(picture(), predict, flattest=2, richest=2, spread=1)
    written("vectors.json", {
        "numpy": np.__version__,
        "places": [{"x": x, "y": y, "selection": name} for x, y, name in places],
        "rows": [[round(value, 6) for value in row] for row in rows],
    })
    if args.detector:
        written("end_to_end.json", end_to_end(args.detector))


if __name__ == "__main__":
    main()
