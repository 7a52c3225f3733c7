"""The table of all captures, each from its photos alone: held-out quality, photos registered, seconds per stage.

    python scripts/captures_table.py --out runs/captures [--preset default] [--methods points] [--scenes kermit,fox]
                                     [--seeds 0] [--data DIR] [--json FILE]

`splat bench captures` with the numbers of finished cells kept in scripts/results/captures, so that the table can be
made in several sittings: cells found there are not run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["bench", "captures", "--results", str(ROOT / "scripts" / "results" / "captures"), *sys.argv[1:]]))
