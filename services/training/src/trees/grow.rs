//! One tree: the leaf whose split helps most is split next.

use super::bins::Bins;
use super::{CURVATURE_MIN, Node, Tree, TreeSettings};

/// Sums over the rows of one bin.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    slope: f64,
    curvature: f64,
    rows: u32,
}

impl Cell {
    fn add(&mut self, other: &Self) {
        self.slope += other.slope;
        self.curvature += other.curvature;
        self.rows += other.rows;
    }

    fn less(&self, other: &Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            curvature: self.curvature - other.curvature,
            rows: self.rows - other.rows,
        }
    }
}

/// A split and how much it helps.
#[derive(Clone, Copy, Debug)]
struct Split {
    gain: f64,
    feature: usize,
    bin: u8,
}

/// A leaf that may be split further.
struct Leaf {
    node: usize,
    rows: Vec<usize>,
    /// For each asked feature, its bins one behind the other.
    cells: Vec<Cell>,
    total: Cell,
    best: Option<Split>,
}

/// A node on binned features.
enum Grown {
    Split {
        feature: usize,
        bin: u8,
        yes: usize,
        no: usize,
    },
    Leaf {
        value: f64,
    },
}

/// A tree on binned features.
pub(super) struct GrownTree {
    nodes: Vec<Grown>,
}

impl GrownTree {
    /// What the leaf of a binned row adds.
    pub(super) fn value(&self, bins: &Bins, row: usize) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Grown::Leaf { value } => return value,
                Grown::Split {
                    feature,
                    bin,
                    yes,
                    no,
                } => {
                    at = if bins.columns[feature][row] <= bin {
                        yes
                    } else {
                        no
                    };
                }
            }
        }
    }

    /// The same tree on the features themselves, with `base` in every leaf.
    pub(super) fn tree(self, bins: &Bins, base: f64) -> Tree {
        let node = |grown| match grown {
            Grown::Leaf { value } => Node::Leaf {
                value: value + base,
            },
            Grown::Split {
                feature,
                bin,
                yes,
                no,
            } => {
                let threshold = bins.thresholds[feature][usize::from(bin)];
                Node::Split {
                    feature,
                    threshold,
                    yes,
                    no,
                }
            }
        };
        Tree {
            nodes: self.nodes.into_iter().map(node).collect(),
        }
    }
}

/// What one tree is grown for.
#[derive(Clone, Copy)]
pub(super) struct Round<'a> {
    /// Slope and curvature of the loss of every row.
    pub(super) slopes: &'a [(f64, f64)],
    /// The features that the tree may ask about.
    pub(super) asked: &'a [usize],
}

/// Grows trees on one table of bins.
pub(super) struct Grower<'a> {
    bins: &'a Bins,
    settings: &'a TreeSettings,
}

impl<'a> Grower<'a> {
    pub(super) fn new(bins: &'a Bins, settings: &'a TreeSettings) -> Self {
        Self { bins, settings }
    }

    /// Grows one tree on the rows `bag`.
    pub(super) fn grow(&self, round: Round<'_>, bag: &[usize]) -> GrownTree {
        let slopes = round.slopes;
        let mut root = Leaf {
            node: 0,
            rows: bag.to_vec(),
            cells: self.cells(round, bag),
            total: Cell::default(),
            best: None,
        };
        for row in bag {
            root.total.add(&Cell {
                slope: slopes[*row].0,
                curvature: slopes[*row].1,
                rows: 1,
            });
        }
        root.best = self.best_split(&root, round.asked);
        let mut nodes = vec![Grown::Leaf {
            value: self.value(&root.total),
        }];
        let mut leaves = vec![root];
        while leaves.len() < self.settings.leaves_max {
            let Some(chosen) = most_gain(&leaves) else {
                break;
            };
            let leaf = leaves.swap_remove(chosen);
            let split = leaf.best.expect("only leaves with a split are chosen");
            let node = leaf.node;
            let (mut yes, mut no) = self.split(leaf, split, round);
            (yes.node, no.node) = (nodes.len(), nodes.len() + 1);
            nodes[node] = Grown::Split {
                feature: split.feature,
                bin: split.bin,
                yes: yes.node,
                no: no.node,
            };
            for leaf in [yes, no] {
                nodes.push(Grown::Leaf {
                    value: self.value(&leaf.total),
                });
                leaves.push(leaf);
            }
        }
        GrownTree { nodes }
    }

    /// The leaf's value: a Newton step, shortened by the ridge and the learning rate.
    fn value(&self, total: &Cell) -> f64 {
        -self.settings.learning_rate * total.slope / (total.curvature + self.settings.ridge)
    }

    fn cells(&self, Round { slopes, asked }: Round<'_>, rows: &[usize]) -> Vec<Cell> {
        let mut out = Vec::new();
        for feature in asked {
            let start = out.len();
            out.resize(start + self.bins.count(*feature), Cell::default());
            let column = &self.bins.columns[*feature];
            let cells = &mut out[start..];
            for row in rows {
                let cell = &mut cells[usize::from(column[*row])];
                cell.slope += slopes[*row].0;
                cell.curvature += slopes[*row].1;
                cell.rows += 1;
            }
        }
        out
    }

    fn best_split(&self, leaf: &Leaf, asked: &[usize]) -> Option<Split> {
        let score = |cell: &Cell| cell.slope * cell.slope / (cell.curvature + self.settings.ridge);
        let large = |cell: &Cell| {
            cell.rows as usize >= self.settings.leaf_rows_min && cell.curvature >= CURVATURE_MIN
        };
        let whole = score(&leaf.total);
        let mut best: Option<Split> = None;
        let mut cells = leaf.cells.as_slice();
        for feature in asked {
            let (here, rest) = cells.split_at(self.bins.count(*feature));
            cells = rest;
            let mut below = Cell::default();
            for (bin, cell) in here[..here.len() - 1].iter().enumerate() {
                below.add(cell);
                let above = leaf.total.less(&below);
                if !(large(&below) && large(&above)) {
                    continue;
                }
                let gain = score(&below) + score(&above) - whole;
                if gain > best.map_or(0.0, |split| split.gain) {
                    let bin = u8::try_from(bin).expect("there are at most 255 bins");
                    best = Some(Split {
                        gain,
                        feature: *feature,
                        bin,
                    });
                }
            }
        }
        best
    }

    /// Both sides of a leaf; the larger side's cells are what the smaller one leaves.
    fn split(&self, leaf: Leaf, split: Split, round: Round<'_>) -> (Leaf, Leaf) {
        let slopes = round.slopes;
        let column = &self.bins.columns[split.feature];
        let (yes, no): (Vec<usize>, Vec<usize>) =
            leaf.rows.iter().partition(|row| column[**row] <= split.bin);
        let yes_is_small = yes.len() <= no.len();
        let small = self.cells(round, if yes_is_small { &yes } else { &no });
        let large = leaf
            .cells
            .iter()
            .zip(&small)
            .map(|(all, part)| all.less(part))
            .collect();
        let (yes_cells, no_cells) = if yes_is_small {
            (small, large)
        } else {
            (large, small)
        };
        let mut yes_total = Cell::default();
        for row in &yes {
            yes_total.add(&Cell {
                slope: slopes[*row].0,
                curvature: slopes[*row].1,
                rows: 1,
            });
        }
        let no_total = leaf.total.less(&yes_total);
        let side = |rows, cells, total| {
            let mut side = Leaf {
                node: 0,
                rows,
                cells,
                total,
                best: None,
            };
            side.best = self.best_split(&side, round.asked);
            side
        };
        (
            side(yes, yes_cells, yes_total),
            side(no, no_cells, no_total),
        )
    }
}

/// The leaf whose split helps most; of equal ones the first.
fn most_gain(leaves: &[Leaf]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, leaf) in leaves.iter().enumerate() {
        if let Some(split) = leaf.best
            && best.is_none_or(|(_, gain)| split.gain > gain)
        {
            best = Some((index, split.gain));
        }
    }
    best.map(|(index, _)| index)
}
