"""Trace files and the index of copies, as one table of patch rows.

A trace file holds one JSON object a line, as `retrace trace` writes it: `path`, and under `features` the rows
of the picture's patches. Nothing else of a picture enters training: the head sees what it sees in service.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Table:
    """Patch rows and, for each picture copy, what is known about it."""

    rows: np.ndarray  # patches x features, float32
    copy: np.ndarray  # for each patch row, the index of its copy
    copies: list[dict]  # rows of index.csv, with "generated" 0 or 1
    names_digest: str

    def select(self, wanted) -> "Table":
        """The copies for which `wanted` is true."""
        kept = [index for index, row in enumerate(self.copies) if wanted(row)]
        position = {old: new for new, old in enumerate(kept)}
        mask = np.isin(self.copy, kept)
        copy = np.array([position[old] for old in self.copy[mask]], dtype=int)
        return Table(self.rows[mask], copy, [self.copies[i] for i in kept], self.names_digest)

    def column(self, name: str) -> np.ndarray:
        return np.array([row[name] for row in self.copies])

    def generated(self) -> np.ndarray:
        return np.array([row["generated"] for row in self.copies])

    def mean_rows(self) -> np.ndarray:
        """Mean of the patch rows of each copy."""
        return pooled(self.rows, self.copy, len(self.copies))


def pooled(values: np.ndarray, copy: np.ndarray, count: int) -> np.ndarray:
    """Mean over the patches of each copy."""
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, copy, values)
    counts = np.bincount(copy, minlength=count).reshape(-1, *[1] * (values.ndim - 1))
    return sums / np.maximum(counts, 1)


def load(index: Path, traces: Path) -> Table:
    """Joins `index.csv` with a trace file by the end of the path (`folder/file`, or the file alone where the copies
    lie beside the index); copies without rows are left out."""
    with open(index, newline="") as file:
        known = {row["copy"]: row for row in csv.DictReader(file)}
    rows, copy, copies, digests = [], [], [], set()
    with open(traces) as file:
        for line in file:
            traced = json.loads(line)
            if "error" in traced:
                continue
            ends = traced["path"].split("/")
            name = "/".join(ends[-2:])
            name = name if name in known else ends[-1]
            if name not in known or not traced["features"]["patches"]:
                continue
            entry = dict(known[name], generated=int(known[name]["label"] == "generated"))
            rows.extend(traced["features"]["patches"])
            copy.extend([len(copies)] * len(traced["features"]["patches"]))
            copies.append(entry)
            digests.add(traced["features"]["names_digest"])
    if len(digests) != 1:
        raise SystemExit(f"traces of {len(digests)} feature schemas cannot be mixed")
    return Table(np.asarray(rows, np.float32), np.asarray(copy), copies, digests.pop())


def joined(tables: list[Table]) -> Table:
    """Several tables of one feature schema as one."""
    if len({table.names_digest for table in tables}) != 1:
        raise SystemExit("traces of different feature schemas cannot be mixed")
    starts = np.cumsum([0, *(len(table.copies) for table in tables)])
    copy = np.concatenate([table.copy + start for table, start in zip(tables, starts)])
    copies = [row for table in tables for row in table.copies]
    return Table(np.concatenate([table.rows for table in tables]), copy, copies, tables[0].names_digest)
