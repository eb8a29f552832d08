"""Fit the head, the quality measurement, calibration and thresholds from trace files, and write them.

    python fit_head.py --index .training/copies/index.csv --traces traces.jsonl \
        --schema ../../detector/features.json --output ../../detector

Heads, and quality measurement, are fitted on the training role; calibration and thresholds on the
validation role. PyTorch is not needed.
"""

import argparse
import json
from pathlib import Path

import onnx

import calibrate
import export_head
import heads
import traces

NAME, VERSION = "photo-prior-trees", "1"


def written(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


def names_digest(names: list[str]) -> str:
    """64-bit FNV-1a of the joined names, as in the trace files."""
    value = 0xCBF29CE484222325
    for byte in "\n".join(names).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--schema", type=Path, required=True, help="features.json of the traces' configuration")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = traces.load(args.index, args.traces)
    if names_digest(json.loads(args.schema.read_text())["names"]) != table.names_digest:
        raise SystemExit("the schema does not name the columns of the traces")
    training = table.select(lambda row: row["role"] == "train")
    validation = table.select(lambda row: row["role"] == "validation")
    print(f"{len(training.copies)} training and {len(validation.copies)} validation copies")

    trees, logistic = heads.Trees(args.seed), heads.Logistic()
    head = heads.Mean(trees, logistic).fit(training)
    args.output.joinpath("heads").mkdir(parents=True, exist_ok=True)
    exports = {"heads/trees.onnx": (export_head.trees(trees.booster), trees, 1e-4),
               "heads/logistic.onnx": (export_head.logistic(logistic.model), logistic, 1e-3)}
    for name, (model, fitted, tolerance) in exports.items():
        path = args.output / name
        onnx.save(model, str(path))
        difference = export_head.check(str(path), validation.rows, fitted.patch_scores(validation.rows), tolerance)
        print(f"{name}: {path.stat().st_size} bytes, largest difference {difference:.1e}")

    quality = calibrate.Quality().fit(training)
    strata, limits = calibrate.fit(validation, heads.scores(head, validation), quality)
    written(args.output / "calibration.json", {
        "version": VERSION, "quality": {"weights": quality.weights.tolist(), "intercept": quality.intercept},
        "strata": strata,
    })
    written(args.output / "thresholds.json", {"version": VERSION, "strata": limits})
    written(args.output / "detector.json", {
        "name": NAME, "version": VERSION, "prior": "prior.onnx", "heads": list(exports),
    })
    print(json.dumps({"strata": strata, "thresholds": limits}, indent=1))


if __name__ == "__main__":
    main()
