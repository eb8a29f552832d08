"""Write `vectors.json`: the trace features of a synthetic picture under an analytic noise predictor.

    python make_vectors.py

Picture and predictor are simple enough to be written again, in a few lines, by the test that reads the
vectors: integer arithmetic gives the pixels, and the predictor is the picture's own high pass.
"""

import json
from pathlib import Path

import numpy as np

import reference

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


def main():
    places, rows = reference.features(picture(), predict, flattest=2, richest=2, spread=1)
    vectors = {
        "numpy": np.__version__,
        "places": [{"x": x, "y": y, "selection": name} for x, y, name in places],
        "rows": [[round(value, 6) for value in row] for row in rows],
    }
    Path(__file__).with_name("vectors.json").write_text(json.dumps(vectors) + "\n")
    print(len(rows), "patches,", len(rows[0]), "features")


if __name__ == "__main__":
    main()
