"""The evaluate stage measures held-out photos as nobody has fitted them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch
from noting import Noting

from splat.core.camera import Camera
from splat.core.image import read_pixels
from splat.core.slots import PoseResult, Priors, RasterSettings, Silent
from splat.init import SfmPoints
from splat.raster import choose
from splat.run.folder import RunFolder
from splat.run.trained import Trained
from splat.stages.context import Context
from splat.stages.evaluate import Evaluation, Protocol, evaluate

CAMERA = Camera(40.0, 40.0, 24.0, 18.0, 48, 36)


def evaluated(folder: Path, exposed: bool) -> Evaluation:
    """Of three training photos and a held-out one; `exposed`: with a colour map for each of the four."""
    capture = planes.capture_of(planes.PlaneScene.make(), CAMERA, planes.walk(4), folder)
    views = tuple(replace(v, role="test" if i == 1 else "train") for i, v in enumerate(capture.views))
    capture = replace(capture, views=views)
    first = SfmPoints()(capture, 0, 0, Silent(), Priors(None)).gaussians
    darker = torch.cat([0.5 * torch.eye(3), torch.full((3, 1), 0.05)], 1)
    exposures = {v.name: darker for v in views} if exposed else {}
    trained = Trained(first, exposures, {}, torch.zeros(3), 1.0, 10, [])
    device = torch.device("cpu")
    run = RunFolder(folder / ("exposed" if exposed else "plain"))
    run.stage("train", "a key", None, lambda folder: None, lambda folder: None)
    context = Context(run, Noting(), device, choose(device), RasterSettings(), 1)
    result = evaluate(context, capture, PoseResult(capture), None, trained, Protocol())
    run.close()
    return result


def test_colours_are_adapted_to_training_photos_and_to_no_held_out_one(tmp_path: Path) -> None:
    """Even where there is a map for it."""
    plain, exposed = evaluated(tmp_path, False), evaluated(tmp_path, True)
    assert [p.figures["name"] for p in plain.test] == ["1.png"] and len(plain.train) == 3
    for a, b in zip(plain.test, exposed.test, strict=True):
        assert a.figures == b.figures and (read_pixels(a.render) == read_pixels(b.render)).all()
    for a, b in zip(plain.train, exposed.train, strict=True):
        adapted = 0.5 * read_pixels(a.render).astype(float) + 0.05 * 255
        assert abs(adapted - read_pixels(b.render)).max() <= 1
        assert b.figures["psnr"] != pytest.approx(a.figures["psnr"], abs=0.01)


def test_every_measured_view_has_a_mask_of_its_holes_and_their_share(tmp_path: Path) -> None:
    for p in (result := evaluated(tmp_path, False)).test + result.train:
        holes = read_pixels(p.render.with_name(p.render.name.replace(".render.", ".holes.")))[..., 0] > 127
        assert p.figures["holes_percent"] == pytest.approx(100 * holes.mean(), abs=1e-6)
