"""`splat doctor`: what this machine has, what is missing, and the one fix for each.

Nothing heavy is imported at the top: the doctor also has to speak where torch is broken or missing.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from splat.core.errors import SplatError
from splat.core.files import write_json

DISTRIBUTION = "splat3d"
_NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless", "pycolmap": "pycolmap", "PIL": "Pillow"}
_NEEDED |= {"jaxtyping": "jaxtyping", "jinja2": "Jinja2", "tyro": "tyro", "rich": "rich", "websockets": "websockets"}
_ENOUGH_MEMORY_GB, _ENOUGH_DISK_GB = 1.5, 1.0
_COMFORTABLE_MEMORY_GB, _COMFORTABLE_DISK_GB = 4.0, 5.0


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    """ok; note: something optional is missing or works less well; problem: the main job will not work."""
    found: str
    fix: str = ""
    """The one thing to do about it; empty where nothing needs doing."""


@dataclass(frozen=True)
class Doctor:
    """What this machine has, what is missing, and the one fix for each."""

    json: Path | None = None
    """Also write the findings to this file."""
    weights: Path | None = None
    """Folder to look for weights in (default: the one named by SPLAT_WEIGHTS, and the usual caches)."""

    def __call__(self) -> list[Check]:
        """Print the findings and return them; raises SplatError (exit code 2) when the main job will not work here."""
        checks = self.checks()
        print_table(checks)
        if self.json is not None:
            write_json(self.json, {"usable": usable(checks), "checks": [asdict(c) for c in checks]})
        if not usable(checks):
            names = ", ".join(c.name for c in checks if c.status == "problem")
            raise SplatError(f"this machine is not ready ({names}): the fixes stand in the table.")
        return checks

    def checks(self) -> list[Check]:
        """Look at everything, print nothing. A check that fails itself is reported, and the others go on."""
        looks: list[tuple[str, Callable[[], Check]]] = [
            ("Python", python),
            ("splat", own_package),
            ("PyTorch", pytorch),
            ("packages", packages),
            ("CPU", cpu),
            ("compiler", compiler),
            ("kernels", kernels),
            ("CUDA", cuda),
            ("processes", processes),
            ("gsplat", gsplat),
            ("rasterizer", rasterizer),
            ("Open3D", open3d),
            ("LPIPS", lambda: lpips(self.weights)),
            ("weights", lambda: learned_priors(self.weights)),
            ("Depth Anything", lambda: depth_anything(self.weights)),
            ("Marigold", lambda: marigold(self.weights)),
            ("refiner", lambda: refiners(self.weights)),
            ("enhancer", lambda: video_enhancer(self.weights)),
            *((w.title, partial(packaged, n, self.weights)) for n, w in _packaged()),
            ("memory", memory),
            ("disk", disk),
        ]
        found = []
        for name, look in looks:
            try:
                found.append(look())
            except Exception as e:  # the doctor must not fall ill itself
                found.append(Check(name, "note", f"could not be looked at: {type(e).__name__}: {e}"))
        return found


def usable(checks: Iterable[Check]) -> bool:
    return all(c.status != "problem" for c in checks)


def print_table(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    table = Table(box=None, pad_edge=False)
    for title in ("", "status", "found", "fix"):
        table.add_column(title, overflow="fold")
    for c in checks:
        table.add_row(Text(c.name), Text(c.status, colours[c.status]), Text(c.found), Text(c.fix))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


# ------------------------------------------------------------------------------------------------ what must be there


def python() -> Check:
    """Only tells: an older Python cannot have installed or read this package."""
    return Check("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def own_package() -> Check:
    """This package, and any other that calls itself `splat`."""
    import splat

    here = Path(splat.__file__).resolve().parent
    owners = set(importlib.metadata.packages_distributions().get("splat", []))
    foreign = sorted(o for o in owners if o.lower().replace("_", "-") != DISTRIBUTION)
    if foreign:
        names = " ".join(foreign)
        found = f"{names} installs a package of the same name into the same place"
        return Check(
            "splat", "problem", found, f"pip uninstall {names}, then pip install --force-reinstall {DISTRIBUTION}"
        )
    others = [p for p in _packages_named_splat() if p != here]
    if others:
        return Check(
            "splat",
            "note",
            f"{splat.__version__} at {here}; another on the path: {others[0]}",
            f"rename or remove {others[0]}",
        )
    return Check("splat", "ok", f"{splat.__version__} at {here}")


def _packages_named_splat() -> list[Path]:
    """Every importable `splat` on the path, in order, without repetition."""
    found: list[Path] = []
    for entry in sys.path:
        base = Path(entry or ".")
        for path in (base / "splat" / "__init__.py", base / "splat.py"):
            if path.is_file():
                home = (path.parent if path.name == "__init__.py" else path).resolve()
                found += [home] if home not in found else []
    return found


def pytorch() -> Check:
    fix = "pip install -c constraints.txt torch"
    try:
        import torch
    except Exception as e:  # a broken binary raises OSError or RuntimeError
        return Check("PyTorch", "problem", f"does not import: {type(e).__name__}: {e}", fix)
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    found = f"{torch.__version__} ({built})"
    if tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2]) < (2, 6):
        return Check("PyTorch", "problem", found, fix)
    return Check("PyTorch", "ok", found)


def packages() -> Check:
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Check(
            "packages",
            "problem",
            f"missing: {', '.join(missing)}",
            f"pip install -c constraints.txt {' '.join(missing)}",
        )
    versions = []
    for name in _NEEDED.values():
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:  # e.g. opencv-python stands in for the headless wheel
            versions.append(f"{name} ?")
    rivals = [
        n for n in ("opencv-python", "opencv-contrib-python") if _installed(n) and _installed("opencv-python-headless")
    ]
    if rivals:
        return Check(
            "packages",
            "note",
            f"{rivals[0]} and opencv-python-headless overwrite each other",
            f"pip uninstall {rivals[0]}",
        )
    return Check("packages", "ok", ", ".join(versions))


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# ----------------------------------------------------------------------------------------------------- what computes


def cpu() -> Check:
    from splat.core.machine import available_cores
    from splat.native.build import cpu_model

    name, bits = simd(cpu_model(), platform.machine())
    found = f"{available_cores()} cores, {platform.machine()}, {name} ({bits} bit: {bits // 32} floats at once)"
    return Check("CPU", "ok", found)


def simd(description: str, machine: str) -> tuple[str, int]:
    """The widest vector unit and its bits, from /proc/cpuinfo's flags (or from the machine alone)."""
    words = set(description.replace("\t", " ").split())
    for flag, name, bits in (
        ("avx512f", "AVX-512", 512),
        ("avx2", "AVX2", 256),
        ("avx", "AVX", 256),
        ("asimd", "NEON", 128),
        ("sse2", "SSE2", 128),
    ):
        if flag in words:
            return name, bits
    return ("NEON", 128) if machine.lower() in {"arm64", "aarch64"} else ("SSE2", 128)


def compiler() -> Check:
    from splat.native import build

    found = build.compiler()
    if found is None:
        named = os.environ.get("CXX")
        if named:
            return Check(
                "compiler", "note", f"CXX={named} is no compiler", "unset CXX, or name a C++ compiler that is there"
            )
        return Check("compiler", "note", "no C++ compiler", "install g++ (Debian, Ubuntu: apt install g++)")
    return Check("compiler", "ok", _first_line([*shlex.split(found), "--version"]))


def kernels() -> Check:
    """Builds the CPU kernels if that has not been done."""
    from splat.native import build

    reason = build.unavailable()
    if reason is None:
        return Check("kernels", "ok", f"CPU kernels load ({build.cache_dir()})")
    short = reason if len(reason) < 400 else f"{reason[:400]} ..."
    without = "install g++ (Debian, Ubuntu: apt install g++)"
    fix = without if build.compiler() is None else "name another C++17 compiler: CXX=clang++ splat doctor"
    return Check("kernels", "problem", f"training would run on the slow reference: {short}", fix)


def cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        p = torch.cuda.get_device_properties(0)
        others = f" and {torch.cuda.device_count() - 1} more" if torch.cuda.device_count() > 1 else ""
        nvcc = shutil.which("nvcc")
        found = f"{p.name}, {p.total_memory / 1e9:.0f} GB, sm_{p.major}{p.minor}{others}; nvcc: {nvcc or 'none'}"
        return Check("CUDA", "ok", found)
    if shutil.which("nvidia-smi") and (gpu := _first_line(["nvidia-smi", "-L"])).startswith("GPU"):
        if torch.version.cuda is None:
            return Check("CUDA", "note", f"{gpu}, but this torch is a CPU build", "install a CUDA build of torch")
        return Check("CUDA", "note", f"{gpu}, but torch {torch.__version__} cannot use it", "update the NVIDIA driver")
    return Check("CUDA", "note", "no CUDA device: work runs on the CPU")


def processes() -> Check:
    """Whether several processes, a GPU each, can train one scene together, and the command that does it."""
    import torch

    if not torch.distributed.is_available():
        return Check("processes", "note", "this torch has no torch.distributed: one process, one GPU")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > 1 and not torch.distributed.is_nccl_available():
        return Check("processes", "note", f"{gpus} GPUs, but this torch has no NCCL", "install a CUDA build of torch")
    if gpus > 1:
        found = f"{gpus} GPUs train one scene with: torchrun --nproc-per-node {gpus} -m splat reconstruct PHOTOS"
        return Check("processes", "ok", found)
    if not torch.distributed.is_gloo_available():
        return Check("processes", "ok", "one; this torch has no gloo to join several")
    where = "the one GPU" if gpus else "the CPU"
    return Check("processes", "ok", f"one is best on {where}; several GPUs would share a scene under torchrun")


def gsplat() -> Check:
    """Looks without importing: importing may compile for minutes."""
    import torch

    if importlib.util.find_spec("gsplat") is None:
        if torch.cuda.is_available():
            return Check("gsplat", "note", "not installed", f'pip install "{DISTRIBUTION}[cuda]"')
        return Check("gsplat", "ok", "not installed; it needs CUDA")
    version = importlib.metadata.version("gsplat")
    if not torch.cuda.is_available():
        return Check("gsplat", "note", f"{version}, but no CUDA device: it is not used")
    return Check("gsplat", "ok", version)


def rasterizer() -> Check:
    """Which one `--raster auto` takes, and why not the others."""
    import torch

    from splat.raster import choose, reasons

    device = "cuda" if torch.cuda.is_available() else "cpu"
    taken = choose(device).name
    others = [f"{name}: {why or 'slower here'}" for name, why in reasons(device).items() if name != taken]
    return Check("rasterizer", "ok", f"{taken} draws on {device} ({'; '.join(o.rstrip('.') for o in others)})")


def open3d() -> Check:
    if importlib.util.find_spec("open3d") is None:
        return Check("Open3D", "ok", "not installed; point clouds are written by splat itself")
    version = importlib.metadata.version("open3d") if _installed("open3d") else "installed"
    if ctypes.util.find_library("usb-1.0") is None:
        fix = "install libusb-1.0 (Debian, Ubuntu: apt install libusb-1.0-0)"
        return Check("Open3D", "note", f"{version}, but the system's libusb-1.0, which it loads, is missing", fix)
    return Check("Open3D", "ok", version)


# ----------------------------------------------------------------------------------------------------------- weights


def lpips(folder: Path | None) -> Check:
    from splat.core.lpips import load_lpips

    reasons = []
    for backbone in ("vgg", "alex"):
        metric, text = load_lpips(backbone, folder)
        if metric is not None:
            return Check("LPIPS", "ok", f"{metric.variant}: {text}")
        reasons.append(text)
    from splat.stages.perceptual import perceptual_metric

    instead = perceptual_metric(folder)[0] is not None
    found = "no weights: " + ("ST-LPIPS is measured instead" if instead else "the figure is left out")
    return Check("LPIPS", "note", found, reasons[0].split(": ", 1)[1].rstrip("."))


def _packaged() -> list[tuple[str, Any]]:
    """Name and `Weights` of each file that pip brings; none where torch is broken, which another check reports."""
    try:
        from splat.priors.weights import TABLE
    except Exception:
        return []
    return list(TABLE.items())


def packaged(name: str, folder: Path | None) -> Check:
    """A file of weights that a pip package carries."""
    from splat.priors import weights

    w = weights.TABLE[name]
    about = f"{w.size / 1e6:.1f} MB, {w.licence}: {w.purpose}"
    path = weights.find(name, folder)
    if path is None:
        return Check(w.title, "note", f"not found ({about})", weights.INSTALL_ALL)
    try:
        weights.check(name, path)
    except SplatError as e:
        return Check(w.title, "note", str(e), w.command)
    if w in (weights.DISK, weights.LIGHTGLUE) and importlib.util.find_spec("kornia") is None:
        return Check(w.title, "note", f"{path} ({about}), but kornia is missing", f'pip install "{DISTRIBUTION}[disk]"')
    return Check(w.title, "ok", f"{path} ({about})")


def depth_anything(folder: Path | None) -> Check:
    """The network behind `--depth anything`."""
    from splat.priors import depth_anything as network

    about = f"{network.SIZE_MB} MB, {network.LICENCE}: depth of single photos, --depth anything"
    found = network.find_weights(folder)
    if found is None:
        fix = f"put the folder {network.FOLDER} ({' and '.join(network.FILES)}) into the one named by SPLAT_WEIGHTS"
        return Check("Depth Anything", "note", f"no weights ({about})", fix)
    if importlib.util.find_spec("transformers") is None:
        fix = f'pip install "{DISTRIBUTION}[depth]"'
        return Check("Depth Anything", "note", f"{found} ({about}), but transformers is missing", fix)
    return Check("Depth Anything", "ok", f"{found} ({about})")


def marigold(folder: Path | None) -> Check:
    """The networks behind `--depth marigold`."""
    from splat.priors.marigold import LICENCE, SIZE_GB, TITLE, Marigold

    missing = Marigold(weights=folder).unavailable()
    about = f"{SIZE_GB:g} GB, {LICENCE}: depth and normals of single photos, --depth marigold"
    return Check(TITLE, "ok" if missing is None else "note", missing or f"found ({about})")


def refiners(folder: Path | None) -> Check:
    """What `--lm.refiner` names."""
    from splat.priors.diffusion_refiner import TITLE, DiffusionRefiner
    from splat.priors.refiner.weights import load_weights

    found = load_weights()  # a damaged file is a reason that names the fix
    own = "comes without weights, and learns from the scene alone" if found is None else "has the package's weights"
    try:
        DiffusionRefiner(weights=folder).check()
    except SplatError as e:
        return Check("refiner", "note", f"--lm.refiner scene {own}; diffusion: {e}")
    return Check("refiner", "ok", f"--lm.refiner scene {own}; diffusion: {TITLE} is here")


def video_enhancer(folder: Path | None) -> Check:
    """What `splat render --enhance` names."""
    from splat.priors.video_enhancer import VideoEnhancer

    reason = VideoEnhancer(weights=folder).unavailable()
    found = f"--enhance filter needs no weights; diffusion: {reason or 'its weights are here'}"
    return Check("enhancer", "ok" if reason is None else "note", found)


def learned_priors(folder: Path | None) -> Check:
    """Weights that learned priors could load; every prior also works without."""
    files = [p for p in (folder, _named_folder()) if p is not None and p.is_dir()]
    found = [
        f.name
        for place in files
        for pattern in ("*.pth", "*.pt", "*.safetensors")
        for f in sorted(place.rglob(pattern))
    ]
    found += [p.name.removeprefix("models--").replace("--", "/") for p in sorted(hub_cache().glob("models--*"))]
    if not found:
        return Check("weights", "note", f"none in SPLAT_WEIGHTS or {hub_cache()}: classical priors are used")
    listed = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return Check("weights", "ok", listed)


def _named_folder() -> Path | None:
    named = os.environ.get("SPLAT_WEIGHTS")
    return Path(named) if named else None


def hub_cache() -> Path:
    """Where Hugging Face's libraries keep what they have downloaded."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    from splat.native.build import user_cache

    home = os.environ.get("HF_HOME") or (user_cache() or Path(tempfile.gettempdir())) / "huggingface"
    return Path(home) / "hub"


# -------------------------------------------------------------------------------------------------------------- space


def memory() -> Check:
    from splat.core.machine import available_memory_gb

    free = available_memory_gb()
    if free is None:
        return Check("memory", "note", "the system does not say how much is free")
    found = f"{free:.1f} GB free"
    if free < _ENOUGH_MEMORY_GB:
        return Check("memory", "problem", found, f"close other programs until {_ENOUGH_MEMORY_GB} GB are free")
    if free < _COMFORTABLE_MEMORY_GB:
        return Check("memory", "note", found, "use --preset fast, or close other programs")
    return Check("memory", "ok", found)


def disk() -> Check:
    """Free space where runs, compiled kernels and temporary files go; the scarcest place is named."""
    from splat.native.build import cache_dir

    places = {Path.cwd(), _existing(cache_dir()), Path(tempfile.gettempdir())}
    free = {place: shutil.disk_usage(place).free / 1e9 for place in places}
    place = min(free, key=lambda p: (free[p], p != Path.cwd()))
    found = f"{free[place]:.1f} GB free at {place}"
    if free[place] < _ENOUGH_DISK_GB:
        return Check("disk", "problem", found, f"free at least {_ENOUGH_DISK_GB:.0f} GB there")
    if free[place] < _COMFORTABLE_DISK_GB:
        return Check("disk", "note", found, f"free {_COMFORTABLE_DISK_GB:.0f} GB before large captures")
    return Check("disk", "ok", found)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.is_dir())


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"{command[0]} does not start ({e})"
    return (done.stdout or done.stderr).strip().split("\n")[0]
