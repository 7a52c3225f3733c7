"""Camera paths pass through their keyframes."""

from __future__ import annotations

from itertools import pairwise

import torch
from viewing import poses

from splat.core.geometry import Rigid
from splat.viewer.keyframes import keyframe_path


def test_a_path_passes_through_every_keyframe_and_turns_the_short_way() -> None:
    keys = poses(4)
    path = keyframe_path(keys, 31)
    assert len(path) == 31
    for i, key in enumerate(keys):
        assert torch.allclose(path[10 * i].matrix(), key.matrix(), atol=1e-9)
    steps = torch.stack([b.translation - a.translation for a, b in pairwise(path)]).norm(dim=1)
    assert float(steps.max() / steps.min()) < 2, "no jump"
    turns = [float(torch.trace(a.rotation.T @ b.rotation)) for a, b in pairwise(path)]
    assert min(turns) > 2.99


def test_two_keyframes_are_enough() -> None:
    a, b = poses(2)
    middle = keyframe_path([a, b], 3)[1]
    assert torch.allclose(middle.translation, (a.translation + b.translation) / 2)
    still = keyframe_path([a, a], 5)
    assert all(torch.allclose(p.matrix(), a.matrix()) for p in still)
    assert isinstance(still[0], Rigid)
