"""The tables of Tanks and Temples and of Deep Blending: two scenes of each, all photos.

    python scripts/table_tandt_db.py --data DIR [--methods auto,edgs] [--seeds 3] [--check] [--gate BASELINE] ...

`splat bench tandt-db` with the numbers of finished cells kept in
scripts/results/tandt_db; its flags are those of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.__main__ import main  # noqa: E402

if __name__ == "__main__":
    results = ROOT / "scripts" / "results" / "tandt_db"
    sys.exit(main(["bench", "tandt-db", "--results", str(results), *sys.argv[1:]]))
