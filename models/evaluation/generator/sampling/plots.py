"""The curves of the card from same_noise.json and kid.json.

    python plots.py
"""

import json

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from distribution import Recipe
from loop import HERE

# Line style and marker tell the lines apart without colour. One line for each scheduler, at the best of its
# schedules that is not much worse at few evaluations.
DRAWN = {
    "ddim": ("ddim and euler", "0.35", "-", "o"),
    "dpm++ 2m": ("dpm++ 2m", "tab:blue", "--", "s"),
    "dpm++ 3m": ("dpm++ 3m", "tab:blue", ":", "D"),
    "dpm++ 2s": ("dpm++ singlestep", "tab:cyan", "-.", "v"),
    "unipc": ("unipc", "tab:green", "--", "^"),
    "deis": ("deis", "tab:purple", "-.", "P"),
    "lms": ("lms", "tab:orange", "--", "x"),
    "lms karras": ("lms karras", "tab:orange", ":", "*"),
    "heun": ("heun", "tab:brown", ":", ">"),
    "pndm": ("pndm", "tab:pink", "-.", "<"),
    "lms tuned": ("lms, tuned timesteps", "tab:red", "-", "o"),
}

def same_noise(axes) -> None:
    table = json.loads((HERE / "same_noise.json").read_text())["evaluations"]
    for name, (label, colour, line, marker) in DRAWN.items():
        points = sorted((int(count), value) for count, value in table[name].items())
        counts, errors = [count for count, _ in points], [value["rms"] for _, value in points]
        width = 2.4 if name.endswith("tuned") else 1.2
        axes.plot(counts, errors, line, color=colour, marker=marker, markersize=5, linewidth=width, label=label)
        if name.endswith("tuned"):
            axes.fill_between(counts, *zip(*(value["interval"] for _, value in points)), color=colour, alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel="network evaluations a picture (two rows each, with guidance 3)",
             ylabel="rms difference of the latents\nfrom the 200-step solution", ylim=(0.008, 2.5))
    ticks = [4, 5, 6, 8, 10, 15, 20, 30, 50]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    levels = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    axes.set_yticks(levels, [f"{level:g}" for level in levels])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)


def words(text: str, rows: int) -> str:
    """A setting of the tables in words."""
    recipe = Recipe(text)
    if recipe.shortcuts.reuse:
        name = "the default"
    elif recipe.shortcuts.start > 0.0:
        name = "lms searched, guided in [0.2, 0.7)"
    else:
        name = "lms searched" if recipe.setting is None else recipe.setting.name
    return f"{name}: {rows} rows"


def distance(axes) -> None:
    """KID as a multiple of that of the baseline in the same run, best first: the two tables are
    two runs, and only ratios compare between them."""
    tables = [json.loads((HERE / file).read_text())["settings"] for file in ("kid_schedulers.json", "kid.json")]
    listed = sorted((tables[0] | tables[1]).items(), key=lambda item: -item[1]["over_baseline"]["ratio"])
    for place, (text, value) in enumerate(listed):
        over, is_default = value["over_baseline"], bool(Recipe(text).shortcuts.reuse)
        axes.plot(over["interval"], [place, place], color="tab:red" if is_default else "0.35", linewidth=2.4 if is_default else 1.2)
        axes.plot(over["ratio"], place, color="tab:red" if is_default else "0.35", marker="o", markersize=6)
    axes.set_yticks(range(len(listed)), [words(text, value["rows"]) for text, value in listed], fontsize=9)
    axes.axvline(1.0, color="0.6", linewidth=0.8)
    axes.set(xlabel="KID to the training pictures,\nas a multiple of that of lms searched")
    axes.grid(alpha=0.3)


def main() -> None:
    for draw, file in ((same_noise, "curve.png"), (distance, "kid.png")):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.6))
        draw(axes)
        figure.tight_layout()
        figure.savefig(HERE / file, dpi=130)


if __name__ == "__main__":
    main()
