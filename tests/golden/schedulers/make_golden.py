"""Writes the golden vectors of the schedulers from the reference implementation (diffusers).

Run with a Python that has diffusers, torch, scipy and numpy:

    python tests/golden/schedulers/make_golden.py

Each case is one full loop with the reference's own test set-up: the starting sample
x[b,c,h,w] = (((c*8 + h)*8 + w)*4 + b) / 768 of shape (4,3,8,8), the model
output(x, t) = x * t / (t + 1), ten steps unless the case says otherwise. For every step the file
holds the sum, the sum of magnitudes and SAMPLES evenly spread values of prev_sample and of
pred_original_sample. noise.json holds the first values of the initial noise of some seeds, from an
independent ChaCha20 and Box-Muller in plain Python.

Random schedulers get the same noise here and in the test that reads the vectors: draw number k is
sqrt(3) * (2 * ((7919 i + 104729 k) mod 2003) / 2002 - 1) at flat index i, which has mean zero and
variance one. For DPM-Solver SDE the draws are the increments of the Brownian path over the halves
of each step, divided by the square root of their length.
"""

import json
import math
import pathlib
import struct
import sys
import types

import diffusers
import numpy
import torch

# The Brownian tree is replaced by given increments, so its package is not needed.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
from diffusers.schedulers import scheduling_dpmsolver_sde  # noqa: E402
from diffusers.schedulers import (  # noqa: E402
    scheduling_dpmsolver_multistep,
    scheduling_dpmsolver_singlestep,
)

HERE = pathlib.Path(__file__).parent
SAMPLES = 8

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
    "dpm++2s": diffusers.DPMSolverSinglestepScheduler,
    "dpm++sde": scheduling_dpmsolver_sde.DPMSolverSDEScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "deis": diffusers.DEISMultistepScheduler,
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

SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
THRESHOLDING = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
            "prediction_type": "v_prediction"}
LEARNED = {"variance_type": "learned_range"}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}

# (file name, scheduler, options beside BASE, steps or list of timesteps, arguments beside the
# configuration: eta, first step, double). In cases that are marked as double the reference loses
# more than the test's tolerance in 32 bits, by cancellation; its steps run in 64 bits there, on
# samples, model outputs and sigmas that are rounded to 32 bits as ever. The names of the known sums of the reference's
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
    # DDIM.
    ("ddim_eta", "ddim", {"clip_sample": False}, 10, {"eta": 1.0}),
    ("ddim_eta_half_v", "ddim",
     {"clip_sample": True, "prediction_type": "v_prediction"}, 8, {"eta": 0.5}),
    ("ddim_thresholding", "ddim", THRESHOLDING, 10),
    ("ddim_thresholding_v", "ddim", {**THRESHOLDING, "prediction_type": "v_prediction"}, 6),
    ("ddim_from_middle", "ddim", {"clip_sample": False}, 10, {"first": 4}),
    ("ddim_inverse_older_name", "ddim-inverse",
     {"clip_sample": False, "set_alpha_to_zero": False}, 6),
    ("ddim_inverse_cosine", "ddim-inverse", {**COSINE, "clip_sample": False}, 5),
    # DPM-Solver multistep.
    ("dpm3", "dpm++2m", {"solver_order": 3}, 10),
    ("dpm3_sigma_min_many", "dpm++2m", {"solver_order": 3, **SIGMA_MIN}, 16),
    ("dpm3_full_order", "dpm++2m", {"solver_order": 3, **DPM_TEST}, 10),
    ("dpm_thresholding", "dpm++2m", THRESHOLDING, 10),
    ("dpm_exponential", "dpm++2m", {"use_exponential_sigmas": True}, 10),
    ("dpm_beta", "dpm++2m", {"use_beta_sigmas": True}, 10),
    ("dpm_lu", "dpm++2m", {"use_lu_lambdas": True}, 10),
    ("dpm_lu_cosine", "dpm++2m", {**COSINE, "use_lu_lambdas": True}, 8),
    ("dpm_karras_cosine", "dpm++2m", {**COSINE, "use_karras_sigmas": True}, 8),
    ("dpm_karras_limits", "dpm++2m",
     {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 20.0, **SIGMA_MIN}, 8),
    ("dpm_flow", "dpm++2m", FLOW, 10),
    ("dpm_zero_snr", "dpm++2m", ZERO_SNR, 10),
    ("dpm_cosine_4", "dpm++2m", COSINE, 4),
    ("dpm_learned", "dpm++2m", LEARNED, 6),
    ("dpm_list", "dpm++2m", {}, [987, 800, 601, 350, 120, 7]),
    ("dpm_from_middle", "dpm++2m", {}, 10, {"first": 4}),
    ("dpm_noise", "dpm++2m", {"algorithm_type": "dpmsolver", **SIGMA_MIN}, 10),
    ("dpm_noise_heun", "dpm++2m",
     {"algorithm_type": "dpmsolver", "solver_type": "heun", **SIGMA_MIN}, 10),
    ("dpm_noise_3", "dpm++2m",
     {"algorithm_type": "dpmsolver", "solver_order": 3, **SIGMA_MIN}, 10),
    ("dpm_noise_v", "dpm++2m",
     {"algorithm_type": "dpmsolver", "prediction_type": "v_prediction", **SIGMA_MIN}, 6),
    ("dpm_noise_sample", "dpm++2m",
     {"algorithm_type": "dpmsolver", "prediction_type": "sample", **SIGMA_MIN}, 6),
    ("dpm_noise_thresholding", "dpm++2m",
     {"algorithm_type": "dpmsolver", **THRESHOLDING, **SIGMA_MIN}, 6),
    ("dpm_sde", "dpm++2m", {"algorithm_type": "sde-dpmsolver++"}, 10),
    ("dpm_sde_heun", "dpm++2m", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}, 10),
    ("dpm_sde_3", "dpm++2m", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, 10),
    ("dpm_sde_karras", "dpm++2m",
     {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}, 10),
    ("dpm_sde_noise", "dpm++2m", {"algorithm_type": "sde-dpmsolver", **SIGMA_MIN}, 10),
    ("dpm_sde_noise_heun", "dpm++2m",
     {"algorithm_type": "sde-dpmsolver", "solver_type": "heun", **SIGMA_MIN}, 10),
    ("dpm_of_unipc", "dpm++2m", {"solver_type": "bh2", "predict_x0": True}, 5),
    ("dpm_of_deis", "dpm++2m",
     {"algorithm_type": "deis", "solver_type": "logrho", **SIGMA_MIN}, 5),
    # DPM-Solver singlestep.
    ("single", "dpm++2s", {}, 10),
    ("single_test", "dpm++2s", SIGMA_MIN, 10),
    ("single_heun", "dpm++2s", {"solver_type": "heun"}, 10),
    ("single_1", "dpm++2s", {"solver_order": 1}, 6),
    ("single_3", "dpm++2s", {"solver_order": 3, **SIGMA_MIN}, 9),
    ("single_3_heun", "dpm++2s", {"solver_order": 3, "solver_type": "heun", **SIGMA_MIN}, 9),
    ("single_3_lowered", "dpm++2s", {"solver_order": 3, "lower_order_final": True}, 9),
    ("single_3_uneven", "dpm++2s", {"solver_order": 3, **SIGMA_MIN}, 8),
    ("single_noise", "dpm++2s", {"algorithm_type": "dpmsolver", **SIGMA_MIN}, 10),
    ("single_noise_3", "dpm++2s",
     {"algorithm_type": "dpmsolver", "solver_order": 3, **SIGMA_MIN}, 9),
    ("single_noise_3_heun", "dpm++2s",
     {"algorithm_type": "dpmsolver", "solver_order": 3, "solver_type": "heun", **SIGMA_MIN}, 9),
    ("single_sde", "dpm++2s", {"algorithm_type": "sde-dpmsolver++"}, 10),
    ("single_sde_3", "dpm++2s",
     {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, **SIGMA_MIN}, 9),
    ("single_sde_3_heun", "dpm++2s",
     {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "heun",
      **SIGMA_MIN}, 9),
    ("single_karras", "dpm++2s", {"use_karras_sigmas": True}, 10),
    ("single_exponential", "dpm++2s", {"use_exponential_sigmas": True}, 10),
    ("single_beta", "dpm++2s", {"use_beta_sigmas": True}, 10),
    ("single_flow", "dpm++2s", FLOW, 10),
    ("single_v_prediction", "dpm++2s", {"prediction_type": "v_prediction"}, 10),
    ("single_sample", "dpm++2s", {"prediction_type": "sample"}, 10),
    ("single_thresholding", "dpm++2s", THRESHOLDING, 10),
    ("single_learned", "dpm++2s", LEARNED, 6),
    ("single_ignores_zero_snr", "dpm++2s", ZERO_SNR, 6),
    ("single_cosine_clipped", "dpm++2s", {**COSINE, "lambda_min_clipped": -5.1}, 10),
    ("single_list", "dpm++2s", {}, [987, 800, 601, 350, 120, 7]),
    ("single_from_middle", "dpm++2s", {"solver_order": 3, **SIGMA_MIN}, 9, {"first": 4}),
    # DPM-Solver SDE.
    ("sde", "dpm++sde", {}, 10),
    ("sde_v_prediction", "dpm++sde", {"prediction_type": "v_prediction"}, 10),
    ("sde_karras", "dpm++sde", {"use_karras_sigmas": True, "sigma_min": 0.3}, 10),
    ("sde_exponential", "dpm++sde", {"use_exponential_sigmas": True}, 8),
    ("sde_beta", "dpm++sde", {"use_beta_sigmas": True, "sigma_min": 0.03}, 8),
    ("sde_leading", "dpm++sde", LEADING, 6),
    ("sde_trailing", "dpm++sde", TRAILING, 6),
    ("sde_stable_diffusion", "dpm++sde", STABLE_DIFFUSION, 6),
    # UniPC.
    ("unipc", "unipc", {}, 10),
    ("unipc_test", "unipc", SIGMA_MIN, 10),
    ("unipc_1", "unipc", {"solver_order": 1}, 6),
    ("unipc_3", "unipc", {"solver_order": 3}, 10),
    ("unipc_3_bh1", "unipc", {"solver_order": 3, "solver_type": "bh1", **SIGMA_MIN}, 10),
    ("unipc_4", "unipc", {"solver_order": 4}, 10),
    ("unipc_bh1", "unipc", {"solver_type": "bh1", **SIGMA_MIN}, 10),
    ("unipc_full_order", "unipc", {"lower_order_final": False, **SIGMA_MIN}, 10),
    ("unipc_without_corrector", "unipc", {"disable_corrector": [0, 1, 4]}, 8),
    ("unipc_noise", "unipc", {"predict_x0": False, **SIGMA_MIN}, 10),
    ("unipc_noise_3", "unipc", {"predict_x0": False, "solver_order": 3, **SIGMA_MIN}, 10),
    ("unipc_noise_v", "unipc",
     {"predict_x0": False, "prediction_type": "v_prediction", **SIGMA_MIN}, 12),
    ("unipc_noise_sample", "unipc",
     {"predict_x0": False, "prediction_type": "sample", **SIGMA_MIN}, 6),
    ("unipc_v_prediction", "unipc", {"prediction_type": "v_prediction"}, 10),
    ("unipc_sample", "unipc", {"prediction_type": "sample"}, 10),
    ("unipc_thresholding", "unipc", THRESHOLDING, 10),
    ("unipc_karras", "unipc", {"use_karras_sigmas": True}, 10),
    ("unipc_karras_sigma_min", "unipc", {"use_karras_sigmas": True, **SIGMA_MIN}, 8),
    ("unipc_exponential", "unipc", {"use_exponential_sigmas": True}, 10),
    ("unipc_beta", "unipc", {"use_beta_sigmas": True}, 10),
    ("unipc_flow", "unipc", FLOW, 10),
    ("unipc_flow_terminal", "unipc", {**FLOW, "shift_terminal": 0.02}, 6),
    ("unipc_flow_karras", "unipc",
     {"use_flow_sigmas": True, "use_karras_sigmas": True, "sigma_max": 200.0, "sigma_min": 0.01,
      "prediction_type": "flow_prediction"}, 6),
    ("unipc_leading", "unipc", LEADING, 7),
    ("unipc_trailing", "unipc", TRAILING, 7),
    ("unipc_zero_snr", "unipc", ZERO_SNR, 10),
    ("unipc_cosine_4", "unipc", COSINE, 4),
    ("unipc_of_dpm", "unipc", {"solver_type": "midpoint", "lambda_min_clipped": -5.1}, 5),
    ("unipc_stable_diffusion", "unipc", STABLE_DIFFUSION, 12),
    ("unipc_from_middle", "unipc", {}, 10, {"first": 4}),
    # DEIS.
    ("deis", "deis", {}, 10),
    ("deis_1", "deis", {"solver_order": 1}, 6),
    ("deis_3", "deis", {"solver_order": 3}, 10),
    ("deis_3_many", "deis", {"solver_order": 3}, 16),
    ("deis_full_order", "deis", {"solver_order": 3, "lower_order_final": False}, 10),
    ("deis_v_prediction", "deis", {"prediction_type": "v_prediction"}, 10),
    ("deis_sample", "deis", {"prediction_type": "sample"}, 10),
    ("deis_thresholding", "deis", THRESHOLDING, 10),
    ("deis_karras", "deis", {"use_karras_sigmas": True}, 10),
    ("deis_exponential", "deis", {"use_exponential_sigmas": True}, 10),
    ("deis_beta", "deis", {"use_beta_sigmas": True}, 10),
    ("deis_flow", "deis", FLOW, 10),
    ("deis_leading", "deis", LEADING, 7),
    ("deis_trailing", "deis", TRAILING, 7),
    ("deis_cosine_4", "deis", COSINE, 4, {"double": True}),
    ("deis_ignores_zero_snr", "deis", ZERO_SNR, 6),
    ("deis_of_dpm", "deis", {"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}, 5),
    ("deis_from_middle", "deis", {"solver_order": 3}, 10, {"first": 4}),
]

# Sums of magnitudes or means that the reference's own tests state.
KNOWN = {
    "ddim": ("abs_sum", 172.0067),
    "ddim_v_prediction": ("abs_sum", 52.5302),
    "ddim_inverse": ("abs_sum", 671.6816),
    "dpm": ("abs_mean", 0.3301),
    "euler": ("abs_sum", 10.0807),
    "unipc_test": ("abs_mean", 0.2464),
    "deis": ("abs_mean", 0.23916),
    "single_test": ("abs_mean", 0.2791),
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
        "values": [float(f"{flat[place].item():.7g}") for place in places],
    }


# The reference's own Euler test hands the scaled sample to step() as well; pipelines do not.
STEPS_FROM_SCALED = {"euler"}


class Noise:
    """Given noise, one array per draw."""

    def __init__(self):
        self.draws = 0

    def __call__(self, shape, **_):
        count = math.prod(shape)
        residues = (torch.arange(count, dtype=torch.int64) * 7919 + self.draws * 104729) % 2003
        self.draws += 1
        values = math.sqrt(3.0) * (2.0 * residues.double() / 2002.0 - 1.0)
        return values.float().reshape(shape)


class BrownianPath:
    """What the Brownian tree answers: increments from sigma to sigma_next over the root of the
    length. A step asks for its first half and then for the whole, the sum of both halves."""

    def __init__(self, noise, shape):
        self.noise, self.shape, self.half = noise, shape, None

    def __call__(self, sigma, sigma_next):
        if self.half is None:
            self.half = (sigma - sigma_next, self.noise(self.shape))
            return self.half[1]
        (first_length, first), self.half = self.half, None
        second_length = sigma - sigma_next - first_length
        increment = first_length.sqrt() * first + second_length.sqrt() * self.noise(self.shape)
        return increment / (sigma - sigma_next).sqrt()


def prepare(scheduler_name, options, steps, first):
    scheduler = CLASSES[scheduler_name].from_config({**BASE, **options})
    if isinstance(steps, list):
        scheduler.set_timesteps(timesteps=steps)
    else:
        scheduler.set_timesteps(steps)
    # As pipelines do; without it, a timestep that comes twice would be looked up wrongly.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler


def run(scheduler_name, options, steps, from_scaled, eta=0.0, first=0, double=False):
    scheduler = prepare(scheduler_name, options, steps, first)
    scale = float(scheduler.init_noise_sigma)
    sample = starting_sample() * scale
    inside = torch.Tensor.double if double else torch.Tensor.float
    if double:
        scheduler.sigmas = scheduler.sigmas.double()
    noise = Noise()
    for module in (scheduling_dpmsolver_multistep, scheduling_dpmsolver_singlestep):
        module.randn_tensor = noise
    if scheduler_name == "dpm++sde":
        scheduler.noise_sampler = BrownianPath(noise, sample.shape)
    recorded = []
    for t in scheduler.timesteps[first:]:
        model_input = scheduler.scale_model_input(sample, t)
        arguments = {}
        if eta > 0.0:
            arguments = {"eta": eta, "variance_noise": noise(sample.shape)}
        model_output = model_input * t / (t + 1)
        if options.get("variance_type") == "learned_range":
            model_output = torch.cat([model_output, model_output * 0.5], dim=1)
        stepped_from = model_input if from_scaled else sample
        output = scheduler.step(inside(model_output), t, inside(stepped_from), **arguments)
        sample = output.prev_sample.float()
        assert sample.isfinite().all(), (scheduler_name, options, t)
        step = {"prev_sample": digest_of(sample)}
        if "pred_original_sample" in output:
            step["pred_original_sample"] = digest_of(output.pred_original_sample)
        recorded.append(step)
    sigmas = getattr(scheduler, "sigmas", None)
    return sample, {
        "scheduler": scheduler_name,
        "config": {**BASE, **options},
        "num_inference_steps": len(steps) if isinstance(steps, list) else steps,
        "at": steps if isinstance(steps, list) else None,
        "eta": eta,
        "first": first,
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
    for name, scheduler_name, options, steps, *arguments in CASES:
        arguments = arguments[0] if arguments else {}
        from_scaled = name in STEPS_FROM_SCALED
        sample, recorded = run(scheduler_name, options, steps, from_scaled, **arguments)
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
