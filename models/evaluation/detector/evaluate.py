"""Evaluate the detector from trace files: no PyTorch, no pictures but for two controls.

    python evaluate.py --index .training/copies/index.csv --traces traces.jsonl \
        --detector ../../detector --output .

Writes `report.json` and plots. No picture is judged by a head that saw it (`crossfit.py`):
- leave one set out: fitted without a set; other sets may hold other pictures of the same generators;
- leave one generator out: fitted without a family of generators, whichever set it is in;
- leave one real source out: fitted without that source and without the half of the sets it is compared with;
- calibration and verdicts: five-fold over pictures, so that no picture is judged by thresholds that saw it.
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
import crossfit
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


def by_tier(negatives, positives, negative_tier, positive_tier, tiers=TIERS) -> dict:
    """AUC over all tiers and within each one."""
    out = {"all": auc(negatives, positives), "copies": int(len(positives))}
    for tier in tiers:
        out[tier] = auc(negatives[negative_tier == tier], positives[positive_tier == tier])
    return out


def wilson(hits: int, count: int) -> list[float]:
    """95 % interval of a share."""
    z, share = 1.96, hits / max(count, 1)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return [round(max(float(centre - half), 0.0), 3), round(min(float(centre + half), 1.0), 3)]


class Exported:
    """The heads as exported: the figures are those of the files that the service runs."""

    def __init__(self, folder: Path):
        contents = json.loads((folder / "detector.json").read_text())
        paths = [folder / name for name in contents["heads"]]
        self.sessions = [onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in paths]

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        return np.mean([s.run(None, {"features": rows})[0] for s in self.sessions], axis=0)


def leave_one_set_out(judged, cross) -> dict:
    """Each set of generated pictures against the validation role's photographs."""
    photographs = judged.select(lambda row: row["label"] == "real")
    art = judged.select(lambda row: row["label"] == "art")
    tier = photographs.column("tier")
    sets = {}
    for name, head in cross.heads.items():
        left_out = judged.select(lambda row: row["source"] == name)
        negatives, positives = heads.scores(head, photographs), heads.scores(head, left_out)
        sets[name] = by_tier(negatives, positives, tier, left_out.column("tier"))
        sets[name]["average_precision"] = precision(negatives, positives)
        sets[name]["against_art"] = auc(heads.scores(head, art), positives)
    return sets


def leave_one_generator_out(table, judged, make_head) -> dict:
    """Each family of generators, left out of every set that has it, against the same photographs."""
    photographs = judged.select(lambda row: row["label"] == "real")
    tier = photographs.column("tier")
    out = {}
    for name in sorted({family(row["generator"]) for row in table.copies if row["generated"]}):
        member = lambda row: row["generated"] and family(row["generator"]) == name
        head = crossfit.fitted_without(table.select(lambda row: not member(row)), make_head)
        left_out = judged.select(member)
        negatives, positives = heads.scores(head, photographs), heads.scores(head, left_out)
        out[name] = by_tier(negatives, positives, tier, left_out.column("tier"))
        out[name]["sets"] = sorted(set(left_out.column("source").tolist()))
    return out


def leave_one_real_source_out(table, judged, make_head) -> dict:
    """Photographs (or art) of a source new to the head against generated sets new to the head."""
    halves = [crossfit.sets_of(table)[0::2], crossfit.sets_of(table)[1::2]]
    out = {}
    for source in sorted({row["source"] for row in judged.copies if not row["generated"]}):
        left_out = judged.select(lambda row: row["source"] == source)
        others = judged.select(lambda row: row["label"] == "real" and row["source"] != source)
        results, alarms = [], []
        for half in halves:
            head = crossfit.fitted_without(table, make_head, (source, *half))
            made = judged.select(lambda row: row["source"] in half)
            negatives, positives = heads.scores(head, left_out), heads.scores(head, made)
            results.append(by_tier(negatives, positives, left_out.column("tier"), made.column("tier")))
            limit = calibrate.upper_bound(heads.scores(head, others), calibrate.FALSE_POSITIVES_MAX)
            alarms.append(float((negatives >= limit).mean()))
        out[source] = {key: round(float(np.mean([row[key] for row in results])), 3) for key in ("all", *TIERS)}
        out[source]["copies"] = len(left_out.copies)
        out[source]["false_positives_at_5_percent_of_the_others"] = round(float(np.mean(alarms)), 3)
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


def five_fold(copies, scores, quality, seed: int):
    """Probability, verdict and stratum of each copy under calibrations of the other folds."""
    stratum = calibrate.stratum_of(quality.measure(copies))
    known, verdicts = np.zeros(len(scores)), np.array(["Inconclusive"] * len(scores), dtype=object)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fitted, judged in folds.split(scores, copies.column("label"), copies.column("picture")):
        kept = set(fitted.tolist())
        part = copies.select(lambda row: row["number"] in kept)
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


def calibrated(judged, scores, quality, seed: int) -> dict:
    known, verdicts, stratum = five_fold(judged, scores, quality, seed)
    generated, label, tier = judged.generated(), judged.column("label"), judged.column("tier")
    weight = crossfit.set_weights(judged)
    measured, true = quality.measure(judged), judged.column("quality").astype(float)
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
            "expected_calibration_error": calibration_error(known[inside], generated[inside], weight[inside]),
            "brier": round(float(np.average((known[inside] - generated[inside]) ** 2, weights=weight[inside])), 4),
        }
    for name in ("real", "art", "generated"):
        out["verdicts"][name] = {"all": verdict_shares(verdicts[label == name])}
        for t in TIERS:
            out["verdicts"][name][t] = verdict_shares(verdicts[(label == name) & (tier == t)])
    sources = judged.column("source")
    out["verdicts_by_source"] = {s: verdict_shares(verdicts[sources == s]) for s in sorted(set(sources))}
    out["plot"] = (known, generated, weight)
    return out


def family_auc(families: dict) -> dict:
    """Macro mean over the families, and the smallest."""
    values = [row["all"] for row in families.values()]
    return {"macro": round(float(np.mean(values)), 3), "min": min(values)}


def unseen(judged, head) -> dict:
    """Validation sets under a head that saw generated pictures of the training role alone."""
    real = judged.select(lambda row: row["label"] == "real")
    out = {}
    for name in sorted({row["source"] for row in judged.copies if row["generated"] and row["role"] == "validation"}):
        made = judged.select(lambda row: row["source"] == name)
        out[name] = by_tier(heads.scores(head, real), heads.scores(head, made), real.column("tier"), made.column("tier"))
    return out


def mean_auc(sets: dict) -> dict:
    """Macro mean over the sets, and the smallest."""
    out = {key: round(float(np.mean([row[key] for row in sets.values()])), 3) for key in ("all", *TIERS, "against_art")}
    return {"macro": out, "min": min(row["all"] for row in sets.values())}


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
    judged = crossfit.judged(table)
    for number, row in enumerate(judged.copies):
        row["number"] = number
    make_head = lambda: heads.Trees(args.seed)
    cross = crossfit.CrossFit(table, make_head)
    scores = cross.scores(judged, Exported(args.detector))
    label = judged.column("label")
    quality = calibrate.Quality().fit(table.select(lambda row: row["role"] == "train"))
    sets = leave_one_set_out(judged, cross)
    families = leave_one_generator_out(table, judged, make_head)
    other_sets = leave_one_set_out(judged, crossfit.CrossFit(table, heads.Logistic))
    narrow = table.select(lambda row: not row["generated"] or row["role"] == "train")
    narrow_head = crossfit.fitted_without(narrow, make_head)
    calibration = calibrated(judged, scores, quality, args.seed)
    plot = calibration.pop("plot")
    report = {
        "command": "python evaluate.py --index INDEX --traces TRACES --detector ../../detector --output .",
        "commit": git("rev-parse", "HEAD"), "seed": args.seed,
        "machine": f"{platform.machine()}, 2 cores, busy with other work; Python {platform.python_version()}",
        "copies": {role: {name: int(sum(row["role"] == role and row["label"] == name for row in table.copies))
                          for name in ("real", "art", "generated")} for role in ("train", "validation")},
        "leave_one_set_out": {"auc": mean_auc(sets), "sets": sets},
        "leave_one_generator_out": {"auc": family_auc(families), "families": families},
        "leave_one_set_out_of_logistic_regression": mean_auc(other_sets),
        "fitted_on_generated_pictures_of_the_training_role_alone": unseen(judged, narrow_head),
        "leave_one_real_source_out": leave_one_real_source_out(table, judged, make_head),
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
