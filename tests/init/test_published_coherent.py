"""The published first Gaussians of CoherentGS."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch
from noting import Noting

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import SH_C0
from splat.core.slots import DepthMap, Init, Priors, Reporter, Silent
from splat.geometry.surface_normals import normals_of_depth
from splat.init import PublishedCoherent
from splat.init.published_coherent import NEAREST, depth_unit, opacity_for
from splat.run.arrays_io import load_init, save_init

CAMERA = Camera(48.0, 49.0, 25.0, 17.0, 48, 36)
SCENE, POSES = planes.PlaneScene.make(35.0), planes.walk(3)


class TrueDepth:
    """Exact depths, except for the `unknown` photos, of which none is."""

    def __init__(self, unknown: tuple[int, ...] = ()) -> None:
        self.unknown = unknown

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, view in enumerate(capture.views):
            depth = SCENE.depth(view.camera, view.pose).float()
            others = tuple(j for j in range(len(capture.views)) if j != i)
            confidence = torch.full_like(depth, 0.0 if i in self.unknown else 0.9)
            maps.append(DepthMap(depth, confidence, "metric", normals_of_depth(view.camera, depth), others))
        return maps


class Wrong(PublishedCoherent):
    """From depth that is wrong by a factor, and by an offset of disparity, of each photo."""

    def relative_depth(self, index: int, depth: torch.Tensor, unit: float, seed: int) -> torch.Tensor:
        return (0.7 + 0.4 * index) / (1 / depth + 0.05 * index)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path_factory.mktemp("pixels"))


def made(capture: Capture, initializer: PublishedCoherent | None = None, report: Reporter | None = None) -> Init:
    return (initializer or PublishedCoherent())(capture, 3, 0, report or Silent(), Priors(TrueDepth()))


@pytest.fixture(scope="module")
def published(capture: Capture) -> Init:
    return made(capture)


def depths(capture: Capture, init: Init) -> torch.Tensor:
    """z of every Gaussian in its own photo."""
    inside = [
        capture.views[i].pose.inverse().apply(init.gaussians.means[init.view_ids == i].double()) for i in range(3)
    ]
    return torch.cat(inside)[:, 2]


def truth(capture: Capture) -> torch.Tensor:
    return torch.cat([SCENE.depth(v.camera, v.pose).reshape(-1) for v in capture.views])


def test_every_pixel_of_every_photo_is_a_gaussian_at_its_centre(capture: Capture, published: Init) -> None:
    for init in (published, made(capture, Wrong(alignment="none"))):
        g = init.gaussians
        assert len(g) == 3 * 48 * 36 and init.view_ids is not None and init.pixels is not None
        for i, view in enumerate(capture.views):
            mine = init.view_ids == i
            assert torch.equal(init.pixels[mine], CAMERA.pixel_centres().reshape(-1, 2))
            found = CAMERA.project(view.pose.inverse().apply(g.means[mine].double()))
            assert float((found - init.pixels[mine]).abs().max()) < 1e-3


def test_size_rotation_opacity_and_colour_are_as_published(capture: Capture, published: Init) -> None:
    g, z = published.gaussians, depths(capture, published)
    assert float((g.scales.double() * CAMERA.fy / z[:, None] - 0.6).abs().max()) < 1e-4
    assert torch.equal(g.quats_wxyz, torch.tensor([1.0, 0, 0, 0]).expand(len(g), 4))
    assert torch.allclose(g.opacities, torch.full((len(g),), 0.5))
    photo = torch.from_numpy(capture.views[0].load().rgb).reshape(-1, 3).float() / 255
    assert torch.allclose(0.5 + SH_C0 * g.sh[: 48 * 36, 0], photo, atol=1e-6) and not bool(g.sh[:, 1:].any())
    assert g.sh.shape[1] == 16


def test_opacity_goes_on_beyond_four_photos() -> None:
    assert [opacity_for(n) for n in (2, 3, 4)] == [0.6, 0.5, 0.35]
    more = [opacity_for(n) for n in range(4, 40)]
    assert more == sorted(more, reverse=True) and more[-1] > 0
    assert (1 - opacity_for(9)) ** 9 == pytest.approx((1 - 0.35) ** 4)


@pytest.mark.parametrize("unit", [0.01, 1.0, 300.0])
def test_the_unit_of_the_scene_does_not_matter(capture: Capture, unit: float) -> None:
    """Bounds that a dataset states, or the nearest depth that is known."""
    views = [replace(v, bounds=(2 * unit, 9 * unit)) for v in capture.views]
    assert depth_unit(views, []) == pytest.approx(2 * unit / NEAREST)
    depth = unit * SCENE.depth(CAMERA, POSES[0]).float()
    found = depth_unit(capture.views[:1], [DepthMap(depth, torch.ones_like(depth))])
    assert found == pytest.approx(float(depth.min()) / NEAREST, rel=0.05)


def test_depth_that_is_off_photo_by_photo_is_aligned(capture: Capture) -> None:
    off = {}
    for alignment in ("none", "published", "robust"):
        z = depths(capture, made(capture, Wrong(alignment=alignment)))  # type: ignore[arg-type]
        off[alignment] = float((z / truth(capture) - 1).abs().median())
    assert off["robust"] < 0.01 < off["published"] < 0.1 < off["none"], off


def test_true_depth_is_kept_as_it_is_where_it_is_not_aligned(capture: Capture) -> None:
    z = depths(capture, made(capture, PublishedCoherent(alignment="none")))
    assert float((z / truth(capture) - 1).abs().median()) < 1e-3


def test_every_pixel_is_in_one_of_the_layers(published: Init) -> None:
    init = published
    assert init.rays is not None
    assert int(init.rays.layers.min()) >= 0 and int(init.rays.layers.max()) <= 4
    assert len(init.rays.layers.unique()) == 5


def test_it_is_kept_on_disk(published: Init, tmp_path: Path) -> None:
    init = published
    save_init(tmp_path / "init.npz", init)
    again = load_init(tmp_path / "init.npz")
    assert len(again.depths) == 3 and again.rays is not None and init.rays is not None
    assert torch.equal(again.rays.layers, init.rays.layers) and torch.equal(again.gaussians.means, init.gaussians.means)
    assert all(bool(m.measured.all()) for m in again.depths), "every pixel of a completed map has a depth"


def test_what_cannot_be_used_is_one_sentence(capture: Capture) -> None:
    alone = capture.select([True, False, False])
    with pytest.raises(SplatError, match="two photos"):
        made(alone)
    with pytest.raises(SplatError, match="depth prior"):
        PublishedCoherent()(capture, 3, 0, Silent(), Priors())
    with pytest.raises(SplatError, match="no depth in any photo"):
        PublishedCoherent()(capture, 3, 0, Silent(), Priors(TrueDepth((0, 1, 2))))


def test_a_photo_without_depth_starts_flat_and_is_named(capture: Capture) -> None:
    report = Noting()
    init = PublishedCoherent(alignment="robust")(capture, 3, 0, report, Priors(TrueDepth((1,))))
    assert len(init.gaussians) == 3 * 48 * 36 and bool(init.gaussians.means.isfinite().all())
    assert any("1.png" in w for w in report.warnings)


def test_photos_that_do_not_overlap_are_not_aligned_and_nothing_is_nan(tmp_path: Path) -> None:
    away = planes.Rigid.look_at(torch.tensor([0.0, 0, 8.0]), torch.tensor([0.0, 0, 4.0]), torch.tensor([0.0, -1.0, 0]))
    apart = planes.capture_of(SCENE, CAMERA, [POSES[0], away], tmp_path)
    far = replace(away, translation=away.translation + torch.tensor([40.0, 0, 0], dtype=torch.float64))
    apart = apart.with_views((apart.views[0], replace(apart.views[1], world_from_cam=far)))

    class Flat(TrueDepth):
        def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
            return [replace(m, depth=torch.full_like(m.depth, 4.0)) for m in super().__call__(capture, report, seed)]

    for alignment in ("published", "robust"):
        report = Noting()
        init = PublishedCoherent(alignment=alignment)(apart, 3, 0, report, Priors(Flat()))  # type: ignore[arg-type]
        assert any("not aligned" in w for w in report.warnings)
        assert all(bool(t.isfinite().all()) for t in vars(init.gaussians).values())


def test_depth_behind_the_camera_is_put_before_it(capture: Capture) -> None:
    class Negative(PublishedCoherent):
        def _align(self, *rest: object) -> list:  # type: ignore[override]
            from splat.geometry.align_depth import Alignment

            return [Alignment(1.0, -4.0, False, math.nan)] * 3

    report = Noting()
    init = made(capture, Negative(), report)
    unit = depth_unit(capture.views, init.depths)
    assert float(depths(capture, init).min()) >= 0.199 * unit and any("behind" in w for w in report.warnings)
