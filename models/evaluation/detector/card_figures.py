"""Print the tables of the card from `report.json`.

    python card_figures.py report.json
"""

import json
import sys
from pathlib import Path

TIERS = ("clean", "web", "hard")


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("–" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text())
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
    rows = []
    for name, parts in report["calibration"]["verdicts"].items():
        for tier in ("all", *TIERS):
            row = parts[tier]
            rows.append([name, tier, row["copies"], row["LikelyGenerated"], row["LikelyGenerated_95_percent_interval"],
                         row["LikelyNotGenerated"], row["Inconclusive"]])
    print(table(["pictures", "tier", "copies", "LikelyGenerated", "95 % interval", "LikelyNotGenerated", "Inconclusive"], rows), end="\n\n")
    rows = [[name, row["copies"], row["auc"], row["expected_calibration_error"], row["brier"]]
            for name, row in report["calibration"]["by_stratum"].items()]
    print(table(["measured quality", "copies", "AUC", "calibration error", "Brier"], rows))


if __name__ == "__main__":
    main()
