"""Lay the frozen results out as one HTML page with the plots in it, for reading and for printing.

    python report_page.py --output report.html

Reads the JSON files and pictures beside it; computes nothing.
"""

import argparse
import base64
import html
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a202c}
table{border-collapse:collapse;margin:1rem 0;font-size:13px}th,td{border-bottom:1px solid #cbd5e0;padding:.25rem .6rem;text-align:right}
th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:600;padding:.4rem 0}img{max-width:100%}
figure{margin:1.5rem 0}figcaption{font-size:13px;color:#4a5568}@media print{h2{break-before:page}table,figure{break-inside:avoid}}"""


def table(caption: str, head: list[str], rows: list[list]) -> str:
    cell = lambda value, kind: f"<{kind}>{html.escape('–' if value is None else str(value))}</{kind}>"
    top = "".join(cell(name, "th") for name in head)
    body = "".join("<tr>" + "".join(cell(value, "td") for value in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def figure(name: str, caption: str) -> str:
    data = base64.b64encode((HERE / name).read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def shares(row: dict) -> str:
    return f"{row['share']} {row['interval']}"


def experts(report: dict) -> str:
    tiers = ("all", "clean", "web", "hard", "against_art")
    rows = [[name, *(f"{found['auc'][tier]['macro']} / {found['auc'][tier]['min']}" for tier in tiers)]
            for name, found in report["leave_one_set_out"].items()]
    out = table("AUC with one set of generated pictures left out, macro mean / minimum", ["expert", *tiers], rows)
    sets = report["leave_one_set_out"]["fused"]["sets"]
    keys = ("copies", "all", "clean", "web", "hard", "average_precision", "against_art")
    out += table("Both experts, by left-out set", ["set", *keys], [[name, *(row.get(key) for key in keys)] for name, row in sets.items()])
    rows = [[tier, report["balanced_accuracy_at_even_odds"][tier]["balanced"], shares(report["true_positives_at_1_percent"][tier]),
             shares(report["true_positives_at_5_percent"][tier])] for tier in ("all", "clean", "web", "hard")]
    out += table("One frozen threshold", ["tier", "balanced accuracy", "found at 1 % false positives", "found at 5 %"], rows)
    rows = [[row["coverage"], row["balanced_accuracy"]] for row in report["balanced_accuracy_by_coverage"]]
    out += table("Risk against coverage", ["coverage", "balanced accuracy"], rows)
    calibration = report["calibration"]
    rows = [["all", None, None, calibration["expected_calibration_error"]]]
    rows += [[name, row["copies"], row["auc"], row["expected_calibration_error"]] for name, row in calibration["by_stratum"].items()]
    out += table(f"Calibration; Brier score {calibration['brier']}", ["stratum", "copies", "AUC", "calibration error"], rows)
    rows = [[name, row["label"], row["copies"], row["false_positives"], row["interval"]]
            for name, row in report["leave_one_real_source_out"].items()]
    return out + table("Sources of photographs and art left out: called generated at 2 % of the others",
                       ["source", "label", "copies", "called generated", "95 % interval"], rows)


def encodings(report: dict) -> str:
    flips = report["flips_among_decided"]
    out = f"<p>{report['pictures']} pictures; {flips['flips']} verdicts of {flips['decided']} flip ({flips['share']}, 95 % {flips['interval']}).</p>"
    rows = []
    for name, row in report["grid"].items():
        found = [row[label]["called_generated"]["share"] for label in ("generated", "real", "art")]
        moved = row.get("probability_moved", {})
        rows.append([name, *found, row["decided_in_both"], row["flips"], moved.get("median"), moved.get("p90")])
    return out + table("Shares called LikelyGenerated, and what becomes of the lossless copy's verdict",
                       ["encoding", "generated", "photographs", "art", "decided in both", "flips", "probability moves, median", "p90"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    read = lambda name: json.loads((HERE / name).read_text())
    fused, trace, grid = read("fusion_report.json"), read("report.json"), read("grid.json")
    parts = [
        "<h1>Detector: evaluation</h1>",
        f"<p>Both experts: commit {html.escape(fused['commit'])}, seed {fused['seed']}, {html.escape(fused['machine'])}. What the figures "
        "mean, what the pictures are and where the detector fails stands in its card.</p>",
        experts(fused), figure("experts.png", "AUC of the trace, the semantic expert and both, by left-out set"),
        figure("fusion_reliability.png", "Reliability of the fused probability, five-fold"),
        "<h2>Re-encodings</h2>", encodings(grid), figure("grid.png", "Shares called LikelyGenerated by encoding"),
        "<h2>The trace alone</h2>", f"<p>Commit {html.escape(trace['commit'])}, seed {trace['seed']}.</p>",
        figure("generators.png", "AUC by left-out set and tier"), figure("scores.png", "Raw scores of validation pictures"),
        figure("reliability.png", "Reliability of the trace's probability, five-fold"),
        "<details><summary>All results as JSON</summary>",
        *(f"<h3>{name}</h3><pre>{html.escape((HERE / name).read_text())}</pre>" for name in
          ("fusion_report.json", "grid.json", "report.json", "places.json")), "</details>",
    ]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Detector: evaluation</title><style>{STYLE}</style>'
    args.output.write_text(page + "\n".join(parts) + "</html>\n")


if __name__ == "__main__":
    main()
