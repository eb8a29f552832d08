"""Try a head that scores places: fits it, judges it on splices, and writes `places.json`.

    python place_head.py --splices .training/splices-*.npz --output ../../evaluation/detector

It is no part of the detector: it marks what was pasted in rather than what was generated, and leans to generated all over
some photographs of which the detector is sure (the card has the figures).

Logistic regression on what the encoder has in each of 14 x 14 places. Mean features of each place over real pictures
are taken off first, for the encoder knows where a place lies, and so does whoever pastes something into the middle.
The scores of a picture are then averaged over 3 x 3 places.

To be judged, the head is fitted twice, each time without one half of the generated sets, and looks at splices of
pictures of the validation role with generated parts of that half: AUC between the places inside and outside of what
was pasted in, by picture. Pasted-in photographs and art are the control: a head that saw nothing but seams would do as
well on them.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

GRID = 14
STRENGTH = 1e-4
SMOOTH = 3
# A place is inside or outside where nearly all of it is; the rest is left out.
INSIDE_MIN, OUTSIDE_MAX, PLACES_MIN = 0.75, 0.1, 4
# Of pictures without a splice, a few places say as much as all.
WHOLE_TOKENS = 16


@dataclass
class Splices:
    tokens: np.ndarray  # tokens x columns
    place: np.ndarray
    mask: np.ndarray
    owner: np.ndarray  # index of the picture
    columns: dict[str, np.ndarray]  # of the pictures

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def generated(self) -> np.ndarray:
        """Share of each token's place that is generated."""
        base, donor = ((self[name] == "generated")[self.owner] for name in ("base", "donor"))
        return base * (1 - self.mask) + donor * self.mask


def load(paths: list[Path]) -> Splices:
    files = [np.load(path) for path in paths]
    offsets = np.cumsum([0] + [len(file["role"]) for file in files[:-1]])
    owner = np.concatenate([file["owner"] + offset for file, offset in zip(files, offsets, strict=True)])
    joined = {name: np.concatenate([file[name] for file in files]) for name in files[0].files if name != "owner"}
    tokens, place, mask = (joined.pop(name) for name in ("tokens", "place", "mask"))
    return Splices(tokens, place, mask, owner, joined)


class Head:
    """raw score = tokens @ weights + intercept of the place."""

    def fit(self, splices: Splices, pictures: np.ndarray, seed: int = 0) -> "Head":
        """`pictures` says which ones."""
        share, rng = splices.generated(), np.random.default_rng(seed)
        spliced = (splices["donor"] != "")[splices.owner]
        wanted = pictures[splices.owner] & ((share < 0.1) | (share > 0.9))
        wanted &= spliced | (rng.random(len(wanted)) < WHOLE_TOKENS / 60)
        means = self.means(splices, pictures)
        rows = splices.tokens[wanted].astype(np.float32) - means[splices.place[wanted]]
        deviation = rows.std(0) + 1e-6
        model = LogisticRegression(C=STRENGTH, max_iter=60, class_weight="balanced")
        model.fit(rows / deviation, share[wanted] > 0.5)
        self.weights = model.coef_[0] / deviation
        self.intercepts = model.intercept_[0] - means @ self.weights
        return self

    @staticmethod
    def means(splices: Splices, pictures: np.ndarray) -> np.ndarray:
        """Mean features of each place over pictures of which nothing is generated."""
        share = splices.generated()
        touched = np.zeros(len(pictures), bool)
        np.maximum.at(touched, splices.owner, share > 0.1)
        real = (pictures & ~touched)[splices.owner]
        sums = np.zeros((GRID * GRID, splices.tokens.shape[1]), np.float64)
        counts = np.bincount(splices.place[real], minlength=GRID * GRID)
        for place in range(GRID * GRID):
            sums[place] = splices.tokens[real & (splices.place == place)].astype(np.float32).sum(0)
        return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)

    def scores(self, tokens: np.ndarray) -> np.ndarray:
        """Of all places of one picture, in order."""
        raw = tokens.astype(np.float32) @ self.weights + self.intercepts
        return uniform_filter(raw.reshape(GRID, GRID), SMOOTH, mode="nearest").ravel()


def halves(splices: Splices) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a generated part of the first and of the second half of the sets, every other one by name."""
    sources = [np.where(splices[label] == "generated", splices[f"{label}_source"], "") for label in ("base", "donor")]
    names = sorted(set(np.concatenate(sources)) - {""})
    return tuple(np.isin(sources[0], names[part::2]) | np.isin(sources[1], names[part::2]) for part in (0, 1))


def judged(head: Head, splices: Splices, wanted: np.ndarray) -> dict[str, list[tuple[float, float]]]:
    """By base and donor: AUC of each picture, and the mean score inside."""
    out: dict[str, list] = {}
    for index in np.where(wanted & (splices["donor"] != ""))[0]:
        mine = splices.owner == index
        scores, mask = head.scores(splices.tokens[mine]), splices.mask[mine]
        inside, outside = mask > INSIDE_MIN, mask < OUTSIDE_MAX
        if min(inside.sum(), outside.sum()) < PLACES_MIN:
            continue
        label = np.r_[np.ones(inside.sum()), np.zeros(outside.sum())]
        found = roc_auc_score(label, np.r_[scores[inside], scores[outside]])
        out.setdefault(f"{splices['donor'][index]} in {splices['base'][index]}", []).append((found, scores[inside].mean()))
    return out


def whole(head: Head, splices: Splices, wanted: np.ndarray) -> dict[str, list[bool]]:
    """By label: whether the mean place of each picture without a splice leans to generated."""
    out: dict[str, list] = {}
    for index in np.where(wanted & (splices["donor"] == ""))[0]:
        scores = head.scores(splices.tokens[splices.owner == index])
        out.setdefault(str(splices["base"][index]), []).append(bool(scores.mean() > 0))
    return out


def interval(values: list[float], rng: np.random.Generator) -> list[float]:
    """95 % of a mean, by resampling pictures."""
    means = rng.choice(values, (2000, len(values))).mean(1)
    return [round(float(value), 3) for value in np.quantile(means, (0.025, 0.975))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splices", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of places.json")
    args = parser.parse_args()
    splices, found, leaning = load(args.splices), {}, {}
    first, second = halves(splices)
    validation, rng = splices["role"] == "validation", np.random.default_rng(0)
    for left_out, other in ((first, second), (second, first)):
        head = Head().fit(splices, ~validation & ~left_out)
        for kind, values in judged(head, splices, validation & ~other).items():
            found.setdefault(kind, []).extend(values)
        for label, values in whole(head, splices, validation & ~other).items():
            leaning.setdefault(label, []).extend(values)
    report = {"splices": {"fitted": int((~validation).sum()), "judged": int(validation.sum())}, "kinds": {}}
    for kind, values in sorted(found.items()):
        places = [value for value, _ in values]
        report["kinds"][kind] = {"judged": len(values), "auc": round(float(np.mean(places)), 3), "interval": interval(places, rng)}
    parts = {kind: [score for _, score in values] for kind, values in found.items()}
    for control in ("real", "art"):
        made, taken = parts["generated in real"], parts[f"{control} in real"]
        label = np.r_[np.ones(len(made)), np.zeros(len(taken))]
        report[f"generated_part_against_{control}_part"] = round(float(roc_auc_score(label, made + taken)), 3)
    report["whole_pictures_that_lean_to_generated"] = {
        label: {"judged": len(values), "share": round(float(np.mean(values)), 3)} for label, values in sorted(leaning.items())}
    (args.output / "places.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
