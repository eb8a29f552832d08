"""Golden numbers of fitting: what scikit-learn and LightGBM make of a small synthetic table.

    python make_golden.py

Writes `golden.json`. The table is drawn by a congruential generator that `services/training/tests/golden.rs` draws
again, so that no rows need to be kept. Versions as pinned in `models/training/requirements.lock`.
"""

import json
from pathlib import Path

import lightgbm
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

COLUMNS, FITTED, HELD = 24, 1600, 4000
# As models/training/detector/heads.py.
TREES = {
    "objective": "binary", "learning_rate": 0.06, "num_leaves": 15, "max_bin": 63, "min_data_in_leaf": 40,
    "feature_fraction": 0.25, "bagging_fraction": 0.6, "bagging_freq": 1, "lambda_l2": 10.0,
    "verbosity": -1, "deterministic": True, "force_row_wise": True, "num_threads": 1,
}


class Generator:
    """Knuth's MMIX constants; the upper 24 bits are a number in [0, 1) that 32-bit floats hold exactly."""

    def __init__(self, state: int):
        self.state = state

    def unit(self) -> float:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 40) / 2**24


def table(state: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels and weights. Columns differ in scale; one tells by its size and one by a step."""
    draw = Generator(state)
    out, labels, weights = [], [], []
    for _ in range(rows):
        row = [(draw.unit() - 0.5) * 2.0 ** (column % 4) for column in range(COLUMNS)]
        hidden = row[1] + 0.5 * row[5] - 0.25 * row[7] + abs(row[3]) - 2.0 + (0.7 if row[9] > 0.3 else -0.3)
        labels.append(int(hidden + 3.0 * (draw.unit() - 0.5) > 0.0))
        weights.append(0.5 + draw.unit())
        out.append(row)
    return np.array(out, np.float32), np.array(labels), np.array(weights)


def logistic(rows, labels, weights, strength: float, standardised: bool) -> dict:
    scaler = StandardScaler(with_mean=standardised, with_std=standardised).fit(rows)
    model = LogisticRegression(C=strength, max_iter=10000, tol=1e-10)
    model.fit(scaler.transform(rows.astype(float)), labels, sample_weight=weights)
    mean, scale = (scaler.mean_, scaler.scale_) if standardised else (np.zeros(COLUMNS), np.ones(COLUMNS))
    coefficients = model.coef_[0] / scale
    intercept = float(model.intercept_[0] - (coefficients * mean).sum())
    return {
        "strength": strength, "standardised": standardised, "weights": coefficients.tolist(), "intercept": intercept
    }


def ridge(rows, target) -> dict:
    scaler = StandardScaler().fit(rows)
    model = RidgeCV(np.logspace(0, 4, 9)).fit(scaler.transform(rows), target)
    coefficients = model.coef_ / scaler.scale_
    return {
        "strength": float(model.alpha_), "weights": coefficients.tolist(),
        "intercept": float(model.intercept_ - (coefficients * scaler.mean_).sum()),
    }


def trees(fitted, held) -> list[float]:
    """Held-out AUC for several seeds."""
    out = []
    for seed in range(5):
        data = lightgbm.Dataset(fitted[0], fitted[1], weight=fitted[2])
        booster = lightgbm.train(dict(TREES, seed=seed), data, num_boost_round=200)
        out.append(float(roc_auc_score(held[1], booster.predict(held[0], raw_score=True))))
    return out


def main() -> None:
    fitted, held = table(1, FITTED), table(2, HELD)
    rows = fitted[0].astype(float)
    target = 3.0 * rows[:, 0] - rows[:, 2] + rows[:, 6] ** 2
    document = {
        "made_with": {"scikit-learn": sklearn.__version__, "lightgbm": lightgbm.__version__},
        "columns": COLUMNS, "fitted": FITTED, "held": HELD,
        "first_row": fitted[0][0].tolist(),
        "logistic": [logistic(*fitted, 0.003, True), logistic(*fitted, 1000.0, False)],
        "ridge": ridge(rows, target),
        "trees_held_out_auc": trees(fitted, held),
    }
    Path(__file__).with_name("golden.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document["trees_held_out_auc"]))


if __name__ == "__main__":
    main()
