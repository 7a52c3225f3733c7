"""The tables of Mip-NeRF 360 with 12 and 24 photos, beside publications.

    python scripts/table_mipnerf360_few.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] ...

`splat bench mipnerf360-N` for each N of COUNTS, one folder each below --out, and a plot of PSNR against N.
Numbers of finished cells are kept in scripts/results/mipnerf360_few; flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402
from splat.bench.family import run_family  # noqa: E402

COUNTS = (12, 24)

if __name__ == "__main__":
    sys.exit(run_family(main, "mipnerf360", COUNTS, sys.argv[1:], ROOT / "scripts" / "results" / "mipnerf360_few"))
