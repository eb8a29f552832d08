"""Golden vectors of the built-in generator, made with diffusers' schedulers and ONNX Runtime.

    python make_golden.py --generator ../../../models/generator --out .

For each scheduler, and for the model's own settings (`generation_config.json`): the starting sample as it enters the loop (already in that scheduler's units), the last
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
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, LMSDiscreteScheduler
from tokenizers import Tokenizer

PROMPTS = ["red heart, noto style", "a green turtle"]
STEPS, GUIDANCE_SCALE, SEED = 8, 3.0, 20
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
OWN = {"ddim": DDIMScheduler, "lms": LMSDiscreteScheduler}


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


def own_scheduler(settings: dict, config: dict):
    """The scheduler of `generation_config.json` at its timesteps, each with its own sigma."""
    scheduler = OWN[settings["scheduler"]].from_config({k: v for k, v in config.items() if k != "_class_name"})
    scheduler.set_timesteps(settings["num_inference_steps"])
    if "timesteps" in settings:
        sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
        scheduler.sigmas = torch.cat([sigmas[settings["timesteps"]], torch.zeros(1)])
        scheduler.timesteps = torch.tensor(settings["timesteps"], dtype=torch.float32)
    return scheduler


def denoise(unet: onnxruntime.InferenceSession, scheduler, sample: np.ndarray, text: np.ndarray, settings: dict) -> np.ndarray:
    """The guided loop as StableDiffusionPipeline has it; `text` holds the empty prompt's states first. Outside the
    guidance interval the prompt's rows are computed alone; reused evaluations take the output before."""
    latents = torch.from_numpy(sample)
    (start, stop), count, output = settings.get("guidance_interval", (0.0, 1.0)), len(scheduler.timesteps), None
    for index, t in enumerate(scheduler.timesteps):
        is_guided = start <= index / count < stop
        scaled = scheduler.scale_model_input(torch.cat([latents, latents]) if is_guided else latents, t)
        if index not in settings.get("reuse", ()):
            v = unet.run(None, {"sample": scaled.numpy(), "timestep": np.array(int(t), np.int64),
                                "encoder_hidden_states": text if is_guided else text[len(latents) :]})[0]
            output = torch.from_numpy(v)
            if is_guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + settings["guidance_scale"] * (conditional - unconditional)
        latents = scheduler.step(output, t, latents).prev_sample
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
    own = json.loads((folder / "generation_config.json").read_text())
    for name in [*SCHEDULERS, "own"]:
        if name == "own":
            scheduler, settings = own_scheduler(own, config), own
        else:
            settings = {"guidance_scale": GUIDANCE_SCALE}
            scheduler = SCHEDULERS[name].from_config({k: v for k, v in config.items() if k != "_class_name"})
            scheduler.set_timesteps(STEPS)
        start = (noise * float(scheduler.init_noise_sigma)).astype(np.float32)
        latents = denoise(unet, scheduler, start, text, settings)
        pixels = decoder.run(None, {"latent_sample": (latents / np.float32(scaling_factor)).astype(np.float32)})[0]
        pixels = np.rint(np.clip(pixels * 0.5 + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)
        np.save(args.out / f"{name}_start.npy", start)
        np.save(args.out / f"{name}_latents.npy", latents.astype(np.float32))
        np.save(args.out / f"{name}_pixels.npy", pixels)
        report["schedulers"][name] = {"class": type(scheduler).__name__, "init_noise_sigma": float(scheduler.init_noise_sigma),
                                      "timesteps": [int(t) for t in scheduler.timesteps]}
    files = sorted(folder.glob("*/model.onnx"))
    report["weights_sha256"] = {f.parent.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    report["made_with"] = {p: version(p) for p in ("diffusers", "onnxruntime", "tokenizers", "torch", "numpy")} | {"machine": platform.machine()}
    (args.out / "golden.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
