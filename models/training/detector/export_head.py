"""Heads as ONNX files: input `features` [rows, columns] float32, output `raw_score` [rows] float32."""

import lightgbm
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def model_of(nodes, initializers, columns: int) -> onnx.ModelProto:
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", columns])
    raw_score = helper.make_tensor_value_info("raw_score", TensorProto.FLOAT, ["rows"])
    shape = numpy_helper.from_array(np.array([-1], np.int64), "one_dimension")
    nodes = [*nodes, helper.make_node("Reshape", ["scores", "one_dimension"], ["raw_score"])]
    graph = helper.make_graph(nodes, "head", [features], [raw_score], [*initializers, shape])
    model = helper.make_model(graph, opset_imports=OPSET, producer_name="retrace", ir_version=9)
    onnx.checker.check_model(model)
    return model


def rounded_down(threshold: float) -> float:
    """The largest 32-bit value not above: `x <= threshold` then holds for the same 32-bit `x`."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf)))


class Ensemble:
    """The attributes of the operator TreeEnsembleRegressor."""

    def __init__(self):
        self.nodes = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes",
                                            "truenodeids", "falsenodeids", "missing_value_tracks_true")}
        self.targets = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(self, tree: int, node: dict, numbers) -> int:
        """Adds a node and all below it; returns its number."""
        number = next(numbers)
        leaf = "leaf_value" in node
        place = len(self.nodes["treeids"])
        if not leaf and node["decision_type"] != "<=":
            raise SystemExit(f"decision {node['decision_type']} is not supported")
        values = (tree, number, 0 if leaf else node["split_feature"],
                  0.0 if leaf else rounded_down(node["threshold"]), "LEAF" if leaf else "BRANCH_LEQ", 0, 0, 0)
        for name, value in zip(self.nodes, values):
            self.nodes[name].append(value)
        if leaf:
            for name, value in zip(self.targets, (tree, number, 0, node["leaf_value"])):
                self.targets[name].append(value)
        else:
            self.nodes["truenodeids"][place] = self.add(tree, node["left_child"], numbers)
            self.nodes["falsenodeids"][place] = self.add(tree, node["right_child"], numbers)
        return number


def trees(booster: lightgbm.Booster) -> onnx.ModelProto:
    """The sum of the trees' leaves, which is the logit."""
    ensemble = Ensemble()
    for tree in booster.dump_model()["tree_info"]:
        ensemble.add(tree["tree_index"], tree["tree_structure"], iter(range(10**6)))
    attributes = {f"nodes_{name}": values for name, values in ensemble.nodes.items()}
    attributes |= {f"target_{name}": values for name, values in ensemble.targets.items()}
    node = helper.make_node("TreeEnsembleRegressor", ["features"], ["scores"], domain="ai.onnx.ml",
                            n_targets=1, post_transform="NONE", aggregate_function="SUM", **attributes)
    return model_of([node], [], booster.num_feature())


def check(path: str, rows: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    """The largest difference between the exported head and the fitted one, refused over `tolerance`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": rows})[0]
    difference = float(np.abs(found - expected).max())
    if difference > tolerance:
        raise SystemExit(f"{path}: exported head differs by {difference}, more than {tolerance}")
    return difference
