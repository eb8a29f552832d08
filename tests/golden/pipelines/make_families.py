"""Writes one tiny pipeline for each family, exported by the reference's own exporter, and what the
reference pipelines make of them.

Run with a Python that has diffusers, optimum-onnx and the versions that it asks for (`FAMILIES.json` names
those of the files beside this script):

    python tests/golden/pipelines/make_families.py [FAMILY...]

Every pipeline is built from configurations with random weights that a seed fixes, run by diffusers' own
pipeline class in PyTorch, and exported to ONNX by `optimum.exporters.onnx`. Parts that are equal to those
of a family before it are links to them. `families/<name>.json` holds the requests and their pixels.
"""

import filecmp
import importlib.metadata
import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import diffusers
import numpy
import onnx
import onnxruntime
import optimum.version
import tokenizers
import torch
import transformers
from optimum.exporters.onnx import main_export
from PIL import Image
from tokenizers import models, pre_tokenizers, processors

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
ROOT = HERE / "families"
STEPS = 5
PROMPT = "a red apple on the table"
NEGATIVE = "blue dog"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789!,.:()[]'"
MERGES = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>"), ("t", "h"), ("th", "e</w>")]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clip_tokenizer(folder, pad):
    """A CLIP tokenizer with single letters and a few merges, written as `vocab.json` and `merges.txt`."""
    symbols = ["!"] + [letter for letter in LETTERS if letter != "!"]
    symbols += [letter + "</w>" for letter in LETTERS]
    symbols += ["".join(pair) for pair in MERGES] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad,
                                      model_max_length=77)


def t5_tokenizer(folder):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581", -2.0)] + [(letter, -3.0) for letter in LETTERS]
    pieces += [("\u2581" + word, -1.5) for word in ("a", "red", "dog", "the", "table")]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return transformers.T5TokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), extra_ids=0,
                                        model_max_length=512)


def clip_encoder(tokenizer, projection, act="quick_gelu"):
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=16, hidden_act=act,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id)
    cls = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    model = liven(cls(config))
    # A mean of zero, which the class starts with, could not be restored after words are weighed.
    model.text_model.final_layer_norm.bias.data += 0.3
    return model


def t5_encoder(tokenizer):
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=24, num_layers=1,
                                   num_heads=2, relative_attention_num_buckets=8)
    return liven(transformers.T5EncoderModel(config))


def liven(module):
    """Random weights as the classes draw them leave a prompt almost without effect."""
    for name, parameter in module.named_parameters():
        if "embed" in name or "shared" in name:
            parameter.data = torch.randn_like(parameter) * 0.7
    return module.eval()


def autoencoder(latent_channels=4, scaling_factor=0.18215, shift_factor=None):
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=latent_channels, layers_per_block=1,
        norm_num_groups=4, sample_size=16, scaling_factor=scaling_factor, shift_factor=shift_factor,
        mid_block_add_attention=False)
    # Random weights decode to almost one grey; the last layer is raised so that pixels tell.
    vae.decoder.conv_out.weight.data *= 1.5
    return vae.eval()


def unet(cross=16, channels=4, **more):
    model = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=cross,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4, norm_num_groups=4, **more)
    for name, parameter in model.named_parameters():
        if "attn2" in name:
            parameter.data *= 4
    return model.eval()


def parts_of_sd1():
    tokenizer = clip_tokenizer(ROOT / "sd1" / "tokenizer", "<|endoftext|>")
    torch.manual_seed(1)
    return {"vae": autoencoder(), "text_encoder": clip_encoder(tokenizer, False), "tokenizer": tokenizer,
            "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def sd1():
    parts = parts_of_sd1()
    torch.manual_seed(2)
    scheduler = diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    return diffusers.StableDiffusionPipeline(unet=unet(), scheduler=scheduler, **parts)


def sd2():
    parts = parts_of_sd1()
    tokenizer = clip_tokenizer(ROOT / "sd2" / "tokenizer", "!")
    torch.manual_seed(3)
    parts |= {"tokenizer": tokenizer, "text_encoder": clip_encoder(tokenizer, False, "gelu")}
    scheduler = diffusers.DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1,
                                        set_alpha_to_one=False, clip_sample=False)
    return diffusers.StableDiffusionPipeline(unet=unet(use_linear_projection=True), scheduler=scheduler, **parts)


def lcm():
    parts = parts_of_sd1()
    torch.manual_seed(4)
    scheduler = diffusers.LCMScheduler(**BETAS, set_alpha_to_one=True, original_inference_steps=50)
    return diffusers.LatentConsistencyModelPipeline(unet=unet(time_cond_proj_dim=8), scheduler=scheduler, **parts)


def inpaint():
    parts = parts_of_sd1()
    torch.manual_seed(5)
    scheduler = diffusers.DDIMScheduler(**BETAS, steps_offset=1, set_alpha_to_one=False, clip_sample=False)
    return diffusers.StableDiffusionInpaintPipeline(unet=unet(channels=9), scheduler=scheduler, **parts)


def sdxl():
    base = parts_of_sd1()
    tokenizer = clip_tokenizer(ROOT / "sdxl" / "tokenizer_2", "!")
    torch.manual_seed(6)
    network = unet(cross=32, addition_embed_type="text_time", addition_time_embed_dim=4,
                   projection_class_embeddings_input_dim=6 * 4 + 16, use_linear_projection=True)
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading",
                                                 interpolation_type="linear")
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025), text_encoder=base["text_encoder"],
        tokenizer=base["tokenizer"], text_encoder_2=clip_encoder(tokenizer, True, "gelu"),
        tokenizer_2=tokenizer, unet=network, scheduler=scheduler, force_zeros_for_empty_prompt=True,
        add_watermarker=False)


def turbo():
    parts = parts_of_sd1()
    torch.manual_seed(2)
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing", steps_offset=1)
    return diffusers.StableDiffusionPipeline(unet=unet(), scheduler=scheduler, **parts)


def sd3():
    tokenizer = clip_tokenizer(ROOT / "sd1" / "tokenizer", "<|endoftext|>")
    second = clip_tokenizer(ROOT / "sdxl" / "tokenizer_2", "!")
    third = t5_tokenizer(ROOT / "sd3" / "tokenizer_3")
    torch.manual_seed(7)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=16)
    return diffusers.StableDiffusion3Pipeline(
        vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609), text_encoder=clip_encoder(tokenizer, True),
        tokenizer=tokenizer, text_encoder_2=clip_encoder(second, True, "gelu"), tokenizer_2=second,
        text_encoder_3=t5_encoder(third), tokenizer_3=third, transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0))


def flux():
    tokenizer = clip_tokenizer(ROOT / "sd1" / "tokenizer", "<|endoftext|>")
    second = t5_tokenizer(ROOT / "sd3" / "tokenizer_3")
    torch.manual_seed(8)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
        guidance_embeds=True)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096)
    return diffusers.FluxPipeline(
        vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159), text_encoder=clip_encoder(tokenizer, False),
        tokenizer=tokenizer, text_encoder_2=t5_encoder(second), tokenizer_2=second,
        transformer=transformer.eval(), scheduler=scheduler)


def pixel_unet(classes=None):
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
        norm_num_groups=4, num_class_embeds=classes)
    return model.eval()


def ddpm():
    torch.manual_seed(9)
    return diffusers.DDPMPipeline(unet=pixel_unet(), scheduler=diffusers.DDPMScheduler())


def classes():
    torch.manual_seed(10)
    return diffusers.DDIMPipeline(unet=pixel_unet(4), scheduler=diffusers.DDIMScheduler())


FAMILIES = {make.__name__: make
            for make in (sd1, sd2, lcm, inpaint, turbo, sdxl, sd3, flux, ddpm, classes)}


class Unconditional(torch.nn.Module):
    """`UNet2DModel` with plain inputs and output: optimum has no exporter for it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, class_labels=None):
        return self.model(sample, timestep, class_labels=class_labels, return_dict=False)[0]


def export_unconditional(folder, pipeline):
    (folder / "unet").mkdir(parents=True)
    inputs = {"sample": torch.zeros(2, 3, 8, 8), "timestep": torch.tensor(1, dtype=torch.int64)}
    if pipeline.unet.config.num_class_embeds:
        inputs["class_labels"] = torch.tensor([0, 1])
    axes = {name: {0: "batch_size"} for name in ("sample", "class_labels", "out_sample")}
    axes["sample"] |= {2: "height", 3: "width"}
    torch.onnx.export(Unconditional(pipeline.unet), tuple(inputs.values()), str(folder / "unet" / "model.onnx"),
                      dynamo=False, opset_version=17, input_names=list(inputs), output_names=["out_sample"],
                      dynamic_axes={name: axes[name] for name in axes if name in [*inputs, "out_sample"]})


def export(name, pipeline):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline.save_pretrained(scratch)
        if name in ("ddpm", "classes"):
            export_unconditional(folder, pipeline)
            for path in ("model_index.json", "scheduler", "unet/config.json"):
                source = pathlib.Path(scratch) / path
                (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / path)
        else:
            main_export(scratch, output=str(folder), task="inpainting" if name == "inpaint" else "text-to-image",
                        library_name="diffusers", do_validation=False, device="cpu")
    for path in folder.rglob("*.json"):
        value = json.loads(path.read_text())
        if isinstance(value, dict) and value.pop("_name_or_path", None):
            path.write_text(json.dumps(value, indent=1) + "\n")
    link_equal_parts(folder)


def link_equal_parts(folder):
    """Replaces each part by a link to the same part of a family made before, where their files are equal."""
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        for other in list(FAMILIES)[: list(FAMILIES).index(folder.name)]:
            for twin in sorted((ROOT / other).glob("*")):
                names = {path.name for path in part.iterdir()}
                if not twin.is_dir() or twin.is_symlink() or {path.name for path in twin.iterdir()} != names:
                    continue
                if set(filecmp.cmpfiles(part, twin, names, shallow=False)[0]) != names:
                    continue
                shutil.rmtree(part)
                part.symlink_to(pathlib.Path("..") / other / twin.name, target_is_directory=True)
                break
            if part.is_symlink():
                break


def picture(width=16, height=16):
    values = numpy.arange(height * width * 3).reshape(height, width, 3) * 37 % 256
    return values.astype(numpy.uint8)


def mask(width=16, height=16):
    """A ring that does not follow the grid of the latents."""
    y, x = numpy.mgrid[:height, :width]
    return numpy.where(abs((x - 7) ** 2 + (y - 8) ** 2 - 25) < 16, 255, 0).astype(numpy.uint8)


SCHEDULERS = {"ddim": diffusers.DDIMScheduler, "euler": diffusers.EulerDiscreteScheduler,
              "dpm++2m": diffusers.DPMSolverMultistepScheduler}


def run(pipeline, request):
    """One image. The request holds Retrace's names; the noise is torch's, from the seed."""
    arguments = {"num_inference_steps": request["steps"], "output_type": "np",
                 "generator": torch.Generator().manual_seed(request["seed"])}
    if "prompt" in request:
        arguments |= {"prompt": request["prompt"], "guidance_scale": request["guidance_scale"]}
    if "negative_prompt" in request:
        arguments["negative_prompt"] = request["negative_prompt"]
    if "size" in request:
        arguments |= {"width": request["size"][0], "height": request["size"][1]}
    if "picture" in request:
        arguments |= {"image": Image.fromarray(picture()), "strength": request["strength"]}
    if "mask" in request:
        arguments["mask_image"] = Image.fromarray(mask())
    if "eta" in request:
        arguments["eta"] = request["eta"]
    if "weights" in request:
        arguments |= weighted(pipeline, request)
    own = pipeline.scheduler
    if "scheduler" in request:
        # As a scheduler that is read from the folder: every key of the file counts.
        config = json.loads(own.to_json_string())
        pipeline.scheduler = SCHEDULERS[request["scheduler"]].from_config(config)
    image = pipeline(**arguments).images[0]
    pipeline.scheduler = own
    return {**request, "width": image.shape[1], "height": image.shape[0],
            "pixels": [float(f"{value:.5f}") for value in image.flatten().tolist()]}


def factors(tokenizer, weights, length):
    """The weight of each token: of the word that it is of, and 1 for special tokens and padding."""
    begins = tokenizer(weights[0][0]).input_ids[: -1 if tokenizer.eos_token_id is not None else None]
    lead = len(begins) - len(tokenizer(weights[0][0], add_special_tokens=False).input_ids)
    listed = [weight for word, weight in weights for _ in tokenizer(word, add_special_tokens=False).input_ids]
    listed = [1.0] * lead + listed
    return torch.tensor(listed + [1.0] * (length - len(listed)))[None, :, None]


def weighted_clip(states, tokenizer, weights):
    """The states of the prompt's tokens times their words' weights, with the mean of before."""
    scaled = states * factors(tokenizer, weights, states.shape[1])
    return scaled * (states.mean() / scaled.mean())


def weighted(pipeline, request):
    """The arguments that stand for the prompt with its words' weights."""
    weights = request.pop("weights")
    prompt = " ".join(word for word, _ in weights)
    kind = type(pipeline).__name__.removesuffix("Pipeline")
    if kind == "StableDiffusion":
        states = pipeline.encode_prompt(prompt, "cpu", 1, False)[0]
        negative = pipeline.encode_prompt(request["negative_prompt"], "cpu", 1, False)[0]
        return {"prompt": None, "negative_prompt": None, "negative_prompt_embeds": negative,
                "prompt_embeds": weighted_clip(states, pipeline.tokenizer, weights)}
    # T5's states keep no mean: it lies next to zero.
    if kind == "Flux":
        t5 = pipeline._get_t5_prompt_embeds(prompt, max_sequence_length=512)
        return {"prompt": None, "pooled_prompt_embeds": pipeline._get_clip_prompt_embeds(prompt),
                "prompt_embeds": t5 * factors(pipeline.tokenizer_2, weights, t5.shape[1])}
    clip, pooled = [], []
    for index, tokenizer in enumerate((pipeline.tokenizer, pipeline.tokenizer_2)):
        states, summary = pipeline._get_clip_prompt_embeds(prompt, clip_model_index=index)
        clip.append(weighted_clip(states, tokenizer, weights))
        pooled.append(summary)
    t5 = pipeline._get_t5_prompt_embeds(prompt, max_sequence_length=256)
    t5 = t5 * factors(pipeline.tokenizer_3, weights, t5.shape[1])
    clip = torch.cat(clip, dim=-1)
    clip = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    negative = pipeline.encode_prompt(request["negative_prompt"], None, None, do_classifier_free_guidance=False)
    return {"prompt": None, "negative_prompt": None, "negative_prompt_embeds": negative[0],
            "negative_pooled_prompt_embeds": negative[2], "prompt_embeds": torch.cat([clip, t5], dim=-2),
            "pooled_prompt_embeds": torch.cat(pooled, dim=-1)}


def class_run(pipeline, request):
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(request["steps"])
    generator = torch.Generator().manual_seed(request["seed"])
    sample = torch.randn(1, 3, 8, 8, generator=generator)
    for t in scheduler.timesteps:
        output = pipeline.unet(sample, t, class_labels=torch.tensor([request["class_label"]])).sample
        sample = scheduler.step(output, t, sample).prev_sample
    image = (sample / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0)
    return {**request, "width": 8, "height": 8,
            "pixels": [float(f"{value:.5f}") for value in image.flatten().tolist()]}


def requests(name):
    base = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": 3, "steps": STEPS, "guidance_scale": 3.0}
    weighing = {"prompt": "a (red:1.5) dog on [the] ((table))", "prompt_weights": True,
                "weights": [["a", 1], ["red", 1.5], ["dog", 1], ["on", 1], ["the", 1 / 1.1], ["table", 1.21]]}
    plain = {"prompt": PROMPT, "seed": 3, "steps": STEPS, "guidance_scale": 3.0}
    edit = {"picture": True, "strength": 0.6, "scheduler": "ddim"}
    return {
        "sd1": [base, *({**base, "scheduler": scheduler} for scheduler in SCHEDULERS),
                {**base, "guidance_scale": 1.0}, {**base, "size": [24, 16]}, {**base, "scheduler": "ddim", "eta": 0.7},
                {**base, **edit}, {**base, **edit, "scheduler": "euler"}, {**base, **edit, "strength": 1.0},
                {**base, **edit, "mask": True}, {**base, **edit, "mask": True, "strength": 1.0},
                {**base, **weighing}],
        "sd2": [{**base, "steps": 6}, {**base, "scheduler": "euler"}],
        "lcm": [{**plain, "steps": 4, "guidance_scale": 8.5}],
        "inpaint": [{**base, **edit, "mask": True}, {**base, **edit, "mask": True, "strength": 1.0}],
        "turbo": [{**plain, "steps": 1, "guidance_scale": 0.0}],
        "sdxl": [base, plain, {**base, "size": [16, 24]}, {**base, **edit}, {**base, **edit, "mask": True}],
        "sd3": [base, plain, {key: value for key, value in {**base, **edit}.items() if key != "scheduler"},
                {**base, **weighing}],
        "flux": [{**plain, "size": [16, 16], "guidance_scale": 3.5}, {**plain, "size": [24, 16]},
                 {**plain, **weighing, "size": [16, 16]}],
        "ddpm": [{"seed": 3, "steps": STEPS}],
        "classes": [{"seed": 3, "steps": STEPS, "class_label": label} for label in (0, 3)],
    }[name]


TASKS = {
    "StableDiffusion": (diffusers.StableDiffusionImg2ImgPipeline, diffusers.StableDiffusionInpaintPipeline),
    "StableDiffusionInpaint": (None, diffusers.StableDiffusionInpaintPipeline),
    "StableDiffusionXL": (diffusers.StableDiffusionXLImg2ImgPipeline, diffusers.StableDiffusionXLInpaintPipeline),
    "StableDiffusion3": (diffusers.StableDiffusion3Img2ImgPipeline, diffusers.StableDiffusion3InpaintPipeline),
}


def expected(name, pipeline):
    runs = []
    pipeline.set_progress_bar_config(disable=True)
    for request in requests(name):
        chosen = pipeline
        if "picture" in request:
            pair = TASKS[type(pipeline).__name__.removesuffix("Pipeline")]
            cls = pair[1] if "mask" in request else pair[0]
            components = dict(pipeline.components)
            chosen = cls(**components, **({"requires_safety_checker": False} if name in ("sd1", "inpaint") else {}))
            chosen.set_progress_bar_config(disable=True)
        runs.append((class_run if name == "classes" else run)(chosen, dict(request)))
    path = HERE / "expected" / f"{name}.json"
    path.write_text(json.dumps({"picture": picture().flatten().tolist(), "mask": mask().flatten().tolist(),
                                "runs": runs}, separators=(",", ":")) + "\n")


def main():
    (HERE / "expected").mkdir(exist_ok=True)
    names = sys.argv[1:] or list(FAMILIES)
    with torch.no_grad():
        for name in names:
            pipeline = FAMILIES[name]()
            expected(name, pipeline)
            export(name, pipeline)
    versions = {module.__name__: module.__version__ for module in
                (diffusers, numpy, onnx, onnxruntime, tokenizers, torch, transformers)}
    versions["optimum"] = optimum.version.__version__
    versions["optimum-onnx"] = importlib.metadata.version("optimum-onnx")
    (HERE / "FAMILIES.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
