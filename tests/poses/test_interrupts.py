"""Ctrl-C and SIGTERM in the middle of pycolmap end with a sentence and exit code 130."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from signals import takes_ctrl_c

from splat.core.interrupts import STOPPED
from tests.street import write_photos

ROOT = Path(__file__).resolve().parents[2]

MAPPING = """
import sys
from pathlib import Path
from splat import cli
from splat.core.interrupts import interruptible
from splat.core.slots import ReadOptions, Silent
from splat.ingest import read
from splat.poses import Sfm, mapping
from splat.poses.attempts import attempt_sequence
from splat.poses.features import quiet
from splat.poses.sfm import AttemptRunner

folder = Path(sys.argv[1])
quiet()
capture = read(folder / "photos", ReadOptions(workdir=folder), Silent())
runner = AttemptRunner(Sfm(threads=1), capture, folder, Silent())
settings = attempt_sequence(4, 320, 500)[0]

def work():
    with interruptible():
        features = runner.features(settings.features)
        cameras = mapping.make_cameras(capture.views, features)
        found, _, _ = runner.matches(settings, features, cameras)
        mapping.write_database(folder / "d.db", [v.name for v in capture.views], features, cameras, found)
        print("mapping", flush=True)
        while True:
            mapping.map_photos(folder / "d.db", settings.mapping, 4, set(), 0, 1, lambda: None)

cli.parse = lambda *_: work
cli.load = lambda *_: None
sys.exit(cli.run("reconstruct", "", []))
"""

COMPILED = """
import threading
from splat.core.interrupts import interruptible
from splat.poses.features import quiet
import numpy as np, pycolmap
quiet()
rng = np.random.default_rng(0)
with interruptible(0.3):
    print("compiled", flush=True)
    a, b = rng.normal(size=(200000, 3)), rng.normal(size=(200000, 3))
    options = pycolmap.RANSACOptions()
    options.max_error, options.min_num_trials, options.max_num_trials = 1e-9, 10**6, 10**6
    pycolmap.estimate_sim3d_robust(a, b, options)
"""

IMPORT = """
import sys
from splat import cli
from splat.core.interrupts import import_module
import numpy

def work():
    print("import", flush=True)
    import_module("pycolmap")
    while True:
        pass

cli.parse = lambda *_: work
cli.load = lambda *_: None
sys.exit(cli.run("reconstruct", "", []))
"""


@pytest.mark.parametrize(
    ("program", "number", "delay"),
    [(MAPPING, signal.SIGTERM, 0.2), (COMPILED, signal.SIGTERM, 0.3), (COMPILED, signal.SIGINT, 0.3),
     (IMPORT, signal.SIGINT, 0.05)],
)  # fmt: skip
def test_a_signal_inside_pycolmap_is_one_sentence(
    tmp_path: Path, program: str, number: signal.Signals, delay: float
) -> None:
    (tmp_path / "photos").mkdir()
    for path in write_photos(tmp_path / "photos")[4:]:
        path.unlink()
    command = [sys.executable, "-c", program, str(tmp_path)]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=takes_ctrl_c,
    )
    assert child.stdout is not None
    assert child.stdout.readline()
    time.sleep(delay)
    asked = time.monotonic()
    child.send_signal(number)
    _, said = child.communicate(timeout=240)
    assert child.returncode == 130, said
    assert said.strip() == f"splat: {STOPPED}"
    assert time.monotonic() - asked < 10
