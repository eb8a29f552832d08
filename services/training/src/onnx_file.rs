//! Heads as ONNX files: input `features` (rows, columns) and output `raw_score` (rows), both 32-bit floats.
//!
//! An ONNX file is one Protocol Buffers message. The few messages that a head needs are written field by field, with
//! the numbers of `onnx.proto`; that is less than a generator for all of them would be.

use crate::logistic::Linear;
use crate::trees::{Node, Trees};

/// Version of the file format, 9: operators of 2023.
const IR_VERSION: u64 = 9;
/// Operator sets: ONNX 17 and, for trees, ONNX-ML 3.
const OPERATORS: [(&str, u64); 2] = [("", 17), ("ai.onnx.ml", 3)];
/// Element types and attribute types of `onnx.proto`.
const FLOAT: u64 = 1;
const INT64: u64 = 7;
const ATTRIBUTE_INT: u64 = 2;
const ATTRIBUTE_STRING: u64 = 3;
const ATTRIBUTE_FLOATS: u64 = 6;
const ATTRIBUTE_INTS: u64 = 7;
const ATTRIBUTE_STRINGS: u64 = 8;

/// Trees as one `TreeEnsembleRegressor`.
#[must_use]
pub fn trees_file(trees: &Trees) -> Vec<u8> {
    let mut lists = TreeLists::default();
    for (number, tree) in trees.trees.iter().enumerate() {
        for (place, node) in tree.nodes.iter().enumerate() {
            lists.push(number as u64, place as u64, node);
        }
    }
    let mut node = Message::default();
    node.text(1, "features")
        .text(2, "scores")
        .text(4, "TreeEnsembleRegressor");
    for (name, values) in [
        ("nodes_treeids", &lists.tree),
        ("nodes_nodeids", &lists.node),
        ("nodes_featureids", &lists.feature),
        ("nodes_truenodeids", &lists.yes),
        ("nodes_falsenodeids", &lists.no),
        ("nodes_missing_value_tracks_true", &lists.missing),
        ("target_treeids", &lists.target_tree),
        ("target_nodeids", &lists.target_node),
        ("target_ids", &lists.target),
    ] {
        let mut list = named(name);
        for value in values {
            list.number(8, *value);
        }
        node.message(5, list.number(20, ATTRIBUTE_INTS));
    }
    for (name, values) in [
        ("nodes_values", &lists.threshold),
        ("target_weights", &lists.weight),
    ] {
        let mut list = named(name);
        for value in values {
            list.float(7, *value);
        }
        node.message(5, list.number(20, ATTRIBUTE_FLOATS));
    }
    let mut modes = named("nodes_modes");
    for mode in &lists.mode {
        modes.text(9, mode);
    }
    node.message(5, modes.number(20, ATTRIBUTE_STRINGS));
    node.message(5, named("n_targets").number(3, 1).number(20, ATTRIBUTE_INT));
    for (name, value) in [("post_transform", "NONE"), ("aggregate_function", "SUM")] {
        node.message(5, named(name).text(4, value).number(20, ATTRIBUTE_STRING));
    }
    node.text(7, "ai.onnx.ml");
    let mut reshape = Message::default();
    reshape
        .text(1, "scores")
        .text(1, "one_dimension")
        .text(2, "raw_score")
        .text(4, "Reshape");
    let mut shape = Message::default();
    shape
        .number(1, 1)
        .number(2, INT64)
        .text(8, "one_dimension")
        .bytes(9, &(-1_i64).to_le_bytes());
    model(&[node, reshape], &[shape], trees.columns)
}

/// A logistic regression as a product and a sum.
#[must_use]
pub fn linear_file(linear: &Linear) -> Vec<u8> {
    let mut product = Message::default();
    product
        .text(1, "features")
        .text(1, "weight")
        .text(2, "product")
        .text(4, "MatMul");
    let mut sum = Message::default();
    sum.text(1, "product")
        .text(1, "bias")
        .text(2, "raw_score")
        .text(4, "Add");
    let values: Vec<u8> = linear
        .weights
        .iter()
        .flat_map(|weight| (*weight as f32).to_le_bytes())
        .collect();
    let mut weight = Message::default();
    weight
        .number(1, linear.weights.len() as u64)
        .number(2, FLOAT)
        .text(8, "weight")
        .bytes(9, &values);
    let mut bias = Message::default();
    bias.number(2, FLOAT)
        .text(8, "bias")
        .bytes(9, &(linear.intercept as f32).to_le_bytes());
    model(&[product, sum], &[weight, bias], linear.weights.len())
}

/// The attributes of a `TreeEnsembleRegressor`, one entry for each node or leaf.
#[derive(Default)]
struct TreeLists {
    tree: Vec<u64>,
    node: Vec<u64>,
    feature: Vec<u64>,
    threshold: Vec<f32>,
    mode: Vec<&'static str>,
    yes: Vec<u64>,
    no: Vec<u64>,
    missing: Vec<u64>,
    target_tree: Vec<u64>,
    target_node: Vec<u64>,
    target: Vec<u64>,
    weight: Vec<f32>,
}

impl TreeLists {
    fn push(&mut self, tree: u64, place: u64, node: &Node) {
        let (mode, feature, threshold, yes, no) = match node {
            Node::Split {
                feature,
                threshold,
                yes,
                no,
            } => ("BRANCH_LEQ", *feature, *threshold, *yes, *no),
            Node::Leaf { value } => {
                self.target_tree.push(tree);
                self.target_node.push(place);
                self.target.push(0);
                self.weight.push(*value as f32);
                ("LEAF", 0, 0.0, 0, 0)
            }
        };
        self.tree.push(tree);
        self.node.push(place);
        self.feature.push(feature as u64);
        self.threshold.push(threshold);
        self.mode.push(mode);
        self.yes.push(yes as u64);
        self.no.push(no as u64);
        self.missing.push(0);
    }
}

/// An attribute that has its name so far.
fn named(name: &str) -> Message {
    let mut out = Message::default();
    out.text(1, name);
    out
}

fn model(nodes: &[Message], initializers: &[Message], columns: usize) -> Vec<u8> {
    let mut rows = Message::default();
    rows.text(2, "rows");
    let mut width = Message::default();
    width.number(1, columns as u64);
    let mut graph = Message::default();
    for node in nodes {
        graph.message(1, node);
    }
    graph.text(2, "head");
    for initializer in initializers {
        graph.message(5, initializer);
    }
    graph.message(11, &value("features", &[&rows, &width]));
    graph.message(12, &value("raw_score", &[&rows]));
    let mut out = Message::default();
    out.number(1, IR_VERSION)
        .text(2, "retrace")
        .message(7, &graph);
    for (domain, version) in OPERATORS {
        let mut operators = Message::default();
        operators.text(1, domain).number(2, version);
        out.message(8, &operators);
    }
    out.0
}

/// An input or output of 32-bit floats.
fn value(name: &str, dimensions: &[&Message]) -> Message {
    let mut shape = Message::default();
    for dimension in dimensions {
        shape.message(1, dimension);
    }
    let mut tensor = Message::default();
    tensor.number(1, FLOAT).message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut out = Message::default();
    out.text(1, name).message(2, &kind);
    out
}

/// Wire types of Protocol Buffers.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(&mut self, field: u64, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_numbered_and_lengths_stand_before_what_they_count() {
        let mut inner = Message::default();
        inner.number(1, 300);
        let mut outer = Message::default();
        outer.message(2, &inner).text(3, "ab").float(7, 1.0);
        assert_eq!(
            outer.0,
            b"\x12\x03\x08\xac\x02\x1a\x02ab\x3d\x00\x00\x80\x3f"
        );
    }
}
