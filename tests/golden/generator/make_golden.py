"""Golden vectors of the built-in generator, made with diffusers' schedulers and ONNX Runtime.

    python make_golden.py --generator ../../../models/generator --out .

For each scheduler: the starting sample as it enters the loop (already in that scheduler's units), the last
sample before decoding (scaled latents) and the pixels. Run it again whenever the generator's weights change.
"""

import argparse
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from tokenizers import Tokenizer

PROMPTS = ["red heart, noto style", "a green turtle"]
STEPS, GUIDANCE_SCALE, SEED = 8, 3.0, 20
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def text_states(folder: Path, prompts: list[str]) -> np.ndarray:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    encoded = tokenizer.encode_batch(prompts)
    feed = {"input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], np.int64)}
    return session(folder / "text_encoder" / "model.onnx").run(["last_hidden_state"], feed)[0]


def denoise(unet: onnxruntime.InferenceSession, scheduler, sample: np.ndarray, text: np.ndarray) -> np.ndarray:
    """The guided loop as StableDiffusionPipeline has it; `text` holds the empty prompt's states first."""
    latents = torch.from_numpy(sample)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        v = unet.run(None, {"sample": scaled.numpy(), "timestep": np.array(int(t), np.int64), "encoder_hidden_states": text})[0]
        unconditional, conditional = torch.from_numpy(v).chunk(2)
        guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        latents = scheduler.step(guided, t, latents).prev_sample
    return latents.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    folder = args.generator
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    scaling_factor = json.loads((folder / "vae_decoder" / "config.json").read_text())["scaling_factor"]
    unet, decoder = session(folder / "unet" / "model.onnx"), session(folder / "vae_decoder" / "model.onnx")
    text = text_states(folder, ["", "", *PROMPTS])
    noise = np.random.default_rng(SEED).standard_normal((len(PROMPTS), 4, 16, 16)).astype(np.float32)
    np.save(args.out / "text_states.npy", text[len(PROMPTS) :])
    report = {"prompts": PROMPTS, "negative_prompt": "", "steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "seed": SEED,
              "scaling_factor": scaling_factor, "schedulers": {}}
    for name, kind in SCHEDULERS.items():
        scheduler = kind.from_config({k: v for k, v in config.items() if k != "_class_name"})
        scheduler.set_timesteps(STEPS)
        start = (noise * float(scheduler.init_noise_sigma)).astype(np.float32)
        latents = denoise(unet, scheduler, start, text)
        pixels = decoder.run(None, {"latent_sample": (latents / np.float32(scaling_factor)).astype(np.float32)})[0]
        pixels = np.rint(np.clip(pixels * 0.5 + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)
        np.save(args.out / f"{name}_start.npy", start)
        np.save(args.out / f"{name}_latents.npy", latents.astype(np.float32))
        np.save(args.out / f"{name}_pixels.npy", pixels)
        report["schedulers"][name] = {"class": kind.__name__, "init_noise_sigma": float(scheduler.init_noise_sigma),
                                      "timesteps": [int(t) for t in scheduler.timesteps]}
    files = sorted(folder.glob("*/model.onnx"))
    report["weights_sha256"] = {f.parent.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    report["made_with"] = {p: version(p) for p in ("diffusers", "onnxruntime", "tokenizers", "torch", "numpy")} | {"machine": platform.machine()}
    (args.out / "golden.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
