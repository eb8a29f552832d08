"""Writes the golden vectors of the schedulers from the reference implementation (diffusers).

Run with a Python that has diffusers, torch and numpy:

    python tests/golden/schedulers/make_golden.py

Each case is one full loop with the reference's own test set-up: the starting sample
x[b,c,h,w] = (((c*8 + h)*8 + w)*4 + b) / 768 of shape (4,3,8,8), the model
output(x, t) = x * t / (t + 1), ten steps unless the case says otherwise. For every step the file
holds the sum, the sum of magnitudes and SAMPLES evenly spread values of prev_sample and of
pred_original_sample. noise.json holds the first values of the initial noise of some seeds, from an
independent ChaCha20 and Box-Muller in plain Python.
"""

import json
import math
import pathlib
import struct

import diffusers
import numpy
import torch

HERE = pathlib.Path(__file__).parent
SAMPLES = 12

BASE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "ddim-inverse": diffusers.DDIMInverseScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
}
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
DPM_TEST = {
    "lower_order_final": False,
    "final_sigmas_type": "sigma_min",
}

# (file name, scheduler, options beside BASE, steps). The names of the known sums of the reference's
# own tests come first.
CASES = [
    ("ddim", "ddim", {"clip_sample": True}, 10),
    ("ddim_v_prediction", "ddim", {"clip_sample": True, "prediction_type": "v_prediction"}, 10),
    ("ddim_inverse", "ddim-inverse", {"clip_sample": True}, 10),
    ("dpm", "dpm++2m", DPM_TEST, 10),
    ("euler", "euler", {"num_train_timesteps": 1100}, 10),
    ("euler_unscaled", "euler", {}, 10),
    ("ddim_sample", "ddim", {"prediction_type": "sample"}, 10),
    ("ddim_linspace", "ddim", {"timestep_spacing": "linspace", "clip_sample": False}, 10),
    ("ddim_trailing", "ddim", {"timestep_spacing": "trailing", "clip_sample": False}, 7),
    ("ddim_offset_alpha", "ddim", {"steps_offset": 1, "set_alpha_to_one": False}, 10),
    ("ddim_scaled_linear", "ddim", STABLE_DIFFUSION, 13),
    ("ddim_cosine", "ddim", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}, 10),
    ("ddim_clip_range", "ddim", {"clip_sample": True, "clip_sample_range": 0.4}, 10),
    ("ddim_zero_snr", "ddim", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
                               "prediction_type": "v_prediction", "clip_sample": False}, 10),
    ("ddim_trained_betas", "ddim", {"trained_betas": [0.001 * (i + 1) for i in range(40)],
                                    "num_train_timesteps": 40, "clip_sample": False}, 8),
    ("ddim_inverse_v_prediction", "ddim-inverse",
     {"clip_sample": False, "prediction_type": "v_prediction"}, 10),
    ("ddim_inverse_trailing", "ddim-inverse",
     {"clip_sample": False, "timestep_spacing": "trailing"}, 9),
    ("ddim_inverse_scaled_linear", "ddim-inverse", STABLE_DIFFUSION, 10),
    ("euler_v_prediction", "euler", {"prediction_type": "v_prediction"}, 10),
    ("euler_sample", "euler", {"prediction_type": "sample"}, 10),
    ("euler_leading", "euler", {"timestep_spacing": "leading", "steps_offset": 1}, 10),
    ("euler_trailing", "euler", {"timestep_spacing": "trailing"}, 7),
    ("euler_karras", "euler", {"use_karras_sigmas": True}, 10),
    ("euler_sigma_min", "euler", {"final_sigmas_type": "sigma_min"}, 10),
    ("euler_scaled_linear", "euler", STABLE_DIFFUSION, 13),
    ("euler_cosine", "euler", {"beta_schedule": "squaredcos_cap_v2"}, 10),
    ("dpm_defaults", "dpm++2m", {}, 10),
    ("dpm_v_prediction", "dpm++2m", {"prediction_type": "v_prediction"}, 10),
    ("dpm_sample", "dpm++2m", {"prediction_type": "sample"}, 10),
    ("dpm_heun", "dpm++2m", {"solver_type": "heun"}, 10),
    ("dpm_order_1", "dpm++2m", {"solver_order": 1}, 10),
    ("dpm_leading", "dpm++2m", {"timestep_spacing": "leading", "steps_offset": 1}, 10),
    ("dpm_trailing", "dpm++2m", {"timestep_spacing": "trailing"}, 7),
    ("dpm_many_steps", "dpm++2m", {"final_sigmas_type": "sigma_min"}, 20),
    ("dpm_euler_at_final", "dpm++2m",
     {"final_sigmas_type": "sigma_min", "euler_at_final": True}, 20),
    ("dpm_karras", "dpm++2m", {"use_karras_sigmas": True}, 10),
    ("dpm_cosine_clipped", "dpm++2m",
     {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, 10),
    ("dpm_scaled_linear", "dpm++2m", STABLE_DIFFUSION, 16),
]

# Sums of magnitudes or means that the reference's own tests state for the first five cases.
KNOWN = {
    "ddim": ("abs_sum", 172.0067),
    "ddim_v_prediction": ("abs_sum", 52.5302),
    "ddim_inverse": ("abs_sum", 671.6816),
    "dpm": ("abs_mean", 0.3301),
    "euler": ("abs_sum", 10.0807),
}


def starting_sample():
    values = torch.arange(4 * 3 * 8 * 8).reshape(3, 8, 8, 4) / (4 * 3 * 8 * 8)
    return values.permute(3, 0, 1, 2)


def digest_of(tensor):
    flat = tensor.contiguous().flatten().double()
    places = [round(i * (flat.numel() - 1) / (SAMPLES - 1)) for i in range(SAMPLES)]
    return {
        "sum": flat.sum().item(),
        "abs_sum": flat.abs().sum().item(),
        "values": [float(f"{flat[place].item():.9g}") for place in places],
    }


# The reference's own Euler test hands the scaled sample to step() as well; pipelines do not.
STEPS_FROM_SCALED = {"euler"}


def run(scheduler_name, options, steps, from_scaled):
    scheduler = CLASSES[scheduler_name].from_config({**BASE, **options})
    scheduler.set_timesteps(steps)
    scale = float(scheduler.init_noise_sigma)
    sample = starting_sample() * scale
    recorded = []
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(sample, t)
        output = scheduler.step(model_input * t / (t + 1), t, model_input if from_scaled else sample)
        sample = output.prev_sample
        step = {"prev_sample": digest_of(sample)}
        if "pred_original_sample" in output:
            step["pred_original_sample"] = digest_of(output.pred_original_sample)
        recorded.append(step)
    sigmas = getattr(scheduler, "sigmas", None)
    return sample, {
        "scheduler": scheduler_name,
        "config": {**BASE, **options},
        "num_inference_steps": steps,
        "steps_from_scaled": from_scaled,
        "init_noise_sigma": scale,
        "timesteps": [float(t) for t in scheduler.timesteps],
        "sigmas": [] if sigmas is None else [float(s) for s in sigmas],
        "steps": recorded,
    }


def chacha20_words(key, count):
    """64-bit little-endian words of the ChaCha20 key stream with a zero nonce (RFC 8439)."""

    def rotate(value, bits):
        return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF

    def quarter(state, a, b, c, d):
        state[a] = (state[a] + state[b]) & 0xFFFFFFFF
        state[d] = rotate(state[d] ^ state[a], 16)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotate(state[b] ^ state[c], 12)
        state[a] = (state[a] + state[b]) & 0xFFFFFFFF
        state[d] = rotate(state[d] ^ state[a], 8)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotate(state[b] ^ state[c], 7)

    stream = b""
    block = 0
    while len(stream) < count * 8:
        start = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key))
        start += [block, 0, 0, 0]
        state = list(start)
        for _ in range(10):
            for a, b, c, d in [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                               (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]:
                quarter(state, a, b, c, d)
        stream += struct.pack("<16I", *((x + y) & 0xFFFFFFFF for x, y in zip(state, start)))
        block += 1
    return struct.unpack(f"<{count}Q", stream[: count * 8])


def initial_noise(seed, count):
    key = struct.pack("<Q", seed) + b"retrace/initial-noise/v1"
    words = chacha20_words(key, count + count % 2)
    values = []
    for u, v in zip(words[0::2], words[1::2]):
        radius = math.sqrt(-2.0 * math.log(((u >> 11) + 1) / 2**53))
        angle = 2.0 * math.pi * ((v >> 11) / 2**53)
        values += [radius * math.cos(angle), radius * math.sin(angle)]
    return values[:count]


def write(name, value):
    (HERE / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


def main():
    for name, scheduler_name, options, steps in CASES:
        sample, recorded = run(scheduler_name, options, steps, name in STEPS_FROM_SCALED)
        if name in KNOWN:
            kind, expected = KNOWN[name]
            magnitude = sample.abs().sum() if kind == "abs_sum" else sample.abs().mean()
            assert abs(magnitude.item() - expected) < 1e-2, (name, magnitude.item(), expected)
            recorded["known"] = {kind: expected}
        write(name, recorded)
    seeds = [0, 1, 42, 2**64 - 1]
    write("noise", [{"seed": str(s), "values": initial_noise(s, 48)} for s in seeds])
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__,
                "numpy": numpy.__version__}
    (HERE / "VERSIONS.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
