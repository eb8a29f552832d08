"""The exported generator with ONNX Runtime and NumPy alone: no PyTorch, no diffusers.

A second, independent reading of the folder: the service's own pipeline is tested against diffusers, and
the figures of the gate come from here.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session that does not spin while it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Settings:
    """How to sample. DDIM with eta 0, or linear multistep of order 4 in the sigma parametrisation.

    Evaluation i of n is guided where `guidance_interval[0] <= i / n < guidance_interval[1]`; the evaluations
    listed in `reuse` take the output of the one before."""

    scheduler: str = "ddim"
    num_inference_steps: int = 20
    guidance_scale: float = 3.0
    timesteps: tuple[int, ...] | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    reuse: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """What the service does for a request that names nothing: `generation_config.json`."""
        found = json.loads((folder / "generation_config.json").read_text())
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()})

    def as_dict(self) -> dict:
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


def multistep_weights(sigmas: np.ndarray, index: int, order: int) -> np.ndarray:
    """Integrals over the step from `index` of the Lagrange polynomials through the last `order` sigmas,
    the newest first."""
    nodes, out = sigmas[index - order + 1 : index + 1][::-1], []
    for age in range(order):
        others = np.delete(nodes, age)
        antiderivative = (np.polynomial.Polynomial.fromroots(others) if order > 1 else np.polynomial.Polynomial([1.0])).integ()
        whole = antiderivative(sigmas[index + 1]) - antiderivative(sigmas[index])
        out.append(whole / np.prod(nodes[age] - others))
    return np.array(out)


class Generator:
    """One exported folder."""

    def __init__(self, folder: Path, threads: int = 1):
        self.text_encoder = session(folder / "text_encoder" / "model.onnx", threads)
        self.unet = session(folder / "unet" / "model.onnx", threads)
        self.vae_encoder = session(folder / "vae_encoder" / "model.onnx", threads)
        self.vae_decoder = session(folder / "vae_decoder" / "model.onnx", threads)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
        self.scaling_factor = json.loads((folder / "vae_decoder" / "config.json").read_text())["scaling_factor"]
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        start, end = scheduler["beta_start"] ** 0.5, scheduler["beta_end"] ** 0.5
        betas = np.linspace(start, end, scheduler["num_train_timesteps"]) ** 2
        self.alphas_cumprod = np.cumprod(1.0 - betas)
        self.settings = Settings.read(folder)

    def encode_text(self, prompts: list[str]) -> np.ndarray:
        """Token states [n, 24, 384]."""
        encoded = self.tokenizer.encode_batch(prompts)
        feed = {"input_ids": np.array([e.ids for e in encoded], np.int64),
                "attention_mask": np.array([e.attention_mask for e in encoded], np.int64)}
        return self.text_encoder.run(["last_hidden_state"], feed)[0]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Scaled posterior means [n, 4, 16, 16] of pixels [n, 3, 64, 64] in [-1, 1]."""
        parts = [self.vae_encoder.run(None, {"sample": pixels[i : i + 32].astype(np.float32)})[0][:, :4]
                 for i in range(0, len(pixels), 32)]
        return np.concatenate(parts) * self.scaling_factor

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Pixels [n, 3, 64, 64] as uint8 of scaled latents."""
        parts = [self.vae_decoder.run(None, {"latent_sample": (latents[i : i + 32] / self.scaling_factor).astype(np.float32)})[0]
                 for i in range(0, len(latents), 32)]
        return np.rint(np.clip(np.concatenate(parts) * 0.5 + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)

    def v(self, latents: np.ndarray, timestep: int, text: np.ndarray) -> np.ndarray:
        """The U-Net's prediction."""
        return self.unet.run(None, {"sample": latents.astype(np.float32), "timestep": np.array(timestep, np.int64),
                                    "encoder_hidden_states": text})[0]

    def timesteps(self, steps: int) -> np.ndarray:
        """Trailing spacing, from noise to picture."""
        return np.rint(np.arange(1000, 0, -1000 / steps)).astype(np.int64) - 1

    def guided(self, latents: np.ndarray, timestep: int, text: np.ndarray, empty: np.ndarray, guidance_scale: float) -> np.ndarray:
        both = self.v(np.concatenate([latents, latents]), timestep, np.concatenate([np.broadcast_to(empty, text.shape), text]))
        unconditional, conditional = np.split(both, 2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def ddim(self, noise: np.ndarray, times: np.ndarray, predict) -> np.ndarray:
        """DDIM with eta 0 (Song et al. 2021, equation 12); `predict(index, latents)` gives v."""
        latents = noise
        for i, t in enumerate(times):
            v = predict(i, latents)
            alpha = self.alphas_cumprod[t]
            previous = self.alphas_cumprod[times[i + 1]] if i + 1 < len(times) else 1.0
            clean = np.sqrt(alpha) * latents - np.sqrt(1 - alpha) * v
            eps = np.sqrt(alpha) * v + np.sqrt(1 - alpha) * latents
            latents = np.sqrt(previous) * clean + np.sqrt(1 - previous) * eps
        return latents

    def lms(self, noise: np.ndarray, times: np.ndarray, predict) -> np.ndarray:
        """Linear multistep of Adams and Bashforth on dx/dsigma = (x - D(x)) / sigma (Karras et al. 2022,
        equation 4), for samples x0 + sigma * noise."""
        alphas = self.alphas_cumprod[times]
        sigmas = np.append(np.sqrt((1 - alphas) / alphas), 0.0)
        sample, derivatives = noise * sigmas[0], []
        for i, sigma in enumerate(sigmas[:-1]):
            scale = np.sqrt(sigma**2 + 1)
            clean = sample / scale**2 - sigma / scale * predict(i, sample / scale)
            derivatives = [(sample - clean) / sigma, *derivatives][:4]
            sample = sample + np.tensordot(multistep_weights(sigmas, i, len(derivatives)), np.stack(derivatives), 1)
        return sample

    def sample(self, noise: np.ndarray, text: np.ndarray, empty: np.ndarray, settings: Settings) -> np.ndarray:
        """Scaled latents [n, 4, 16, 16] from standard normal noise."""
        times = self.timesteps(settings.num_inference_steps) if settings.timesteps is None else np.array(settings.timesteps)
        start, stop = settings.guidance_interval
        output = None

        def predict(index: int, latents: np.ndarray) -> np.ndarray:
            nonlocal output
            if index in settings.reuse:
                return output
            if start <= index / len(times) < stop:
                output = self.guided(latents, times[index], text, empty, settings.guidance_scale)
            else:
                output = self.v(latents, times[index], text)
            return output

        return {"ddim": self.ddim, "lms": self.lms}[settings.scheduler](noise, times, predict)

    def generate(self, prompts: list[str], seeds: list[int], settings: Settings | None = None) -> np.ndarray:
        """Scaled latents [n, 4, 16, 16], one seed per prompt; the folder's own settings unless told."""
        empty, out = self.encode_text([""]), []
        for start in range(0, len(prompts), 16):
            text = self.encode_text(prompts[start : start + 16])
            noise = np.stack([np.random.default_rng(s).standard_normal((4, 16, 16)) for s in seeds[start : start + 16]])
            out.append(self.sample(noise, text, empty, settings or self.settings))
        return np.concatenate(out).astype(np.float32)
