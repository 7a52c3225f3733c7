"""How good the predictions of tables were: `python scripts/prediction_errors.py FOLDER ...` reads the cells of tables
(`OUT/cells`, or a folder of kept numbers) and prints predicted and real minutes and MB, and how many are within
30 %."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splat.bench.cells import Records
from splat.bench.prediction import error_table, errors


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:]]
    if not folders:
        sys.exit(__doc__)
    records = [r for folder in folders for r in Records(folder).everything()]
    print(error_table(errors(records)), end="")


if __name__ == "__main__":
    main()
