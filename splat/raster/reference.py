"""The rasterizer in plain torch: the specification of the compiled kernels.

Each function is one step of the method and states its formula. float32 and float64; gradients by autograd. Written for
clarity, not speed: 2,000 Gaussians at 128 x 96 take tenths of a second, 100,000 take minutes.

The steps follow EWA splatting (Zwicker et al. 2001) as used by 3D Gaussian splatting (Kerbl et al. 2023), with the
anti-aliasing of Mip-Splatting (Yu et al. 2024, section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from splat.core.bundle import TensorBundle
from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.sh import sh_basis
from splat.core.slots import RasterSettings, Render
from splat.raster.channels import extra_channels, split_channels

BLUR = 0.3
"""px^2, added to the diagonal of every projected covariance, so that no footprint is narrower than a pixel."""
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
TILE = 16
PAIRS_AT_ONCE = 2_000_000
"""Maximum number of (pixel, Gaussian) pairs in memory; backward recomputes the rest."""

PixelGradients = Callable[[Tensor, Tensor], None]
"""Called in backward with ids of splats [k] and, for p pixels, the gradients [p k 2] of their centres through each
pixel alone."""


@dataclass(frozen=True, eq=False)
class Splats(TensorBundle):
    """m Gaussians projected into one camera."""

    means2d: Float[Tensor, "m 2"]
    """Centres in pixels."""
    covariances: Float[Tensor, "m 3"]
    """xx, xy, yy in px^2, `BLUR` included."""
    determinants: Float[Tensor, "m"]
    """Determinants of `covariances`."""
    opacities: Float[Tensor, "m"]
    """Opacities at the centre; lowered in antialiased mode."""
    rgb: Float[Tensor, "m 3"]
    depths: Float[Tensor, "m"]


# ------------------------------------------------------------------------------------------------- one Gaussian, seen


def points_in_camera(means: Float[Tensor, "n 3"], cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "n 3"]:
    """x_cam = R x + t."""
    return means @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]


def project_points(points_cam: Float[Tensor, "n 3"], camera: Camera) -> Float[Tensor, "n 2"]:
    """(fx x/z + cx, fy y/z + cy)."""
    return camera.project(points_cam)


def projection_jacobian(points_cam: Float[Tensor, "n 3"], camera: Camera) -> Float[Tensor, "n 2 3"]:
    """Derivative of the projection, evaluated at (x/z, y/z) clamped to a frame around the image:

        J = [[fx/z, 0, -fx u/z], [0, fy/z, -fy v/z]]
        u = clamp(x/z, -cx/fx - 0.15 w/fx, (w - cx)/fx + 0.15 w/fx), v likewise with cy, fy, h

    so that with a centred principal point |u| <= 1.3 tan(fov_x / 2), the limit of 3DGS, and with any other the margin
    is measured from the image's own edges. Beyond it the linearization would explode. Clamped coordinates pass no
    gradient.
    """
    x, y, z = points_cam.unbind(-1)
    margin_x, margin_y = 0.15 * camera.width / camera.fx, 0.15 * camera.height / camera.fy
    u = (x / z).clamp(-camera.cx / camera.fx - margin_x, (camera.width - camera.cx) / camera.fx + margin_x)
    v = (y / z).clamp(-camera.cy / camera.fy - margin_y, (camera.height - camera.cy) / camera.fy + margin_y)
    zero = torch.zeros_like(z)
    rows = [camera.fx / z, zero, -camera.fx * u / z, zero, camera.fy / z, -camera.fy * v / z]
    return torch.stack(rows, -1).reshape(-1, 2, 3)


def footprint(
    quats_wxyz: Float[Tensor, "n 4"],
    log_scales: Float[Tensor, "n 3"],
    jacobian: Float[Tensor, "n 2 3"],
    cam_from_world: Float[Tensor, "4 4"],
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Covariance on the image (xx, xy, yy; px^2, blurred), its determinant, and the determinant before blurring.

    With M = J R_cam_from_world R(q) diag(exp(log_scales)), a 2x3 matrix of rows a and b, the covariance is
    M M^T + BLUR I. The determinants come from |a x b|^2 (Cauchy-Binet), a sum of squares: xx yy - xy^2 would lose
    every digit of a thin footprint in float32.
    """
    root = jacobian @ cam_from_world[:3, :3] @ matrix_from_quat(quats_wxyz) * log_scales.exp()[:, None, :]
    a, b = root.unbind(1)
    xx, xy, yy = (a * a).sum(-1), (a * b).sum(-1), (b * b).sum(-1)
    sharp = torch.linalg.cross(a, b).square().sum(-1)
    blurred = sharp + BLUR * (xx + yy) + BLUR * BLUR
    return torch.stack([xx + BLUR, xy, yy + BLUR], -1), blurred, sharp


def opacity_compensation(blurred: Float[Tensor, "n"], sharp: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """sqrt(det before / det after blurring): the factor that keeps the integral of the footprint (Mip-Splatting).

    Clamped to at least 1e-6, without gradient below; such a Gaussian is fainter than MIN_ALPHA and never drawn.
    """
    return (sharp / blurred).clamp_min(1e-12).sqrt()


def view_directions(means: Float[Tensor, "n 3"], cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "n 3"]:
    """Unit vectors from the camera's centre, -R^T t, to the means, in the world frame."""
    centre = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
    return normalize(means - centre, dim=-1)


def colour(sh: Float[Tensor, "n k 3"], directions: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n 3"]:
    """max(0, 0.5 + sum_k basis_k(direction) sh_k) over harmonics up to `degree`."""
    basis = sh_basis(directions, degree)
    return (0.5 + torch.einsum("nk,nkc->nc", basis, sh[:, : basis.shape[1]])).clamp_min(0)


def splats(
    gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
) -> Splats:
    """Project all rows. The results of rows that must not be drawn are undefined."""
    points_cam = points_in_camera(gaussians.means, cam_from_world)
    jacobian = projection_jacobian(points_cam, camera)
    covariances, blurred, sharp = footprint(gaussians.quats_wxyz, gaussians.log_scales, jacobian, cam_from_world)
    opacities = gaussians.opacities
    if settings.mode == "antialiased":
        opacities = opacities * opacity_compensation(blurred, sharp)
    directions = view_directions(gaussians.means, cam_from_world)
    return Splats(
        means2d=project_points(points_cam, camera),
        covariances=covariances,
        determinants=blurred,
        opacities=opacities,
        rgb=colour(gaussians.sh, directions, used_degree(gaussians, settings)),
        depths=points_cam[:, 2],
    )


def used_degree(gaussians: Gaussians, settings: RasterSettings) -> int:
    have = gaussians.sh_degree
    return have if settings.sh_degree is None else min(have, settings.sh_degree)


# -------------------------------------------------------------------------------------------------- which are drawn


def cutoff(opacities: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
    """The squared Mahalanobis distance q at which opacity x exp(-q/2) = MIN_ALPHA; negative if the opacity is lower."""
    return 2 * torch.log(opacities / MIN_ALPHA)


def half_extents(s: Splats, q: Float[Tensor, "m"]) -> Float[Tensor, "m 2"]:
    """Half width and half height of the axis-aligned box around the ellipse d^T Sigma^-1 d <= q."""
    return (q[:, None] * s.covariances[:, [0, 2]]).clamp_min(0).sqrt()


def radius(s: Splats) -> Float[Tensor, "m"]:
    """Pixels from the centre to the farthest point of the drawn ellipse, rounded up, at least 1."""
    xx, xy, yy = s.covariances.unbind(-1)
    largest = (xx + yy) / 2 + (((xx - yy) / 2).square() + xy.square()).sqrt()
    return (cutoff(s.opacities).clamp_min(0) * largest).sqrt().ceil().clamp_min(1)


def visibility_mask(
    gaussians: Gaussians, s: Splats, camera: Camera, settings: RasterSettings, slack: float = 0.0
) -> Bool[Tensor, "n"]:
    """Rows to composite: in front of the near plane, of opacity at least MIN_ALPHA, with a bounding box that touches
    the image, and with all values finite. Values are those of the raw row (without SH above the degree in use), the
    squared norm of the quaternion, which must be positive, and those of `Splats`.

    `slack` relaxes every limit, relatively or in pixels, as a margin for rounding.
    """
    used = (used_degree(gaussians, settings) + 1) ** 2
    rows = [gaussians.means, gaussians.quats_wxyz, gaussians.log_scales, gaussians.logit_opacities[:, None]]
    rows += [gaussians.sh[:, :used].flatten(1), s.means2d, s.covariances, s.rgb, (1 / s.determinants)[:, None]]
    finite = torch.cat(rows, 1).isfinite().all(1) & s.determinants.isfinite() & s.depths.isfinite()
    norm = gaussians.quats_wxyz.square().sum(-1)
    ahead = (s.depths > 0) & (s.depths >= settings.near * (1 - slack))
    box = half_extents(s, cutoff(s.opacities * (1 + slack)))
    size = box.new_tensor([camera.width, camera.height])
    touches = ((s.means2d + box > -slack) & (s.means2d - box < size + slack)).all(1)
    return finite & (norm > 0) & norm.isfinite() & ahead & (s.opacities * (1 + slack) >= MIN_ALPHA) & touches


# --------------------------------------------------------------------------------------------------------- compositing


def alphas(pixels: Float[Tensor, "p 2"], centres: Float[Tensor, "p m 2"], s: Splats) -> Float[Tensor, "p m"]:
    """min(MAX_ALPHA, opacity x exp(-q/2)) with q = d^T Sigma^-1 d, d from the centre of the Gaussian to that of the
    pixel.

    `centres` repeats `s.means2d` for every pixel, so that a hook gets the gradient through each pixel.
    """
    dx, dy = (pixels[:, None] - centres).unbind(-1)
    xx, xy, yy = (s.covariances / s.determinants[:, None]).unbind(-1)
    q = yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy
    return (s.opacities * torch.exp(-q / 2)).clamp(max=MAX_ALPHA)


def contributing(alpha: Float[Tensor, "p m"], min_transmittance: float) -> Bool[Tensor, "p m"]:
    """Pairs that are composited, with Gaussians in depth order: alpha >= MIN_ALPHA, and a transmittance before the
    Gaussian, which only composited ones lower, of at least `min_transmittance`."""
    visible = alpha >= MIN_ALPHA
    passed = torch.cumprod(1 - alpha * visible, 1)
    before = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1)
    return visible & (before >= min_transmittance)


def composite(
    alpha: Float[Tensor, "p m"], s: Splats, min_transmittance: float, channels: Float[Tensor, "m c"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Front to back: w_i = alpha_i prod_{j<i} (1 - alpha_j) over contributing pairs.

    Returns sum w rgb [p 3], sum w z [p], the final transmittance [p] and sum w channel [p c].
    """
    with torch.no_grad():
        keep = contributing(alpha, min_transmittance)
    alpha = torch.where(keep, alpha, torch.zeros_like(alpha))
    passed = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1)
    weights = alpha * before
    return weights @ s.rgb, weights @ s.depths, passed[:, -1], weights @ channels


def blend(
    s: Splats,
    camera: Camera,
    watch: PixelGradients | None = None,
    min_transmittance: float = RasterSettings.min_transmittance,
    channels: Float[Tensor, "m c"] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite depth-sorted splats over all pixels: colour [h w 3], depth [h w], transmittance [h w] and extra
    channels [h w c] (c is 0 without).

    Each tile uses the splats whose bounding box touches it; all others are below MIN_ALPHA there. `watch` is called in
    backward with the gradient of the centres through each pixel.
    """
    h, w = camera.height, camera.width
    with torch.no_grad():
        box = half_extents(s, cutoff(s.opacities)) + 1e-3  # rounding must not drop a pixel on the box's edge
        low, high = s.means2d - box, s.means2d + box
    centres = camera.pixel_centres().to(s.means2d)
    extra = s.rgb.new_zeros(len(s), 0) if channels is None else channels
    where: list[Tensor] = []
    parts: list[tuple[Tensor, ...]] = []
    numbers = torch.arange(h * w, device=s.means2d.device).reshape(h, w)
    for top in range(0, h, TILE):
        for left in range(0, w, TILE):
            block = numbers[top : top + TILE, left : left + TILE]
            end = low.new_tensor([left + block.shape[1], top + block.shape[0]])
            ids = ((high >= low.new_tensor([left, top])) & (low <= end)).all(1).nonzero()[:, 0]
            if len(ids) == 0:
                continue
            for pixels in block.reshape(-1).split(max(1, PAIRS_AT_ONCE // len(ids))):
                where.append(pixels)
                parts.append(
                    checkpoint(
                        _blend_pixels,
                        centres.reshape(-1, 2)[pixels],
                        s,
                        ids,
                        watch,
                        min_transmittance,
                        extra,
                        use_reentrant=False,
                        preserve_rng_state=False,
                    )
                )
    rgb, depth, left_over = s.rgb.new_zeros(h * w, 3), s.depths.new_zeros(h * w), s.depths.new_ones(h * w)
    image = s.rgb.new_zeros(h * w, extra.shape[1])
    if parts:
        index = torch.cat(where)
        rgb = rgb.index_copy(0, index, torch.cat([p[0] for p in parts]))
        depth = depth.index_copy(0, index, torch.cat([p[1] for p in parts]))
        left_over = left_over.index_copy(0, index, torch.cat([p[2] for p in parts]))
        image = image.index_copy(0, index, torch.cat([p[3] for p in parts]))
    return rgb.reshape(h, w, 3), depth.reshape(h, w), left_over.reshape(h, w), image.reshape(h, w, extra.shape[1])


def _blend_pixels(
    pixels: Float[Tensor, "p 2"],
    s: Splats,
    ids: Int[Tensor, "k"],
    watch: PixelGradients | None,
    min_transmittance: float,
    channels: Float[Tensor, "m c"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    near = s[ids]
    centres = near.means2d.expand(len(pixels), -1, -1)
    if watch is not None and centres.requires_grad:
        centres.register_hook(lambda gradient: watch(ids, gradient.detach()))
    return composite(alphas(pixels, centres, near), near, min_transmittance, channels[ids])


# ------------------------------------------------------------------------------------------------------ the rasterizer


@dataclass(frozen=True)
class Reference:
    """Draws on every device of torch, in the precision of the means. Slow. See `slots.Rasterizer`."""

    name: str = "reference"
    replayable = False

    def unavailable(self, device: torch.device) -> str | None:
        return None

    def culls(self, device: torch.device) -> bool:
        return False

    def visible(
        self, gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
    ) -> Int[Tensor, "m"]:
        """See `slots.Rasterizer.visible`."""
        with torch.no_grad():
            s = splats(gaussians, camera, cam_from_world.to(gaussians.means), settings)
            return visibility_mask(gaussians, s, camera, settings, slack=1e-3).nonzero()[:, 0]

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
        features: Float[Tensor, "n c"] | None = None,
    ) -> Render:
        """See `slots.Rasterizer`. Rows that are not drawn are removed before differentiable operations, so their
        gradient is exactly zero, whatever their values."""
        n = len(gaussians)
        pose = cam_from_world.to(gaussians.means)
        with torch.no_grad():
            seen = splats(gaussians, camera, pose, settings)
            ids = visibility_mask(gaussians, seen, camera, settings).nonzero()[:, 0]
            ids = ids[seen.depths[ids].sort(stable=True).indices]  # by depth, ties by index
            radii = torch.zeros(n, dtype=torch.int64, device=ids.device)
            radii[ids] = radius(seen[ids]).long()
        s = splats(gaussians[ids], camera, pose, settings)
        channels = extra_channels(gaussians, pose, settings, features)
        means2d = torch.zeros_like(gaussians.means[:, :2]).index_copy(0, ids, s.means2d)
        if means2d.requires_grad:
            means2d.retain_grad()
        s = replace(s, means2d=means2d[ids])
        absgrad = torch.zeros_like(means2d.detach()) if settings.absgrad else None

        def add_absolute(rows: Tensor, gradient: Tensor) -> None:
            if absgrad is not None:
                absgrad.index_add_(0, ids[rows], gradient.abs().sum(0))

        watch = add_absolute if settings.absgrad else None
        rgb, depth, transmittance, image = blend(
            s, camera, watch, settings.min_transmittance, None if channels is None else channels[ids]
        )
        normals, features = split_channels(None if channels is None else image, settings)
        return Render(
            rgb=rgb + transmittance[..., None] * background.to(rgb),
            alpha=1 - transmittance,
            depth=depth,
            means2d=means2d,
            radii=radii,
            absgrad=absgrad,
            normals=normals,
            features=features,
        )
