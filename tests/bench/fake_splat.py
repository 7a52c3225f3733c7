"""Stands in for `python -m splat` in tests of the table runner: writes the figures that its flags ask for."""

import json
import os
import signal
import sys
import time
from pathlib import Path

arguments = sys.argv[1:]
assert arguments[0] in ("reconstruct", "program"), arguments
source = Path(arguments[1])
flags = {a.lstrip("-"): b for a, b in zip(arguments[2:], [*arguments[3:], ""]) if a.startswith("--")}
out = Path(flags["out"])
out.mkdir(parents=True, exist_ok=True)
with (out / "attempts").open("a") as f:
    f.write(" ".join(arguments) + "\n")
behaviour = (source / "behaviour").read_text() if (source / "behaviour").exists() else "well"
if behaviour == "mistake":
    print("reading", file=sys.stderr)
    print(f"splat: {source.name} is empty: give photos.", file=sys.stderr)
    sys.exit(2)
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "silent":
    sys.exit(0)
if behaviour == "slow":

    def saved(*_: object) -> None:
        (out / "saved").touch()
        sys.exit(130)

    signal.signal(signal.SIGTERM, saved)
    (out / "started").touch()
    time.sleep(60)
if behaviour == "second":
    (out / "parent").write_text(str(os.getppid()))
    time.sleep(1)
if behaviour == "memory":
    block = bytearray(300_000_000)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(0.3)
seed = int(flags["seed"])
flags["method"] = flags.get("method", flags.get("name", ""))
poses = out / "poses" / "found"
if not poses.exists():
    (out / "ingest").mkdir(exist_ok=True)
    poses.parent.mkdir()
    poses.write_text(f"{source.name} {flags['method']}")
    record = {"key": "k", "version": "1", "seconds": 3.0, "complete": True}
    (poses.parent / "stage.json").write_text(json.dumps(record))
if flags.get("until") == "poses":
    sys.exit(0)
metrics = {
    "psnr": 20.0 + seed + len(flags["method"]),
    "ssim": 0.8,
    "lpips": None,
    "views": {"a.jpg": {"psnr": 20.0}},
    "num_gaussians": 1000 * (seed + 1),
    "seconds": {"poses": 3.0, "train": 57.0, "total": 60.0},
    "peak_memory_mb": 1.0,
    "registered": [10, 11],
    "resolution": [480, 360],
    "method": flags["method"],
    "seed": seed,
    "heldout": "posed",
    "photos": str(source),
}
(out / "metrics.json").write_text(json.dumps(metrics))
