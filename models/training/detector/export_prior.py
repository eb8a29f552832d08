"""Export the trained photo prior to ONNX and compare the two.

    python export_prior.py --weights .training/detector/prior.pt --output ../../detector/prior.onnx
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from prior import PhotoPrior

TOLERANCE = 2e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    model = PhotoPrior().eval()
    model.load_state_dict(torch.load(args.weights, map_location="cpu"))
    sample, level = torch.rand(2, 3, 64, 64) * 2 - 1, torch.tensor([0.02, 0.2])
    batch, height, width = "batch", "height", "width"
    torch.onnx.export(
        model, (sample, level), str(args.output), dynamo=False, opset_version=17,
        input_names=["sample", "noise_level"], output_names=["noise_pred"],
        dynamic_axes={"sample": {0: batch, 2: height, 3: width}, "noise_level": {0: batch},
                      "noise_pred": {0: batch, 2: height, 3: width}},
    )
    exported = onnx.load(str(args.output))
    exported.doc_string = ""
    for node in exported.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(exported)
    onnx.save(exported, str(args.output))
    session = onnxruntime.InferenceSession(str(args.output), providers=["CPUExecutionProvider"])
    for shape, levels in [((1, 3, 64, 64), [0.01]), ((3, 3, 128, 96), [0.01, 0.08, 0.3])]:
        sample = torch.rand(shape) * 2 - 1
        level = torch.tensor(levels)
        with torch.no_grad():
            expected = model(sample, level).numpy()
        found = session.run(None, {"sample": sample.numpy(), "noise_level": level.numpy()})[0]
        difference = float(np.abs(expected - found).max())
        print(f"{shape}: largest difference {difference:.2e}")
        if difference > TOLERANCE:
            raise SystemExit(f"the export differs by {difference}, more than {TOLERANCE}")
    data = args.output.read_bytes()
    print(f"{hashlib.sha256(data).hexdigest()}  {len(data)} bytes")


if __name__ == "__main__":
    main()
