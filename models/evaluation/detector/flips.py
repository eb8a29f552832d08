"""How far re-encoding a picture moves the detector's answer: `grid.json` and `grid.png` from the copies of `reencode.py`.

    python flips.py --index .training/grid/index.csv --scores .training/grid.csv --output .

Every copy is compared with the lossless one of the same picture. A flip is a change between LikelyGenerated and
LikelyNotGenerated, counted among pictures that both copies decide. The detector is the one that is deployed: its
heads were fitted on the generated pictures here (in other copies), so the share found is flattered and the flips are
what this is about.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import plots
from evaluate import git, wilson

GENERATED, NOT_GENERATED = "LikelyGenerated", "LikelyNotGenerated"
# The encodings whose false positives must stay together.
ALIKE = ("png", "jpeg 95", "webp 90")


def verdicts(index: Path, scores: Path) -> dict[str, dict]:
    """Rows of the index with the answer of `retrace score`, by encoding and picture."""
    with open(scores, newline="") as file:
        said = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    out: dict[str, dict] = {}
    with open(index, newline="") as file:
        for row in csv.DictReader(file):
            answer = said[row["copy"]]
            if answer["error"]:
                raise SystemExit(f"{row['copy']}: {answer['error']}")
            known = float(answer["probability"]) if answer["probability"] else None
            out.setdefault(row["encoding"], {})[row["picture"]] = {
                "label": row["label"], "verdict": answer["verdict"], "reason": answer["reason"], "probability": known}
    return out


def share(rows: list[dict], verdict: str) -> dict:
    count = sum(row["verdict"] == verdict for row in rows)
    return {"share": round(count / len(rows), 3), "interval": wilson(count, len(rows))}


def compared(original: dict, copies: dict) -> dict:
    """One encoding against the lossless copies."""
    out = {}
    for label in ("real", "art", "generated"):
        rows = [row for row in copies.values() if row["label"] == label]
        out[label] = {"copies": len(rows), "called_generated": share(rows, GENERATED),
                      "called_not_generated": share(rows, NOT_GENERATED),
                      "too_small": sum(row["probability"] is None for row in rows)}
    pairs = [(original[name]["verdict"], row["verdict"]) for name, row in copies.items()]
    decided = [pair for pair in pairs if "Inconclusive" not in pair]
    moved = [abs(row["probability"] - original[name]["probability"]) for name, row in copies.items()
             if row["probability"] is not None and original[name]["probability"] is not None]
    lost = sum(before != "Inconclusive" and after == "Inconclusive" for before, after in pairs)
    out["decided_in_both"] = len(decided)
    out["flips"] = sum(before != after for before, after in decided)
    out["decided_before_only"] = lost
    if moved:
        out["probability_moved"] = {"median": round(float(np.median(moved)), 3), "p90": round(float(np.quantile(moved, 0.9)), 3)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="table of `retrace score --offline --output`")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    found = verdicts(args.index, args.scores)
    grid = {name: compared(found["png"], copies) for name, copies in found.items()}
    others = [row for name, row in grid.items() if name != "png"]
    decided, flips = sum(row["decided_in_both"] for row in others), sum(row["flips"] for row in others)
    alike = [grid[name]["real"]["called_generated"]["share"] for name in ALIKE]
    report = {
        "command": "python flips.py --index ... --scores ... --output .", "commit": git("rev-parse", "HEAD"),
        "pictures": len(found["png"]),
        "flips_among_decided": {"decided": decided, "flips": flips, "share": round(flips / max(1, decided), 4),
                                "interval": wilson(flips, max(1, decided))},
        "false_positives_on_photographs_apart": {"encodings": list(ALIKE), "largest_difference": round(max(alike) - min(alike), 3)},
        "grid": grid,
    }
    (args.output / "grid.json").write_text(json.dumps(report, indent=1) + "\n")
    plots.grid(args.output / "grid.png", grid)
    print(json.dumps({key: value for key, value in report.items() if key != "grid"}, indent=1))


if __name__ == "__main__":
    main()
