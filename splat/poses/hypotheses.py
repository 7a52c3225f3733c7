"""What usually is wrong with poses of other programs, as changes of the poses that undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cause:
    """One explanation of poses that contradict their photos."""

    name: str
    sentence: str
    """The cause and its fix."""
    change: Callable[[np.ndarray], np.ndarray | None]
    """world_from_cam [n 4 4] as given -> as it would be right."""
    focal: float = 1.0
    """The right focal length by the given one."""


def _axes(x: int, y: int, z: int) -> Callable[[np.ndarray], np.ndarray]:
    """Other axes of the cameras. Where they are mirrored, the frame of the world is mirrored with them, so that
    rotations stay rotations."""
    s = np.diag([x, y, z, 1.0])
    return lambda m: (s @ m @ s) if np.linalg.det(s) < 0 else m @ s


def _inverse(m: np.ndarray) -> np.ndarray:
    return np.linalg.inv(m)


def _transposed(m: np.ndarray) -> np.ndarray:
    out = m.copy()
    out[:, :3, :3] = np.swapaxes(m[:, :3, :3], 1, 2)
    return out


def _centre_as_translation(m: np.ndarray) -> np.ndarray:
    """The file's translation of cam_from_world is the camera's centre."""
    out = m.copy()
    out[:, :3, 3] = -np.einsum("nji,nj->ni", m[:, :3, :3], m[:, :3, 3])
    return out


def _translation_as_centre(m: np.ndarray) -> np.ndarray:
    """The file's centre is the translation of cam_from_world."""
    out = m.copy()
    out[:, :3, 3] = -np.einsum("nij,nj->ni", m[:, :3, :3], m[:, :3, 3])
    return out


def _then(first: Callable[[np.ndarray], np.ndarray], second: Callable[[np.ndarray], np.ndarray]) -> Callable:
    return lambda m: second(first(m))


def _shifted(step: int) -> Callable[[np.ndarray], np.ndarray | None]:
    return lambda m: np.roll(m, step, axis=0) if len(m) > 3 else None


def _unchanged(m: np.ndarray) -> np.ndarray:
    return m


def _roll(degrees: int) -> np.ndarray:
    c, s = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


ROLLS = {90: _roll(90), 180: _roll(180), 270: _roll(270)}
"""Turns of a camera about its optical axis, degrees clockwise of the picture."""

_GL = "camera axes of OpenGL (y up, z backwards) where those of OpenCV are expected, or the reverse"
_INVERSE = "world_from_cam and cam_from_world are exchanged: invert the matrices"
_SIZE = "is it that of photos of {} the size?"

GLOBAL: tuple[Cause, ...] = (
    Cause("opengl axes", f"the likely cause are {_GL}: flip y and z of the cameras", _axes(1, -1, -1)),
    Cause("inverted", f"it seems that {_INVERSE}", _inverse),
    Cause("inverted, opengl axes", f"it seems that {_INVERSE}; and there are {_GL}", _then(_inverse, _axes(1, -1, -1))),
    Cause("opengl axes, inverted", f"it seems that {_INVERSE}; and there are {_GL}", _then(_axes(1, -1, -1), _inverse)),
    Cause("focal 0.5", f"the focal length seems twice too large: {_SIZE.format('twice')}", _unchanged, 0.5),
    Cause("focal 2", f"the focal length seems half of the right one: {_SIZE.format('half')}", _unchanged, 2.0),
    *(
        Cause(f"focal {f}", f"the focal length seems wrong, {f} times the given one fits better", _unchanged, f)
        for f in (0.25, 0.35, 0.7, 0.8, 1.25, 1.4, 2.8, 4.0)
    ),
    Cause("mirrored", "the axes seem mirrored (a left-handed frame): flip y of cameras and world", _axes(1, -1, 1)),
    Cause("turned by 180", "all photos seem turned by 180 degrees against their poses", _axes(-1, -1, 1)),
    Cause("turned by 90", "all photos seem turned by 90 degrees against their poses", lambda m: m @ ROLLS[90]),
    Cause("turned by 270", "all photos seem turned by 270 degrees against their poses", lambda m: m @ ROLLS[270]),
    Cause("transposed", "the rotations seem transposed (quaternions conjugated)", _transposed),
    Cause("centre", "the translations seem to be camera centres, not those of cam_from_world", _centre_as_translation),
    Cause("translation", "the camera centres seem to be translations of cam_from_world", _translation_as_centre),
    Cause("one late", "the photos seem to be one off against the poses: is a photo missing or extra?", _shifted(1)),
    Cause("one early", "the photos seem to be one off against the poses: is a photo missing or extra?", _shifted(-1)),
)  # fmt: skip
"""In the order in which they are believed where several explain the matches equally well."""
