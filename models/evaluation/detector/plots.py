"""Plots of the report."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLOURS = {"real": "#2b6cb0", "art": "#805ad5", "generated": "#c05621"}


def reliability(path: Path, probabilities, generated, weight, bins: int = 10) -> None:
    """Predicted probability against the observed share at equal base rates."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    figure, axes = plt.subplots(figsize=(4.5, 4.2))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    points = [(np.average(probabilities[place == k], weights=weight[place == k]),
               np.average(generated[place == k], weights=weight[place == k]), (place == k).sum())
              for k in range(bins) if (place == k).sum() >= 5]
    x, y, count = zip(*points)
    axes.plot(x, y, marker="o", color=COLOURS["generated"])
    for place_x, place_y, number in points:
        axes.annotate(str(number), (place_x, place_y), textcoords="offset points", xytext=(6, -9), fontsize=7)
    axes.set(xlabel="calibrated probability", ylabel="share generated (equal base rates)", xlim=(0, 1), ylim=(0, 1),
             title="Reliability, five-fold")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def generators(path: Path, report: dict) -> None:
    """AUC by left-out set of generated pictures and tier."""
    rows = report["leave_one_set_out"]["sets"]
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(rows) + 1.4))
    for offset, (tier, colour) in enumerate(zip(("clean", "web", "hard"), ("#2f855a", "#b7791f", "#c53030"))):
        places = np.arange(len(rows)) + 0.25 * (offset - 1)
        axes.barh(places, [row[tier] or 0 for row in rows.values()], height=0.24, color=colour, label=tier)
    axes.axvline(0.5, color="#444444", linewidth=1)
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), xlim=(0.3, 1.0), xlabel="AUC against validation photographs")
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def score_histogram(path: Path, scores: np.ndarray, label: np.ndarray) -> None:
    """Raw scores of the validation copies by label."""
    figure, axes = plt.subplots(figsize=(6, 3.2))
    bins = np.linspace(scores.min(), scores.max(), 40)
    for name, colour in COLOURS.items():
        axes.hist(scores[label == name], bins, density=True, histtype="step", linewidth=1.6, color=colour, label=name)
    axes.set(xlabel="raw score of a picture", ylabel="density", title="Validation pictures")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def experts(path: Path, report: dict) -> None:
    """AUC by left-out set: the trace, the semantic expert and both, on the same copies."""
    found = report["leave_one_set_out"]
    names = list(found["fused"]["sets"])
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 1.4))
    shown = (("trace", "trace alone", "#b7791f"), ("semantic_where_traced", "semantic alone", "#2b6cb0"), ("fused", "both", "#2f855a"))
    for offset, (key, text, colour) in enumerate(shown):
        places = np.arange(len(names)) + 0.25 * (offset - 1)
        axes.barh(places, [found[key]["sets"][name]["all"] or 0 for name in names], height=0.24, color=colour, label=text)
    axes.axvline(0.5, color="#444444", linewidth=1)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0.3, 1.0), xlabel="AUC against validation photographs")
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def grid(path: Path, rows: dict) -> None:
    """Shares of verdicts by encoding: generated pictures found, photographs and art called generated."""
    names = list(rows)
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(names) + 1.2))
    places = np.arange(len(names))
    for offset, label in enumerate(("generated", "real", "art")):
        shares = [rows[name][label]["called_generated"]["share"] for name in names]
        axes.barh(places + 0.27 * (offset - 1), shares, height=0.26, color=COLOURS[label], label=label)
    axes.set(yticks=places, yticklabels=names, xlim=(0, 1), xlabel="share called LikelyGenerated")
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
