"""Corrections per photo: exposure, and the error of the pose.

Both have a mean of zero over the training views, so that the scene keeps its colours, position and scale, and held-out
views are rendered without corrections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core import devices
from splat.core.colour import affine_map
from splat.core.devices import to_device
from splat.core.geometry import rotation_from_axis_angle
from splat.core.schedules import log_linear
from splat.core.slots import Item, Render


@dataclass(frozen=True)
class ViewSettings:
    """Which corrections are learned, and how."""

    exposure: bool = True
    """Learn an affine colour map per photo (3x4); the mean over the photos is the identity."""
    exposure_lr: float = 0.02
    """Maximum learning rate; lower if the steps per photo times the rate exceed `exposure_reach`."""
    exposure_reach: float = 3.0
    """Limit on steps per photo times learning rate. The rate decays to a tenth."""
    poses: bool = False
    """Learn a small rotation and translation per photo."""
    rotation_lr: float = 2e-4
    """Radians."""
    translation_lr: float = 2e-4
    """Multiplied by the scene extent."""
    pose_lr_final: float = 0.01
    """Factor on the pose learning rates at the end."""
    poses_from: float = 0.05
    """Fraction of the run after which poses are learned: not from the blurred scene of the start."""


class ViewModel:
    """Exposure and pose corrections of `count` training views, with their Adam state.

    `centres` [count 3]: camera centres in the world, needed to keep the scale when poses are learned.
    """

    def __init__(
        self,
        count: int,
        settings: ViewSettings | None = None,
        centres: Tensor | None = None,
        scene_extent: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = settings or ViewSettings(exposure=False)
        self.count, self.scene_extent = count, scene_extent
        if self.settings.poses and centres is None:
            raise ValueError("Pose corrections need the camera centres.")
        centred = torch.zeros(count, 3) if centres is None else (centres - centres.mean(0)).float()
        self.centred = centred.to(device)
        rates = [self.settings.rotation_lr] * 3 + [self.settings.translation_lr * scene_extent] * 3
        self.pose_rates = torch.tensor(rates, device=device)
        self.total_photos = 0
        self.exposure = _PhotoRows(count, 12, device)
        """Rows of [A - 1 | b] of rgb' = A rgb + b."""
        self.poses = _PhotoRows(count, 6, device)
        """Axis-angle (radians) and translation (world units), both in world axes, about the camera centre."""

    # ------------------------------------------------------------------------------------------------------- a step

    def prepare(self, total_photos: int) -> None:
        """Set the length of training, over all phases, in photos rendered."""
        self.total_photos = total_photos

    def learns_pose(self, progress: float) -> bool:
        """`progress`, here and below: fraction of the run, over all phases."""
        return self.settings.poses and progress >= self.settings.poses_from

    def begin(self, item: Item, progress: float, constants: Float[Tensor, "7"] | None = None) -> ViewCorrection:
        """The corrections of this item, as leaves of autograd; none for a virtual view. `constants` as in `update`."""
        s, i = self.settings, item.view_id
        if i is None or self.count < 2:
            return ViewCorrection(item, None, None)
        row = i if constants is None else constants[:1].long()
        exposure = self.exposure.copy_of(row).requires_grad_() if s.exposure else None
        pose = self.poses.copy_of(row).requires_grad_(self.learns_pose(progress)) if s.poses else None
        return ViewCorrection(item, exposure, pose)

    def count_update(self, view_id: int, progress: float, exposure: bool = True, pose: bool = True) -> None:
        """Count an update of this view, which begins: of its exposure and its pose, if given."""
        self.exposure.updates[view_id] += exposure and self.settings.exposure
        self.poses.updates[view_id] += pose and self.learns_pose(progress)

    def adam_constants(self, view_id: int, progress: float) -> list[float]:
        """The values for `update` that change with the step, for the current update: the row; the learning rate of
        exposure and the divisors of its two moments, 1 - beta^updates; the factor on the pose learning rates, and the
        divisors for poses."""
        s = self.settings
        rate = min(s.exposure_lr, s.exposure_reach * self.count / max(1, self.total_photos))
        rate *= log_linear(1.0, 0.1, progress)
        fade = log_linear(1.0, s.pose_lr_final, progress)
        return [
            *(float(view_id), rate, *self.exposure.bias_corrections(view_id)),
            *(fade, *self.poses.bias_corrections(view_id)),
        ]

    def update(self, correction: ViewCorrection, progress: float, constants: Float[Tensor, "7"] | None = None) -> None:
        """One Adam step with the gradients of the leaves, then subtract the mean. `constants`: those of the current
        update (`count_update`), on the device, so that the update can be captured and replayed for another view. None:
        do the whole update."""
        view_id = correction.item.view_id
        if view_id is None:
            return
        by_exposure, by_pose = _finite_gradient(correction.exposure), _finite_gradient(correction.pose)
        if constants is None:
            self.count_update(view_id, progress, by_exposure is not None, by_pose is not None)
            constants = to_device(self.adam_constants(view_id, progress), self.exposure.values.device)
        row = constants[:1].long()
        if by_exposure is not None:
            self.exposure.step(row, by_exposure, constants[1], constants[2], constants[3])
            self.exposure.values -= self.exposure.values.mean(0)
        if by_pose is not None:
            self.poses.step(row, by_pose, constants[4] * self.pose_rates, constants[5], constants[6])
            self._fix_gauge()

    def _fix_gauge(self) -> None:
        """Remove the mean rotation, the mean translation and the mean scaling about the centre from the poses."""
        values = self.poses.values
        values -= values.mean(0)
        size = self.centred.square().sum().clamp_min(1e-30)  # no cameras apart: all of `centred` is 0
        values[:, 3:] -= self.centred * ((values[:, 3:] * self.centred).sum() / size)

    # ------------------------------------------------------------------------------------------------------- reading

    def exposures(self) -> Float[Tensor, "v 3 4"]:
        """[A | b] per training view; their mean is [1 | 0]."""
        return self.exposure.values.reshape(-1, 3, 4) + torch.eye(3, 4, device=self.exposure.values.device)

    def corrected_pose(self, view_id: int, cam_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        return _moved(cam_from_world, self.poses.values[view_id])

    def state(self) -> dict[str, Any]:
        return {"exposure": self.exposure.state(), "poses": self.poses.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.exposure.load_state(state["exposure"])
        self.poses.load_state(state["poses"])


@dataclass(frozen=True, eq=False)
class ViewCorrection:
    """The corrections of one item."""

    item: Item
    exposure: Tensor | None
    pose: Tensor | None

    def cam_from_world(self) -> Float[Tensor, "4 4"]:
        return self.item.cam_from_world if self.pose is None else _moved(self.item.cam_from_world, self.pose)

    def expose(
        self, render: Render, background: Float[Tensor, "3"]
    ) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "3 4"] | None]:
        """An image, and the affine map [A | b] to apply to its colours (None: identity). If the photo has alpha, the
        background is not part of the photo: the exposure is then applied here, to the Gaussians' part alone."""
        if self.exposure is None:
            return render.rgb, None
        delta = self.exposure.reshape(3, 4)
        if self.item.alpha is None:
            return render.rgb, delta + torch.eye(3, 4, device=delta.device)
        alpha = render.alpha[..., None]
        own = render.rgb - (1 - alpha) * background
        return render.rgb + affine_map(own, delta[:, :3], delta.new_zeros(3)) + alpha * delta[:, 3], None


def _finite_gradient(leaf: Tensor | None) -> Tensor | None:
    """The gradient, or None if it is missing or not finite. On a GPU, where checking would block, values that are not
    finite become 0."""
    gradient = None if leaf is None else leaf.grad
    if gradient is None:
        return None
    if devices.is_asynchronous(gradient.device):
        return gradient.nan_to_num_(0, 0, 0)
    return gradient if bool(gradient.isfinite().all()) else None


def _moved(cam_from_world: Float[Tensor, "4 4"], pose: Float[Tensor, "6"]) -> Float[Tensor, "4 4"]:
    """The camera rotated by exp(pose[:3]) about its centre and translated by pose[3:], both in world axes."""
    rotation, translation = cam_from_world[:3, :3], cam_from_world[:3, 3]
    centre = -rotation.T @ translation
    turned = rotation @ rotation_from_axis_angle(pose[:3]).T
    column = -turned @ (centre + pose[3:])
    return torch.cat([torch.cat([turned, column[:, None]], 1), cam_from_world[3:]], 0)


class _PhotoRows:
    """Parameters of which one row is updated at a time, each row with its own count of Adam steps."""

    def __init__(self, count: int, width: int, device: torch.device | str) -> None:
        self.values = torch.zeros(count, width, device=device)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.updates = [0] * count

    def copy_of(self, row: int | Int[Tensor, "1"]) -> Float[Tensor, "w"]:
        return self.values[row].clone() if isinstance(row, int) else self.values.index_select(0, row)[0]

    def bias_corrections(self, row: int) -> tuple[float, float]:
        """Divisors of the moments of this row, 1 - beta^updates."""
        count = max(1, self.updates[row])
        return 1 - 0.9**count, 1 - 0.999**count

    def step(self, row: Int[Tensor, "1"], gradient: Tensor, rates: Tensor, correct1: Tensor, correct2: Tensor) -> None:
        first = self.first.index_select(0, row).lerp_(gradient[None], 0.1)
        second = self.second.index_select(0, row).mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        self.first.index_copy_(0, row, first)
        self.second.index_copy_(0, row, second)
        self.values.index_add_(0, row, rates * (first / correct1) / ((second / correct2).sqrt() + 1e-15), alpha=-1)

    def state(self) -> dict[str, Any]:
        tensors = {"values": self.values.clone(), "first": self.first.clone(), "second": self.second.clone()}
        return {**tensors, "updates": list(self.updates)}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("values", "first", "second"):
            getattr(self, name).copy_(state[name])
        self.updates = list(state["updates"])
