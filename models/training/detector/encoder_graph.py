"""Write the graph of the semantic expert's encoder: 80 kilobytes that find their weights in the package's file.

    python encoder_graph.py --package ../../../.runtime/semantic/clip_encoder.int8.onnx --output ../../detector/encoder.onnx

The package's own graph rounds what flows between its layers to 8 bits, on one scale for the whole picture, as its few
very large values demand, and small differences between pictures drown in that. This graph has the same layers (CLIP ViT-B/16: A. Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", 2021, with x * sigmoid(1.702 x) for GELU) and the same weights of 8 bits, and computes in 32.

Weights are external data (ONNX, External Data): a position and a length in the package's file, which stays as it is.

`pixel_values` [views, 3, 224, 224] -> `features` [views, columns]: the class token after the layers `LAYERS` and the
embedding; `tokens_N` [views, 197, 768]: all tokens after N layers.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The class token after so many layers becomes features.
LAYERS = (5, 7, 9, 11, 12)
DEPTH, WIDTH, HEADS, SIDE, PATCH, EMBEDDING = 12, 768, 12, 224, 16, 512
TOKENS = (SIDE // PATCH) ** 2 + 1
EPSILON = 1e-5


class Graph:
    """Nodes and the initialisers that they name, in the order in which they are added."""

    def __init__(self, package: bytes, location: str):
        self.package, self.location = package, location
        self.held = {tensor.name: tensor for tensor in onnx.load_from_string(package).graph.initializer}
        self.nodes, self.initializers = [], {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values) -> str:
        self.initializers.setdefault(name, numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the package, by position."""
        if name in self.initializers:
            return name
        held = self.held[name]
        data = numpy_helper.to_array(held).tobytes()
        if len(data) < 64:
            return self.constant(name, numpy_helper.to_array(held))
        offset = self.package.find(data)
        if offset < 0:
            raise SystemExit(f"{name} does not lie in the package in one piece")
        tensor = TensorProto(name=name, data_type=held.data_type, dims=held.dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.location), ("offset", offset), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        return name

    def normalised(self, value: str, prefix: str, output: str) -> str:
        weights = [self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")]
        return self.node("LayerNormalization", [value, *weights], output, axis=-1, epsilon=EPSILON)

    def product(self, value: str, matrix: str, output: str) -> str:
        """`value` @ the package's matrix, whose columns have a scale each."""
        if numpy_helper.to_array(self.held[f"{matrix}_zero_point"]).any():
            raise SystemExit(f"{matrix} has zero points")
        parts = [self.weight(f"{matrix}_{part}") for part in ("quantized", "scale")]
        return self.node("MatMul", [value, self.node("DequantizeLinear", parts, f"{matrix}_real", axis=1)], output)

    def affine(self, value: str, matrix: str, prefix: str, output: str) -> str:
        product = self.product(value, matrix, f"{output}_product")
        return self.node("Add", [product, self.weight(f"{prefix}.bias")], output)


def matrices(package: bytes) -> dict[str, str]:
    """Which matrix each linear layer of the package multiplies with, by the name of its node."""
    nodes = onnx.load_from_string(package).graph.node
    suffix = "_quantized"
    return {node.name: node.input[1].removesuffix(suffix) for node in nodes if node.op_type == "MatMulInteger"}


def attention(graph: Graph, names: dict[str, str], value: str, layer: int) -> str:
    at, weights = f"layer_{layer + 1}", f"vision_model.encoder.layers.{layer}.self_attn"
    split = graph.constant("split_heads", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    heads = {}
    for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        matrix = names[f"/vision_model/encoder/layers.{layer}/self_attn/{part}_proj/MatMul_quant"]
        flat = graph.affine(value, matrix, f"{weights}.{part}_proj", f"{at}_{part}")
        parted = graph.node("Reshape", [flat, split], f"{at}_{part}_heads")
        heads[part] = graph.node("Transpose", [parted], f"{at}_{part}_turned", perm=order)
    scale = graph.constant("attention_scale", np.float32((WIDTH // HEADS) ** -0.5))
    scaled = graph.node("Mul", [heads["q"], scale], f"{at}_q_scaled")
    share = graph.node("Softmax", [graph.node("MatMul", [scaled, heads["k"]], f"{at}_scores")], f"{at}_shares", axis=-1)
    mixed = graph.node("MatMul", [share, heads["v"]], f"{at}_mixed")
    joined = graph.node("Transpose", [mixed], f"{at}_joined", perm=[0, 2, 1, 3])
    flat = graph.node("Reshape", [joined, graph.constant("join_heads", np.array([0, 0, WIDTH], np.int64))], f"{at}_flat")
    matrix = names[f"/vision_model/encoder/layers.{layer}/self_attn/out_proj/MatMul_quant"]
    return graph.affine(flat, matrix, f"{weights}.out_proj", f"{at}_attended")


def perceptron(graph: Graph, names: dict[str, str], value: str, layer: int) -> str:
    at, weights = f"layer_{layer + 1}", f"vision_model.encoder.layers.{layer}.mlp"
    matrix = "/vision_model/encoder/layers.{}/mlp/{}/MatMul_quant"
    wide = graph.affine(value, names[matrix.format(layer, "fc1")], f"{weights}.fc1", f"{at}_wide")
    steep = graph.node("Mul", [wide, graph.constant("gelu_slope", np.float32(1.702))], f"{at}_steep")
    gate = graph.node("Sigmoid", [steep], f"{at}_gate")
    active = graph.node("Mul", [wide, gate], f"{at}_active")
    return graph.affine(active, names[matrix.format(layer, "fc2")], f"{weights}.fc2", f"{at}_narrow")


def build(package: bytes, location: str) -> onnx.ModelProto:
    graph, names = Graph(package, location), matrices(package)
    prefix = "vision_model.embeddings"
    filters = graph.weight(f"{prefix}.patch_embedding.weight")
    patches = graph.node("Conv", ["pixel_values", filters], "patches", strides=[PATCH, PATCH], kernel_shape=[PATCH, PATCH])
    shape = graph.constant("patch_row", np.array([0, WIDTH, TOKENS - 1], np.int64))
    rows = graph.node("Transpose", [graph.node("Reshape", [patches, shape], "patch_columns")], "patch_rows", perm=[0, 2, 1])
    one = graph.node("Slice", [rows, *(graph.constant(f"first_{k}", np.array([v], np.int64)) for k, v in (("from", 0), ("to", 1), ("axis", 1)))], "one_row")
    nothing = graph.node("Mul", [one, graph.constant("nothing", np.float32(0))], "no_row")
    start = graph.node("Add", [nothing, graph.weight(f"{prefix}.class_embedding")], "class_row")
    tokens = graph.node("Concat", [start, rows], "all_rows", axis=1)
    tokens = graph.node("Add", [tokens, graph.weight(f"{prefix}.position_embedding.weight")], "placed_rows")
    tokens = graph.normalised(tokens, "vision_model.pre_layrnorm", "tokens_0")
    first = graph.constant("class_token", np.int64(0))
    features = []
    for layer in range(DEPTH):
        at, weights = f"layer_{layer + 1}", f"vision_model.encoder.layers.{layer}"
        steady = graph.normalised(tokens, f"{weights}.layer_norm1", f"{at}_normal_1")
        tokens = graph.node("Add", [tokens, attention(graph, names, steady, layer)], f"{at}_sum")
        steady = graph.normalised(tokens, f"{weights}.layer_norm2", f"{at}_normal_2")
        tokens = graph.node("Add", [tokens, perceptron(graph, names, steady, layer)], f"tokens_{layer + 1}")
        if layer + 1 in LAYERS:
            features.append(graph.node("Gather", [tokens, first], f"class_{layer + 1}", axis=1))
    last = graph.normalised(features[-1], "vision_model.post_layernorm", "class_normal")
    features.append(graph.product(last, names["/visual_projection/MatMul_quant"], "embedding"))
    graph.node("Concat", features, "features", axis=1)
    real = TensorProto.FLOAT
    columns = WIDTH * len(LAYERS) + EMBEDDING
    outputs = [helper.make_tensor_value_info("features", real, ["views", columns])]
    outputs += [helper.make_tensor_value_info(f"tokens_{layer}", real, ["views", TOKENS, WIDTH]) for layer in LAYERS]
    pixels = helper.make_tensor_value_info("pixel_values", real, ["views", 3, SIDE, SIDE])
    made = helper.make_graph(graph.nodes, "clip_vit_b_16", [pixels], outputs, list(graph.initializers.values()))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the package's encoder file")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    model = build(args.package.read_bytes(), args.package.name)
    args.output.write_bytes(model.SerializeToString())
    print(f"{args.output}: {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
