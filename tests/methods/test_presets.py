"""What presets and `--method auto` stand for."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from splat.commands.reconstruct import Reconstruct
from splat.core.errors import SplatError
from splat.core.slots import Method
from splat.methods import METHODS
from splat.methods.auto import AUTO, choose_method
from splat.methods.presets import (
    FEW_PHOTOS,
    FEW_PHOTOS_DROPOUT,
    FEW_PHOTOS_FRAME_MARGIN,
    FEW_PHOTOS_FREE_SPACE,
    FEW_PHOTOS_SH_DEGREE,
    FEW_PHOTOS_SHARE,
    FEW_PHOTOS_SURROUNDINGS,
    PRESETS,
    cap_for,
)
from splat.native import build


def methods() -> Mapping[str, Method]:
    return {name: method() for name, method in METHODS.items()}


def test_auto_starts_from_dense_surfaces_and_binds_them_to_rays_where_photos_are_few() -> None:
    for photos in (5, 8, 50, 5000):
        assert choose_method("auto", methods(), photos)[0].name == "edgs"
    for photos in (2, 4):
        method, why = choose_method("auto", methods(), photos)
        assert method.name == "coherent" and "up to 4 training photos" in why


def test_auto_passes_over_what_the_caller_leaves_out() -> None:
    some = {n: m for n, m in methods().items() if n != "coherent"}
    assert choose_method("auto", some, 3)[0].name == "edgs"


def test_auto_starts_from_sparse_points_where_there_are_no_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "unavailable", lambda: "no compiler")
    method, why = choose_method("auto", methods(), 20)
    assert method.name == "points" and "compiled" in why and "no compiler" in why
    with pytest.raises(SplatError, match=r"edgs cannot run here.*no compiler"):
        choose_method("edgs", methods(), 20)


def test_a_method_is_picked_by_name_or_taken_as_it_is() -> None:
    assert choose_method("edgs", methods(), 20)[0].name == "edgs"
    mine = METHODS["points"]()
    assert choose_method(mine, methods(), 20) == (mine, "as asked")
    with pytest.raises(SplatError, match="--method egds does not exist: choose auto, points"):
        choose_method("egds", methods(), 20)


def test_every_row_of_auto_can_be_reached_and_names_a_method() -> None:
    limits = [row.max_photos for row in AUTO if row.max_photos is not None]
    assert limits == sorted(set(limits)) and AUTO[-1].max_photos is None
    assert {row.method for row in AUTO} <= set(METHODS)
    assert METHODS[AUTO[-1].method]().unavailable() is None, "the last resort runs anywhere"


def test_the_cap_follows_the_pixels_between_the_least_and_the_presets_own() -> None:
    assert cap_for("default", 1_000) == 20_000
    assert cap_for("default", 5_000_000) == 100_000
    assert cap_for("default", 10**9) == 150_000


def test_few_photos_are_trained_for_fewer_steps_unless_somebody_says_otherwise() -> None:
    settled = {n: Reconstruct(Path("p")).resolved(n)[0] for n in (2, 8, FEW_PHOTOS, 20, 2 * FEW_PHOTOS, 300)}
    steps = [settled[n].iterations for n in sorted(settled)]
    whole = PRESETS["default"].iterations
    assert steps[:3] == [FEW_PHOTOS_SHARE * whole] * 3 and steps[-2:] == [whole] * 2
    assert steps == sorted(steps) and steps[2] < steps[3] < whole
    assert Reconstruct(Path("p"), iterations=whole).resolved(8)[0].iterations == whole


def test_dropout_is_for_few_photos() -> None:
    rates = [Reconstruct(Path("p")).resolved(n)[0].train.dropout.rate for n in (3, FEW_PHOTOS, FEW_PHOTOS + 1)]
    assert rates == [FEW_PHOTOS_DROPOUT, FEW_PHOTOS_DROPOUT, 0.0]
    given = Reconstruct(Path("p"), explicit=("train.dropout.rate",)).resolved(3)[0]
    assert given.train.dropout.rate == 0.0


def test_depth_maps_say_where_nothing_floats_while_photos_are_few() -> None:
    limits = [Reconstruct(Path("p")).resolved(n)[0].train.free_space for n in (3, FEW_PHOTOS, FEW_PHOTOS + 1)]
    assert limits == [FEW_PHOTOS_FREE_SPACE, FEW_PHOTOS_FREE_SPACE, 0.0]
    published = Reconstruct(Path("p"), method="coherent_published").resolved(3)[0]
    assert published.train.free_space == 0.0 and published.train.frame_margin is None


def test_nothing_is_left_beyond_the_edges_of_few_photos() -> None:
    margins = [Reconstruct(Path("p")).resolved(n)[0].train.frame_margin for n in (3, FEW_PHOTOS, FEW_PHOTOS + 1)]
    assert margins == [FEW_PHOTOS_FRAME_MARGIN, FEW_PHOTOS_FRAME_MARGIN, None]


def test_few_photos_have_surroundings_but_not_in_published_methods_and_blocks() -> None:
    counts = [Reconstruct(Path("p")).resolved(n)[0].train.surroundings.count for n in (3, FEW_PHOTOS, FEW_PHOTOS + 1)]
    assert counts == [FEW_PHOTOS_SURROUNDINGS, FEW_PHOTOS_SURROUNDINGS, 0]
    for published in ("coherent_published", "edgs_published"):
        assert Reconstruct(Path("p"), method=published).resolved(3)[0].train.surroundings.count == 0


def test_few_photos_get_few_harmonics_unless_somebody_asks_for_more() -> None:
    degrees = [Reconstruct(Path("p")).resolved(n)[0].sh_degree for n in (3, FEW_PHOTOS, FEW_PHOTOS + 1)]
    assert degrees == [FEW_PHOTOS_SH_DEGREE, FEW_PHOTOS_SH_DEGREE, 3]
    assert Reconstruct(Path("p"), explicit=("sh_degree",)).resolved(3)[0].sh_degree == 3
