"""The table of DTU with three photos: fifteen scans, measured within the masks of the objects.

    python scripts/table_dtu.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] [--gate BASELINE] ...

`splat bench dtu-3` with the numbers of finished cells kept in
scripts/results/dtu; its flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    results = ROOT / "scripts" / "results" / "dtu"
    sys.exit(main(["bench", "dtu-3", "--results", str(results), *sys.argv[1:]]))
