"""Edits are geometry, in the frame of the scene, and a recipe repeats them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from viewing import gaussians, pinhole, poses

from splat.core.errors import SplatError
from splat.core.geometry import Similarity, matrix_from_quat
from splat.viewer.edits import (
    Box,
    Brush,
    Floaters,
    Frame,
    Ground,
    MaxSize,
    MinOpacity,
    Recipe,
    Scale,
    Sphere,
    kept,
    placed_from_scene,
    read_recipe,
    write_recipe,
)


def test_a_box_keeps_what_is_inside_however_it_is_turned() -> None:
    g = gaussians(400)
    quarter = (math.cos(math.pi / 8), 0.0, math.sin(math.pi / 8), 0.0)  # 45 degrees about y
    box = Box("box", (0.1, 0.0, 0.0), (0.3, 0.2, 0.1), quarter)
    turn = matrix_from_quat(torch.tensor(quarter))
    expected = (((g.means - torch.tensor([0.1, 0.0, 0.0])) @ turn).abs() <= torch.tensor([0.3, 0.2, 0.1])).all(1)
    assert torch.equal(kept(Recipe((box,)), g), expected) and 0 < int(expected.sum()) < 400
    outside = Box("box", box.centre, box.half, quarter, "outside")
    assert torch.equal(kept(Recipe((outside,)), g), ~expected)


def test_cuts_and_spheres_judge_what_they_say() -> None:
    g = gaussians(400)
    assert torch.equal(kept(Recipe((Sphere("sphere", (0.0, 0.0, 0.0), 0.4),)), g), g.means.norm(dim=1) <= 0.4)
    assert torch.equal(kept(Recipe((MinOpacity("opacity", 0.8),)), g), g.opacities >= 0.8)
    assert torch.equal(kept(Recipe((MaxSize("size", 0.1),)), g), g.scales.max(1).values <= 0.1)
    both = Recipe((MinOpacity("opacity", 0.8), MaxSize("size", 0.1)))
    assert torch.equal(kept(both, g), (g.opacities >= 0.8) & (g.scales.max(1).values <= 0.1))


def test_floaters_are_cut_by_what_photos_see_past(tmp_path: Path) -> None:
    g = gaussians(400)
    past = torch.linspace(0, 0.9, 400)
    recipe = Recipe((Floaters("floaters", 0.3),))
    assert torch.equal(kept(recipe, g, lambda asked: past), past <= 0.3)
    write_recipe(tmp_path / "a.json", recipe)
    assert read_recipe(tmp_path / "a.json") == recipe
    with pytest.raises(SplatError, match="apply it to the run"):
        kept(recipe, g)


def test_a_stroke_removes_what_it_covers_down_to_its_depth() -> None:
    g, pose = gaussians(400), poses(3)[1]
    view = pinhole(pose)
    stroke = Brush("brush", view, 15.0, ((60.0, 60.0, 2.0), (100.0, 60.0, 2.0)))
    removed = ~kept(Recipe((stroke,)), g)
    points = pose.inverse().apply(g.means.double())
    pixels = view.camera.project(points)
    distance = torch.stack([(pixels - torch.tensor([x, 60.0])).norm(dim=1) for x in (60.0, 100.0)]).min(0).values
    near = points[:, 2] <= 2.0
    assert bool(removed[(distance < 13) & near].all()), "what is under the stroke goes"
    assert not bool(removed[(distance > 17) | ~near].any()), "and nothing else: neither beside it nor behind"
    assert 0 < int(removed.sum()) < 400


def test_a_stroke_may_leave_the_picture() -> None:
    view = pinhole(poses(1)[0])
    stroke = Brush("brush", view, 30.0, ((-5.0, 60.0, 9.0), (1.0, 1.0, 9.0), (159.5, 119.5, 9.0), (1e9, -1e9, 9.0)))
    assert kept(Recipe((stroke,)), gaussians(50)).shape == (50,)


def test_two_points_and_a_length_make_metres_in_the_frame_of_the_file() -> None:
    turn = matrix_from_quat(torch.tensor([0.9, 0.1, 0.3, -0.2], dtype=torch.float64))
    scene_from_file = Similarity(0.25, turn, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    a, b = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, -0.2, 0.3])
    recipe = Recipe((Scale("scale", tuple(a.tolist()), tuple(b.tolist()), 2.0),), Frame.of(scene_from_file))
    placed = placed_from_scene(recipe)
    assert float((placed.apply(a.double()) - placed.apply(b.double())).norm()) == pytest.approx(2.0)
    file_from_scene = scene_from_file.inverse()
    assert torch.allclose(placed.rotation, file_from_scene.rotation)
    assert torch.allclose(placed_from_scene(Recipe((), Frame.of(scene_from_file))).matrix(), file_from_scene.matrix())


def test_three_points_of_the_ground_become_level_at_height_zero() -> None:
    slope = [(0.0, 0.5, 0.0), (1.0, 0.6, 0.0), (0.0, 0.4, 1.0)]  # up is -y
    placed = placed_from_scene(Recipe((Ground("ground", *slope),)))
    heights = placed.apply(torch.tensor(slope, dtype=torch.float64))[:, 1]
    assert heights.abs().max() < 1e-12
    above = placed.apply(torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64))
    assert float(above[1]) < -1, "what was above the ground is still up"


def test_a_recipe_reads_back_as_it_was_written(tmp_path: Path) -> None:
    stroke = Brush("brush", pinhole(poses(1)[0]), 15.0, ((60.0, 60.0, 2.5),))
    operations = (
        Box("box", (0.1, 0.0, 0.0), (0.3, 0.2, 0.1)),
        Sphere("sphere", (0.0, 0.0, 0.0), 0.4, "outside"),
        *(MinOpacity("opacity", 0.1), MaxSize("size", 2.0), stroke),
        Scale("scale", (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 3.0),
        Ground("ground", (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    )
    recipe = Recipe(operations, Frame(2.0), (0.0, 1.0, 0.0), "a.ply")
    write_recipe(tmp_path / "r.json", recipe)
    assert read_recipe(tmp_path / "r.json") == recipe


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"operations": [{"kind": "laser"}]}, "operations"),
        ({"operations": [{"kind": "sphere", "centre": [0, 0, 0], "radius": -1}]}, "radius"),
        ({"operations": [{"kind": "sphere", "centre": [0, 0], "radius": 1}]}, "centre"),
        ({"format": "splat edits 9"}, "format"),
        ({"up": [0, 0, float("nan")]}, "up"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_that_names_the_field(tmp_path: Path, change: dict, named: str) -> None:
    path = tmp_path / "r.json"
    write_recipe(path, Recipe())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SplatError, match=named):
        read_recipe(path)
