"""Messages are what their definition says, whatever a stranger sends."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from viewing import as_json, gaussians, pinhole, poses, scene

from splat.core.gaussians import SH_C0
from splat.geometry.page import pack_splats
from splat.viewer.decoding import MalformedMessage
from splat.viewer.protocol import (
    MAX_PART,
    Edit,
    Look,
    mask_message,
    parse,
    splats_messages,
    to_text,
)
from splat.viewer.scene import describe

VIEW = as_json(pinhole(poses(1)[0]))
LOOK = {"kind": "look", "id": 3, "mode": "depth", "view": VIEW}


def test_a_message_is_decoded_into_its_dataclass() -> None:
    look = parse(json.dumps(LOOK))
    assert isinstance(look, Look) and look.view.width == 160 and look.photo == -1
    sphere = {"kind": "sphere", "centre": [0, 0, 0], "radius": 1}
    edit = parse(json.dumps({"kind": "edit", "operation": sphere}))
    assert isinstance(edit, Edit) and edit.operation.kind == "sphere" and not edit.replace


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != name}


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "1",
        "null",
        '"look"',
        "[" * 100_000,
        "{}",
        {"kind": "format_disk"},
        {"kind": ["look"]},
        without(LOOK, "view"),
        LOOK | {"more": 1},
        LOOK | {"id": "3"},
        LOOK | {"id": 2.5},
        LOOK | {"id": True},
        LOOK | {"mode": "x-ray"},
        LOOK | {"view": VIEW | {"width": 0}},
        LOOK | {"view": VIEW | {"width": 1e9}},
        LOOK | {"view": VIEW | {"fx": -1}},
        LOOK | {"view": VIEW | {"fx": float("nan")}},
        LOOK | {"view": VIEW | {"cx": float("inf")}},
        LOOK | {"view": VIEW | {"cx": 1e300}},
        LOOK | {"view": VIEW | {"cx": 10**400}},
        LOOK | {"view": VIEW | {"world_from_cam": [[1, 0, 0, 0]]}},
        LOOK | {"view": VIEW | {"world_from_cam": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}},
        {"kind": "edit", "operation": {"kind": "brush", "view": VIEW, "radius": 9, "points": []}},
        {"kind": "edit", "operation": {"kind": "brush", "view": VIEW, "radius": 5000, "points": [[1, 1, 1]]}},
        {"kind": "edit", "operation": {"kind": "scale", "a": [0, 0, 0], "b": [0, 0, 0], "metres": 1}},
        {"kind": "edit", "operation": {"kind": "ground", "a": [0, 0, 0], "b": [1, 1, 1], "c": [2, 2, 2]}},
        {"kind": "path", "action": "render", "keyframes": [VIEW], "seconds": 1},
        {"kind": "path", "action": "render", "keyframes": [VIEW, VIEW], "seconds": 1e9},
        {"kind": "steer", "action": "explode"},
        b"\x01\x00",
    ],
    ids=lambda m: str(m)[:60],
)
def test_what_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(MalformedMessage):
        parse(json.dumps(message) if isinstance(message, dict | list) else message)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists)
KEYS = st.sampled_from(["kind", "view", "operation", "points", "id", "mode", "action", "keyframes"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, JSON | st.sampled_from(["look", "edit", "path", "box"])))
def test_nothing_but_malformed_message_is_raised(data: dict[str, Any]) -> None:
    with suppress(MalformedMessage):
        parse(json.dumps(data))


def test_planes_hold_the_gaussians_in_the_stated_order() -> None:
    g = gaussians(70)
    planes = pack_splats(g)
    assert len(planes) == 70 * (12 + 2 * (1 + 3 + 3 + 4 + 45))
    means = np.frombuffer(planes, np.float32, 210).reshape(70, 3)
    assert np.array_equal(means, g.means.numpy())
    halves = torch.from_numpy(np.frombuffer(planes, np.float16, offset=840).copy()).float()
    opacity, rgb, scales, quats, sh = halves.split([70, 210, 210, 280, 70 * 45])
    assert torch.allclose(opacity, g.opacities, atol=1e-3)
    assert torch.allclose(rgb.view(70, 3), 0.5 + SH_C0 * g.sh[:, 0], atol=2e-3)
    assert torch.allclose(scales.view(70, 3), g.log_scales, atol=4e-3)
    assert torch.allclose(quats.view(70, 4), torch.nn.functional.normalize(g.quats_wxyz, dim=1), atol=1e-3)
    assert torch.allclose(sh.view(70, 15, 3), g.sh[:, 1:], atol=3e-3)


def test_a_snapshot_travels_in_parts_that_slow_connections_take() -> None:
    planes = bytes(range(256)) * 10_000
    parts = list(splats_messages(7, 99, 3, planes))
    assert len(parts) == 3 and all(len(p) <= MAX_PART + 24 for p in parts)
    assert [struct.unpack_from("<6I", p) for p in parts] == [(1, 7, 99, 3, i, 3) for i in range(3)]
    assert b"".join(p[24:] for p in parts) == planes
    assert len(list(splats_messages(0, 0, 0, b""))) == 1, "also without Gaussians"


def test_a_mask_has_a_bit_per_gaussian() -> None:
    message = mask_message(torch.tensor([True, False, True] + [False] * 6 + [True]))
    assert message == struct.pack("<2I", 3, 10) + bytes([0b101, 0b10])


def test_hello_is_json_whatever_the_numbers(tmp_path: Path) -> None:
    hello = json.loads(to_text(describe(scene(tmp_path))))
    assert [c["role"] for c in hello["cameras"]] == ["train", "train", "test"]
    assert [c["psnr"] for c in hello["cameras"]] == [None, None, 25.0]
    assert hello["extent"]["radius"] == pytest.approx(0.6, abs=0.1) and hello["editable"]
    assert str(tmp_path) not in json.dumps(hello), "no path of this machine leaves it"
    assert json.loads(to_text({"type": "progress", "loss": float("nan"), "psnr": float("inf")}))["loss"] is None
