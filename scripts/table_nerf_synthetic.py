"""The table of NeRF-synthetic: eight rendered objects, 100 photos of each.

    python scripts/table_nerf_synthetic.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] [--gate BASELINE] ...

`splat bench nerf-synthetic` with the numbers of finished cells kept in
scripts/results/nerf_synthetic; its flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    results = ROOT / "scripts" / "results" / "nerf_synthetic"
    sys.exit(
        main(
            [
                "bench",
                "nerf-synthetic",
                "--results",
                str(results),
                *sys.argv[1:],
            ]
        )
    )
