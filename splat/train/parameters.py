"""Free Gaussians: every raw value is a parameter of its own, updated by Adam where it was seen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.schedules import LearningRates, ShSchedule, log_linear
from splat.native.bindings import sent
from splat.native.ops import AdamTensor, adam_constants, adam_harmonics, compiled, fused_adam, gather
from splat.train.harmonics import expanded

FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")


class FreeGaussians:
    """Parameterization without constraints (see `slots.Parameterization`).

    Only rows that were drawn are updated ("visible-only Adam": moments of others stand still); bias correction counts
    all steps. Harmonics above the degree in use are not stored until the schedule reaches them: they would stay zero,
    and nobody has to move them. Storage grows by half when it is full, so that adding rows rarely copies.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        rates: LearningRates,
        total_steps: int,
        scene_extent: float,
        sh_schedule: ShSchedule | None = None,
    ) -> None:
        self.lr_scale = 1.0
        self.rates, self.total_steps, self.scene_extent = rates, max(1, total_steps), scene_extent
        self.sh_schedule = sh_schedule or ShSchedule(degree_every=0.0)
        self.highest_degree = gaussians.sh_degree
        self.updates = 0
        self.count = 0
        self.values: dict[str, Tensor] = {}
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        degree = max(self._scheduled_degree(0), _used_degree(gaussians))
        self._take(gaussians.detach().with_sh_degree(degree), None)
        self.origins: Tensor | None = None
        """Where each row's first ancestor started [n 3], world units; only where it is followed."""

    # ------------------------------------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        return self.count

    def gaussians(self, step: int) -> Gaussians:
        """All n Gaussians now, without gradient: windows on the storage, valid until the next call that changes it.
        Harmonics reach up to the degree in use at `step`."""
        degree = self._scheduled_degree(step)
        if degree > self._degree():
            self._widen_sh(degree)
        return Gaussians(**{f: self.values[f][: self.count] for f in FIELDS})

    def means_rate(self, step: int) -> float:
        """Adam's step size for positions, in world units."""
        return self.lr_scale * self.rates.means_at(step / self.total_steps, self.scene_extent)

    def follow(self) -> None:
        """From now on remember where rows, and the rows that they descend from, started."""
        self.origins = self.values["means"][: self.count].clone()

    def displacement(self) -> Float[Tensor, "n"] | None:
        """How far each row is from where its first ancestor started, world units; None: nobody followed."""
        return None if self.origins is None else (self.values["means"][: self.count] - self.origins).norm(dim=1)

    # ------------------------------------------------------------------------------------------------------ changing

    takes_factored_sh = True

    def recorded(self, step: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What recordings of `update` hold on to, made ready: the number of rows and where they are; and of this step's
        in particular whether harmonics are due."""
        self.gaussians(step)
        places = [store[f].data_ptr() for store in (self.values, self.first, self.second) for f in FIELDS]
        due = (self.updates + 1) % max(1, self.rates.sh_rest_every) == 0
        return (self.count, self._degree(), *places), (due,)

    def numbers(self, step: int) -> list[float]:
        """What `update` reads that changes from step to step: three `adam_constants`, of everything but the
        view-dependent harmonics, of all harmonics, and of those alone. The update is counted here."""
        self.updates += 1
        r, scale = self.rates, self.lr_scale * log_linear(1.0, self.rates.others_final, step / self.total_steps)
        rates = [self.means_rate(step), *(scale * rate for rate in (r.quats, r.scales, r.opacities, r.sh0))]
        every = max(1, r.sh_rest_every)
        late, rest = max(1, self.updates // every), scale * r.sh_rest * every
        betas = r.beta1**every, r.beta2**every
        all_but_rest = adam_constants(rates, self.updates, r.beta1, r.beta2)
        return all_but_rest + adam_constants([scale * r.sh0, rest], late, *betas) + adam_constants([rest], late, *betas)

    def update(
        self,
        step: int,
        ids: Int[Tensor, "m"] | None,
        gradient: Gaussians,
        seen_from: Float[Tensor, "3"] | None = None,
        seen: Int[Tensor, "m"] | None = None,
        numbers: Float[Tensor, "11"] | None = None,
    ) -> None:
        """One Adam step on rows `ids` (unique; None: all) that were seen. `numbers`, where they are on the device
        already, are those of `self.numbers(step)`: an update with them can be recorded and replayed with others."""
        if numbers is None:
            values = self.values["sh"]
            now = self.numbers(step)
            numbers = sent(now, values.device) if compiled(values) else torch.tensor(now).to(values)
        r, every = self.rates, max(1, self.rates.sh_rest_every)
        rows = None if ids is None or len(ids) == self.count else ids
        has_rest = self.values["sh"].shape[1] > 1
        rest_is_due = has_rest and self.updates % every == 0
        if seen_from is not None and not compiled(self.values["sh"]):
            means, k = (
                self.values["means"][: self.count][slice(None) if ids is None else ids],
                self.values["sh"].shape[1],
            )
            gradient, seen_from = replace(gradient, sh=expanded(gradient.sh, means, seen_from, k)), None
        factored = seen_from is not None and rest_is_due
        if factored:  # before the means move: the directions are those of the step
            assert seen_from is not None
            self._update_harmonics(rows, seen, gradient.sh, seen_from, every, numbers[6:9])

        def tensor(name: str, columns: tuple[int, int | None] = (0, None)) -> AdamTensor:
            values, first, second = (store[name][: self.count] for store in (self.values, self.first, self.second))
            return AdamTensor(values, getattr(gradient, name), first, second, columns=columns)

        tensors = [tensor(name) for name in FIELDS[:4]]
        if not factored or every > 1:
            tensors.append(tensor("sh", (0, 3)))
        constants = numbers[: 1 + len(tensors)]
        fused_adam(tensors, self.updates, rows, r.beta1, r.beta2, r.eps, seen, constants)
        if rest_is_due and not factored:
            betas = r.beta1**every, r.beta2**every
            fused_adam([tensor("sh", (3, None))], self.updates // every, rows, *betas, r.eps, seen, numbers[9:11])

    def _update_harmonics(
        self,
        rows: Tensor | None,
        seen: Tensor | None,
        constant: Tensor,
        seen_from: Tensor,
        every: int,
        constants: Tensor,
    ) -> None:
        """All of them every step, or those above the constant for the last `every` steps."""
        r = self.rates
        adam_harmonics(
            sh=self.values["sh"][: self.count],
            first_moment=self.first["sh"][: self.count],
            second_moment=self.second["sh"][: self.count],
            means=self.values["means"][: self.count],
            seen_from=seen_from,
            constant_gradient=constant,
            ids=rows,
            constant_too=every == 1,
            beta1=r.beta1**every,
            beta2=r.beta2**every,
            eps=r.eps,
            seen=seen,
            constants=constants,
        )

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        """Keep the rows marked in `keep` [n] (bool), then append rows whose optimizer state is zero, descendants of
        rows `parents` (None: of none)."""
        if self.origins is not None:
            added_at = self.origins[:0] if append is None else append.means.to(self.origins)
            self.origins = torch.cat([self.origins[keep], added_at if parents is None else self.origins[parents]])
        kept = self.count if bool(keep.all()) else int(keep.sum())
        added = 0 if append is None else len(append)
        ids = None if kept == self.count else keep.nonzero()[:, 0]
        if append is not None:
            append = append.with_sh_degree(self._degree())
        capacity = len(self.values["means"])
        if kept + added > capacity:
            capacity = math.ceil(1.5 * (kept + added))
        for store in (self.values, self.first, self.second):
            for name in FIELDS:
                old = store[name]
                new = old if capacity == len(old) else old.new_zeros(capacity, *old.shape[1:])
                if ids is not None:
                    new[:kept] = old[ids]
                elif new is not old:
                    new[:kept] = old[:kept]
                if append is not None:
                    new[kept : kept + added] = getattr(append, name).to(new) if store is self.values else 0.0
                store[name] = new
        self.count = kept + added

    def rearrange(self, order: Int[Tensor, "n"]) -> None:
        """Row i becomes what row order[i] was, moments and all."""
        for store in (self.values, self.first, self.second):
            for name in FIELDS:
                store[name][: self.count] = gather([store[name][: self.count]], order)[0]
        if self.origins is not None:
            self.origins = self.origins[order]

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        """Overwrite rows in place and forget their optimizer state; `parents` says what they descend from now."""
        if self.origins is not None and parents is not None:
            self.origins[ids] = self.origins[parents]
        rows = rows.with_sh_degree(self._degree())
        for name in FIELDS:
            self.values[name][ids] = getattr(rows, name).to(self.values[name])
            self.first[name][ids] = 0.0
            self.second[name][ids] = 0.0

    def shift(self, ids: Tensor | None, **deltas: Tensor | float) -> None:
        """Add to fields of rows in place (None: of all rows), keeping their optimizer state."""
        for name, delta in deltas.items():
            if ids is None:
                self.values[name][: self.count].add_(delta)
            elif isinstance(delta, Tensor):
                self.values[name].index_add_(0, ids, delta.to(self.values[name]))
            else:
                self.values[name][ids] += delta

    # ------------------------------------------------------------------------------------------------------- keeping

    def state(self) -> dict[str, Any]:
        """Everything but the settings, capacity left out: where it was written changes nothing."""
        stores = {"values": self.values, "first": self.first, "second": self.second}
        tensors = {k: {f: t[: self.count].clone() for f, t in s.items()} for k, s in stores.items()}
        origins = {} if self.origins is None else {"origins": self.origins.clone()}
        return {"tensors": tensors, "updates": self.updates, **origins}

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.values["means"].device
        stores = {k: {f: t.to(device) for f, t in s.items()} for k, s in state["tensors"].items()}
        self._take(Gaussians(**stores["values"]), (stores["first"], stores["second"]))
        self.updates = int(state["updates"])
        self.origins = state["origins"].to(device) if "origins" in state else None

    def _take(self, gaussians: Gaussians, moments: tuple[dict[str, Tensor], dict[str, Tensor]] | None) -> None:
        self.count = len(gaussians)
        self.values = {f: getattr(gaussians, f).clone().contiguous() for f in FIELDS}
        if moments is None:
            moments = ({}, {})
        self.first = {f: moments[0].get(f, torch.zeros_like(self.values[f])) for f in FIELDS}
        self.second = {f: moments[1].get(f, torch.zeros_like(self.values[f])) for f in FIELDS}

    # ----------------------------------------------------------------------------------------------------- harmonics

    def _scheduled_degree(self, step: int) -> int:
        return self.sh_schedule.degree(step / self.total_steps, self.highest_degree)

    def _degree(self) -> int:
        return math.isqrt(self.values["sh"].shape[1]) - 1

    def _widen_sh(self, degree: int) -> None:
        for store in (self.values, self.first, self.second):
            old = store["sh"]
            store["sh"] = old.new_zeros(len(old), (degree + 1) ** 2, 3)
            store["sh"][:, : old.shape[1]] = old


def _used_degree(gaussians: Gaussians) -> int:
    """The highest degree that has a coefficient other than zero."""
    used = gaussians.sh.detach().abs().amax(dim=(0, 2)) if len(gaussians) else gaussians.sh.new_zeros(1)
    last = int(used.nonzero()[-1]) if bool((used > 0).any()) else 0
    return math.isqrt(last) if last else 0
