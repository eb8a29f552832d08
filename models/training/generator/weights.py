"""Smaller weights in an ONNX file: stored as fp16 or int8, turned into fp32 when the session loads.

The nodes that do so have constant inputs only, so ONNX Runtime folds them away at load: the graph then
computes in fp32 throughout. Dynamic quantisation of activations is avoided on purpose: its scales span
the whole batch, so that a request would give other pixels in a batch than alone.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Smaller tensors (norms, biases) stay fp32: they cost nothing and carry most of the precision.
ELEMENTS_MIN = 2048


def _replace(model: onnx.ModelProto, convert) -> None:
    """Replace each large fp32 initializer by the tensors and nodes that `convert` gives for it."""
    graph = model.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or value.size < ELEMENTS_MIN:
            kept.append(tensor)
            continue
        new_tensors, new_nodes = convert(tensor.name, value)
        kept.extend(new_tensors)
        nodes.extend(new_nodes)
    old = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes + old)


def _fp16(name: str, value: np.ndarray):
    stored = numpy_helper.from_array(value.astype(np.float16), f"{name}.fp16")
    return [stored], [helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)]


def _int8(name: str, value: np.ndarray, axis: int):
    """Symmetric int8 with one scale per index of the axis that is kept."""
    reduced = tuple(i for i in range(value.ndim) if i != axis)
    scale = np.maximum(np.abs(value).max(axis=reduced, keepdims=True) / 127.0, 1e-12).astype(np.float32)
    quantised = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
    stored = numpy_helper.from_array(quantised, f"{name}.int8")
    scales = numpy_helper.from_array(scale, f"{name}.scale")
    return [stored, scales], [
        helper.make_node("Cast", [stored.name], [f"{name}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.cast", scales.name], [name]),
    ]


def store_fp16(model: onnx.ModelProto) -> None:
    """Store the large weights as fp16."""
    _replace(model, _fp16)


def store_int8(model: onnx.ModelProto) -> None:
    """Store the large matrices as int8: tables of embeddings by row, matrices of `MatMul` by column."""
    tables = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    _replace(model, lambda name, value: _int8(name, value, 0 if name in tables else value.ndim - 1))


def load(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All weights by name in fp32, however they are stored."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    out = {}
    for name, value in tensors.items():
        base, _, kind = name.rpartition(".")
        if kind == "fp16":
            out[base] = value.astype(np.float32)
        elif kind == "int8":
            out[base] = value.astype(np.float32) * tensors[f"{base}.scale"]
        elif kind != "scale" and value.dtype == np.float32:
            out[name] = value
    return out
