"""Judge the semantic head fitted with re-encoded copies beside the head fitted without them, on the same copies.

    python evaluate_reencoded.py --views VIEWS.npz ... --index INDEX.csv ... --traces TRACES.jsonl ... \
        --detector ../../detector --output . --without imagenet-sample --grid GRID.npz --grid-scores GRID.csv

Writes `reencoded.json`. Both recipes are judged on all copies by experts that did not see the judged set; the recipe
without fits head, weights and thresholds on the tiers clean, web and hard alone. `--grid` names the views of the copies
of `reencode.py` (`embed_views.py`), `--grid-scores` what `retrace score` said of them: trace, stratum and the answers
where there is no semantic score are taken from there, and a generated picture is judged by the head fitted without its
set. No PyTorch, no encoder.
"""

import csv
import json
import platform
from pathlib import Path

import numpy as np

from evaluate import TIERS, auc, calibration_error, git, verdict_shares, wilson
from evaluate_fusion import EVEN, five_fold, real_sources
from flips import GENERATED, NOT_GENERATED, compared

import calibrate
import fusion
import semantic_head
from fit_fusion import arguments, read

# Sources with fewer copies are not left out: their shares would say nothing.
SOURCE_COPIES_MIN = 30


def left_out(both: fusion.Judged, tier: str) -> dict:
    """Means over the left-out sets of generated pictures of 20 copies or more: AUC against the photographs and the art
    of the validation role, and the shares found at 1 % and 5 % false positives of both."""
    here = both.select(both["tier"] == tier)
    label, counts = here["label"], dict(zip(*np.unique(both["source"][both["label"] == "generated"], return_counts=True)))
    real, art = here.semantic[label == "real"], here.semantic[label == "art"]
    sets = {name: here.semantic[(label == "generated") & (here["source"] == name)] for name, count in counts.items()
            if count >= fusion.SET_COPIES_MIN}
    sets = {name: scores for name, scores in sets.items() if len(scores) >= 5}
    against = {name: auc(real, scores) for name, scores in sets.items()}
    out = {"sets": len(sets), "photographs": len(real), "macro": round(float(np.mean(list(against.values()))), 3),
           "min": min(against.values()), "worst": min(against, key=against.get),
           "against_art_macro": round(float(np.mean([auc(art, scores) for scores in sets.values()])), 3)}
    for share in (0.01, 0.05):
        limit = calibrate.upper_bound(np.append(real, art), share)
        out[f"found_at_{share}"] = round(float(np.mean([(scores >= limit).mean() for scores in sets.values()])), 3)
    return out


def verdicts(both: fusion.Judged, fitted: np.ndarray, seed: int) -> dict:
    """Five folds over pictures: shares of verdicts, balanced accuracy at even odds and calibration by tier."""
    known, said = five_fold(both, seed, fitted)
    out = {}
    for tier in ("all", *np.unique(both["tier"])):
        here = np.ones(len(both), bool) if tier == "all" else both["tier"] == tier
        part, made = both.select(here), both.generated()[here]
        right = (known[here] >= EVEN) == (made == 1)
        out[str(tier)] = {
            "balanced_accuracy": round(float(right[made == 1].mean() + right[made == 0].mean()) / 2, 3),
            "calibration_error": calibration_error(known[here], made, fusion.balanced(part)),
            **{label: verdict_shares(said[here][part["label"] == label]) for label in ("real", "art", "generated")},
        }
    return out


class Grid:
    """Copies of `reencode.py`, with what `retrace score` said of them."""

    def __init__(self, views: Path, scores: Path, detector: Path):
        self.views = semantic_head.load([views])
        with open(scores, newline="") as file:
            said = {Path(row["path"]).name: row for row in csv.DictReader(file)}
        self.said = [said[name] for name in self.views["copy"]]
        number = lambda name: np.array([float(row[name]) if row[name] else np.nan for row in self.said])
        self.trace, self.deployed, known = number("trace_raw_score"), number("semantic_raw_score"), number("probability")
        self.stratum = np.full(len(known), -1)
        # The table names no stratum: it is the one whose weights give the probability that the table has.
        strata = [fusion.Stratum(*(row[k] for k in ("trace_weight", "semantic_weight", "intercept")))
                  for row in json.loads((detector / "fusion.json").read_text())["strata"]]
        both = ~np.isnan(self.deployed)
        away = np.abs([stratum.probability(self.judged(self.deployed)) - known for stratum in strata])
        if np.nanmax(away.min(0)[both]) > 1e-5:
            raise SystemExit("the scores are not those of the detector's folder")
        self.stratum[both] = away.argmin(0)[both]
        alone = [json.loads((detector / name).read_text())["strata"] for name in ("calibration.json", "thresholds.json")]
        self.alone = fusion.verdicts(calibrate.apply(alone[0], self.stratum, self.trace), self.judged(self.trace), alone[1])

    def judged(self, semantic: np.ndarray) -> fusion.Judged:
        return fusion.Judged(semantic, self.trace, self.stratum, self.views.columns)

    def answers(self, semantic: np.ndarray, strata: list, limits: list[dict]) -> dict:
        """Answers by encoding and picture, as `flips.py` compares them."""
        both = self.judged(semantic)
        known = fusion.apply(strata, both)
        said = fusion.verdicts(known, both, limits)
        said[np.isin(self.alone, (GENERATED, NOT_GENERATED)) & np.isin(said, (GENERATED, NOT_GENERATED)) & (self.alone != said)] = "Inconclusive"
        out: dict[str, dict] = {}
        for index, row in enumerate(self.said):
            inside = self.stratum[index] >= 0
            out.setdefault(str(self.views["encoding"][index]), {})[str(self.views["picture"][index])] = {
                "label": str(self.views["label"][index]), "verdict": str(said[index]) if inside else row["verdict"],
                "probability": float(known[index]) if inside else None}
        return out

    def report(self, answers: dict) -> dict:
        rows = {name: compared(answers["png"], copies) for name, copies in answers.items()}
        others = [copy for name, copies in answers.items() if name != "png" for copy in copies.values()]
        kept = [row for name, row in rows.items() if name != "png"]
        decided, flips = sum(row["decided_in_both"] for row in kept), sum(row["flips"] for row in kept)
        return {
            "copies": len(others), "inconclusive": sum(row["verdict"] == "Inconclusive" for row in others),
            "verdicts_lost": sum(row["decided_before_only"] for row in kept),
            "flips": flips, "decided": decided, "flips_interval": wilson(flips, max(1, decided)),
            "called_generated": {label: sum(row["verdict"] == GENERATED and row["label"] == label for row in others)
                                 for label in ("real", "art", "generated")},
            "called_not_generated": {label: sum(row["verdict"] == NOT_GENERATED and row["label"] == label for row in others)
                                     for label in ("real", "art", "generated")},
            "grid": rows,
        }

    def scores(self, heads: dict, final: semantic_head.Head) -> np.ndarray:
        """Raw scores, of generated pictures by the head that did not see their set."""
        out = final.scores(self.views)
        for name, head in heads.items():
            here = (self.views["source"] == name) & (self.views["label"] == "generated")
            out[here] = head.scores(self.views)[here]
        return out


def recipe(views: semantic_head.Views, everything: fusion.Judged, without: tuple, grid: Grid | None, seed: int) -> dict:
    """All figures of a head fitted without some sets and tiers."""
    final, heads = fusion.cross_fitted(views, without)
    everything.semantic = fusion.scores_by(views, final, heads)[fusion.is_judged(views)]
    both = everything.select(everything.stratum >= 0)
    fitted = ~np.isin(both["tier"], without)
    sources = real_sources(views, without, SOURCE_COPIES_MIN)
    alarms = lambda label: round(float(np.mean([row["false_positives"] for row in sources.values()
                                                if row["label"] == label])), 3)
    out = {"leave_one_set_out": {str(tier): left_out(everything, tier) for tier in np.unique(everything["tier"])},
           "left_out_sources_called_generated": {"real": alarms("real"), "art": alarms("art"), "sources": sources},
           "verdicts": verdicts(both, fitted, seed)}
    if grid:
        strata, limits = fusion.fit(both.select(fitted))
        out["grid"] = grid.report(grid.answers(grid.scores(heads, final), strata, limits))
    return out


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--grid-scores", type=Path)
    args = parser.parse_args()
    views, table = read(args)
    grid = Grid(args.grid, args.grid_scores, args.detector) if args.grid else None
    everything = fusion.judged(np.zeros(len(views)), views, table, args.detector, args.seed)
    more = tuple(str(tier) for tier in np.unique(views["tier"]) if tier not in TIERS)
    without = tuple(args.without)
    report = {
        "command": "python evaluate_reencoded.py --views ... --index ... --traces ... --detector ../../detector --output . "
                   "--without imagenet-sample --grid ... --grid-scores ...",
        "commit": git("rev-parse", "HEAD"), "seed": args.seed,
        "machine": f"{platform.machine()}, 2 cores, busy with other work; Python {platform.python_version()}",
        "copies": {str(tier): int((views["tier"] == tier).sum()) for tier in np.unique(views["tier"])},
        "with_trace": {str(tier): int(((everything["tier"] == tier) & (everything.stratum >= 0)).sum()) for tier in np.unique(views["tier"])},
        "fitted_without_re_encoded_copies": recipe(views, everything, (*without, *more), grid, args.seed),
        "fitted_with_them": recipe(views, everything, without, grid, args.seed),
    }
    (args.output / "reencoded.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
