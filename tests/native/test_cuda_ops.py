"""The GPU's other kernels meet the CPU's tests, on an emulated GPU (see `emulated`)."""

import ctypes

import pytest
import torch
from emulated import gpu  # noqa: F401
from geometry.test_reproject import (  # noqa: F401
    test_compiled_consistency_is_that_of_torch,
    test_compiled_support_and_violations_are_those_of_torch_and_the_truth,
)
from init.test_dense_surfaces import test_normals_are_averaged_on_each_side_of_an_edge_alone  # noqa: F401
from native.test_adam import (  # noqa: F401
    test_a_gradient_that_is_not_finite_counts_as_zero,
    test_columns_of_one_tensor_may_have_their_own_rates,
    test_dense_steps_are_those_of_torch,
    test_gradients_may_hold_only_the_columns_that_move,
    test_harmonics_move_as_in_plain_torch_from_the_constants_gradient,
    test_only_the_rows_named_move_and_as_in_torch,
    test_rows_that_were_not_seen_stay_as_they_are,
)
from native.test_count import test_pairs_and_image_agree_with_the_definition  # noqa: F401
from native.test_knn import test_distances_are_those_of_scipy, test_too_few_points_and_points_that_are_not_finite  # noqa: F401
from native.test_rows import test_gathered_rows_are_those_of_torch, test_statistics_are_those_of_torch  # noqa: F401

from splat.native import bindings, build

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


def test_stereo_finds_on_the_gpu_what_it_finds_on_the_cpu():
    import planes

    from splat.core.camera import Camera
    from splat.priors.stereo import Stereo
    from splat.priors.stereo_search import PlaneSearch, StereoView, grey_of

    camera = Camera(60.0, 60.0, 20.0, 15.0, 40, 30)
    scene, poses = planes.PlaneScene.make(20.0), planes.walk(3)
    views = [StereoView(camera, p, grey_of(scene.photo(camera, p).float() / 255), (1.5, 12.0)) for p in poses]

    def searched():
        search = PlaneSearch(views[1], [views[0], views[2]], Stereo().best, 1 / 12, 1 / 1.5)
        return search.round(search.sweep(16)[0], 0.05, 0.5, torch.Generator().manual_seed(0))

    mine = searched()  # by the fixture on the GPU
    bindings._function.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_load", lambda: ctypes.CDLL(str(build.prebuilt() or build.build())))
        theirs = searched()
    bindings._function.cache_clear()
    same = (mine.planes[0] / theirs.planes[0] - 1).abs() < 1e-3
    assert float(same.float().mean()) > 0.97, "where two planes are equally good, rounding decides"
    assert float((mine.cost - theirs.cost).abs()[same].max()) < 1e-2
