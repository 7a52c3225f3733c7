"""The tables of Tanks and Temples with 3, 6, 9 and 16 photos, beside publications.

    python scripts/table_tandt_few.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] ...

`splat bench tandt-N` for each N of COUNTS, one folder each below --out, and a plot of PSNR against N.
Numbers of finished cells are kept in scripts/results/tandt_few; flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402
from splat.bench.family import run_family  # noqa: E402

COUNTS = (3, 6, 9, 16)

if __name__ == "__main__":
    sys.exit(run_family(main, "tandt", COUNTS, sys.argv[1:], ROOT / "scripts" / "results" / "tandt_few"))
