"""The table of Mip-NeRF 360: nine scenes, all photos, beside 3DGS, gsplat, EDGS and others as published.

    python scripts/table_mipnerf360.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] [--gate BASELINE] ...

`splat bench mipnerf360` with the numbers of finished cells kept in
scripts/results/mipnerf360; its flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    results = ROOT / "scripts" / "results" / "mipnerf360"
    sys.exit(main(["bench", "mipnerf360", "--results", str(results), *sys.argv[1:]]))
