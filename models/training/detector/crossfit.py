"""Cross-fitting: every picture is judged by a head that did not see it.

Heads are fitted on the photographs and the art of the training role and on generated pictures of all sets
but one (`NOT_FITTED`). Photographs and art of the validation role are never fitted on, so the final head may
judge them. A generated picture is judged by a head that was fitted without its whole set; other sets may hold
other pictures of the same generator.
"""

import numpy as np

import heads
from traces import Table

# Judged, never fitted on: every file of this set was compressed with quality 80 by its publisher, as hardly
# any photograph was, so a head could take that one history for the label.
NOT_FITTED = ("easydiffusion",)


def sets_of(table: Table) -> list[str]:
    """The sets of generated pictures."""
    return sorted({row["source"] for row in table.copies if row["generated"]})


def fitted_without(table: Table, make_head, left_out=()):
    """A head that saw neither the validation role's photographs and art nor the sources left out."""
    refused = {*left_out, *NOT_FITTED}
    wanted = lambda row: row["source"] not in refused and (row["generated"] or row["role"] == "train")
    return make_head().fit(table.select(wanted))


class CrossFit:
    """One head for each set of generated pictures, fitted without it."""

    def __init__(self, table: Table, make_head):
        self.heads = {name: fitted_without(table, make_head, (name,)) for name in sets_of(table)}

    def scores(self, judged: Table, final) -> np.ndarray:
        """Raw scores of generated pictures by their set's head, of the others by the final head."""
        out = heads.scores(final, judged)
        for name, head in self.heads.items():
            here = judged.select(lambda row: row["source"] == name)
            if here.copies:
                out[judged.column("source") == name] = heads.scores(head, here)
        return out


def judged(table: Table) -> Table:
    """All pictures that calibration, thresholds and figures may use."""
    return table.select(lambda row: row["generated"] or row["role"] == "validation")


def set_weights(table: Table) -> np.ndarray:
    """Both classes weigh the same, and so do the sets of generated pictures among themselves."""
    generated, source = table.generated() == 1, table.column("source")
    out = np.zeros(len(table.copies))
    names = np.unique(source[generated])
    for name in names:
        out[generated & (source == name)] = 0.5 / len(names) / (generated & (source == name)).sum()
    out[~generated] = 0.5 / max((~generated).sum(), 1)
    return out * len(out)
