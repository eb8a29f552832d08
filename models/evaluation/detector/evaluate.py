"""Evaluate the detector from trace files: no PyTorch, no pictures but for two controls.

    python evaluate.py --index .training/copies/index.csv --traces traces.jsonl \
        --detector ../../detector --output .

Writes `report.json` and plots. What "unseen" means for each figure:
- leave one generator out: the head is fitted without that generator's pictures;
- validation generators: the head was never fitted on any picture of the validation role;
- leave one real source out: fitted without that source's photographs;
- calibration: five-fold over pictures, so that no picture is judged by a calibration that saw it.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training" / "detector"))

import calibrate
import canaries
import heads
import plots
import traces
from families import family

TIERS = ("clean", "web", "hard")


def auc(negative: np.ndarray, positive: np.ndarray) -> float | None:
    if len(negative) < 5 or len(positive) < 1:
        return None
    labels = np.r_[np.zeros(len(negative)), np.ones(len(positive))]
    return round(float(roc_auc_score(labels, np.r_[negative, positive])), 3)


def precision(negative: np.ndarray, positive: np.ndarray) -> float:
    labels = np.r_[np.zeros(len(negative)), np.ones(len(positive))]
    return round(float(average_precision_score(labels, np.r_[negative, positive])), 3)


def by_tier(negatives, positives, negative_tier, positive_tier) -> dict:
    """AUC over all tiers and within each one."""
    out = {"all": auc(negatives, positives), "copies": int(len(positives))}
    for tier in TIERS:
        out[tier] = auc(negatives[negative_tier == tier], positives[positive_tier == tier])
    return out


def wilson(hits: int, count: int) -> list[float]:
    """95 % interval of a share."""
    z, share = 1.96, hits / max(count, 1)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return [round(float(centre - half), 3), round(float(centre + half), 3)]


class Exported:
    """The heads as exported: the figures are those of the files that the service runs."""

    def __init__(self, folder: Path):
        contents = json.loads((folder / "detector.json").read_text())
        paths = [folder / name for name in contents["heads"]]
        self.sessions = [onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in paths]

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        return np.mean([s.run(None, {"features": rows})[0] for s in self.sessions], axis=0)


def leave_one_generator_out(training, validation, make_head) -> dict:
    """Each training generator against the photographs of the validation role."""
    photographs = validation.select(lambda row: row["label"] == "real")
    tier = photographs.column("tier")
    out = {}
    for source in sorted({row["source"] for row in training.copies if row["generated"]}):
        head = make_head().fit(training.select(lambda row: row["source"] != source))
        left_out = training.select(lambda row: row["source"] == source)
        negatives, positives = heads.scores(head, photographs), heads.scores(head, left_out)
        out[source] = by_tier(negatives, positives, tier, left_out.column("tier"))
        out[source]["average_precision"] = precision(negatives, positives)
    return out


def unseen_generators(validation, scores) -> dict:
    """Generated pictures of the validation role against its photographs, by set and by family."""
    label, tier = validation.column("label"), validation.column("tier")
    real = label == "real"
    out = {"by_set": {}, "by_family": {}}
    names = {"by_set": validation.column("source"),
             "by_family": np.array([family(row["generator"]) for row in validation.copies])}
    for kind, values in names.items():
        for name in sorted(set(values[label == "generated"])):
            here = (label == "generated") & (values == name)
            out[kind][name] = by_tier(scores[real], scores[here], tier[real], tier[here])
    here = label == "generated"
    out["together"] = by_tier(scores[real], scores[here], tier[real], tier[here])
    out["together"]["average_precision"] = precision(scores[real], scores[here])
    return out


def leave_one_real_source_out(training, validation, make_head) -> dict:
    """Photographs (and art) of a source that the head was not fitted on, against unseen generators."""
    made = validation.select(lambda row: row["label"] == "generated")
    out = {}
    for source in sorted({row["source"] for row in training.copies if not row["generated"]}):
        head = make_head().fit(training.select(lambda row: row["source"] != source))
        left_out = validation.select(lambda row: row["source"] == source)
        others = validation.select(lambda row: row["label"] == "real" and row["source"] != source)
        negatives, positives = heads.scores(head, left_out), heads.scores(head, made)
        limit = calibrate.upper_bound(heads.scores(head, others), calibrate.FALSE_POSITIVES_MAX)
        out[source] = by_tier(negatives, positives, left_out.column("tier"), made.column("tier"))
        out[source]["copies"] = len(left_out.copies)
        out[source]["false_positives_at_5_percent_of_the_others"] = round(float((negatives >= limit).mean()), 3)
    return out


def calibration_error(probabilities: np.ndarray, generated: np.ndarray, weight: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over bins of equal width."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            gap = np.average(probabilities[inside], weights=weight[inside]) - np.average(generated[inside], weights=weight[inside])
            total += weight[inside].sum() * abs(gap)
    return round(float(total / weight.sum()), 4)


def balanced(generated: np.ndarray) -> np.ndarray:
    return np.where(generated == 1, 0.5 / generated.mean(), 0.5 / (1 - generated.mean()))


def cross_fitted(validation, scores, quality, seed: int):
    """Probability, verdict and stratum of each copy under calibrations of the other folds."""
    stratum = calibrate.stratum_of(quality.measure(validation))
    known, verdicts = np.zeros(len(scores)), np.array(["Inconclusive"] * len(scores), dtype=object)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fitted, judged in folds.split(scores, validation.column("label"), validation.column("picture")):
        kept = set(fitted.tolist())
        part = validation.select(lambda row: row["number"] in kept)
        strata, limits = calibrate.fit(part, scores[fitted], quality)
        known[judged] = calibrate.apply(strata, stratum[judged], scores[judged])
        for index in judged:
            limit = limits[stratum[index]]
            if limit["generated_min"] is not None and known[index] >= limit["generated_min"]:
                verdicts[index] = "LikelyGenerated"
            elif limit["not_generated_max"] is not None and known[index] <= limit["not_generated_max"]:
                verdicts[index] = "LikelyNotGenerated"
    return known, verdicts, stratum


def verdict_shares(verdicts: np.ndarray) -> dict:
    count = len(verdicts)
    out = {"copies": count}
    for name in ("LikelyGenerated", "LikelyNotGenerated", "Inconclusive"):
        hits = int((verdicts == name).sum())
        out[name] = round(hits / max(count, 1), 3)
        if name == "LikelyGenerated":
            out["LikelyGenerated_95_percent_interval"] = wilson(hits, count)
    return out


def calibrated(validation, scores, quality, seed: int) -> dict:
    known, verdicts, stratum = cross_fitted(validation, scores, quality, seed)
    generated, label, tier = validation.generated(), validation.column("label"), validation.column("tier")
    weight = balanced(generated)
    measured, true = quality.measure(validation), validation.column("quality").astype(float)
    out = {
        "expected_calibration_error": calibration_error(known, generated, weight),
        "brier": round(float(np.average((known - generated) ** 2, weights=weight)), 4),
        "by_stratum": {}, "verdicts": {},
        "quality_mean_absolute_error": {t: round(float(np.abs(measured - true)[tier == t].mean()), 1) for t in TIERS},
    }
    for index, (name, _) in enumerate(calibrate.STRATA):
        inside = stratum == index
        out["by_stratum"][name] = {
            "copies": int(inside.sum()), "copies_by_tier": {t: int((inside & (tier == t)).sum()) for t in TIERS},
            "auc": auc(scores[inside & (label == "real")], scores[inside & (generated == 1)]),
            "expected_calibration_error": calibration_error(known[inside], generated[inside], balanced(generated[inside])),
            "brier": round(float(np.average((known[inside] - generated[inside]) ** 2, weights=balanced(generated[inside]))), 4),
        }
    for name in ("real", "art", "generated"):
        out["verdicts"][name] = {"all": verdict_shares(verdicts[label == name])}
        for t in TIERS:
            out["verdicts"][name][t] = verdict_shares(verdicts[(label == name) & (tier == t)])
    sources = validation.column("source")
    out["verdicts_by_source"] = {s: verdict_shares(verdicts[sources == s]) for s in sorted(set(sources))}
    out["plot"] = (known, generated, weight)
    return out


def compared_heads(training, validation) -> dict:
    """Macro mean of leave-one-generator-out for each kind of head, the choice between them."""
    kinds = {"trees": heads.Trees, "logistic": heads.Logistic, "mean": lambda: heads.Mean(heads.Trees(), heads.Logistic())}
    out = {}
    for name, make_head in kinds.items():
        left = leave_one_generator_out(training, validation, make_head)
        out[name] = round(float(np.mean([row["all"] for row in left.values()])), 3)
    return out


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = traces.load(args.index, args.traces)
    for_training = table.select(lambda row: row["role"] == "train")
    validation = table.select(lambda row: row["role"] == "validation")
    for number, row in enumerate(validation.copies):
        row["number"] = number
    make_head = lambda: heads.Mean(heads.Trees(args.seed), heads.Logistic())
    scores = heads.scores(Exported(args.detector), validation)
    label, tier = validation.column("label"), validation.column("tier")
    made = label == "generated"
    quality = calibrate.Quality().fit(for_training)
    left_out = leave_one_generator_out(for_training, validation, make_head)
    calibration = calibrated(validation, scores, quality, args.seed)
    plot = calibration.pop("plot")
    report = {
        "command": "python evaluate.py --index INDEX --traces TRACES --detector ../../detector --output .",
        "commit": git("rev-parse", "HEAD"), "seed": args.seed,
        "machine": f"{platform.machine()}, 2 cores, busy with other work; Python {platform.python_version()}",
        "copies": {role: {name: int(sum(row["role"] == role and row["label"] == name for row in table.copies))
                          for name in ("real", "art", "generated")} for role in ("train", "validation")},
        "heads_compared_leave_one_generator_out_macro_auc": compared_heads(for_training, validation),
        "leave_one_generator_out": left_out,
        "leave_one_generator_out_macro_auc": round(float(np.mean([row["all"] for row in left_out.values()])), 3),
        "leave_one_generator_out_min_auc": min(row["all"] for row in left_out.values()),
        "generators_never_trained_on": unseen_generators(validation, scores),
        "art_against_generated": by_tier(scores[label == "art"], scores[made], tier[label == "art"], tier[made]),
        "leave_one_real_source_out": leave_one_real_source_out(for_training, validation, make_head),
        "calibration": calibration,
        "controls": canaries.all_of(table, args.index, make_head, args.seed),
    }
    (args.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    plots.reliability(args.output / "reliability.png", *plot)
    plots.generators(args.output / "generators.png", report)
    plots.score_histogram(args.output / "scores.png", scores, label)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
