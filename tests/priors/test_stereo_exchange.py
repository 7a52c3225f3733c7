"""What one photo found about a surface serves another."""

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.slots import Silent
from splat.geometry.surface_normals import slopes_of_normals
from splat.native import build
from splat.priors.stereo import Stereo
from splat.priors.stereo_exchange import transferred, with_theirs
from splat.priors.stereo_search import Planes, PlaneSearch, StereoView, grey_of

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)
KERNELS = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")


def photographed(tilt: float, count: int = 3) -> tuple[planes.PlaneScene, list[StereoView], list[Planes]]:
    """Views of a tilted plane, and the true planes of their pixels."""
    scene, poses = planes.PlaneScene.make(tilt), planes.walk(count)
    views = [StereoView(CAMERA, p, grey_of(scene.photo(CAMERA, p).float() / 255), (1.5, 12.0)) for p in poses]
    truth = []
    for p in poses:
        depth = scene.depth(CAMERA, p).float()
        normals = (p.rotation.T.float() @ scene.normal.float()).expand(*depth.shape, 3)
        inverse = torch.cat([1 / depth[None], slopes_of_normals(CAMERA, depth, normals)])
        truth.append(Planes(inverse.contiguous(), torch.zeros_like(depth)))
    return scene, views, truth


@pytest.mark.parametrize("tilt", [0.0, 40.0, -50.0])
def test_a_plane_carried_to_another_photo_is_the_same_plane(tilt):
    _, (a, b, _), (true_a, true_b, _) = photographed(tilt)
    found = transferred(b, a, true_a, torch.ones_like(true_a.cost, dtype=torch.bool))
    there = found[0] > 0
    assert float(there.float().mean()) > 0.7
    assert float((found[0] / true_b.planes[0] - 1).abs()[there].max()) < 1e-3
    assert float((found[1:] - true_b.planes[1:]).abs()[:, there].max()) < 1e-4


def test_the_nearest_of_two_surfaces_is_carried_and_what_is_left_out_is_not():
    _, (a, _, _), (true_a, _, _) = photographed(0.0)
    h, w = true_a.cost.shape
    left = torch.zeros(h, w, dtype=torch.bool)
    left[:, : w // 2] = True
    found = transferred(a, a, true_a, left)
    assert not bool((found[0, :, w // 2 + 1 :] > 0).any()) and bool((found[0, :, : w // 2] > 0).all())
    # A surface at half the depth, of a camera beside it, falls onto pixels of the far one.
    near = true_a.planes.clone()
    near[:, :, 40:60] *= 2
    _, (_, b, _), _ = photographed(0.0)
    seen = transferred(b, a, Planes(near, true_a.cost), torch.ones(h, w, dtype=torch.bool))
    alone = transferred(b, a, Planes(near, true_a.cost), (near[0] > 1.5 * true_a.planes[0].median()))
    covered = alone[0] > 0
    assert bool(covered.any())
    inner = covered & (seen[0] > 0)
    assert float((seen[0] / alone[0] - 1).abs()[inner].quantile(0.9)) < 1e-3


@KERNELS
def test_a_photo_that_found_nothing_takes_what_the_others_are_sure_of():
    _, views, truth = photographed(30.0)
    search = PlaneSearch(views[0], views[1:], 2, 1 / 12.0, 1 / 1.5)
    wrong = truth[0].planes * 0.6
    mine = search.with_costs(wrong)
    everything = torch.ones_like(mine.cost, dtype=torch.bool)
    theirs = [transferred(views[0], views[k], truth[k], everything) for k in (1, 2)]
    mended = with_theirs(search, mine, torch.zeros_like(mine.cost), theirs, 0.25)
    offered = (theirs[0][0] > 0) | (theirs[1][0] > 0)
    right = (mended.planes[0] / truth[0].planes[0] - 1).abs() < 0.01
    assert float(right[offered].float().mean()) > 0.95
    # And keeps its own where they fit better.
    again = with_theirs(search, search.with_costs(truth[0].planes), torch.ones_like(mine.cost), [wrong], 0.25)
    assert float(((again.planes[0] / truth[0].planes[0] - 1).abs() < 1e-6).float().mean()) > 0.95


@KERNELS
def test_the_exchange_raises_what_is_right_where_a_photo_stands_far_aside():
    scene, poses = planes.PlaneScene.make(55.0), planes.walk(3)
    views = [StereoView(CAMERA, p, grey_of(scene.photo(CAMERA, p).float() / 255), (1.5, 12.0)) for p in poses]
    pairs = [[j for j in range(3) if j != i] for i in range(3)]
    shares = []
    for exchange in (0.0, 0.25):
        maps = Stereo(rounds=(2, 1, 1), extra_rounds=0, exchange=exchange).match(views, pairs, Silent())
        right = [(m.depth / scene.depth(CAMERA, p) - 1).abs() < 0.01 for m, p in zip(maps, poses, strict=True)]
        shares.append(float(torch.stack(right).float().mean()))
    assert shares[1] > shares[0]
