"""The exported generator with ONNX Runtime and NumPy alone: no PyTorch, no diffusers.

A second, independent reading of the folder: the service's own pipeline is tested against diffusers, and
the figures of the gate come from here.
"""

import json
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

    def ddim(self, noise: np.ndarray, text: np.ndarray, empty: np.ndarray, steps: int, guidance_scale: float) -> np.ndarray:
        """DDIM with eta 0 (Song et al. 2021, equation 12), guided; scaled latents."""
        latents, times = noise, self.timesteps(steps)
        for i, t in enumerate(times):
            both = self.v(np.concatenate([latents, latents]), t, np.concatenate([np.broadcast_to(empty, text.shape), text]))
            unconditional, conditional = np.split(both, 2)
            v = unconditional + guidance_scale * (conditional - unconditional)
            alpha = self.alphas_cumprod[t]
            previous = self.alphas_cumprod[times[i + 1]] if i + 1 < steps else 1.0
            clean = np.sqrt(alpha) * latents - np.sqrt(1 - alpha) * v
            eps = np.sqrt(alpha) * v + np.sqrt(1 - alpha) * latents
            latents = np.sqrt(previous) * clean + np.sqrt(1 - previous) * eps
        return latents

    def generate(self, prompts: list[str], seeds: list[int], steps: int = 20, guidance_scale: float = 3.0) -> np.ndarray:
        """Scaled latents [n, 4, 16, 16], one seed per prompt."""
        empty, out = self.encode_text([""]), []
        for start in range(0, len(prompts), 16):
            text = self.encode_text(prompts[start : start + 16])
            noise = np.stack([np.random.default_rng(s).standard_normal((4, 16, 16)) for s in seeds[start : start + 16]])
            out.append(self.ddim(noise, text, empty, steps, guidance_scale))
        return np.concatenate(out).astype(np.float32)
