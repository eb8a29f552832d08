"""The curves of the card from same_noise.json, kid.json and kid_schedulers.json.

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


# Schedulers that have a distance but no place on the curve above, where their random steps would count as errors.
STOCHASTIC = ("ddim eta 1", "ddpm", "dpm++ 2m sde", "euler ancestral", "lcm", "tcd")


def family(recipe: Recipe) -> tuple[str, str, str, str, float]:
    """Label, colour, line, marker and size of a setting of the tables."""
    if recipe.shortcuts.reuse:
        return "the default at guidance 2, 3, 4 and 5", "tab:red", "", "*", 11
    if recipe.shortcuts.start > 0.0:
        name, colour = ("lms, searched", "tab:red") if recipe.setting is None else (recipe.setting.name, "0.35")
        return f"{name}, guided in [0.2, 0.7)", colour, "", "d", 7
    if recipe.setting is None or recipe.setting.name == "lms tuned":
        return (*DRAWN["lms tuned"], 6)
    if recipe.setting.name in DRAWN:
        return (*DRAWN[recipe.setting.name], 5)
    return "stochastic ones", "0.6", "", "+", 7


def distance(axes) -> None:
    """KID as a multiple of that of the baseline in the same run: the two tables are two runs, and only ratios
    compare between them."""
    tables = [json.loads((HERE / file).read_text())["settings"] for file in ("kid.json", "kid_schedulers.json")]
    drawn = {}
    for text, value in (tables[0] | tables[1]).items():
        recipe = Recipe(text)
        assert recipe.setting is None or recipe.setting.name in DRAWN or recipe.setting.name in STOCHASTIC, text
        drawn.setdefault(family(recipe), []).append((value["rows"], value["over_baseline"]))
    for (label, colour, line, marker, size), points in sorted(drawn.items()):
        points.sort(key=lambda point: point[0])
        rows, ratios = [row for row, _ in points], [over["ratio"] for _, over in points]
        bars = [[abs(edge - over["ratio"]) for _, over in points for edge in over["interval"][side : side + 1]] for side in (0, 1)]
        axes.errorbar(rows, ratios, yerr=bars, fmt=marker, linestyle=line or "none", color=colour, markersize=size,
                      linewidth=1.2, elinewidth=0.7, label=label)
    axes.axhline(1.0, color="0.6", linewidth=0.8)
    axes.set(xscale="log", xlabel="rows through the network a picture", ylim=(0.89, 1.46),
             ylabel="KID to the training pictures,\nas a multiple of lms's with ten searched timesteps")
    ticks = [8, 10, 12, 15, 20, 30, 40]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)


def main() -> None:
    for draw, file in ((same_noise, "curve.png"), (distance, "kid.png")):
        figure, axes = pyplot.subplots(figsize=(7.2, 5.2 if draw is distance else 4.6))
        draw(axes)
        figure.tight_layout()
        figure.savefig(HERE / file, dpi=130)


if __name__ == "__main__":
    main()
