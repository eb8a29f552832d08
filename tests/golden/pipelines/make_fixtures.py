"""Writes two tiny pipelines in the diffusers ONNX layout, and what the reference makes of them.

Run with a Python that has torch, onnx, onnxruntime, diffusers, transformers, tokenizers and numpy:

    python tests/golden/pipelines/make_fixtures.py

`conditional/` has a word-piece tokenizer, a text encoder, a U-Net with cross-attention and an
autoencoder; `clip/` the same with byte-pair encoding, 32-bit token ids, a timestep of rank one and 16-bit
floats in the U-Net, and its U-Net weights in a file of their own; `unconditional/` a U-Net alone. All
weights are random and fixed by a seed. `expected/*.json` hold pixels from diffusers' schedulers and ONNX
Runtime, starting from `expected/latents.json`.

The script also writes the model that proves an execution provider, `services/onnx/src/probe.onnx`.
"""

import json
import pathlib
import shutil
import warnings

import diffusers
import numpy
import onnx
import onnxruntime
import tokenizers
import torch
from onnx import TensorProto, helper
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import nn

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
TOKENS = 12
WIDTH = 16
SIDE = 8
STEPS = 6
GUIDANCE = 3.0
PROMPT = "a red apple on the table"
NEGATIVE = "blue dog"
LONG_PROMPT = "a red apple " * 6 + "and one blue dog"
WORDS = ("a red apple on the table blue dog and one ##s ##p ##le cat green sun moon").split()

SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
}
SCHEDULER_CONFIG = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": diffusers.__version__,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


class TextEncoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(TOKENS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids, attention_mask=None):
        x = self.tokens(input_ids.long()) + self.positions.weight[None, : input_ids.shape[1]]
        if attention_mask is not None:
            x = x * attention_mask[..., None].float()
        return torch.tanh(self.mix(x))


class Unet(nn.Module):
    def __init__(self, channels, conditional):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.norm = nn.GroupNorm(4, WIDTH)
        self.time = nn.Linear(8, WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.conv_out = nn.Conv2d(WIDTH, channels, 3, padding=1)
        self.conditional = conditional

    def forward(self, sample, timestep, encoder_hidden_states=None):
        frequencies = torch.exp(-torch.arange(4, dtype=torch.float32)).to(sample.dtype)
        angles = timestep.reshape(-1, 1).to(sample.dtype) / 50 * frequencies
        embedding = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.conv_in(sample) + embedding[:, :, None, None]
        if self.conditional:
            batch, width, height, side = h.shape
            q = self.query(h.flatten(2).transpose(1, 2))
            k, v = self.key(encoder_hidden_states), self.value(encoder_hidden_states)
            weights = torch.softmax(q @ k.transpose(1, 2) / width**0.5, -1)
            h = h + (weights @ v).transpose(1, 2).reshape(batch, width, height, side)
        return self.conv_out(torch.nn.functional.silu(self.norm(h))) * 0.5 + sample * 0.4


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 12, 3, padding=1)

    def forward(self, latent_sample):
        return torch.tanh(nn.functional.pixel_shuffle(self.conv(latent_sample), 2))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 8, 3, padding=1)

    def forward(self, sample):
        return self.conv(nn.functional.pixel_unshuffle(sample, 2))


def export(module, path, inputs, output, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(module.eval(), tuple(inputs.values()), str(path), dynamo=False, opset_version=17,
                      input_names=list(inputs), output_names=[output],
                      dynamic_axes={name: {0: "batch"} for name in axes})


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def word_piece():
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer, {"model_max_length": TOKENS, "pad_token": "[PAD]"}


def byte_pair():
    """Small, but put together as CLIP's own tokenizer is."""
    letters = sorted(set("".join(WORDS)) - {"#"})
    symbols = letters + [letter + "</w>" for letter in letters]
    merges = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")]
    symbols += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    tokenizer = tokenizers.Tokenizer(models.BPE(
        vocabulary, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>", fuse_unk=False,
        continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),
            behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), trim_offsets=False, add_prefix_space=False)
    return tokenizer, {"model_max_length": TOKENS, "pad_token": {"content": "<|endoftext|>", "lstrip": False}}


def write_pipeline(name, tokenizer, settings, clip):
    root = HERE / name
    shutil.rmtree(root, ignore_errors=True)
    torch.manual_seed(7 if clip else 3)
    (root / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(root / "tokenizer" / "tokenizer.json"), pretty=False)
    write_json(root / "tokenizer" / "tokenizer_config.json", settings)
    ids = torch.ones(1, TOKENS, dtype=torch.int32 if clip else torch.int64)
    inputs = {"input_ids": ids} if clip else {"input_ids": ids, "attention_mask": ids}
    export(TextEncoder(tokenizer.get_vocab_size()), root / "text_encoder" / "model.onnx", inputs,
           "last_hidden_state", [*inputs, "last_hidden_state"])
    write_json(root / "text_encoder" / "config.json", {"max_position_embeddings": TOKENS})
    unet = Unet(4, True)
    dtype = torch.float16 if clip else torch.float32
    timestep = torch.ones(1, dtype=torch.float32) if clip else torch.tensor(1, dtype=torch.int64)
    export(unet.to(dtype), root / "unet" / "model.onnx",
           {"sample": torch.ones(2, 4, SIDE, SIDE, dtype=dtype), "timestep": timestep,
            "encoder_hidden_states": torch.ones(2, TOKENS, WIDTH, dtype=dtype)},
           "out_sample", ["sample", "encoder_hidden_states", "out_sample"])
    if clip:
        path = root / "unet" / "model.onnx"
        onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="weights.pb",
                        size_threshold=0)
    write_json(root / "unet" / "config.json", {"in_channels": 4, "sample_size": SIDE})
    export(Decoder(), root / "vae_decoder" / "model.onnx", {"latent_sample": torch.ones(1, 4, SIDE, SIDE)},
           "sample", ["latent_sample", "sample"])
    export(Encoder(), root / "vae_encoder" / "model.onnx", {"sample": torch.ones(1, 3, 2 * SIDE, 2 * SIDE)},
           "latent_parameters", ["sample", "latent_parameters"])
    vae = {"scaling_factor": 0.5, "shift_factor": 0.1 if clip else None, "latent_channels": 4}
    write_json(root / "vae_decoder" / "config.json", vae)
    write_json(root / "vae_encoder" / "config.json", vae)
    write_json(root / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    write_json(root / "generation_config.json", {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE})
    parts = {part: ["diffusers", "OnnxRuntimeModel"]
             for part in ["text_encoder", "unet", "vae_decoder", "vae_encoder"]}
    write_json(root / "model_index.json", {"_class_name": "OnnxStableDiffusionPipeline", **parts,
                                           "safety_checker": [None, None],
                                           "scheduler": ["diffusers", "DDIMScheduler"],
                                           "tokenizer": ["transformers", "CLIPTokenizer"]})


def write_unconditional():
    root = HERE / "unconditional"
    shutil.rmtree(root, ignore_errors=True)
    torch.manual_seed(5)
    export(Unet(3, False), root / "unet" / "model.onnx",
           {"sample": torch.ones(1, 3, SIDE, SIDE), "timestep": torch.tensor(1, dtype=torch.int64)},
           "out_sample", ["sample", "out_sample"])
    write_json(root / "unet" / "config.json", {"in_channels": 3, "sample_size": SIDE})
    write_json(root / "scheduler" / "scheduler_config.json",
               {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
                "prediction_type": "epsilon", "variance_type": "fixed_small"})
    write_json(root / "model_index.json", {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],
                                           "scheduler": ["diffusers", "DDPMScheduler"]})


class Session:
    def __init__(self, root, part):
        self.session = onnxruntime.InferenceSession(str(root / part / "model.onnx"),
                                                    providers=["CPUExecutionProvider"])
        self.types = {"tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32,
                      "tensor(float16)": numpy.float16, "tensor(float)": numpy.float32}

    def __call__(self, **feeds):
        cast = {i.name: numpy.asarray(feeds[i.name]).astype(self.types[i.type])
                for i in self.session.get_inputs()}
        return self.session.run(None, cast)[0].astype(numpy.float32)


def encode(root, tokenizer, settings, prompt):
    tokenizer.enable_truncation(TOKENS)
    encoding = tokenizer.encode(prompt)
    pad = settings["pad_token"]
    pad = tokenizer.token_to_id(pad if isinstance(pad, str) else pad["content"])
    missing = TOKENS - len(encoding.ids)
    ids = [encoding.ids + [pad] * missing]
    mask = [[1] * len(encoding.ids) + [0] * missing]
    tokenizer.no_truncation()
    return Session(root, "text_encoder")(input_ids=ids, attention_mask=mask)


def loop(root, scheduler_name, latents, states):
    """The denoising loop of the reference; `states` is (unconditional, conditional) or None."""
    config = json.loads((root / "scheduler" / "scheduler_config.json").read_text())
    scheduler = SCHEDULERS[scheduler_name].from_config(config)
    scheduler.set_timesteps(STEPS)
    unet = Session(root, "unet")
    sample = torch.from_numpy(latents)
    for t in scheduler.timesteps:
        rows = scheduler.scale_model_input(sample, t).numpy()
        shape = unet.session.get_inputs()[1].shape
        timestep = t.numpy().reshape(shape)
        if states is None:
            output = unet(sample=rows, timestep=timestep)
        else:
            pair = unet(sample=numpy.concatenate([rows, rows]), timestep=timestep,
                        encoder_hidden_states=numpy.concatenate(states))
            output = pair[:1] + GUIDANCE * (pair[1:] - pair[:1])
        sample = scheduler.step(torch.from_numpy(output), t, sample).prev_sample
    return sample.numpy()


def pixels(root, sample):
    path = root / "vae_decoder" / "config.json"
    if path.exists():
        vae = json.loads(path.read_text())
        scaled = sample / vae["scaling_factor"] + (vae["shift_factor"] or 0.0)
        sample = Session(root, "vae_decoder")(latent_sample=scaled)
    return (sample / 2 + 0.5).clip(0, 1)


def invert(root, image, states):
    """DDIM inversion and reconstruction of one image in -1..1, shape (1,3,h,w), without guidance."""
    config = json.loads((root / "scheduler" / "scheduler_config.json").read_text())
    vae = json.loads((root / "vae_encoder" / "config.json").read_text())
    mean = Session(root, "vae_encoder")(sample=image)[:, :4]
    latents = (mean - (vae["shift_factor"] or 0.0)) * vae["scaling_factor"]
    unet, sample = Session(root, "unet"), torch.from_numpy(latents)
    for cls in [diffusers.DDIMInverseScheduler, diffusers.DDIMScheduler]:
        scheduler = cls.from_config(config)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            output = unet(sample=sample.numpy(), timestep=t.numpy(), encoder_hidden_states=states)
            sample = scheduler.step(torch.from_numpy(output), t, sample).prev_sample
        if cls is diffusers.DDIMInverseScheduler:
            noise = sample
    return {"latents": rounded(latents), "noise": rounded(noise.numpy()),
            "reconstructed_latents": rounded(sample.numpy())}


def rounded(array):
    return [float(f"{value:.7g}") for value in numpy.asarray(array).flatten().tolist()]


def expected(name, tokenizer, settings):
    root = HERE / name
    channels = 3 if name == "unconditional" else 4
    latents = numpy.random.default_rng(11).standard_normal((2, channels, SIDE, SIDE)).astype(numpy.float32)
    states = None
    if tokenizer is not None:
        states = [encode(root, tokenizer, settings, prompt) for prompt in (NEGATIVE, PROMPT)]
    result = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "steps": STEPS, "guidance_scale": GUIDANCE,
              "shape": latents.shape, "latents": rounded(latents), "runs": {}}
    for scheduler_name in SCHEDULERS:
        images = []
        for row in range(len(latents)):
            last = loop(root, scheduler_name, latents[row : row + 1], states)
            images.append({"latents": rounded(last), "pixels": rounded(pixels(root, last))})
        result["runs"][scheduler_name] = images
    if name == "conditional":
        values = numpy.arange(3 * 16 * 16).reshape(16, 16, 3) * 37 % 256
        image = (values.transpose(2, 0, 1)[None] / 127.5 - 1).astype(numpy.float32)
        result["inversion"] = {"rgb": values.flatten().tolist(),
                               **invert(root, image, encode(root, tokenizer, settings, ""))}
    if tokenizer is not None:
        result["tokens"] = {prompt: tokenizer.encode(prompt).ids for prompt in (PROMPT, NEGATIVE, "")}
        result["long_prompt"] = {"prompt": LONG_PROMPT, "tokens": len(tokenizer.encode(LONG_PROMPT).ids)}
    (HERE / "expected").mkdir(exist_ok=True)
    (HERE / "expected" / f"{name}.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


def write_probe():
    node = helper.make_node("Add", ["x", "x"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([node], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (HERE / "../../../services/onnx/src/probe.onnx").write_bytes(model.SerializeToString())


def main():
    with torch.no_grad():
        for name, (tokenizer, settings), clip in [("conditional", word_piece(), False),
                                                  ("clip", byte_pair(), True)]:
            write_pipeline(name, tokenizer, settings, clip)
            expected(name, tokenizer, settings)
        write_unconditional()
        expected("unconditional", None, None)
        write_probe()
    versions = {module.__name__: module.__version__
                for module in (diffusers, numpy, onnx, onnxruntime, tokenizers, torch)}
    write_json(HERE / "VERSIONS.json", versions)


if __name__ == "__main__":
    main()
