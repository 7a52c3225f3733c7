"""The tables of LLFF with 2, 3, 4, 6 and 9 photos, beside publications.

    python scripts/table_llff.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] ...

`splat bench llff-N` for each N of COUNTS, one folder each below --out, and a plot of PSNR against N.
Numbers of finished cells are kept in scripts/results/llff; flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402
from splat.bench.family import run_family  # noqa: E402

COUNTS = (2, 3, 4, 6, 9)

if __name__ == "__main__":
    sys.exit(run_family(main, "llff", COUNTS, sys.argv[1:], ROOT / "scripts" / "results" / "llff"))
