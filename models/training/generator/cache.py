"""Latents of all pictures and text states of all captions, computed once before the U-Net's training.

    python cache.py --packages . --autoencoder .training/autoencoder/autoencoder.pt \
        --generator ../generator --out .training/cache

The text states come from the exported encoder with its int8 weights, the one that later serves.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer

import emoji
import weights
from autoencoder import Autoencoder


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session that does not spin while it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def encode_text(generator: Path, captions: list[str]) -> np.ndarray:
    """Token states [n, 24, 384] as fp16, zero at padding."""
    tokenizer = Tokenizer.from_file(str(generator / "tokenizer" / "tokenizer.json"))
    encoder = session(generator / "text_encoder" / "model.onnx")
    out = []
    for start in range(0, len(captions), 64):
        encoded = tokenizer.encode_batch(captions[start : start + 64])
        ids = np.array([e.ids for e in encoded], np.int64)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        out.append(encoder.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": mask})[0].astype(np.float16))
    return np.concatenate(out)


def load_autoencoder(path: Path) -> Autoencoder:
    """From a checkpoint of train_autoencoder.py, or from an exported generator's folder."""
    model = Autoencoder().eval()
    if path.is_dir():
        for part, module in (("vae_encoder", model.encoder), ("vae_decoder", model.decoder)):
            exported = weights.load(onnx.load(path / part / "model.onnx"))
            module.load_state_dict({name: torch.from_numpy(exported[name].copy()) for name in module.state_dict()})
    else:
        model.load_state_dict(torch.load(path))
    return model


@torch.no_grad()
def encode_pictures(model: Autoencoder, pixels: np.ndarray) -> np.ndarray:
    """Posterior means [n, 4, 16, 16]."""
    parts = torch.from_numpy(pixels).split(64)
    return torch.cat([model.encoder(p.float() / 127.5 - 1.0)[:, :4] for p in parts]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True, help="autoencoder.pt, or an exported generator's folder")
    parser.add_argument("--generator", type=Path, required=True, help="folder with text_encoder/ and tokenizer/")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    listed = [e for e in emoji.load(args.packages) if not e.held_out]
    model = load_autoencoder(args.autoencoder)
    latents = encode_pictures(model, emoji.pixels(listed))
    scaling_factor = float(1.0 / latents.std())
    if args.autoencoder.is_dir():
        # A U-Net that goes on from its exported weights must see latents of the scale that it knows.
        scaling_factor = json.loads((args.autoencoder / "vae_decoder" / "config.json").read_text())["scaling_factor"]
    np.save(args.out / "latents.npy", (latents * scaling_factor).astype(np.float32))
    captions = sorted({caption for e in listed for caption in e.captions()})
    index = {caption: i for i, caption in enumerate(captions)}
    np.save(args.out / "text.npy", encode_text(args.generator, ["", *captions]))
    table = np.array([[index[c] + 1 for c in e.captions()] for e in listed], np.int32)
    np.save(args.out / "captions.npy", table)
    report = {"pictures": len(listed), "captions": len(captions), "scaling_factor": scaling_factor,
              "channel_mean": (latents * scaling_factor).mean((0, 2, 3)).tolist(),
              "channel_std": (latents * scaling_factor).std((0, 2, 3)).tolist()}
    (args.out / "cache.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
