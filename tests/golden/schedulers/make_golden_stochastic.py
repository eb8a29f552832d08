"""Writes the golden vectors of the schedulers that draw noise or evaluate the model more than once
a step, and of torch's random numbers, from the reference implementation (diffusers, torch).

Run with a Python that has diffusers, torch, scipy and numpy:

    python tests/golden/schedulers/make_golden_stochastic.py

Each case is one full loop with the reference's own test set-up: the starting sample
x[b,c,h,w] = (((c*8 + h)*8 + w)*4 + b) / 768 of shape (4,3,8,8) times init_noise_sigma, the model
output(x, t) = x * t / (t + 1). Where a scheduler draws noise, the n-th drawing is the fixed wave
sqrt(2) * sin(12.9898 * (i + 1) + 78.233 * (n + 1)) over the flat index i, so that both sides use
the same one. For every evaluation the file holds the sum, the sum of magnitudes and SAMPLES evenly
spread values of prev_sample and of pred_original_sample. `noisy` holds the same of add_noise with
the starting sample and drawing 0 for some evaluations, as an image-to-image run would begin there.
Cases with `known` state the sum that the reference's own test asserts; those with `torch_seed` draw
their noise from torch's CPU generator instead of the wave.

torch_noise.json holds values of torch.randn on the CPU: for each seed several tensors drawn one
after another from one generator.
"""

import inspect
import json
import math
import pathlib

import diffusers
import diffusers.schedulers.scheduling_sde_ve as sde_ve
import numpy
import torch
from diffusers.schedulers.deprecated import scheduling_sde_vp as sde_vp

HERE = pathlib.Path(__file__).parent / "stochastic"
SAMPLES = 12
SHAPE = (4, 3, 8, 8)

LINEAR = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
CLASSES = {
    "ddpm": diffusers.DDPMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "kdpm2": diffusers.KDPM2DiscreteScheduler,
    "kdpm2-ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
    "flow-match-euler": diffusers.FlowMatchEulerDiscreteScheduler,
}
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "skip_prk_steps": True,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
V = {"prediction_type": "v_prediction"}


def case(name, scheduler, options=None, steps=10, **more):
    """`more`: `known` sum, `torch_seed`, `step` arguments, `set` arguments, `begin` index,
    `from_scaled` (the reference's own test hands the scaled sample to step()), `base`."""
    return {"name": name, "scheduler": scheduler, "options": options or {}, "steps": steps, **more}


EULER_TEST = {"num_train_timesteps": 1100}
CASES = [
    # The reference's own full loops.
    case("ddpm_known", "ddpm", {"clip_sample": True}, 1000, torch_seed=0, known=258.9606),
    case("ddpm_known_v", "ddpm", {"clip_sample": True, **V}, 1000, torch_seed=0, known=202.0296),
    case("pndm_known", "pndm", {}, 10, known=198.1318),
    case("pndm_known_v", "pndm", V, 10, known=67.3986),
    case("lms_known", "lms", EULER_TEST, 10, known=1006.388, from_scaled=True),
    case("lms_known_v", "lms", {**EULER_TEST, **V}, 10, from_scaled=True),
    case("lms_known_karras", "lms", {**EULER_TEST, "use_karras_sigmas": True}, 10, known=3812.9927,
         from_scaled=True),
    case("heun_known", "heun", EULER_TEST, 10, known=0.1233, from_scaled=True),
    case("heun_known_v", "heun", {**EULER_TEST, **V}, 10, from_scaled=True),
    case("heun_known_karras", "heun", {**EULER_TEST, "use_karras_sigmas": True}, 10,
         from_scaled=True),
    case("euler_known", "euler", EULER_TEST, 10, known=10.0807, from_scaled=True),
    case("euler_known_v", "euler", {**EULER_TEST, **V}, 10, from_scaled=True),
    case("euler_known_karras", "euler", {**EULER_TEST, "use_karras_sigmas": True}, 10,
         known=124.52299499511719, from_scaled=True),
    case("euler_ancestral_known", "euler-ancestral", EULER_TEST, 10, torch_seed=0, known=152.3192,
         from_scaled=True),
    case("euler_ancestral_known_v", "euler-ancestral", {**EULER_TEST, **V}, 10, torch_seed=0,
         known=108.4439, from_scaled=True),
    case("kdpm2_known", "kdpm2", EULER_TEST, 10, known=20.4125, from_scaled=True),
    case("kdpm2_known_v", "kdpm2", {**EULER_TEST, **V}, 10, from_scaled=True),
    case("kdpm2_ancestral_known", "kdpm2-ancestral", EULER_TEST, 10, torch_seed=0,
         from_scaled=True),
    case("kdpm2_ancestral_known_v", "kdpm2-ancestral", {**EULER_TEST, **V}, 10, torch_seed=0, from_scaled=True),
    case("lcm_known_one_step", "lcm", {}, 1, base={}, torch_seed=0, known=18.7097),
    case("lcm_known_ten_steps", "lcm", {}, 10, base={}, torch_seed=0, known=197.7616),
    case("tcd_known", "tcd", {}, 10, base={}, torch_seed=0, step={"eta": 0.0}, known=181.2040),
    # Options.
    case("ddpm", "ddpm"),
    case("ddpm_unclipped", "ddpm", {"clip_sample": False}, 7, noisy=[0, 3]),
    case("ddpm_thresholding", "ddpm", {"thresholding": True, "sample_max_value": 1.5,
                                       "dynamic_thresholding_ratio": 0.8}),
    case("ddpm_fixed_small_log", "ddpm", {"variance_type": "fixed_small_log"}),
    case("ddpm_fixed_large", "ddpm", {"variance_type": "fixed_large"}),
    case("ddpm_learned_range", "ddpm", {"variance_type": "learned_range"}),
    case("ddpm_learned", "ddpm", {"variance_type": "learned"}),
    case("ddpm_sample", "ddpm", {"prediction_type": "sample"}),
    case("ddpm_trailing_cosine", "ddpm", {**COSINE, "timestep_spacing": "trailing"}, 6),
    case("ddpm_zero_snr", "ddpm", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
                                   **V, "clip_sample": False}),
    case("ddpm_at", "ddpm", {}, None, set={"timesteps": [961, 640, 311, 90, 10]}),
    case("pndm_twenty", "pndm", {}, 20),
    case("pndm_offset", "pndm", {"steps_offset": 1, "set_alpha_to_one": True}, 8),
    case("pndm_skip", "pndm", STABLE_DIFFUSION, 10, noisy=[0, 4]),
    case("pndm_skip_v", "pndm", {**STABLE_DIFFUSION, **V}, 9),
    case("pndm_skip_linspace", "pndm", {"skip_prk_steps": True, "timestep_spacing": "linspace"}, 7),
    case("pndm_skip_trailing", "pndm", {"skip_prk_steps": True, "timestep_spacing": "trailing"}, 7),
    case("pndm_skip_cosine", "pndm", {"skip_prk_steps": True, **COSINE}, 5),
    case("pndm_skip_begin", "pndm", STABLE_DIFFUSION, 10, begin=4),
    case("pndm_skip_one", "pndm", STABLE_DIFFUSION, 1),
    case("lms", "lms", {}, 10, noisy=[0, 5]),
    case("lms_scaled_linear", "lms", STABLE_DIFFUSION, 12),
    case("lms_karras_v", "lms", {"use_karras_sigmas": True, **V}),
    case("lms_exponential", "lms", {"use_exponential_sigmas": True}),
    case("lms_beta", "lms", {"use_beta_sigmas": True, "sigma_min": 1.0, "sigma_max": 80.0}, 6),
    case("lms_leading", "lms", {"timestep_spacing": "leading", "steps_offset": 1}),
    case("lms_trailing_sample", "lms", {"timestep_spacing": "trailing",
                                        "prediction_type": "sample"}, 7),
    case("heun", "heun", {}, 10, noisy=[0, 6]),
    case("heun_own_betas", "heun", {}, 8, base={}),
    case("heun_karras", "heun", {"use_karras_sigmas": True}),
    case("heun_exponential", "heun", {"use_exponential_sigmas": True}),
    case("heun_beta", "heun", {"use_beta_sigmas": True}),
    case("heun_v", "heun", V),
    case("heun_sample_clipped", "heun", {"prediction_type": "sample", "clip_sample": True}, 6),
    case("heun_begin", "heun", STABLE_DIFFUSION, 10, begin=6),
    case("heun_at", "heun", {}, None, set={"timesteps": [961, 640, 311, 90, 10]}),
    case("heun_exp_betas", "heun", {"beta_schedule": "exp"}, 6),
    case("euler_log_linear", "euler", {"interpolation_type": "log_linear"}, noisy=[0, 5]),
    case("euler_exponential", "euler", {"use_exponential_sigmas": True}),
    case("euler_beta", "euler", {"use_beta_sigmas": True}),
    case("euler_beta_limits", "euler", {"use_beta_sigmas": True, "sigma_min": 0.1,
                                        "sigma_max": 9.0}),
    case("euler_karras_limits", "euler", {"use_karras_sigmas": True, "sigma_min": 0.1,
                                          "sigma_max": 9.0}),
    case("euler_continuous", "euler", {"timestep_type": "continuous", **V,
                                       "use_karras_sigmas": True}),
    case("euler_zero_snr", "euler", {"rescale_betas_zero_snr": True, **V,
                                     "timestep_spacing": "trailing"}),
    case("euler_churn", "euler", {}, 10, step={"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 50.0,
                                               "s_noise": 1.003}),
    case("euler_churn_v", "euler", V, 10, step={"s_churn": 30.0}),
    case("euler_begin", "euler", STABLE_DIFFUSION, 10, begin=3),
    case("euler_at", "euler", {}, None, set={"timesteps": [961, 640, 311, 90, 10]}),
    case("euler_ancestral", "euler-ancestral", {}, 10, noisy=[0, 5]),
    case("euler_ancestral_leading", "euler-ancestral", STABLE_DIFFUSION | {
        "timestep_spacing": "leading"}, 12),
    case("euler_ancestral_v", "euler-ancestral", {**V, "timestep_spacing": "trailing"}, 9),
    case("euler_ancestral_begin", "euler-ancestral", STABLE_DIFFUSION, 10, begin=5),
    case("kdpm2", "kdpm2", {}, 10, noisy=[0, 6]),
    case("kdpm2_karras", "kdpm2", {"use_karras_sigmas": True}),
    case("kdpm2_exponential", "kdpm2", {"use_exponential_sigmas": True}),
    case("kdpm2_leading_v", "kdpm2", {**V, "timestep_spacing": "leading"}),
    case("kdpm2_begin", "kdpm2", STABLE_DIFFUSION, 10, begin=4),
    case("kdpm2_ancestral", "kdpm2-ancestral", {}, 10),
    case("kdpm2_ancestral_karras_v", "kdpm2-ancestral", {"use_karras_sigmas": True, **V}),
    case("kdpm2_ancestral_trailing", "kdpm2-ancestral", {"timestep_spacing": "trailing"}, 7),
    case("lcm", "lcm", {}, 4, base={}, noisy=[0, 2]),
    case("lcm_sample_clipped", "lcm", {"prediction_type": "sample", "clip_sample": True}, 6, base={}),
    case("lcm_v_thresholding", "lcm", {**V, "thresholding": True}, 3, base={}),
    case("lcm_original_steps", "lcm", {"original_inference_steps": 100, "timestep_scaling": 5.0}, 7,
         base={}),
    case("lcm_at", "lcm", {}, None, base={}, set={"timesteps": [999, 759, 499, 259]}),
    case("tcd", "tcd", {}, 4, base={}, noisy=[0, 2]),
    case("tcd_eta_one", "tcd", {}, 8, base={}, step={"eta": 1.0}),
    case("tcd_eta_zero_v", "tcd", V, 5, base={}, step={"eta": 0.0}),
    case("tcd_sample", "tcd", {"prediction_type": "sample"}, 6, base={}, step={"eta": 0.5}),
    case("flow", "flow-match-euler", {}, 10, base={}, noisy=[0, 4]),
    case("flow_sd3", "flow-match-euler", {"shift": 3.0}, 10, base={}),
    case("flow_begin", "flow-match-euler", {"shift": 3.0}, 10, base={}, begin=4),
    case("flow_dynamic", "flow-match-euler", {"use_dynamic_shifting": True, "shift": 3.0}, 8,
         base={}, set={"mu": 0.93}),
    case("flow_dynamic_linear", "flow-match-euler", {"use_dynamic_shifting": True,
                                                     "time_shift_type": "linear"}, 8,
         base={}, set={"mu": 1.7}),
    case("flow_flux", "flow-match-euler", {"use_dynamic_shifting": True, "shift": 3.0}, None,
         base={}, set={"mu": 0.8, "sigmas": [1 - i / 6 for i in range(6)]}),
    case("flow_terminal", "flow-match-euler", {"shift": 2.0, "shift_terminal": 0.1}, 7, base={}),
    case("flow_karras", "flow-match-euler", {"use_karras_sigmas": True}, 7, base={}),
    case("flow_exponential", "flow-match-euler", {"use_exponential_sigmas": True}, 7, base={}),
    case("flow_beta", "flow-match-euler", {"use_beta_sigmas": True}, 7, base={}),
    case("flow_stochastic", "flow-match-euler", {"stochastic_sampling": True}, 7, base={}),
    case("flow_inverted", "flow-match-euler", {"invert_sigmas": True}, 7, base={}),
]


def starting_sample():
    values = torch.arange(4 * 3 * 8 * 8).reshape(3, 8, 8, 4) / (4 * 3 * 8 * 8)
    return values.permute(3, 0, 1, 2)


class Waves:
    """Stands in for the reference's drawing of noise."""

    def __init__(self):
        self.count = 0

    def __call__(self, shape, **_):
        count = math.prod(shape)
        index = numpy.arange(1, count + 1, dtype=numpy.float64)
        self.count += 1
        wave = math.sqrt(2.0) * numpy.sin(12.9898 * index + 78.233 * self.count)
        return torch.from_numpy(wave.astype(numpy.float32)).reshape(tuple(shape))


def digest_of(tensor):
    flat = tensor.contiguous().flatten().double()
    places = [round(i * (flat.numel() - 1) / (SAMPLES - 1)) for i in range(SAMPLES)]
    return {
        "sum": flat.sum().item(),
        "abs_sum": flat.abs().sum().item(),
        "values": [float(f"{flat[place].item():.9g}") for place in places],
    }


def model(sample, t, learned):
    output = sample * t / (t + 1)
    # A made-up variance half with values inside the range that models are trained for, above zero
    # where a square root is taken of them.
    return torch.cat([output, 0.2 + 0.5 * output.abs() / (1 + output.abs())], 1) if learned else output


def add_noise(scheduler, sample, noise, place):
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(place)
    timestep = scheduler.timesteps[place : place + 1].repeat(4)
    add = getattr(scheduler, "scale_noise", None)
    if add is not None:
        return add(sample, timestep, noise)
    return scheduler.add_noise(sample, noise, timestep)


def prepared(one):
    config = {**one.get("base", LINEAR), **one["options"]}
    scheduler = CLASSES[one["scheduler"]].from_config(config)
    given = one.get("set", {})
    if one["steps"] is None:
        scheduler.set_timesteps(**given)
    else:
        scheduler.set_timesteps(one["steps"], **given)
    return config, scheduler


def run(one):
    config, scheduler = prepared(one)
    module = inspect.getmodule(type(scheduler))
    waves = Waves()
    generator = None
    if "torch_seed" in one:
        generator = torch.Generator("cpu").manual_seed(one["torch_seed"])
        module.randn_tensor = diffusers.utils.torch_utils.randn_tensor
    else:
        module.randn_tensor = waves
    learned = config.get("variance_type", "").startswith("learned")
    begin = one.get("begin", 0)
    scale = float(getattr(scheduler, "init_noise_sigma", 1.0))
    sample = starting_sample() * scale
    if begin:
        # As an image-to-image run begins.
        sample = add_noise(scheduler, starting_sample(), Waves()(SHAPE), begin)
        _, scheduler = prepared(one)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
    arguments = dict(one.get("step", {}))
    if "generator" in inspect.signature(scheduler.step).parameters:
        arguments["generator"] = generator
    recorded = []
    long = one["steps"] is not None and one["steps"] > 100
    for place, t in enumerate(scheduler.timesteps[begin:]):
        scaled = sample
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(sample, t)
        start = scaled if one.get("from_scaled") else sample
        output = scheduler.step(model(scaled, t, learned), t, start, **arguments)
        sample = output.prev_sample
        step = {"prev_sample": digest_of(sample)}
        for name in ["pred_original_sample", "denoised"]:
            if name in output:
                step["pred_original_sample"] = digest_of(output[name])
        # Of a loop over every training timestep some steps are enough.
        if not long or place % 100 == 0 or place + 1 == len(scheduler.timesteps):
            recorded.append({"step_index": place + begin, **step})
    noisy = []
    for place in one.get("noisy", []):
        _, fresh = prepared(one)
        added = add_noise(fresh, starting_sample(), Waves()(SHAPE), place)
        noisy.append({"step_index": place, "sample": digest_of(added)})
    sigmas = getattr(scheduler, "sigmas", None)
    case_file = {
        "scheduler": one["scheduler"],
        "config": config,
        "num_inference_steps": one["steps"],
        "set": one.get("set", {}),
        "step": one.get("step", {}),
        "begin": begin,
        "steps_from_scaled": one.get("from_scaled", False),
        "init_noise_sigma": scale,
        "timesteps": [float(t) for t in scheduler.timesteps],
        "sigmas": [] if sigmas is None else [float(s) for s in sigmas],
        "steps": recorded,
        "noisy": noisy,
    }
    if "torch_seed" in one:
        case_file["torch_seed"] = one["torch_seed"]
    abs_sum = sample.abs().sum().item()
    if "known" in one:
        case_file["known"] = one["known"]
    return abs_sum, case_file


def torch_noise():
    cases = []
    for seed in [0, 1, 42, 2**32 - 1, 2**32 + 5, 2**63 + 11]:
        generator = torch.Generator("cpu").manual_seed(seed - 2**64 if seed >= 2**63 else seed)
        calls = []
        for size in [1, 3, 15, 16, 2, 17, 31, 32, 1, 48, 100, 768]:
            values = torch.randn((1, 1, 1, size), generator=generator).flatten().double()
            calls.append({"size": size, "sum": values.sum().item(),
                          "values": [float(f"{v.item():.9g}") for v in values[-40:]]})
        cases.append({"seed": str(seed), "calls": calls})
    return cases


def score_sde():
    """One step of the reference's samplers of the score-based paper, for one image."""
    sample = starting_sample()[:1]
    waves = Waves()
    sde_ve.randn_tensor = waves
    sde_vp.randn_tensor = waves
    score = -0.3 * sample - 0.1
    ve = diffusers.ScoreSdeVeScheduler(snr=0.16)
    ve.set_timesteps(10)
    corrected = ve.step_correct(score, sample).prev_sample
    vp = sde_vp.ScoreSdeVpScheduler(num_train_timesteps=1000)
    vp.set_timesteps(1000)
    time = vp.timesteps[500:501]
    epsilon = 0.4 * sample + 0.2
    moved, _ = vp.step_pred(epsilon, sample, time)
    return {"snr": 0.16, "corrected": digest_of(corrected), "time": float(time),
            "moved": digest_of(moved)}


def write(name, value):
    (HERE / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


def main():
    HERE.mkdir(exist_ok=True)
    for one in CASES:
        abs_sum, recorded = run(one)
        if "known" in one:
            difference = abs(abs_sum - one["known"])
            print(f"{one['name']}: sum {abs_sum:.6g}, known {one['known']}")
            assert difference < max(1e-2, 1e-5 * one["known"]), one["name"]
        write(one["name"], recorded)
    write("torch_noise", torch_noise())
    write("score_sde", score_sde())
    import scipy

    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__,
                "numpy": numpy.__version__, "scipy": scipy.__version__,
                "torch_cpu_capability": torch.backends.cpu.get_cpu_capability()}
    (HERE / "VERSIONS.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
