"""The service's denoising loop and schedulers beside the reference's, turn and turn about in one run.

Needs a Python with torch, diffusers, transformers and onnxruntime, and the built example of the crate `onnx`:

    cargo build --package onnx --example bench_loop
    python compare.py --bench ../../../../target/debug/examples/bench_loop --generator ../../../generator

The reference is diffusers' `OnnxStableDiffusionPipeline` with the same files on the same ONNX Runtime
version and the same number of threads. Both sides make one image a run (guidance as a batch of two) and
decode it; loading is left out on both sides. Every round measures the service first and the reference
second; figures are medians over the rounds, ratios are medians of the rounds' ratios.

With `--small` a U-Net of about 2.7 million random weights replaces the built-in one: the less the model
costs, the more the loop around it shows.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import diffusers
import numpy
import onnxruntime
import torch
from transformers import PreTrainedTokenizerFast

warnings.filterwarnings("ignore")
PROMPT = "a red heart"
SCHEDULER_STEPS = 50
SCHEDULER_RUNS = 20
CLASSES = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
    "dpm++2s": diffusers.DPMSolverSinglestepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "deis": diffusers.DEISMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
}


def session(path: Path, threads: int, spinning: bool) -> onnxruntime.InferenceSession:
    """A CPU session with the reference's defaults, but for threads and spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class TimedModel(diffusers.OnnxRuntimeModel):
    """An ONNX model that adds up the time spent inside its session."""

    def __init__(self, folder: Path, threads: int, spinning: bool):
        super().__init__(session(folder / "model.onnx", threads, spinning))
        self.seconds = 0.0
        run = self.model.run

        def timed(*arguments, **keywords):
            started = time.perf_counter()
            try:
                return run(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - started

        self.run = timed

    def __call__(self, **inputs):
        return self.run(None, {name: numpy.array(value) for name, value in inputs.items()})


class TextEncoder(TimedModel):
    """A text encoder that also wants the attention mask, which the reference pipeline does not pass on."""

    def __call__(self, input_ids):
        ids = numpy.asarray(input_ids)
        return self.run(["last_hidden_state"], {"input_ids": ids.astype(numpy.int64),
                                               "attention_mask": (ids != 0).astype(numpy.int64)})


class Reference:
    """The reference pipeline over one model folder."""

    def __init__(self, folder: Path, threads: int, spinning: bool):
        self.models = {name: TimedModel(folder / name, threads, spinning)
                       for name in ("unet", "vae_decoder", "vae_encoder")}
        self.models["text_encoder"] = TextEncoder(folder / "text_encoder", threads, spinning)
        settings = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
        tokens = {key: value for key, value in settings.items() if key.endswith("_token")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer" / "tokenizer.json"),
                                            model_max_length=settings["model_max_length"], **tokens)
        scheduler = diffusers.DDIMScheduler.from_config(
            json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
        self.pipeline = diffusers.OnnxStableDiffusionPipeline(
            **self.models, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False)
        self.pipeline.set_progress_bar_config(disable=True)

    def loop(self, scheduler: str, steps: int, guidance_scale: float, side: int) -> tuple[float, float]:
        """Milliseconds of one image, and the part of them inside sessions."""
        self.pipeline.scheduler = CLASSES[scheduler].from_config(self.pipeline.scheduler.config)
        for model in self.models.values():
            model.seconds = 0.0
        latents = numpy.random.RandomState(1).randn(1, 4, side, side).astype(numpy.float32)
        started = time.perf_counter()
        # The pipeline takes the factor between picture and latents to be eight.
        self.pipeline(PROMPT, height=8 * side, width=8 * side, num_inference_steps=steps,
                      guidance_scale=guidance_scale, latents=latents, output_type="np")
        total = time.perf_counter() - started
        return total * 1000.0, sum(model.seconds for model in self.models.values()) * 1000.0


def reference_step_us(scheduler: str) -> float:
    """Median microseconds of one step at (1, 4, 64, 64), scaling of the model's input included."""
    instance = CLASSES[scheduler](beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    instance.set_timesteps(SCHEDULER_STEPS)
    sample, output = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    medians = []
    for _ in range(SCHEDULER_RUNS):
        instance.set_timesteps(SCHEDULER_STEPS)
        times = []
        for timestep in instance.timesteps:
            started = time.perf_counter()
            instance.scale_model_input(sample, timestep)
            instance.step(output, timestep, sample)
            times.append(time.perf_counter() - started)
        medians.append(statistics.median(times))
    return statistics.median(medians) * 1e6


def small_folder(generator: Path, target: Path) -> Path:
    """The built-in folder with a U-Net of about 2.7 million random weights."""
    shutil.copytree(generator, target, ignore=shutil.ignore_patterns("unet", "inversion.json"))
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, cross_attention_dim=384, block_out_channels=(42, 84), layers_per_block=2, norm_num_groups=14,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")).eval()
    print(f"small U-Net: {sum(p.numel() for p in unet.parameters()):,} parameters")

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet

        def forward(self, sample, timestep, encoder_hidden_states):
            return self.unet(sample, timestep.reshape(-1)[0], encoder_hidden_states, return_dict=False)[0]

    (target / "unet").mkdir()
    shutil.copy(generator / "unet" / "config.json", target / "unet" / "config.json")
    torch.onnx.export(Plain(), (torch.randn(2, 4, 16, 16), torch.tensor(500), torch.randn(2, 24, 384)),
                      str(target / "unet" / "model.onnx"), dynamo=False, opset_version=17,
                      input_names=["sample", "timestep", "encoder_hidden_states"], output_names=["out_sample"],
                      dynamic_axes={"sample": {0: "b"}, "encoder_hidden_states": {0: "b"}, "out_sample": {0: "b"}})
    return target


def service_round(arguments, folder: Path, repeats: int) -> dict:
    """One run of the service's benchmark."""
    command = [arguments.bench, folder, str(arguments.steps), str(repeats), str(arguments.threads)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(arguments, folder: Path) -> dict:
    """Rounds of both sides."""
    reference = Reference(folder, arguments.threads, arguments.spinning)
    defaults = json.loads((folder / "generation_config.json").read_text())
    guidance_scale = defaults["guidance_scale"]
    rows: dict[str, list[dict]] = {name: [] for name in arguments.schedulers}
    steps_us: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSES}
    reference.loop(arguments.schedulers[0], arguments.steps, guidance_scale, arguments.side)
    for _ in range(arguments.rounds):
        service = service_round(arguments, folder, arguments.repeats)
        for name in arguments.schedulers:
            ours = service["loops"][name]
            theirs = [reference.loop(name, arguments.steps, guidance_scale, arguments.side)
                      for _ in range(arguments.repeats)]
            total, inside = (statistics.median(column) for column in zip(*theirs))
            rows[name].append({"service_ms": ours["loop_ms"], "service_outside": ours["outside_share"],
                               "reference_ms": total, "reference_outside": 1.0 - inside / total})
        for name in CLASSES:
            if name in service["scheduler_step_us"]:
                steps_us[name].append((service["scheduler_step_us"][name], reference_step_us(name)))

    def median(values):
        return round(statistics.median(values), 4)

    return {
        "loops": {name: {key: median([row[key] for row in rounds]) for key in rounds[0]}
                  | {"service_images_per_reference_image": median([row["reference_ms"] / row["service_ms"] for row in rounds])}
                  for name, rounds in rows.items()},
        "scheduler_step_us": {name: {"service": median([a for a, _ in pairs]), "reference": median([b for _, b in pairs])}
                              for name, pairs in steps_us.items() if pairs},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True, help="the built example bench_loop")
    parser.add_argument("--generator", type=Path, required=True, help="a model folder")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="images a round and scheduler")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--spinning", action="store_true",
                        help="let the reference's threads spin, ONNX Runtime's default; slower on shared cores")
    parser.add_argument("--side", type=int, default=16, help="side of the latents")
    parser.add_argument("--schedulers", nargs="+", default=["ddim", "dpm++2m"],
                        help="loops to measure; the reference pipeline cannot start from Euler's tensor of a sigma")
    parser.add_argument("--small", action="store_true", help="also with a U-Net of about 2.7 million weights")
    parser.add_argument("--output", type=Path, help="where to write the JSON; standard output without it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = {"cores": os.cpu_count(), "threads": arguments.threads, "reference_spins": arguments.spinning, "steps": arguments.steps,
              "rounds": arguments.rounds, "repeats": arguments.repeats, "diffusers": diffusers.__version__,
              "onnxruntime": onnxruntime.__version__, "torch": torch.__version__,
              "load_average": os.getloadavg()[0], "built_in": measure(arguments, arguments.generator)}
    if arguments.small:
        with tempfile.TemporaryDirectory() as scratch:
            report["small"] = measure(arguments, small_folder(arguments.generator, Path(scratch) / "small"))
    text = json.dumps(report, indent=1) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
