"""Controls that must fail: classifiers on what should say nothing about the label."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

import heads
from traces import Table


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


def shuffled_labels(table, make_head, seed: int, times: int = 8) -> dict:
    """Heads fitted on labels shuffled between pictures, judged by the true labels: about 0.5 on average."""
    training = table.select(lambda row: row["role"] == "train")
    judged = table.select(lambda row: row["role"] == "validation")
    names = sorted({row["picture"] for row in training.copies})
    truth = {row["picture"]: row["generated"] for row in training.copies}
    found = []
    for draw in range(times):
        values = np.random.default_rng(seed + draw).permutation([truth[name] for name in names])
        shuffled = dict(zip(names, values.tolist()))
        copies = [dict(row, generated=shuffled[row["picture"]]) for row in training.copies]
        head = make_head().fit(Table(training.rows, training.copy, copies, training.names_digest))
        found.append(float(roc_auc_score(judged.generated(), heads.scores(head, judged))))
    return {"mean": round(float(np.mean(found)), 3), "min": round(min(found), 3), "max": round(max(found), 3)}


def all_of(table, index: Path, make_head, seed: int) -> dict:
    """Controls of the recipe over all copies, and of the head over those that were traced."""
    with open(index, newline="") as file:
        copies = list(csv.DictReader(file))
    paths = [index.parent / row["copy"] for row in copies]
    labels = np.array([int(row["label"] == "generated") for row in copies])
    pictures = np.array([row["picture"] for row in copies])
    container = np.array([container_row(path) for path in paths], float)
    no_bytes = np.delete(container, 3, axis=1)
    return {
        "container": cross_validated(container, labels, pictures, seed),
        "container_without_bytes_per_pixel": cross_validated(no_bytes, labels, pictures, seed),
        "thumbnail_content": cross_validated(np.array([thumbnail_row(path) for path in paths]), labels, pictures, seed),
        "head_on_shuffled_labels": shuffled_labels(table, make_head, seed),
    }
