"""What `--method auto` and the presets stand for."""

import pytest

from splat.methods import presets
from splat.methods.presets import AUTO, cap_for, resolve_method


def test_auto_starts_from_dense_surfaces_however_many_photos_there_are() -> None:
    for photos in (2, 8, 50, 5000):
        assert resolve_method("auto", photos)[0] == "edgs"


def test_auto_starts_from_sparse_points_where_there_are_no_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "unavailable", lambda: "no compiler")
    method, why = resolve_method("auto", 20)
    assert method == "points" and "compiled" in why
    assert resolve_method("edgs", 20) == ("edgs", "as asked")


def test_every_row_of_auto_can_be_reached_and_names_an_initializer() -> None:
    limits = [row.max_photos for row in AUTO]
    assert limits[-1] is None and None not in limits[:-1]
    assert limits[:-1] == sorted(set(limits[:-1]))
    assert {row.method for row in AUTO} <= {"points", "edgs"}


def test_the_cap_follows_the_pixels_between_the_fewest_and_the_presets_own() -> None:
    assert cap_for("default", 1_000) == 20_000
    assert cap_for("default", 5_000_000) == 100_000
    assert cap_for("default", 10**9) == 150_000
