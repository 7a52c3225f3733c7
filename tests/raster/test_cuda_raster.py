"""The GPU's rasterizer meets the CPU's tests, on an emulated GPU (see `emulated`)."""

import pytest
from emulated import gpu  # noqa: F401
from raster.test_channels import (  # noqa: F401
    NATIVE,
    test_a_channel_does_not_depend_on_the_others,
    test_a_feature_of_one_is_alpha_and_a_feature_of_depth_is_depth,
    test_a_feature_that_is_not_finite_counts_as_zero,
    test_a_plane_of_flat_gaussians_has_the_planes_normal,
    test_channels_and_every_gradient_agree_with_the_reference,
    test_channels_stop_where_colour_stops,
    test_colour_alpha_and_depth_are_the_same_bits_with_features_and_without,
    test_features_alone_may_want_a_gradient,
    test_gaussians_that_are_not_drawn_show_no_channel,
    test_gradients_of_some_of_what_is_drawn,
    test_no_gaussians_leave_channels_empty,
    test_permuting_gaussians_changes_no_channel,
    test_round_gaussians_have_a_normal_and_finite_gradients,
)
from raster.test_native import (  # noqa: F401
    test_drawing_the_visible_rows_alone_changes_nothing,
    test_equal_depths_are_composited_in_order_of_their_index,
    test_every_contributing_pixel_finds_its_gaussian_in_its_tile,
    test_gradients_of_one_output_alone,
    test_image_and_every_gradient_agree_with_the_reference,
    test_long_thin_footprints_keep_their_digits,
    test_near_plane_removes_what_is_nearer,
    test_no_bits_crash_it_and_the_image_is_finite,
    test_no_gaussians_leave_the_background,
    test_one_gaussian_has_the_opacity_of_the_formula,
    test_permuting_gaussians_changes_nothing,
    test_pixels_may_stop_earlier_and_gradients_know_it,
    test_poison_stays_in_its_row,
    test_the_constant_harmonics_gradient_alone_is_that_of_all,
)

from splat.native import build

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


@pytest.fixture
def rasterizer():
    return NATIVE
