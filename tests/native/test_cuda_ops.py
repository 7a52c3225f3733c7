"""The GPU's other kernels meet the CPU's tests, on an emulated GPU (see `emulated`)."""

import emulated
import pytest
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

from splat.native import build

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True, scope="module")
def gpu():
    with emulated.kernels():
        yield
