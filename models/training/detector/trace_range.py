"""The range of the trace curve over real photographs, for the picture that explains a score.

    python trace_range.py --index .training/copies/index.csv --traces traces.jsonl --detector ../../detector

Writes `trace_range.json` into the detector's folder. The curve of a picture is the size of the predicted noise at each
level (`log_rms`, mean over the patches). The range holds the middle nine tenths of the photographs of the validation
role, which neither prior nor head was fitted on, for each stratum of measured quality. It explains; nothing is decided
by it. PyTorch is not needed.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import calibrate
import traces

# The lower and the upper end of the range, and its middle.
SHARES = {"lower": 0.05, "median": 0.50, "upper": 0.95}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    args = parser.parse_args()
    schema = json.loads((args.detector / "features.json").read_text())
    model = json.loads((args.detector / "calibration.json").read_text())["quality"]
    table = traces.load(args.index, args.traces)
    table = table.select(lambda row: row["label"] == "real" and row["role"] == "validation")
    quality = calibrate.Quality()
    quality.weights, quality.intercept = np.array(model["weights"]), model["intercept"]
    stratum = calibrate.stratum_of(quality.measure(table))
    levels = schema["config"]["noise_levels"]
    columns = [schema["names"].index(f"level{index}.log_rms") for index in range(len(levels))]
    curves = table.mean_rows()[:, columns]
    strata = []
    for index, (name, _) in enumerate(calibrate.STRATA):
        inside = curves[stratum == index]
        shares = {end: np.quantile(inside, share, axis=0).round(4).tolist() for end, share in SHARES.items()}
        strata.append({"name": name, "copies": len(inside), **shares})
    document = {"version": "1", "noise_levels": levels, "strata": strata}
    (args.detector / "trace_range.json").write_text(json.dumps(document, indent=1) + "\n")
    for row in strata:
        print(row)


if __name__ == "__main__":
    main()
