"""Heads: patch rows to raw scores (logits), a picture's raw score being the mean over its patches."""

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from traces import Table, pooled

TREES = {
    "objective": "binary", "learning_rate": 0.06, "num_leaves": 15, "max_bin": 63, "min_data_in_leaf": 40,
    "feature_fraction": 0.25, "bagging_fraction": 0.6, "bagging_freq": 1, "lambda_l2": 10.0,
    "verbosity": -1, "deterministic": True, "force_row_wise": True, "num_threads": 1,
}
ROUNDS = 200


def weights(table: Table) -> np.ndarray:
    """One weight for each patch row: classes weigh the same, and so do the square roots of the sources."""
    generated, source = table.generated(), table.column("source")
    of_copy = np.zeros(len(table.copies))
    for label in (0, 1):
        for name in np.unique(source[generated == label]):
            members = (generated == label) & (source == name)
            of_copy[members] = 1.0 / np.sqrt(members.sum())
        of_copy[generated == label] /= of_copy[generated == label].sum()
    patches = np.bincount(table.copy, minlength=len(table.copies))
    out = (of_copy / np.maximum(patches, 1))[table.copy]
    return out * len(out) / out.sum()


class Trees:
    """Gradient-boosted trees."""

    def __init__(self, seed: int = 0):
        self.parameters = dict(TREES, seed=seed)

    def fit(self, table: Table) -> "Trees":
        data = lightgbm.Dataset(table.rows, table.generated()[table.copy], weight=weights(table))
        self.booster = lightgbm.train(self.parameters, data, num_boost_round=ROUNDS)
        return self

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        return self.booster.predict(rows, raw_score=True)


class Logistic:
    """Logistic regression on standardised features."""

    def __init__(self, strength: float = 0.003):
        self.model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))

    def fit(self, table: Table) -> "Logistic":
        labels = table.generated()[table.copy]
        self.model.fit(table.rows, labels, logisticregression__sample_weight=weights(table))
        return self

    def patch_scores(self, rows: np.ndarray) -> np.ndarray:
        return self.model.decision_function(rows)


def scores(head, table: Table) -> np.ndarray:
    """Raw score of each copy."""
    return pooled(head.patch_scores(table.rows), table.copy, len(table.copies))
