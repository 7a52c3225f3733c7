"""Two folders of kept cells side by side: held-out quality and seconds of training, scene by scene.

    python scripts/compare_tables.py scripts/results/captures_first scripts/results/captures [--json FILE]

Cells are matched by scene, method, overrides and seed; those that only one folder has are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        if record["status"] == "done":
            found[json.dumps(record["cell"], sort_keys=True)] = record
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    before, after = cells(arguments.before), cells(arguments.after)
    rows = []
    for key in sorted(before.keys() & after.keys()):
        a, b = before[key]["metrics"], after[key]["metrics"]
        rows.append(
            {
                "scene": before[key]["cell"]["scene"],
                "preset": before[key]["cell"]["overrides"].get("preset", "default"),
                "psnr": [a["psnr"], b["psnr"]],
                "ssim": [a["ssim"], b["ssim"]],
                "gaussians": [a["num_gaussians"], b["num_gaussians"]],
                "train_seconds": [a["seconds"]["train"], b["seconds"]["train"]],
            }
        )
    if not rows:
        raise SystemExit("The folders have no cell in common.")
    print(f"{'scene':<16}{'PSNR':>16}{'change':>8}{'SSIM':>16}{'training, s':>16}{'ratio':>7}")
    for r in rows:
        (p, q), (s, t), (u, v) = r["psnr"], r["ssim"], r["train_seconds"]
        print(f"{r['scene']:<16}{p:>8.2f}{q:>8.2f}{q - p:>+8.2f}{s:>8.3f}{t:>8.3f}{u:>8.0f}{v:>8.0f}{v / u:>7.2f}")
    change = statistics.mean(r["psnr"][1] - r["psnr"][0] for r in rows)
    ratio = sum(r["train_seconds"][1] for r in rows) / sum(r["train_seconds"][0] for r in rows)
    print(f"mean change {change:+.2f} dB; all training together takes {ratio:.2f} of the time")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "psnr_change": change, "time_ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
