"""Evaluate both experts and their fusion on the same copies: no PyTorch, no encoder, no pictures.

    python evaluate_fusion.py --views VIEWS.npz ... --index INDEX.csv ... --traces TRACES.jsonl ... \
        --detector ../../detector --output .

Writes `fusion_report.json` and plots. Every copy is judged by experts that did not see its set (`fusion.py` of the
training folder), and by weights and thresholds of the other folds: five folds over pictures. Copies without a trace
enter the figures of the semantic expert alone.
"""

import json
import platform
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from evaluate import TIERS, auc, by_tier, calibration_error, git, precision, verdict_shares, wilson

import calibrate
import fusion
import plots
import semantic_head
from fit_fusion import arguments, read
from reencoded_copies import DELIVERIES

# Tiers of the copies of `whole_copies.py`, then those of `reencoded_copies.py`.
JUDGED_TIERS = (*TIERS, *DELIVERIES)

# What the field calls one frozen threshold: even odds.
EVEN = 0.5


def sets(both: fusion.Judged, scores: np.ndarray) -> dict:
    """Each left-out set of generated pictures against the validation role's photographs and art."""
    label, tier, out = both["label"], both["tier"], {}
    for name in np.unique(both["source"][label == "generated"]):
        here = (both["source"] == name) & (label == "generated")
        row = by_tier(scores[label == "real"], scores[here], tier[label == "real"], tier[here], JUDGED_TIERS)
        row["average_precision"] = precision(scores[label == "real"], scores[here])
        row["against_art"] = auc(scores[label == "art"], scores[here])
        out[str(name)] = row
    return out


def tiers_of(both: fusion.Judged) -> list[str]:
    """All copies together, and every tier that has some."""
    return ["all", *(tier for tier in JUDGED_TIERS if (both["tier"] == tier).any())]


def summary(rows: dict) -> dict:
    """Macro mean and minimum over the sets that are large enough."""
    out = {}
    for key in ("all", *JUDGED_TIERS, "against_art"):
        values = [row[key] for row in rows.values() if row["copies"] >= fusion.SET_COPIES_MIN and row[key] is not None]
        if values:
            out[key] = {"macro": round(float(np.mean(values)), 3), "min": min(values)}
    return out


def at_false_positives(both: fusion.Judged, scores: np.ndarray, share: float) -> dict:
    """Share of generated copies above what `share` of photographs and art reach, by tier."""
    out = {}
    for tier in tiers_of(both):
        here = np.ones(len(both), bool) if tier == "all" else both["tier"] == tier
        limit = calibrate.upper_bound(scores[here & (both.generated() == 0)], share)
        found = scores[here & (both.generated() == 1)] >= limit
        out[tier] = {"share": round(float(found.mean()), 3), "interval": wilson(int(found.sum()), len(found))}
    return out


def real_sources(views: semantic_head.Views, without, copies_min: int = 1) -> dict:
    """Photographs and art of a source of some copies that the semantic head did not see, at a threshold that takes 2 %
    of the other sources' validation copies for generated."""
    judged = (views.generated() == 0) & (views["role"] == "validation")
    final, out = semantic_head.Head().fit(views, fusion.fitted_on(views, without)), {}
    for name in np.unique(views["source"][views.generated() == 0]):
        left_out = views["source"] == name
        if left_out.sum() < copies_min:
            continue
        head = semantic_head.Head().fit(views, fusion.fitted_on(views, without) & ~left_out, final)
        scores = head.scores(views)
        limit = calibrate.upper_bound(scores[judged & ~left_out], calibrate.FUSED_FALSE_POSITIVES_MAX)
        alarms = scores[left_out] >= limit
        label = str(views["label"][left_out][0])
        out[str(name)] = {"label": label, "copies": int(left_out.sum()), "false_positives": round(float(alarms.mean()), 3),
                          "interval": wilson(int(alarms.sum()), len(alarms))}
    return out


def five_fold(both: fusion.Judged, seed: int, used: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fused probabilities and verdicts of copies, each by the weights and thresholds of the other folds; of these,
    only the copies `used` are fitted on [default: all]."""
    known, said = np.zeros(len(both)), np.array(["Inconclusive"] * len(both), dtype=object)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fitted, rest in folds.split(known, both["label"], both["picture"]):
        strata, limits = fusion.fit(both.select(fitted if used is None else fitted[used[fitted]]))
        part = both.select(rest)
        known[rest] = fusion.apply(strata, part)
        said[rest] = fusion.verdicts(known[rest], part, limits)
    return known, said


def balanced_accuracy(both: fusion.Judged, known: np.ndarray) -> dict:
    """At even odds: mean of the shares of real (photographs and art) and generated copies judged right."""
    out = {}
    for tier in tiers_of(both):
        here = np.ones(len(both), bool) if tier == "all" else both["tier"] == tier
        real = (known[here & (both.generated() == 0)] < EVEN).mean()
        made = (known[here & (both.generated() == 1)] >= EVEN).mean()
        out[tier] = {"balanced": round(float(real + made) / 2, 3), "real": round(float(real), 3), "generated": round(float(made), 3)}
    return out


def coverage(both: fusion.Judged, known: np.ndarray) -> list[dict]:
    """Balanced accuracy of the most certain share of copies."""
    order, out = np.argsort(-np.abs(known - EVEN)), []
    for share in (0.4, 0.6, 0.8, 1.0):
        kept = order[: round(share * len(order))]
        right = (known[kept] >= EVEN) == (both.generated()[kept] == 1)
        label = both.generated()[kept]
        out.append({"coverage": share, "balanced_accuracy": round(float(np.mean([right[label == k].mean() for k in (0, 1)])), 3)})
    return out


def disagreements(both: fusion.Judged, said: np.ndarray, detector: Path) -> dict:
    """Verdicts that the trace alone, under its own calibration and thresholds, would have turned round: such a copy
    gets none. `right` of them were right before."""
    calibration = json.loads((detector / "calibration.json").read_text())
    limits = json.loads((detector / "thresholds.json").read_text())["strata"]
    alone = fusion.verdicts(calibrate.apply(calibration["strata"], both.stratum, both.trace), both, limits)
    sides = np.isin(said, ("LikelyGenerated", "LikelyNotGenerated")) & np.isin(alone, ("LikelyGenerated", "LikelyNotGenerated"))
    opposed = sides & (said != alone)
    right = (said == "LikelyGenerated") == (both.generated() == 1)
    return {"decided": int((said != "Inconclusive").sum()), "opposed": int(opposed.sum()), "right": int((opposed & right).sum())}


def shuffled(views: semantic_head.Views, seed: int, times: int = 8) -> dict:
    """AUC of heads fitted on labels shuffled between pictures, about 0.5 on average: pictures of a set resemble one
    another, so that a single draw strays."""
    out = []
    for draw in range(times):
        rng = np.random.default_rng(seed + draw)
        names, first = np.unique(views["picture"], return_index=True)
        mixed = dict(zip(names, rng.permutation(views["label"][first]), strict=True))
        columns = dict(views.columns, label=np.array([mixed[name] for name in views["picture"]]))
        train = views["role"] == "train"
        head = semantic_head.Head().fit(semantic_head.Views(views.features, columns), train)
        scores, rest = head.scores(views), ~train
        out.append(auc(scores[rest & (views.generated() == 0)], scores[rest & (views.generated() == 1)]))
    return {"mean": round(float(np.mean(out)), 3), "min": min(out), "max": max(out)}


def calibrated(both: fusion.Judged, known: np.ndarray) -> dict:
    weight, generated = fusion.balanced(both), both.generated()
    out = {"expected_calibration_error": calibration_error(known, generated, weight),
           "brier": round(float(np.average((known - generated) ** 2, weights=weight)), 4), "by_stratum": {}}
    for index, (name, _) in enumerate(calibrate.STRATA):
        inside = both.stratum == index
        out["by_stratum"][name] = {
            "copies": int(inside.sum()), "auc": auc(known[inside & (generated == 0)], known[inside & (generated == 1)]),
            "expected_calibration_error": calibration_error(known[inside], generated[inside], weight[inside]),
        }
    return out


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    views, table = read(args)
    semantic = fusion.semantic_scores(views, args.without)
    everything = fusion.judged(semantic, views, table, args.detector, args.seed)
    both = everything.select(everything.stratum >= 0)
    with_all = everything
    if args.without:
        with_all = fusion.judged(fusion.semantic_scores(views), views, table, args.detector, args.seed)
    known, said = five_fold(both, args.seed)
    experts = {"semantic": sets(everything, everything.semantic), "semantic_where_traced": sets(both, both.semantic),
               "trace": sets(both, both.trace), "fused": sets(both, known)}
    label, tier = both["label"], both["tier"]
    report = {
        "command": "python evaluate_fusion.py --views ... --index ... --traces ... --detector ../../detector --output .",
        "commit": git("rev-parse", "HEAD"), "seed": args.seed,
        "machine": f"{platform.machine()}, 2 cores, busy with other work; Python {platform.python_version()}",
        "copies": {name: {"judged": int((everything["label"] == name).sum()), "with_trace": int((label == name).sum())}
                   for name in ("real", "art", "generated")},
        "leave_one_set_out": {name: {"auc": summary(rows), "sets": rows} for name, rows in experts.items()},
        "semantic_head_fitted_without": {
            "sets": list(args.without), "auc": summary(experts["semantic"]),
            "auc_with_them": summary(sets(with_all, with_all.semantic)),
        },
        "leave_one_real_source_out": real_sources(views, args.without),
        "true_positives_at_1_percent": at_false_positives(both, known, 0.01),
        "true_positives_at_5_percent": at_false_positives(both, known, 0.05),
        "balanced_accuracy_at_even_odds": balanced_accuracy(both, known),
        "balanced_accuracy_by_coverage": coverage(both, known),
        "calibration": calibrated(both, known),
        "verdicts": {name: {part: verdict_shares(said[(label == name) & ((tier == part) | (part == "all"))])
                            for part in tiers_of(both)} for name in ("real", "art", "generated")},
        "verdicts_by_source": {str(s): verdict_shares(said[both["source"] == s]) for s in np.unique(both["source"])},
        "verdicts_opposed_by_the_trace": disagreements(both, said, args.detector),
        "head_on_shuffled_labels": shuffled(views, args.seed),
    }
    (args.output / "fusion_report.json").write_text(json.dumps(report, indent=1) + "\n")
    plots.reliability(args.output / "fusion_reliability.png", known, both.generated(), fusion.balanced(both))
    plots.experts(args.output / "experts.png", report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
