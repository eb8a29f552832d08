"""The curve of the card from same_noise.json and kid.json.

    python plots.py
"""

import json

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

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


def main() -> None:
    table = json.loads((HERE / "same_noise.json").read_text())["evaluations"]
    figure, axes = pyplot.subplots(figsize=(7.2, 4.6))
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
    figure.tight_layout()
    figure.savefig(HERE / "curve.png", dpi=130)


if __name__ == "__main__":
    main()
