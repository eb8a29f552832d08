"""Fit the semantic head and its fusion with the trace, and write both into a detector's folder.

    python fit_fusion.py --views VIEWS.npz ... --index INDEX.csv ... --traces TRACES.jsonl ... --detector ../../detector

`--views` are files of `embed_views.py`, `--index` the lists of the copies, `--traces` what `retrace trace` wrote
of (some of) the same copies. Writes `heads/semantic.onnx` and `fusion.json`; neither needs PyTorch.
"""

import argparse
import json
from pathlib import Path

import calibrate
import fusion
import semantic_head
import traces

VERSION = "2"


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, nargs="+", required=True)
    parser.add_argument("--index", type=Path, nargs="+", required=True)
    parser.add_argument("--traces", type=Path, nargs="+", required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", default=(), help="sets that the semantic head is not fitted on")
    return parser


def read(args) -> tuple[semantic_head.Views, traces.Table]:
    tables = [traces.load(index, path) for index, path in zip(args.index, args.traces, strict=True)]
    return semantic_head.load(args.views), traces.joined(tables)


def main() -> None:
    args = arguments(__doc__).parse_args()
    views, table = read(args)
    final = semantic_head.Head().fit(views, fusion.fitted_on(views, args.without))
    semantic = fusion.semantic_scores(views, args.without)
    both = fusion.judged(semantic, views, table, args.detector, args.seed)
    traced = both.select(both.stratum >= 0)
    strata, limits = fusion.fit(traced)
    (args.detector / "heads").mkdir(exist_ok=True)
    final.export(args.detector / "heads" / "semantic.onnx")
    document = {
        "version": VERSION,
        "strata": [
            {"name": name, **vars(stratum)} for (name, _), stratum in zip(calibrate.STRATA, strata, strict=True)
        ],
        "thresholds": {"version": VERSION, "strata": limits},
    }
    (args.detector / "fusion.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
