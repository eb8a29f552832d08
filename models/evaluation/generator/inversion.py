"""Was a picture made by this generator? Which statistic of its inversion tells, and how well.

    python inversion.py --packages ../../training --generator ../../generator --out .

Positives are the generator's own pictures (random training names, the folder's own settings, stored as 8-bit
pixels); negatives are the real pictures of the held-out tenth. Half of each fits the logistic calibration, the
other half measures it. Writes inversion.json here and the calibration, for the service, as
inversion.json in the generator's folder.

The statistic that is used is `refinement_gain`: how much better the decoder explains the pixels after a few
corrections of the latents. With x the pixels in [-1, 1], E the encoder's posterior mean and D the decoder
clipped to [-1, 1]: z_0 = E(x), z_(k+1) = z_k + E(x) - E(D(z_k)), m_k = mean over all values of (D(z_k) - x)^2,
gain = ln(m_4 + 1e-8) - ln(m_0 + 1e-8). A picture that the decoder made is in its range, so that the corrections
find it; a real picture is not. The scaling factor plays no part.
"""

import argparse
import io
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training" / "generator"))
import emoji
from pipeline import Generator

HERE = Path(__file__).resolve().parent
# Written into the report without the folders of the machine that it ran on.
COMMAND = "python inversion.py --packages ../../training --generator ../../generator"
STEPS = 10
REFINEMENTS = 4
# The logistic calibration's features, chosen by the table that this script prints.
CHOSEN = ("refinement_gain",)
JPEG_QUALITIES = (95, 85, 75)


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


def clipped_decode(generator: Generator, latents: np.ndarray) -> np.ndarray:
    decoded = generator.vae_decoder.run(None, {"latent_sample": (latents / generator.scaling_factor).astype(np.float32)})[0]
    return np.clip(decoded, -1.0, 1.0)


def refinement(generator: Generator, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The autoencoder's statistics for pixels [n, 3, 64, 64] as uint8."""
    out = []
    for part in np.split(pixels, range(32, len(pixels), 32)):
        sample = part / 127.5 - 1.0
        encoded = generator.encode(sample)
        latents, decoded = encoded, clipped_decode(generator, encoded)
        first, cycle = log_mean_square(decoded - sample), log_mean_square(generator.encode(decoded) - encoded)
        for _ in range(REFINEMENTS):
            latents = latents + encoded - generator.encode(decoded)
            decoded = clipped_decode(generator, latents)
        last = log_mean_square(decoded - sample)
        out.append({"refinement_gain": last - first, "reconstruction_log_mse": first,
                    "refined_reconstruction_log_mse": last, "cycle_log_mse": cycle})
    return {name: np.concatenate([part[name] for part in out]) for name in out[0]}


def diffusion(generator: Generator, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The U-Net's statistics for pixels [n, 3, 64, 64] as uint8."""
    empty, out = generator.encode_text([""]), []
    for part in np.split(pixels, range(32, len(pixels), 32)):
        latents = generator.encode(part / 127.5 - 1.0)
        noise = invert(generator, latents, empty)
        back = denoise(generator, noise, empty)
        first = generator.v(latents, 99, np.broadcast_to(empty, (len(latents), *empty.shape[1:])))
        out.append({
            "inversion_log_mse": log_mean_square(back - latents),
            "noise_log_mean_square": log_mean_square(noise),
            "first_step_log_mean_square": log_mean_square(first),
        })
    return {name: np.concatenate([part[name] for part in out]) for name in out[0]}


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """The same pictures after one JPEG compression."""
    out = np.empty_like(pixels)
    for i, picture in enumerate(pixels):
        stream = io.BytesIO()
        Image.fromarray(picture.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
        out[i] = np.asarray(Image.open(stream)).transpose(2, 0, 1)
    return out


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


def table(own: dict, real: dict) -> dict:
    """Each statistic by itself; an AUC under a half means that it separates the other way round."""
    return {name: {"auc": round(auc(-own[name], -real[name]), 4), "median_own": round(float(np.median(own[name])), 4),
                   "median_held_out": round(float(np.median(real[name])), 4)} for name in own}


class Calibration:
    """A logistic regression on the chosen statistics."""

    def __init__(self, own: dict, real: dict):
        features = np.concatenate([self.stack(own), self.stack(real)])
        labels = np.r_[np.ones(len(features) // 2), np.zeros(len(features) // 2)]
        self.weights = fit_logistic(features, labels)

    @staticmethod
    def stack(statistics: dict) -> np.ndarray:
        return np.stack([statistics[name] for name in CHOSEN], axis=1)

    def logit(self, statistics: dict) -> np.ndarray:
        return self.stack(statistics) @ self.weights[:-1] + self.weights[-1]

    def measure(self, own: dict, real: dict) -> dict:
        positive, negative = self.logit(own), self.logit(real)
        return {"auc": round(auc(positive, negative), 4), "true_positive_rate": round(float((positive > 0).mean()), 4),
                "false_positive_rate": round(float((negative > 0).mean()), 4), "pictures": [len(positive), len(negative)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--pictures", type=int, help="fewer per class than the whole held-out tenth")
    args = parser.parse_args()
    generator = Generator(args.generator)
    listed = emoji.load(args.packages)
    order = np.random.default_rng(args.seed).permutation(sum(p.held_out for p in listed))[: args.pictures]
    real = emoji.pixels([p for p in listed if p.held_out])[order]
    seen = emoji.pixels([p for p in listed if not p.held_out][::9])
    own = pictures_of(generator, listed, len(real), args.seed)
    half = len(real) // 2
    calibration = Calibration(refinement(generator, own[:half]), refinement(generator, real[:half]))
    own_test, real_test = own[half:], real[half:]
    own_refined, real_refined = refinement(generator, own_test), refinement(generator, real_test)
    measured = {"held_out": calibration.measure(own_refined, real_refined),
                "training_pictures": calibration.measure(own_refined, refinement(generator, seen)),
                # The statistic knows the decoder, not the reverse process: real pictures that went through
                # the autoencoder once count as made by it.
                "held_out_through_the_autoencoder": calibration.measure(
                    own_refined, refinement(generator, generator.decode(generator.encode(real_test / 127.5 - 1.0))))}
    for quality in JPEG_QUALITIES:
        measured[f"held_out_both_jpeg_{quality}"] = calibration.measure(
            refinement(generator, jpeg(own_test, quality)), refinement(generator, jpeg(real_test, quality)))
    written = {"version": 1, "statistics": list(CHOSEN), "refinements": REFINEMENTS, "sample_size": 64,
               "coefficients": [float(w) for w in calibration.weights[:-1]], "intercept": float(calibration.weights[-1]),
               "threshold_probability": 0.5, "measured": measured}
    (args.generator / "inversion.json").write_text(json.dumps(written, indent=2) + "\n")
    single = table(own_refined | diffusion(generator, own_test), real_refined | diffusion(generator, real_test))
    report = {"statistics": single, "calibration": written, "command": COMMAND,
              "ddim_inversion_steps": STEPS, "seed": args.seed, "date": date.today().isoformat()}
    (args.out / "inversion.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
