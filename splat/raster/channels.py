"""Extra channels that rasterizers blend like colour: features of the caller, and normals."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings


def normals_in_camera(gaussians: Gaussians, cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "n 3"]:
    """The shortest axis of each Gaussian (the first of several), in camera axes, oriented towards the camera: its dot
    product with the direction from the camera to the centre is at most 0.

    Rotates the axis e by the quaternion (w, u): e + 2 w u x e + 2 u x (u x e), without the other two axes.
    Differentiable in quaternions and pose; the choice of axis and sign has no gradient. Rows whose quaternion is zero
    or not finite, which are not drawn, get the axis of the identity, and no gradient.
    """
    g, pose = gaussians, cam_from_world.to(gaussians.means)
    with torch.no_grad():
        norm = g.quats_wxyz.square().sum(1)
        turns = (norm > 0) & norm.isfinite()  # false for NaN
        shortest = g.log_scales.argmin(1)
        centres = g.means @ pose[:3, :3].T + pose[:3, 3]
        identity = torch.eye(1, 4, dtype=norm.dtype, device=norm.device)
        axis = torch.eye(3, dtype=norm.dtype, device=norm.device)[shortest]
    quats = normalize(torch.where(turns[:, None], g.quats_wxyz, identity), dim=1)
    w, xyz = quats[:, :1], quats[:, 1:]
    twice = 2 * torch.linalg.cross(xyz, axis)
    normals = (axis + w * twice + torch.linalg.cross(xyz, twice)) @ pose[:3, :3].T
    away = (normals.detach() * centres).sum(1, keepdim=True) > 0
    return torch.where(away, -normals, normals)


def extra_channels(
    gaussians: Gaussians,
    cam_from_world: Float[Tensor, "4 4"],
    settings: RasterSettings,
    features: Float[Tensor, "n c"] | None,
) -> Float[Tensor, "n k"] | None:
    """Features and normals, whichever are requested, concatenated: the channels for a rasterizer to blend. Values that
    are not finite become 0, without gradient. None: nothing is requested. `split_channels` splits the resulting
    image."""
    parts = []
    if features is not None:
        if features.ndim != 2 or len(features) != len(gaussians) or features.shape[1] < 1:
            wanted = f"[{len(gaussians)} c] with c at least 1"
            raise ValueError(f"features are {list(features.shape)}; they must be {wanted}, a row per Gaussian.")
        parts.append(torch.where(features.isfinite(), features, 0.0).to(gaussians.means))
    if settings.normals:
        parts.append(normals_in_camera(gaussians, cam_from_world))
    return torch.cat(parts, 1) if parts else None


def split_channels(
    image: Float[Tensor, "h w k"] | None, settings: RasterSettings
) -> tuple[Float[Tensor, "h w 3"] | None, Float[Tensor, "h w c"] | None]:
    """`Render.normals` and `Render.features` from the image of `extra_channels`."""
    if image is None or not settings.normals:
        return None, image
    return (image, None) if image.shape[-1] == 3 else (image[..., -3:], image[..., :-3])
