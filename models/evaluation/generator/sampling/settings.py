"""The settings that are compared: diffusers' schedulers, as the model's own `scheduler_config.json` makes them.

A setting is a name, a scheduler class and the options that differ from the file. Network evaluations are
counted per picture: a guided evaluation is one evaluation here and two rows of the network's batch.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import diffusers
import torch


@dataclass(frozen=True)
class Setting:
    """One scheduler with its options."""

    name: str
    scheduler: str
    options: dict = field(default_factory=dict)
    stochastic: bool = False
    # Arguments of `step`, for the schedulers that take their noise level there.
    step: dict = field(default_factory=dict)
    # Explicit timesteps by number of evaluations, in place of the scheduler's spacing.
    timesteps: dict = field(default_factory=dict)

    def build(self, config: dict, evaluations: int):
        """The scheduler with its timesteps set, for as many evaluations as asked or one fewer.

        Heun's method takes two evaluations a step save the last, PNDM one more than steps."""
        steps = {"HeunDiscreteScheduler": (evaluations + 1) // 2, "PNDMScheduler": evaluations - 1}
        scheduler = getattr(diffusers, self.scheduler).from_config(config | self.options)
        scheduler.set_timesteps(steps.get(self.scheduler, evaluations))
        if self.timesteps:
            place(scheduler, self.timesteps[evaluations])
        return scheduler


def place(scheduler, timesteps: list[int]) -> None:
    """Moves the evaluations to explicit timesteps. Only some of diffusers' schedulers take a list; the others
    get it, and the sigmas that belong to it, in the same way."""
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    scheduler.sigmas = torch.cat([sigmas[list(timesteps)], scheduler.sigmas[-1:]]).float()
    scheduler.timesteps = torch.tensor(timesteps).to(scheduler.timesteps.dtype)


def dpm(name: str, **options) -> Setting:
    return Setting(name, "DPMSolverMultistepScheduler", options)


DETERMINISTIC = [
    Setting("ddim", "DDIMScheduler"),
    Setting("ddim leading", "DDIMScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    Setting("ddim linspace", "DDIMScheduler", {"timestep_spacing": "linspace"}),
    Setting("pndm", "PNDMScheduler", {"skip_prk_steps": True}),
    Setting("lms", "LMSDiscreteScheduler"),
    Setting("lms karras", "LMSDiscreteScheduler", {"use_karras_sigmas": True}),
    Setting("heun", "HeunDiscreteScheduler"),
    Setting("heun karras", "HeunDiscreteScheduler", {"use_karras_sigmas": True}),
    Setting("euler", "EulerDiscreteScheduler"),
    Setting("euler karras", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    dpm("dpm++ 2m"),
    dpm("dpm++ 2m linspace", timestep_spacing="linspace"),
    dpm("dpm++ 2m karras", use_karras_sigmas=True),
    dpm("dpm++ 2m lu", use_lu_lambdas=True),
    dpm("dpm++ 2m exponential", use_exponential_sigmas=True),
    dpm("dpm++ 2m beta", use_beta_sigmas=True),
    dpm("dpm++ 3m", solver_order=3),
    dpm("dpm++ 3m lu", solver_order=3, use_lu_lambdas=True),
    Setting("dpm++ 2s", "DPMSolverSinglestepScheduler"),
    Setting("dpm++ 2s karras", "DPMSolverSinglestepScheduler", {"use_karras_sigmas": True}),
    Setting("unipc", "UniPCMultistepScheduler"),
    Setting("unipc 3", "UniPCMultistepScheduler", {"solver_order": 3}),
    Setting("unipc karras", "UniPCMultistepScheduler", {"use_karras_sigmas": True}),
    Setting("deis", "DEISMultistepScheduler"),
]
STOCHASTIC = [
    Setting("ddpm", "DDPMScheduler", stochastic=True),
    Setting("ddim eta 1", "DDIMScheduler", stochastic=True, step={"eta": 1.0}),
    Setting("euler ancestral", "EulerAncestralDiscreteScheduler", stochastic=True),
    Setting("dpm++ 2m sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, stochastic=True),
    Setting("lcm", "LCMScheduler", stochastic=True),
    Setting("tcd", "TCDScheduler", stochastic=True, step={"eta": 0.3}),
]
# What the search over timesteps works with. Order 1 of DPM-Solver++ is DDIM.
SOLVERS = {
    "ddim": Setting("ddim", "DPMSolverMultistepScheduler", {"solver_order": 1}),
    "dpm++ 2m": dpm("dpm++ 2m"),
    "dpm++ 3m": dpm("dpm++ 3m", solver_order=3),
    "unipc": Setting("unipc", "UniPCMultistepScheduler"),
    "deis": Setting("deis", "DEISMultistepScheduler"),
    "lms": Setting("lms", "LMSDiscreteScheduler"),
}


def found() -> list[Setting]:
    """The settings of timesteps.json, which search.py wrote."""
    path = Path(__file__).resolve().parent / "timesteps.json"
    listed = json.loads(path.read_text())["found"] if path.exists() else {}
    return [replace(SOLVERS[solver], name=f"{solver} tuned", timesteps={int(k): v["timesteps"] for k, v in by_count.items()})
            for solver, by_count in listed.items()]


SETTINGS = {setting.name: setting for setting in DETERMINISTIC + STOCHASTIC + found()}


def scheduler_config(generator: Path) -> dict:
    """The options of the model's own scheduler, without its class."""
    config = json.loads((generator / "scheduler" / "scheduler_config.json").read_text())
    return {key: value for key, value in config.items() if key != "_class_name"}
