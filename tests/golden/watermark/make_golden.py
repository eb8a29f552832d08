"""Golden vectors of the watermark, by the NumPy reading in `models/evaluation/generator/watermark.py`.

    python make_golden.py

Writes watermark.json: first values and sums of marked noises, and readings of noises that are mixed of a marked
one and of one under another key.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "models" / "evaluation" / "generator"))
from watermark import Reader, noise

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))


def made(identifier: str, values: int) -> dict:
    marked = noise(KEY, bytes.fromhex(identifier), values)
    return {"id": identifier, "values": values, "first": [float(x) for x in marked[:12]],
            "last": float(marked[-1]), "sum": float(marked.astype(float).sum())}


def read(identifier: str, values: int, share: float) -> dict:
    other = noise(OTHER_KEY, bytes(5), values)
    mixed = share * noise(KEY, bytes.fromhex(identifier), values).astype(float) + other
    score, false_positive_rate, ids = Reader(KEY, values).read(mixed)
    return {"id": identifier, "values": values, "share": share, "score": score,
            "false_positive_rate": false_positive_rate, "ids": [found.hex() for found in ids]}


golden = {
    "noises": [made("0000000000", 1024), made("07010203ff", 1024), made("ff8040201f", 1026), made("5a5a5a5a5a", 4096)],
    "readings": [read("07010203ff", 1024, 2.0), read("07010203ff", 1024, 0.4), read("ff8040201f", 1026, 0.35),
                 read("5a5a5a5a5a", 4096, 0.2), read("5a5a5a5a5a", 1024, 0.05)],
}
(HERE / "watermark.json").write_text(json.dumps(golden, indent=1) + "\n")
