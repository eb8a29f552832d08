"""Controls that must fail: classifiers on what should say nothing about the label."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

import heads


def container_row(path: Path) -> list[float]:
    """Sizes, bytes, type, tables and sampling of a file."""
    with Image.open(path) as image:
        width, height, kind = image.width, image.height, image.format
        tables = [list(table) for table in getattr(image, "quantization", {}).values()]
        sampling = image.layer[0][1] * 10 + image.layer[0][2] if kind == "JPEG" else 0
    first = np.resize(tables[0], 64) if tables else np.zeros(64)
    size = path.stat().st_size
    return [width, height, width / height, size / (width * height), kind == "JPEG", sampling, len(tables),
            first.mean(), *first[[0, 1, 8, 16, 2, 9, 63]]]


def thumbnail_row(path: Path) -> np.ndarray:
    """16x16 grey levels: content alone."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), float).ravel()


def cross_validated(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> dict:
    """AUC of gradient-boosted trees over five folds that keep a picture's copies together."""
    scores = np.zeros(len(labels))
    for fitted, judged in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(features, labels, groups):
        model = HistGradientBoostingClassifier(max_iter=100, random_state=seed).fit(features[fitted], labels[fitted])
        scores[judged] = model.predict_proba(features[judged])[:, 1]
    return {"auc": round(float(roc_auc_score(labels, scores)), 3), "copies": int(len(labels))}


def shuffled_labels(table, make_head, seed: int) -> float:
    """The head fitted on labels shuffled between pictures, judged by the true labels."""
    rng = np.random.default_rng(seed)
    training = table.select(lambda row: row["role"] == "train")
    validation = table.select(lambda row: row["role"] == "validation")
    names = sorted({row["picture"] for row in training.copies})
    truth = {row["picture"]: row["generated"] for row in training.copies}
    shuffled = dict(zip(names, rng.permutation([truth[name] for name in names])))
    training.copies = [dict(row, generated=int(shuffled[row["picture"]])) for row in training.copies]
    scores = heads.scores(make_head().fit(training), validation)
    return round(float(roc_auc_score(validation.generated(), scores)), 3)


def all_of(table, index: Path, make_head, seed: int) -> dict:
    """Every control over all copies that were traced."""
    paths = [index.parent / row["copy"] for row in table.copies]
    labels, pictures = table.generated(), table.column("picture")
    container = np.array([container_row(path) for path in paths], float)
    no_bytes = np.delete(container, 3, axis=1)
    return {
        "container": cross_validated(container, labels, pictures, seed),
        "container_without_bytes_per_pixel": cross_validated(no_bytes, labels, pictures, seed),
        "thumbnail_content": cross_validated(np.array([thumbnail_row(path) for path in paths]), labels, pictures, seed),
        "head_on_shuffled_labels": shuffled_labels(table, make_head, seed),
    }
