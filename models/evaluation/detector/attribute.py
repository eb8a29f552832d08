"""How well the family of a generator can be told from what the semantic expert sees: `families.json`.

    python attribute.py --views VIEWS.npz ... --output .

A family needs 40 pictures, else it is part of `other`. Multinomial logistic regression on the mean over a picture's
views. Every set is judged by a regression that did not see it; Gemini's pictures all come from one set, so they are
judged by folds over pictures, which cannot tell the generator from its source. No part of the detector.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from evaluate import git
from families import family

import fusion
import semantic_head

PICTURES_MIN = 40
# Fine-tunes leave the traces of what they were tuned from.
MERGED = {"SD 1.x fine-tunes": "Stable Diffusion 1.x"}
OTHER = "other"


def named(views: semantic_head.Views) -> np.ndarray:
    """The family of each copy, where it has enough pictures."""
    found = np.array([family(generator) for generator in views["generator"]])
    found = np.array([MERGED.get(name, name) for name in found])
    counts = {name: len(np.unique(views["picture"][found == name])) for name in np.unique(found)}
    return np.array([name if counts[name] >= PICTURES_MIN else OTHER for name in found])


def weights(label: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Families weigh the same, and so do the square roots of their sets."""
    out = np.zeros(len(label))
    for name in np.unique(label):
        for one in np.unique(source[label == name]):
            members = (label == name) & (source == one)
            out[members] = 1 / np.sqrt(members.sum())
        out[label == name] /= out[label == name].sum()
    return out * len(out) / out.sum()


def judged(rows: np.ndarray, label: np.ndarray, source: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Probabilities of the families, in the order of their names."""
    names = np.unique(label)
    out = np.zeros((len(rows), len(names)))

    def fill(rest: np.ndarray, fitted: np.ndarray) -> None:
        model = LogisticRegression(C=semantic_head.STRENGTH, max_iter=300)
        model.fit(rows[fitted], label[fitted], sample_weight=weights(label[fitted], source[fitted]))
        out[np.ix_(rest, np.searchsorted(names, model.classes_))] = model.predict_proba(rows[rest])

    for one in np.unique(source):
        members = source == one
        if len(np.unique(label[~members])) == len(names):
            fill(np.where(members)[0], ~members)
            continue
        places = np.where(members)[0]
        for _, rest in GroupKFold(5).split(places, groups=picture[places]):
            fitted = np.ones(len(rows), bool)
            fitted[places[rest]] = False
            fill(places[rest], fitted)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    views = semantic_head.load(args.views)
    wanted = (views.generated() == 1) & ~np.isin(views["source"], fusion.NOT_FITTED)
    views = semantic_head.Views(views.features[wanted], {name: values[wanted] for name, values in views.columns.items()})
    label, rows = named(views), views.features.mean(1)
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    known = judged(rows, label, views["source"], views["picture"])
    names = np.unique(label)
    said, certain = names[known.argmax(1)], known.max(1)
    report = {"commit": git("rev-parse", "HEAD"), "families": {}, "right_where_certain": [], "sets": {}}
    for place, name in enumerate(names):
        here = label == name
        report["families"][name] = {
            "copies": int(here.sum()), "sets": len(np.unique(views["source"][here])),
            "auc": round(float(roc_auc_score(here, known[:, place])), 3), "right": round(float((said[here] == name).mean()), 3)}
    for least in (0.5, 0.7, 0.9):
        kept = certain >= least
        right = [float((said[kept & (label == name)] == name).mean()) for name in names]
        report["right_where_certain"].append(
            {"probability_min": least, "kept": round(float(kept.mean()), 3), "right_mean_of_families": round(float(np.mean(right)), 3)})
    for one in np.unique(views["source"]):
        for name in np.unique(label[views["source"] == one]):
            here = (views["source"] == one) & (label == name)
            said_here = {other: round(float((said[here] == other).mean()), 2) for other in names}
            report["sets"].setdefault(str(one), {})[str(name)] = {"copies": int(here.sum()), "said": said_here}
    (args.output / "families.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
