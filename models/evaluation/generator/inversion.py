"""Was a picture made by this generator? Which statistic of its inversion tells, and how well.

    python inversion.py --packages ../../training --generator ../../generator --out .

Positives are the generator's own pictures (random training names, 20 DDIM steps, guidance 3, stored as 8-bit
pixels); negatives are the real pictures of the held-out tenth. Half of each fits the logistic calibration, the
other half measures it. Writes inversion.json here and the calibration, for the service, as
inversion.json in the generator's folder.
"""

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training" / "generator"))
import emoji
from pipeline import Generator

HERE = Path(__file__).resolve().parent
STEPS = 10
# The logistic calibration's features, chosen by the table that this script prints.
CHOSEN = ("reconstruction_log_mse", "inversion_log_mse")


def invert(generator: Generator, latents: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """DDIM inversion with the empty prompt and no guidance, [n, 4, 16, 16] to the same.

    Timesteps ascend (99, 199, ... 999 for ten steps). Each step takes the v predicted at the timestep it
    goes to, at the sample it comes from, as DDIMInverseScheduler does.
    """
    current = 1.0
    for t in generator.timesteps(STEPS)[::-1]:
        v = generator.v(latents, t, np.broadcast_to(empty, (len(latents), *empty.shape[1:])))
        following = generator.alphas_cumprod[t]
        clean = np.sqrt(current) * latents - np.sqrt(1 - current) * v
        eps = np.sqrt(current) * v + np.sqrt(1 - current) * latents
        latents, current = np.sqrt(following) * clean + np.sqrt(1 - following) * eps, following
    return latents


def denoise(generator: Generator, latents: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Plain DDIM back from the inverted noise: empty prompt, no guidance."""
    text = np.broadcast_to(empty, (len(latents), *empty.shape[1:]))
    times = generator.timesteps(STEPS)
    for i, t in enumerate(times):
        v = generator.v(latents, t, text)
        alpha = generator.alphas_cumprod[t]
        previous = generator.alphas_cumprod[times[i + 1]] if i + 1 < STEPS else 1.0
        clean = np.sqrt(alpha) * latents - np.sqrt(1 - alpha) * v
        eps = np.sqrt(alpha) * v + np.sqrt(1 - alpha) * latents
        latents = np.sqrt(previous) * clean + np.sqrt(1 - previous) * eps
    return latents


def log_mean_square(x: np.ndarray) -> np.ndarray:
    return np.log(np.square(x).mean(axis=tuple(range(1, x.ndim))) + 1e-8)


def statistics(generator: Generator, pixels: np.ndarray, batch: int = 32) -> dict[str, np.ndarray]:
    """Each candidate statistic for pixels [n, 3, 64, 64] as uint8."""
    empty, out = generator.encode_text([""]), []
    for start in range(0, len(pixels), batch):
        sample = pixels[start : start + batch] / 127.5 - 1.0
        latents = generator.encode(sample)
        decoded = generator.vae_decoder.run(None, {"latent_sample": (latents / generator.scaling_factor).astype(np.float32)})[0]
        noise = invert(generator, latents, empty)
        back = denoise(generator, noise, empty)
        first = generator.v(latents, 99, np.broadcast_to(empty, (len(latents), *empty.shape[1:])))
        out.append({
            # Pixels against their own reconstruction by the autoencoder: made pictures lie in its range.
            "reconstruction_log_mse": log_mean_square(decoded - sample),
            "reconstruction_log_mae": np.log(np.abs(decoded - sample).mean((1, 2, 3)) + 1e-6),
            "cycle_log_mse": log_mean_square(generator.encode(np.clip(decoded, -1, 1)) - latents),
            # Latents against inversion and denoising: made pictures lie on the reverse process's paths.
            "inversion_log_mse": log_mean_square(back - latents),
            "noise_log_mean_square": log_mean_square(noise),
            "first_step_log_mean_square": log_mean_square(first),
            "latent_log_mean_square": log_mean_square(latents),
        })
    return {name: np.concatenate([part[name] for part in out]) for name in out[0]}


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive is larger than a negative, ties counting half."""
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def fit_logistic(features: np.ndarray, labels: np.ndarray, penalty: float = 1e-2) -> np.ndarray:
    """Coefficients [k + 1], intercept last, by Newton steps on standardised features."""
    mean, std = features.mean(0), features.std(0)
    x = np.c_[(features - mean) / std, np.ones(len(features))]
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ w))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty * len(x) * np.eye(len(w))
        w -= np.linalg.solve(hessian, x.T @ (p - labels) + penalty * len(x) * w)
    slopes = w[:-1] / std
    return np.r_[slopes, w[-1] - slopes @ mean]


def pictures_of(generator: Generator, listed: list, count: int, seed: int) -> np.ndarray:
    """Its own pictures as 8-bit pixels."""
    names = sorted({p.name for p in listed if not p.held_out})
    chosen = [str(n) for n in np.random.default_rng(seed).choice(names, count, replace=False)]
    return generator.decode(generator.generate(chosen, [seed + i for i in range(count)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    generator = Generator(args.generator)
    listed = emoji.load(args.packages)
    held_out = emoji.pixels([p for p in listed if p.held_out])
    seen = emoji.pixels([p for p in listed if not p.held_out][:: 9])
    own = statistics(generator, pictures_of(generator, listed, len(held_out), args.seed))
    real, training = statistics(generator, held_out), statistics(generator, seen)
    table = {name: {"auc_against_held_out": round(auc(-own[name], -real[name]), 4),
                    "auc_against_training": round(auc(-own[name], -training[name]), 4),
                    "median_own": round(float(np.median(own[name])), 4),
                    "median_held_out": round(float(np.median(real[name])), 4)} for name in own}
    # Neighbours in code-point order are alike: halves by random draw, the same for both classes.
    half = np.random.default_rng(args.seed).permutation(len(held_out)) < len(held_out) // 2
    def stack(part: dict) -> np.ndarray:
        return np.stack([part[name] for name in CHOSEN], axis=1)
    features = np.concatenate([stack(own)[half], stack(real)[half]])
    weights = fit_logistic(features, np.r_[np.ones(half.sum()), np.zeros(half.sum())])
    def logit(part: dict, rows: slice | np.ndarray) -> np.ndarray:
        return stack(part)[rows] @ weights[:-1] + weights[-1]
    measured = {"auc": round(auc(logit(own, ~half), logit(real, ~half)), 4),
                "auc_against_training_pictures": round(auc(logit(own, ~half), logit(training, slice(None))), 4),
                "true_positive_rate": round(float((logit(own, ~half) > 0).mean()), 4),
                "false_positive_rate": round(float((logit(real, ~half) > 0).mean()), 4),
                "pictures_per_class": int((~half).sum())}
    calibration = {"version": 1, "inversion_steps": STEPS, "timestep_spacing": "trailing", "prompt": "", "guidance_scale": 1.0,
                   "features": list(CHOSEN), "coefficients": [float(w) for w in weights[:-1]], "intercept": float(weights[-1]),
                   "threshold_probability": 0.5, "measured": measured}
    (args.generator / "inversion.json").write_text(json.dumps(calibration, indent=2) + "\n")
    report = {"statistics": table, "calibration": calibration, "command": "python inversion.py " + " ".join(sys.argv[1:]),
              "seed": args.seed, "date": date.today().isoformat()}
    (args.out / "inversion.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
