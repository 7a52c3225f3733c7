"""Learned geometry from another program: networks whose own packages do not go together with those of splat.

The program gets a folder of images and the cameras of the photos, and writes one `.npz` file (`estimate_files`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from splat.core import licences
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.estimates import GeometryEstimate, GeometryPrior, PriorInfo, ViewEstimate, check_estimate
from splat.core.foreign import shown
from splat.core.image import write_png
from splat.core.printed import last_line
from splat.core.slots import DepthMap, Reporter
from splat.priors.estimate_files import read_estimate

FAMILIES = {"metric": "metric", "similarity": "metric", "affine": "up-to-scale"}
"""Kind of scale -> family of depth. One scale for all photos is found photo by photo too."""
_PLACES = ("{images}", "{out}")


@dataclass(frozen=True)
class PriorCommand:
    """A `GeometryPrior` in another process."""

    command: str = ""
    """Program that estimates geometry, with its arguments, such as "python prior.py {images} {out}". {images} is a
    folder of 00000.png, 00001.png, ... and cameras.json, {out} the .npz file to write (README). No shell runs it."""
    timeout: float = 1800.0
    """Seconds after which it is stopped."""
    licence: str = ""
    """Licence of its weights, such as Apache-2.0 (default: what its file says); --license commercial needs it."""

    @property
    def info(self) -> PriorInfo:
        arguments = self._arguments()
        return PriorInfo(Path(arguments[0]).name if arguments else "", licence=self.licence)

    def unavailable(self) -> str | None:
        try:
            arguments = self._arguments()
        except ValueError as e:
            return f"--prior.command cannot be read ({shown(e)}): close its quotes"
        if not arguments or any(all(p not in a for a in arguments) for p in _PLACES):
            return "--prior.command must name {images} and {out}"
        if shutil.which(arguments[0]) is None:
            return f"--prior.command: the program {shown(arguments[0])[:120]} is not found: give its path"
        if self.timeout <= 0:
            return f"--prior.timeout {self.timeout:g} is too short: give seconds above 0"
        return None

    def check(self) -> None:
        """Raises SplatError where it cannot run, or may not."""
        if (reason := self.unavailable()) is not None:
            raise SplatError(f"{reason}.")
        licences.require("the prior of --prior.command", self.licence, "name its licence with --prior.licence")

    def estimate(self, capture: Capture, report: Reporter, seed: int = 0) -> GeometryEstimate:
        """Run the program. Raises SplatError where it fails, takes too long, or writes what cannot be read."""
        self.check()
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="splat-prior-") as folder:
            images, out = Path(folder) / "images", Path(folder) / "estimate.npz"
            images.mkdir()
            write_images(capture, images, seed)
            self._run(images, out, Path(folder) / "messages")
            name = self.info.name
            if not out.is_file():
                raise SplatError(f"--prior.command: {shown(name)} ended well but wrote no {{out}} file: check it.")
            found = read_estimate(out, capture, name, time.monotonic() - started)
        own = found.provenance
        licences.require(f"the prior {shown(own.plug_in)}", own.licence or self.licence)
        return replace(found, provenance=replace(own, licence=own.licence or self.licence))

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """As a `slots.DepthPrior`."""
        return EstimatedDepth(self)(capture, report, seed)

    def _arguments(self) -> list[str]:
        return shlex.split(self.command)

    def _run(self, images: Path, out: Path, messages: Path) -> None:
        arguments = [a.replace("{images}", str(images)).replace("{out}", str(out)) for a in self._arguments()]
        name = shown(Path(arguments[0]).name)
        with messages.open("wb") as log:
            try:
                process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as e:
                raise SplatError(f"--prior.command: {name} cannot be started ({e.strerror}): check it.") from None
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise SplatError(
                    f"--prior.command: {name} took more than {self.timeout:g} s and was stopped: give it more by "
                    "--prior.timeout."
                ) from None
            finally:
                _end(process)
        if code:
            raise SplatError(f"--prior.command: {name} failed (exit code {code}): {shown(last_line(messages))[:300]}")


@dataclass(frozen=True)
class EstimatedDepth:
    """A `slots.DepthPrior`: the depth and the normals of a `GeometryPrior`, checked, at the size of the views.

    Its poses are not used: those that structure from motion found are more exact, and photos without one do not reach
    this. Where structure from motion failed, `GeometryEstimate.views` has what stands in for it.
    """

    prior: GeometryPrior

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A map per view. Raises SplatError where the prior cannot run, or its estimate cannot be."""
        if (reason := self.prior.unavailable()) is not None:
            raise SplatError(f"{reason}.")
        found = self.prior.estimate(capture, report, seed)
        licences.require(f"the prior {shown(found.provenance.plug_in)}", found.provenance.licence)
        check_estimate(found, [v.name for v in capture.views])
        licences.record(found.provenance)
        sizes = [(v.camera.height, v.camera.width) for v in capture.views]
        return [_map(view, size, FAMILIES[found.scale]) for view, size in zip(found.views, sizes, strict=True)]


def write_images(capture: Capture, folder: Path, seed: int = 0) -> None:
    """00000.png, ... and `cameras.json`: a list `views` of file, name, width, height, intrinsics [3 3] (px, centres at
    .5) and cam_from_world [4 4] (OpenCV axes; null: unknown), and `seed`."""
    described = []
    for i, view in enumerate(capture.views):
        file = f"{i:05d}.png"
        write_png(folder / file, view.load().rgb)
        pose = None if view.world_from_cam is None else view.world_from_cam.inverse().matrix().tolist()
        described.append(
            {
                "file": file,
                "name": view.name,
                "width": view.camera.width,
                "height": view.camera.height,
                "intrinsics": view.camera.matrix().tolist(),
                "cam_from_world": pose,
            }
        )
    (folder / "cameras.json").write_text(json.dumps({"views": described, "seed": seed}))


def _map(view: ViewEstimate, size: tuple[int, int], family: str) -> DepthMap:
    """Nothing is averaged over an edge."""
    valid = view.valid & (view.confidence > 0)
    planes = [torch.where(valid, view.depth, 0)[None], (view.confidence * valid)[None]]
    if view.normals_cam is not None:
        planes.append(torch.where(valid[..., None], view.normals_cam, 0).permute(2, 0, 1))
    stacked: Tensor = torch.cat(planes).float()
    resized = torch.nn.functional.interpolate(stacked[None], size, mode="nearest-exact")[0]
    normals = resized[2:].permute(1, 2, 0).contiguous() if view.normals_cam is not None else None
    return DepthMap(resized[0].contiguous(), resized[1].contiguous(), family, normals)  # type: ignore[arg-type]


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
