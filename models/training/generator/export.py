"""Write the built-in generator as a diffusers ONNX folder.

    python export.py --autoencoder .training/autoencoder/autoencoder.pt --cache .training/cache \
        --unet .training/unet/unet.pt --out ../generator

`text_encoder/` and `tokenizer/` are written by text_encoder.py. All graphs take and give fp32; large
weights are stored as fp16 and turned into fp32 when a session loads them.
"""

import argparse
import json
from pathlib import Path

import onnx
import torch
from torch import nn

import weights
from autoencoder import LATENT_CHANNELS, Autoencoder
from cache import load_autoencoder
from schedule import SCHEDULER
from text_encoder import TOKENS_MAX
from unet import TEXT_WIDTH, UNet

OPSET = 17


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_onnx(module: nn.Module, inputs: dict[str, torch.Tensor], output: str, path: Path, axes: dict) -> None:
    """Export without folding constants, so that the initializers keep the module's names and a later
    sitting can take the weights from the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(module.eval(), tuple(inputs.values()), str(path), dynamo=False, opset_version=OPSET,
                      do_constant_folding=False, input_names=list(inputs), output_names=[output], dynamic_axes=axes)
    model = onnx.load(path)
    weights.store_fp16(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def export_autoencoder(model: Autoencoder, scaling_factor: float, out: Path) -> None:
    config = {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": LATENT_CHANNELS,
              "sample_size": 64, "scaling_factor": scaling_factor, "shift_factor": None,
              # Three resolutions, hence a factor of 2^(3 - 1) = 4 between pixels and latents.
              "block_out_channels": [48, 48, 96]}
    write_onnx(model.encoder, {"sample": torch.zeros(2, 3, 64, 64)}, "latent_parameters", out / "vae_encoder" / "model.onnx",
               {"sample": {0: "batch", 2: "height", 3: "width"},
                "latent_parameters": {0: "batch", 2: "latent_height", 3: "latent_width"}})
    write_onnx(model.decoder, {"latent_sample": torch.zeros(2, LATENT_CHANNELS, 16, 16)}, "sample", out / "vae_decoder" / "model.onnx",
               {"latent_sample": {0: "batch", 2: "latent_height", 3: "latent_width"},
                "sample": {0: "batch", 2: "height", 3: "width"}})
    for part in ("vae_encoder", "vae_decoder"):
        write_json(out / part / "config.json", config)


def export_unet(model: UNet, out: Path) -> None:
    config = model.config
    inputs = {"sample": torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
              "timestep": torch.tensor(10, dtype=torch.int64),
              "encoder_hidden_states": torch.randn(2, TOKENS_MAX, TEXT_WIDTH)}
    write_onnx(model, inputs, "out_sample", out / "unet" / "model.onnx",
               {"sample": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}, "out_sample": {0: "batch"}})
    write_json(out / "unet" / "config.json", {
        "_class_name": "UNet2DConditionModel", "in_channels": config.in_channels, "out_channels": config.in_channels,
        "sample_size": config.sample_size, "cross_attention_dim": TEXT_WIDTH,
        "block_out_channels": list(config.channels), "layers_per_block": config.stages[0], "time_cond_proj_dim": None})


def export_index(out: Path) -> None:
    write_json(out / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_name_or_path": "retrace-emoji-64",
        "feature_extractor": [None, None], "safety_checker": [None, None],
        "requires_safety_checker": False, "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "text_encoder": ["diffusers", "OnnxRuntimeModel"], "tokenizer": ["transformers", "BertTokenizer"],
        "unet": ["diffusers", "OnnxRuntimeModel"], "vae_decoder": ["diffusers", "OnnxRuntimeModel"],
        "vae_encoder": ["diffusers", "OnnxRuntimeModel"]})
    write_json(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    # What a request gets that names neither; the evaluation judges the model with the same values.
    write_json(out / "generation_config.json", {"num_inference_steps": 20, "guidance_scale": 3.0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder that cache.py wrote (for the scaling factor)")
    parser.add_argument("--unet", type=Path, required=True, help="checkpoint of train_unet.py; its averaged weights are used")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    autoencoder = load_autoencoder(args.autoencoder)
    export_autoencoder(autoencoder, json.loads((args.cache / "cache.json").read_text())["scaling_factor"], args.out)
    unet = UNet()
    unet.load_state_dict(torch.load(args.unet)["average"])
    export_unet(unet, args.out)
    export_index(args.out)


if __name__ == "__main__":
    main()
