"""Pictures of the page."""

import numpy as np

from splat.report.pictures import difference, thumbnail


def test_the_difference_is_black_where_equal_and_bright_where_far_off():
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0] = 200
    d = difference(a, b).astype(int)
    assert d[2, 2].sum() < 10 and d[0, 0].sum() > 400


def test_a_thumbnail_is_never_larger_than_asked_nor_than_the_picture():
    assert thumbnail(np.zeros((300, 600, 3), np.uint8), 440).shape == (220, 440, 3)
    assert thumbnail(np.zeros((30, 60, 3), np.uint8), 440).shape == (30, 60, 3)
    assert thumbnail(np.zeros((1, 5000, 3), np.uint8), 440).shape == (1, 440, 3)
