"""Both experts on the same copies: cross-fitted raw scores, and the fusion of the two.

Every copy is judged by experts that did not see its picture's set: a generated picture by heads fitted without
its whole set, photographs and art of the validation role by heads that saw no picture of that role. The trace
expert's trees are refitted here for that purpose; `models/detector/heads/trees.onnx` stays what it is.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import calibrate
import heads
import semantic_head
import traces

# Sets with fewer copies than this are judged, and too small for a mean of their own.
SET_COPIES_MIN = 20
# Judged, never fitted on: samples of StyleGAN2, whose licence does not allow commercial use, and no diffusion.
NOT_FITTED = ("fake-avatars",)


@dataclass
class Judged:
    """Copies with both raw scores; `trace` is not a number where no trace was taken."""

    semantic: np.ndarray
    trace: np.ndarray
    stratum: np.ndarray  # index into calibrate.STRATA, -1 without a trace
    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.semantic)

    def select(self, wanted: np.ndarray) -> "Judged":
        columns = {name: values[wanted] for name, values in self.columns.items()}
        return Judged(self.semantic[wanted], self.trace[wanted], self.stratum[wanted], columns)

    def generated(self) -> np.ndarray:
        return (self["label"] == "generated").astype(int)


def fitted_on(views: semantic_head.Views, without: tuple[str, ...] = ()) -> np.ndarray:
    """What the final head is fitted on: generated pictures, photographs and art of the training role. `without` names
    sets, or tiers of copies."""
    refused = np.isin(views["source"], (*NOT_FITTED, *without)) | np.isin(views["tier"], without)
    return ((views.generated() == 1) | (views["role"] == "train")) & ~refused


def cross_fitted(views: semantic_head.Views, without: tuple[str, ...] = ()) -> tuple:
    """The final head, and for each set of generated pictures that it was fitted on the head fitted without that set."""
    fitted = fitted_on(views, without)
    final, without_set = semantic_head.Head().fit(views, fitted), {}
    for name in np.unique(views["source"][fitted & (views.generated() == 1)]):
        left_out = (views["source"] == name) & (views.generated() == 1)
        without_set[str(name)] = semantic_head.Head().fit(views, fitted & ~left_out, final)
    return final, without_set


def scores_by(views: semantic_head.Views, final: semantic_head.Head, without_set: dict) -> np.ndarray:
    """Raw scores of all copies, of generated pictures by the head that did not see their set."""
    out = final.scores(views)
    for name, head in without_set.items():
        left_out = (views["source"] == name) & (views.generated() == 1)
        out[left_out] = head.scores(views)[left_out]
    return out


def semantic_scores(views: semantic_head.Views, without: tuple[str, ...] = ()) -> np.ndarray:
    """Cross-fitted raw scores of all copies; those of training photographs are not cross-fitted."""
    return scores_by(views, *cross_fitted(views, without))


def trace_scores(table: traces.Table, seed: int) -> np.ndarray:
    """The same for the trace."""
    saw = lambda row: (row["generated"] or row["role"] == "train") and row["source"] not in NOT_FITTED
    out = heads.scores(heads.Trees(seed).fit(table.select(saw)), table)
    source, generated = table.column("source"), table.generated() == 1
    for name in np.unique(source[generated]):
        head = heads.Trees(seed).fit(table.select(lambda row: saw(row) and row["source"] != name))
        left_out = generated & (source == name)
        out[left_out] = heads.scores(head, table)[left_out]
    return out


def is_judged(views: semantic_head.Views) -> np.ndarray:
    """Generated pictures, and photographs and art of the validation role."""
    return (views.generated() == 1) | (views["role"] == "validation")


def judged(semantic: np.ndarray, views: semantic_head.Views, table: traces.Table, detector: Path, seed: int) -> Judged:
    """Generated pictures, and photographs and art of the validation role, with cross-fitted raw scores of the trace
    beside those of the semantic expert."""
    measured = json.loads((detector / "calibration.json").read_text())["quality"]
    quality = np.clip(table.mean_rows() @ np.asarray(measured["weights"]) + measured["intercept"], 0.0, 100.0)
    strata, scores = calibrate.stratum_of(quality), trace_scores(table, seed)
    place = {(row["picture"], row["tier"]): index for index, row in enumerate(table.copies)}
    found = np.array([place.get(key, -1) for key in zip(views["picture"], views["tier"], strict=True)])
    trace = np.where(found >= 0, scores[found], np.nan)
    stratum = np.where(found >= 0, strata[found], -1)
    both = Judged(semantic, trace, stratum, views.columns)
    return both.select(is_judged(views))


def balanced(both: Judged) -> np.ndarray:
    """Both classes weigh the same, and so do the square roots of the sources."""
    return semantic_head.weights(both.generated(), both["source"])


@dataclass
class Stratum:
    """Log-odds = trace_weight * trace + semantic_weight * semantic + intercept."""

    trace_weight: float
    semantic_weight: float
    intercept: float

    def probability(self, both: Judged) -> np.ndarray:
        log_odds = self.trace_weight * both.trace + self.semantic_weight * both.semantic + self.intercept
        return 1.0 / (1.0 + np.exp(-log_odds))


def fit_stratum(both: Judged) -> Stratum:
    """Logistic regression; a trace that would get a negative weight is left out."""
    weight, label = balanced(both), both.generated()
    rows = np.stack([both.trace, both.semantic], axis=1)
    model = LogisticRegression(C=1e3).fit(rows, label, sample_weight=weight)
    if model.coef_[0, 0] >= 0.0:
        return Stratum(float(model.coef_[0, 0]), float(model.coef_[0, 1]), float(model.intercept_[0]))
    model = LogisticRegression(C=1e3).fit(rows[:, 1:], label, sample_weight=weight)
    return Stratum(0.0, float(model.coef_[0, 0]), float(model.intercept_[0]))


def fit(both: Judged) -> tuple[list[Stratum], list[dict]]:
    """Weights and thresholds of each stratum, from copies with a trace."""
    strata, limits = [], []
    for index, (name, _) in enumerate(calibrate.STRATA):
        part = both.select(both.stratum == index)
        strata.append(fit_stratum(part))
        allowed = calibrate.FUSED_FALSE_POSITIVES_MAX
        limit = calibrate.thresholds(strata[-1].probability(part), part["label"], allowed, allowed)
        limits.append({"name": name, **limit})
    return strata, limits


def apply(strata: list[Stratum], both: Judged) -> np.ndarray:
    """Fused probability of copies with a trace."""
    out = np.full(len(both), np.nan)
    for index, stratum in enumerate(strata):
        inside = both.stratum == index
        out[inside] = stratum.probability(both)[inside]
    return out


def verdicts(probability: np.ndarray, both: Judged, limits: list[dict]) -> np.ndarray:
    """What the thresholds of each stratum make of the probabilities."""
    out = np.array(["Inconclusive"] * len(both), dtype=object)
    for index, limit in enumerate(limits):
        inside = both.stratum == index
        if limit["generated_min"] is not None:
            out[inside & (probability >= limit["generated_min"])] = "LikelyGenerated"
        if limit["not_generated_max"] is not None:
            out[inside & (probability <= limit["not_generated_max"])] = "LikelyNotGenerated"
    return out
