"""The wheel is whole: installed outside the checkout, with no compiler on PATH, it runs the main job."""

import json
import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from splat.native import build

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64" or build.compiler() is None,
        reason="kernels are shipped for x86-64 Linux, by a machine with a compiler",
    ),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return next(folder.glob("*.whl"))


def test_it_holds_kernels_for_both_levels_the_scenes_and_the_templates(wheel):
    assert wheel.name.endswith(f"-py3-none-linux_{platform.machine()}.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [f"splat/native/prebuilt/splat-cpu-{level}.so" for level in build.LEVELS]
    assert {*wanted, "splat/scenes/atelier.py", "splat/native/cuda/adam.cu", "splat/native/kernels.h"} <= names
    assert "splat/priors/stereo_confidence.json" in names
    page = [p for p in (ROOT / "splat" / "viewer" / "static").rglob("*") if p.is_file()]
    assert {p.relative_to(ROOT).as_posix() for p in page} <= names, "the page of the viewer, with its licences"
    templates = {f"splat/report/templates/{p.name}" for p in (ROOT / "splat" / "report" / "templates").iterdir()}
    assert len(templates) > 3 and templates <= names


def test_installed_elsewhere_without_a_compiler_it_runs_the_demo(wheel, tmp_path):
    """The environment's own packages are seen through a .pth file; splat itself comes from the wheel alone."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    others = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    zipfile.ZipFile(wheel).extractall(site)
    tools = tmp_path / "tools"  # a PATH without any compiler
    tools.mkdir()
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment |= {k: v for k, v in os.environ.items() if k.startswith("OMP_")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    where = run("-c", "import splat; print(splat.__file__)").strip()
    assert where.startswith(str(site)), where
    loaded = run("-c", "from splat.native import build; build.load(); print(build.prebuilt())").strip()
    assert loaded.startswith(str(site)) and not (tmp_path / "cache").exists()
    run("-m", "splat", "demo", "--preset", "fast", "--out", str(tmp_path / "demo"), "--quiet")
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert metrics["psnr"] > 27 and metrics["registered"] == [24, 24]
