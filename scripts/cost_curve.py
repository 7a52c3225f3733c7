"""What a training step costs against Gaussians and pixels, on one thread: processor seconds and peak memory, with the
fit `a + b pixels + c Gaussians`.

    python scripts/cost_curve.py [--json scripts/results/cost/cost.json] [--plot scripts/results/cost/cost.png]

Steps are the product's own (`splat.stages.calibration.step_load`), each point in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench import plots  # noqa: E402
from splat.core.files import write_json  # noqa: E402
from splat.core.machine import peak_memory_mb  # noqa: E402
from splat.native.build import cpu_model  # noqa: E402

GAUSSIANS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SIZES = ((240, 180), (480, 360), (960, 720), (1600, 1200))
FIXED_SIZE, FIXED_COUNT = (480, 360), 100_000
"""The size at which the number of Gaussians varies, and the number at which the size does."""


def point(gaussians: int, width: int, height: int, seconds: float) -> dict[str, Any]:
    """One measurement, in this process."""
    from splat.stages.calibration import one_thread, seconds_of_a_step

    before = peak_memory_mb()
    with one_thread():
        step = seconds_of_a_step(gaussians, width, height, seconds)
    row = {"gaussians": gaussians, "width": width, "height": height, "seconds_per_step": step}
    return row | {"memory_mb": peak_memory_mb(), "memory_before_mb": before}


def measured(gaussians: int, size: tuple[int, int], seconds: float) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, "--point", str(gaussians), *map(str, size), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{gaussians:>9,} Gaussians {size[0]}x{size[1]}: {1e3 * row['seconds_per_step']:.1f} ms, "
        f"{row['memory_mb']:.0f} MB",
        flush=True,
    )
    return row


def fit(rows: list[dict[str, Any]], key: str) -> list[float]:
    """[a, b, c] of a + b pixels + c Gaussians with the least squares of relative errors; none is negative."""
    import numpy as np
    from scipy.optimize import nnls

    a = np.array([[1.0, r["width"] * r["height"], r["gaussians"]] for r in rows])
    y = np.array([r[key] for r in rows])
    scale = np.array([1e-2, 1e-7, 1e-7]) if key == "seconds_per_step" else np.array([1e2, 1e-4, 1e-3])
    return [float(v) for v in nnls(a * scale / y[:, None], np.ones(len(y)))[0] * scale]


def fitted(coefficients: list[float], gaussians: float, pixels: float) -> float:
    return coefficients[0] + coefficients[1] * pixels + coefficients[2] * gaussians


def draw(rows: list[dict[str, Any]], fits: dict[str, list[float]], path: Path) -> None:
    """Four curves, measured and fitted: time and memory against Gaussians and against pixels."""
    by_count = [r for r in rows if (r["width"], r["height"]) == FIXED_SIZE]
    by_size = [r for r in rows if r["gaussians"] == FIXED_COUNT]
    for key, unit, factor in (("seconds_per_step", "ms per step", 1e3), ("memory_mb", "peak MB", 1.0)):
        for name, some, x in (
            ("gaussians", by_count, lambda r: r["gaussians"]),
            ("pixels", by_size, lambda r: r["width"] * r["height"]),
        ):
            some = sorted(some, key=x)
            series = {
                "measured": [(x(r), factor * r[key]) for r in some],
                "fit": [(x(r), factor * fitted(fits[key], r["gaussians"], r["width"] * r["height"])) for r in some],
            }
            fixed = f"{FIXED_SIZE[0]}x{FIXED_SIZE[1]} px" if name == "gaussians" else f"{FIXED_COUNT:,} Gaussians"
            title = f"Cost of a training step, {fixed}, one thread"
            figure = plots.curves(title, name.capitalize(), unit, series)
            plots.write(figure, path.with_name(f"{path.stem}_{key.split('_')[0]}_{name}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    folder = ROOT / "scripts" / "results" / "cost"
    parser.add_argument("--point", nargs=3, type=int)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path, default=folder / "cost.json")
    parser.add_argument("--plot", type=Path, default=folder / "cost.png")
    a = parser.parse_args()
    if a.point:
        print(json.dumps(point(*a.point, a.seconds)))
        return
    load = os.getloadavg()[0]
    pairs = [(n, FIXED_SIZE) for n in GAUSSIANS] + [(FIXED_COUNT, s) for s in SIZES if s != FIXED_SIZE]
    rows = [measured(n, size, a.seconds) for n, size in pairs]
    fits = {key: fit(rows, key) for key in ("seconds_per_step", "memory_mb")}
    errors = {
        key: max(abs(fitted(c, r["gaussians"], r["width"] * r["height"]) / r[key] - 1) for r in rows)
        for key, c in fits.items()
    }
    model = next((line.partition(":")[2].strip() for line in cpu_model().splitlines() if "model name" in line), "")
    about = {"processor": model, "threads": 1, "load_before": load, "load_after": os.getloadavg()[0]}
    write_json(a.json, {**about, "fit": fits, "max_relative_error": errors, "points": rows})
    for key, c in fits.items():
        print(f"{key}: {c[0]:.3g} + {c[1]:.3g} per pixel + {c[2]:.3g} per Gaussian (at most {errors[key]:.0%} off)")
    draw(rows, fits, a.plot)


if __name__ == "__main__":
    main()
