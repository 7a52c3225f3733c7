"""Free Gaussians: every raw value is a parameter, updated by sparse Adam."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.devices import to_device
from splat.core.gaussians import Gaussians
from splat.core.schedules import StepSizes
from splat.core.slots import Parameterization, RowGradients
from splat.native.ops import adam_constants, adam_harmonics, compiled
from splat.train.models.harmonics import expanded
from splat.train.models.row_optimizer import RowOptimizer

FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")
ALL: tuple[int, int | None] = (0, None)


class FreeGaussians(Parameterization):
    """Parameterization without constraints (see `slots.Parameterization`).

    SH coefficients above the degree in use are not stored until a schedule reaches them (`use_sh_degree`): they would
    be zero, and cost memory and time.
    """

    takes_factored_sh = True

    def __init__(self, gaussians: Gaussians) -> None:
        used = gaussians.detach().with_sh_degree(_used_degree(gaussians))
        self.rows = RowOptimizer({name: getattr(used, name) for name in FIELDS})
        self.origins: Tensor | None = None
        """Where each row's first ancestor started [n 3], world units; None if not recorded."""

    # ------------------------------------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        return self.rows.count

    def gaussians(self) -> Gaussians:
        """All n Gaussians, without gradient, with SH up to the degree in use: views of the storage, valid until the
        next call that changes it."""
        return Gaussians(**{name: self.rows[name] for name in FIELDS})

    @property
    def sh_degree(self) -> int:
        """The SH degree in use."""
        return math.isqrt(self.rows.values["sh"].shape[1]) - 1

    def track_displacement(self) -> None:
        self.origins = self.rows["means"].clone()

    def displacement(self) -> Float[Tensor, "n"] | None:
        return None if self.origins is None else (self.rows["means"] - self.origins).norm(dim=1)

    # ------------------------------------------------------------------------------------------------------ updating

    def use_sh_degree(self, degree: int) -> None:
        if degree > self.sh_degree:
            self.rows.widen("sh", (degree + 1) ** 2)

    def update(self, gradient: RowGradients, rates: StepSizes) -> None:
        """One Adam step."""
        self.count_update()
        sh, now = self.rows.values["sh"], self.adam_constants(rates)
        self.apply(gradient, rates, to_device(now, sh.device) if compiled(sh) else torch.tensor(now).to(sh))

    # The parts of `update`, for a recording of `apply`, which is replayed with other constants.

    def places(self) -> tuple[Any, ...]:
        """The number of rows and their addresses: the key of a captured `apply`."""
        return self.rows.places()

    def moves_harmonics_next(self, rates: StepSizes) -> bool:
        """Whether the next update includes SH degrees above 0."""
        return (self.rows.updates + 1) % rates.sh_rest_every == 0

    def count_update(self) -> None:
        """Count an update, which begins."""
        self.rows.count_update()

    def adam_constants(self, rates: StepSizes) -> list[float]:
        """The values for `apply` that change with the step, for the current update: three `adam_constants`, of
        everything but the higher SH degrees, of all SH, and of the higher SH degrees alone."""
        r, updates = rates, self.rows.updates
        late, rest = max(1, updates // r.sh_rest_every), r.sh_rest * r.sh_rest_every
        betas = r.beta1**r.sh_rest_every, r.beta2**r.sh_rest_every
        return [
            *adam_constants([r.means, r.quats, r.scales, r.opacities, r.sh0], updates, r.beta1, r.beta2),
            *adam_constants([r.sh0, rest], late, *betas),
            *adam_constants([rest], late, *betas),
        ]

    def apply(self, gradient: RowGradients, rates: StepSizes, constants: Float[Tensor, "11"]) -> None:
        """The current update, with its `adam_constants` on the device."""
        r, sh, centre = rates, self.rows["sh"], gradient.camera_centre
        fields, every = gradient.fields, rates.sh_rest_every
        rest_is_due = sh.shape[1] > 1 and self.rows.updates % every == 0
        if centre is not None and not compiled(sh):
            means = self.rows["means"][slice(None) if gradient.ids is None else gradient.ids]
            fields, centre = replace(fields, sh=expanded(fields.sh, means, centre, sh.shape[1])), None
        factored = centre is not None and rest_is_due
        if factored:  # before the means move: the directions are those of the step
            assert centre is not None
            self._update_harmonics(gradient, centre, r, constants[6:9])
        parts = [(name, getattr(fields, name), ALL) for name in FIELDS[:4]]
        if not factored or every > 1:
            parts.append(("sh", fields.sh, (0, 3)))
        rows = gradient.ids, gradient.visibility
        self.rows.adam(parts, *rows, (r.beta1, r.beta2), r.eps, constants[: 1 + len(parts)])
        if rest_is_due and not factored:
            betas = r.beta1**every, r.beta2**every
            self.rows.adam([("sh", fields.sh, (3, None))], *rows, betas, r.eps, constants[9:11])

    def _update_harmonics(self, gradient: RowGradients, centre: Tensor, r: StepSizes, constants: Tensor) -> None:
        """All SH degrees in every step, or every `sh_rest_every` steps those above 0."""
        count = self.rows.count
        adam_harmonics(
            sh=self.rows["sh"],
            first_moment=self.rows.first["sh"][:count],
            second_moment=self.rows.second["sh"][:count],
            means=self.rows["means"],
            camera_centre=centre,
            constant_gradient=gradient.fields.sh,
            ids=self.rows.some(gradient.ids),
            constant_too=r.sh_rest_every == 1,
            beta1=r.beta1**r.sh_rest_every,
            beta2=r.beta2**r.sh_rest_every,
            eps=r.eps,
            visibility=gradient.visibility,
            constants=constants,
        )

    # ------------------------------------------------------------------------------------------------------- editing

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        """See `slots.Parameterization.edit`."""
        if self.origins is not None:
            added_at = self.origins[:0] if append is None else append.means.to(self.origins)
            self.origins = torch.cat([self.origins[keep], added_at if parents is None else self.origins[parents]])
        self.rows.edit(keep, None if append is None else self._fields(append))

    def rearrange(self, permutation: Int[Tensor, "n"]) -> None:
        self.rows.rearrange(permutation)
        if self.origins is not None:
            self.origins = self.origins[permutation]

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        """See `slots.Parameterization.assign`."""
        if self.origins is not None and parents is not None:
            self.origins[ids] = self.origins[parents]
        self.rows.assign(ids, self._fields(rows))

    def shift(self, ids: Tensor | None, **deltas: Tensor | float) -> None:
        """See `slots.Parameterization.shift`."""
        self.rows.shift(ids, **deltas)

    def _fields(self, gaussians: Gaussians) -> dict[str, Tensor]:
        rows = gaussians.with_sh_degree(self.sh_degree)
        return {name: getattr(rows, name) for name in FIELDS}

    # ------------------------------------------------------------------------------------------------------- keeping

    def state(self) -> dict[str, Any]:
        origins = {} if self.origins is None else {"origins": self.origins.clone()}
        return {**self.rows.state(), **origins}

    def load_state(self, state: dict[str, Any]) -> None:
        self.rows.load_state(state)
        self.origins = state["origins"].to(self.rows.values["means"].device) if "origins" in state else None


def _used_degree(gaussians: Gaussians) -> int:
    """The highest degree with a coefficient other than zero."""
    used = gaussians.sh.detach().abs().amax(dim=(0, 2)) if len(gaussians) else gaussians.sh.new_zeros(1)
    last = int(used.nonzero()[-1]) if bool((used > 0).any()) else 0
    return math.isqrt(last) if last else 0
