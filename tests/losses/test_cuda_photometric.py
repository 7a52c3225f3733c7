"""The GPU's loss meets the CPU's tests, on an emulated GPU (see `emulated`)."""

import pytest
from emulated import gpu  # noqa: F401
from losses.test_photometric import (  # noqa: F401
    test_an_affine_map_of_colours_is_applied_and_differentiated,
    test_one_part_alone,
    test_pixels_of_weight_zero_change_nothing,
    test_value_and_gradient_agree_with_double_precision,
)

from splat.native import build

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
