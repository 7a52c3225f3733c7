"""The table of NVS-RGBD with three photos.

    python scripts/table_nvs_rgbd.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] [--gate BASELINE] ...

`splat bench nvs-rgbd` with the numbers of finished cells kept in
scripts/results/nvs_rgbd; its flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    results = ROOT / "scripts" / "results" / "nvs_rgbd"
    sys.exit(main(["bench", "nvs-rgbd", "--results", str(results), *sys.argv[1:]]))
