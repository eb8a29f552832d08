"""Fit the head, the quality measurement, calibration and thresholds from trace files, and write them.

    python fit_head.py --index .training/copies/index.csv --traces traces.jsonl \
        --schema ../../detector/features.json --output ../../detector

Photographs and art of the training role, and generated pictures of nearly all sets, fit the head. Calibration and
thresholds come from photographs and art of the validation role, which the head never saw, and from generated
pictures scored by heads that never saw their set (`crossfit.py`). PyTorch is not needed.
"""

import argparse
import json
from pathlib import Path

import onnx

import calibrate
import crossfit
import export_head
import heads
import traces

NAME, VERSION = "trace-and-views", "2"


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
    judged = crossfit.judged(table)
    head = crossfit.fitted_without(table, lambda: heads.Trees(args.seed))
    cross = crossfit.CrossFit(table, lambda: heads.Trees(args.seed))
    scores = cross.scores(judged, head)
    print(f"{len(table.copies)} copies, {len(judged.copies)} of them judged by heads that did not see them")

    args.output.joinpath("heads").mkdir(parents=True, exist_ok=True)
    path = args.output / "heads" / "trees.onnx"
    onnx.save(export_head.trees(head.booster), str(path))
    difference = export_head.check(str(path), judged.rows, head.patch_scores(judged.rows), 1e-4)
    print(f"{path}: {path.stat().st_size} bytes, largest difference {difference:.1e}")

    quality = calibrate.Quality().fit(table.select(lambda row: row["role"] == "train"))
    strata, limits = calibrate.fit(judged, scores, quality)
    written(args.output / "calibration.json", {
        "version": VERSION, "quality": {"weights": quality.weights.tolist(), "intercept": quality.intercept},
        "strata": strata,
    })
    written(args.output / "thresholds.json", {"version": VERSION, "strata": limits})
    written(args.output / "detector.json", {
        "name": NAME, "version": VERSION, "prior": "prior.onnx", "heads": ["heads/trees.onnx"],
    })
    print(json.dumps({"strata": strata, "thresholds": limits}, indent=1))


if __name__ == "__main__":
    main()
