"""Print the tables of the card from the reports.

    python card_figures.py report.json
    python card_figures.py fusion_report.json
"""

import json
import sys
from pathlib import Path

TIERS = ("clean", "web", "hard")


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("–" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def fusion_tables(report: dict) -> None:
    left_out = report["leave_one_set_out"]
    rows = [[name, fused["copies"], left_out["trace"]["sets"][name]["all"], left_out["semantic_where_traced"]["sets"][name]["all"],
             fused["all"], *(left_out["semantic"]["sets"][name][t] for t in TIERS), left_out["semantic"]["sets"][name]["average_precision"],
             left_out["semantic"]["sets"][name]["against_art"]] for name, fused in left_out["fused"]["sets"].items()]
    for word in ("macro", "min"):
        of = lambda name, key="all": left_out[name]["auc"][key][word]
        rows.append([f"**{word}, sets of 20 copies or more**", "", of("trace"), of("semantic_where_traced"), of("fused"),
                     *(of("semantic", t) for t in TIERS), None, of("semantic", "against_art")])
    print(table(["generated set, left out", "copies with a trace", "trace", "semantic", "both", *(f"semantic, {t}" for t in TIERS),
                 "average precision", "against art"], rows), end="\n\n")
    rows = [[name, row["label"], row["copies"], row["false_positives"], row["interval"]]
            for name, row in report["leave_one_real_source_out"].items() if row["copies"] >= 30]
    rows.sort(key=lambda row: -row[3])
    print(table(["source, left out", "label", "copies", "called generated", "95 % interval"], rows), end="\n\n")
    verdict_table(report["verdicts"])


def verdict_table(verdicts: dict) -> None:
    rows = []
    for name, parts in verdicts.items():
        for tier, row in parts.items():
            rows.append([name, tier, row["copies"], row["LikelyGenerated"], row["LikelyGenerated_95_percent_interval"],
                         row["LikelyNotGenerated"], row["Inconclusive"]])
    print(table(["pictures", "tier", "copies", "LikelyGenerated", "95 % interval", "LikelyNotGenerated", "Inconclusive"], rows), end="\n\n")


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text())
    if "fused" in report["leave_one_set_out"]:
        return fusion_tables(report)
    left_out = report["leave_one_set_out"]
    rows = [[name, row["copies"], row["all"], *(row[t] for t in TIERS), row["against_art"]] for name, row in left_out["sets"].items()]
    macro = left_out["auc"]["macro"]
    rows.append(["**mean of the sets**", "", macro["all"], *(macro[t] for t in TIERS), macro["against_art"]])
    print(table(["generated set, left out", "copies", "AUC", *TIERS, "against art"], rows), end="\n\n")
    families = report["leave_one_generator_out"]
    rows = [[name, row["copies"], row["all"], *(row[t] for t in TIERS)] for name, row in families["families"].items()]
    rows.sort(key=lambda row: -row[2])
    rows.append(["**mean of the families**", "", families["auc"]["macro"], None, None, None])
    print(table(["generator family, left out of all sets", "copies", "AUC", *TIERS], rows), end="\n\n")
    rows = [[name, row["copies"], row["all"], *(row[t] for t in TIERS), row["false_positives_at_5_percent_of_the_others"]]
            for name, row in report["leave_one_real_source_out"].items()]
    print(table(["real or art source, left out", "copies", "AUC", *TIERS, "false positives at 5 % of the others"], rows), end="\n\n")
    verdict_table(report["calibration"]["verdicts"])
    rows = [[name, row["copies"], row["auc"], row["expected_calibration_error"], row["brier"]]
            for name, row in report["calibration"]["by_stratum"].items()]
    print(table(["measured quality", "copies", "AUC", "calibration error", "Brier"], rows))


if __name__ == "__main__":
    main()
