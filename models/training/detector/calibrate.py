"""Quality measurement, Platt's calibration for each stratum of quality, and thresholds."""

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from crossfit import set_weights
from traces import Table

# From the highest quality down: name and smallest measured quality. The web tier is compressed with
# quality 60 and the hard tier with 40; the bounds lie between the tiers.
STRATA = (("high", 72.0), ("web", 50.0), ("low", 0.0))

# Of real photographs, at most this share of a stratum is called likely generated, ...
FALSE_POSITIVES_MAX = 0.05
# ... of art made by people at most this share, ...
ART_FALSE_POSITIVES_MAX = 0.10
# ... and of generated pictures at most this share likely not generated.
MISSES_MAX = 0.05
# With the semantic expert beside the trace, fewer of both are allowed.
FUSED_FALSE_POSITIVES_MAX = 0.02
# Below this share of generated (photographed) pictures beyond the threshold, the verdict is never given:
# the threshold would decide next to nothing, and what it decides would be as often wrong as right.
CAUGHT_MIN = 0.10


class Quality:
    """A ridge regression from a picture's mean feature row to the quality of its last compression."""

    def fit(self, table: Table) -> "Quality":
        scaler = StandardScaler().fit(table.mean_rows())
        target = table.column("quality").astype(float)
        ridge = RidgeCV(np.logspace(0, 4, 9)).fit(scaler.transform(table.mean_rows()), target)
        self.weights = ridge.coef_ / scaler.scale_
        self.intercept = float(ridge.intercept_ - (self.weights * scaler.mean_).sum())
        return self

    def measure(self, table: Table) -> np.ndarray:
        return np.clip(table.mean_rows() @ self.weights + self.intercept, 0.0, 100.0)


def stratum_of(quality: np.ndarray) -> np.ndarray:
    """Index into STRATA."""
    bounds = np.array([bound for _, bound in STRATA])
    return np.argmax(quality[:, None] >= bounds[None, :], axis=1)


def platt(scores: np.ndarray, generated: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and intercept; the weights make the base rates of both classes equal."""
    weights = np.where(generated == 1, weights / weights[generated == 1].sum(), weights / weights[generated == 0].sum())
    model = LogisticRegression(C=1e4).fit(scores.reshape(-1, 1), generated, sample_weight=weights * len(weights))
    return max(float(model.coef_[0, 0]), 0.0), float(model.intercept_[0])


def probability(scores: np.ndarray, slope, intercept) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-(slope * scores + intercept)))


def upper_bound(values: np.ndarray, share_above: float) -> float:
    """A value that at most `share_above` of the values reach."""
    ordered = np.sort(values)[::-1]
    allowed = int(np.floor(share_above * len(ordered)))
    return float(np.nextafter(ordered[allowed], np.inf))


def thresholds(
    probabilities: np.ndarray, labels: np.ndarray, real_max=FALSE_POSITIVES_MAX, art_max=ART_FALSE_POSITIVES_MAX
) -> dict:
    """Both thresholds of one stratum from labelled pictures; None where they decide too little."""
    real, art, made = (probabilities[labels == name] for name in ("real", "art", "generated"))
    high = max(upper_bound(real, real_max), upper_bound(art, art_max))
    low = -upper_bound(-made, MISSES_MAX)
    return {
        "generated_min": high if (made >= high).mean() >= CAUGHT_MIN and high > low else None,
        "not_generated_max": low if (real <= low).mean() >= CAUGHT_MIN and low < high else None,
    }


def fit(table: Table, scores: np.ndarray, quality: Quality) -> tuple[list[dict], list[dict]]:
    """Calibration strata and thresholds from pictures that the scoring heads did not see."""
    stratum = stratum_of(quality.measure(table))
    labels, generated, weights = table.column("label"), table.generated(), set_weights(table)
    strata, limits = [], []
    for index, (name, bound) in enumerate(STRATA):
        inside = stratum == index
        slope, intercept = platt(scores[inside], generated[inside], weights[inside])
        strata.append({"name": name, "quality_min": bound, "slope": slope, "intercept": intercept})
        known = probability(scores[inside], slope, intercept)
        limits.append({"name": name, **thresholds(known, labels[inside])})
    return strata, limits


def apply(strata: list[dict], stratum: np.ndarray, scores: np.ndarray) -> np.ndarray:
    slopes = np.array([row["slope"] for row in strata])[stratum]
    return probability(scores, slopes, np.array([row["intercept"] for row in strata])[stratum])
