"""Tensors that share their rows, and sparse Adam on them.

Common to all parameterizations: growing storage, moments per row, and the edits of density control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.native.build import release_freed_memory
from splat.native.ops import AdamTensor, fused_adam, gather


class RowOptimizer:
    """Parameters [n ...] by name, with the moments of Adam.

    Only visible rows are updated (sparse Adam of 3DGS: the moments of others are unchanged); bias correction counts all
    updates. Storage grows by a quarter when it is full, so that appending rows rarely copies.
    """

    GROWTH = 1.25

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.names = tuple(parameters)
        self.count = 0
        self.updates = 0
        """Number of updates begun: see `count_update`."""
        self.values: dict[str, Tensor] = {}
        """[capacity ...]; rows from `count` on are unused."""
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self._take({name: p.clone().contiguous() for name, p in parameters.items()}, {}, {})

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> Tensor:
        """The n rows of a parameter: a view of the storage."""
        return self.values[name][: self.count]

    def _stores(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        return self.values, self.first, self.second

    # -------------------------------------------------------------------------------------------------------- updating

    def count_update(self) -> None:
        """Count an update, which begins."""
        self.updates += 1

    def adam(
        self,
        gradients: Sequence[tuple[str, Tensor, tuple[int, int | None]]],
        ids: Int[Tensor, "m"] | None,
        visibility: Int[Tensor, "m"] | None,
        betas: tuple[float, float],
        eps: float,
        constants: Float[Tensor, "one_plus_gradients"],
    ) -> None:
        """One Adam step on rows `ids` (None: all) whose `visibility` is not 0 (None: all). Each gradient: name of the
        parameter, gradient [m ...], and the range of columns of its flattened rows that are updated. `constants`:
        `adam_constants` of the step, one rate per gradient, on the device."""
        tensors = [
            AdamTensor(self[name], gradient, self.first[name][: self.count], self.second[name][: self.count], 0.0, part)
            for name, gradient, part in gradients
        ]
        fused_adam(tensors, self.updates, self.some(ids), *betas, eps, visibility, constants)

    def some(self, ids: Int[Tensor, "m"] | None) -> Int[Tensor, "m"] | None:
        """`ids`, or None if they are all rows."""
        return None if ids is None or len(ids) == self.count else ids

    def places(self) -> tuple[Any, ...]:
        """The number of rows and their addresses: the key of a captured update."""
        return self.count, *((s[n].data_ptr(), s[n].shape[1:]) for s in self._stores() for n in self.names)

    # --------------------------------------------------------------------------------------------------------- editing

    def edit(self, keep: Bool[Tensor, "n"], append: Mapping[str, Tensor] | None) -> None:
        """Keep the marked rows, then append rows with zero moments."""
        kept = self.count if bool(keep.all()) else int(keep.sum())
        ids = None if kept == self.count else keep.nonzero()[:, 0]
        added = 0 if append is None else len(append[self.names[0]])
        capacity = len(self.values[self.names[0]])
        if kept + added > capacity:
            capacity = math.ceil(self.GROWTH * (kept + added))
        for store in self._stores():
            for name in self.names:
                old = store[name]
                new = old if capacity == len(old) else old.new_zeros(capacity, *old.shape[1:])
                if ids is not None:
                    new[:kept] = old[ids]
                elif new is not old:
                    new[:kept] = old[:kept]
                if append is not None:
                    new[kept : kept + added] = append[name].to(new) if store is self.values else 0.0
                store[name] = new
                if new is not old:
                    del old, new
                    release_freed_memory()  # else the old storage would stay beside that of the next tensor
        self.count = kept + added

    def rearrange(self, permutation: Int[Tensor, "n"]) -> None:
        """Row i becomes the former row permutation[i], moments included."""
        for store in self._stores():
            for name in self.names:
                store[name][: self.count] = gather([store[name][: self.count]], permutation)[0]

    def assign(self, ids: Int[Tensor, "m"], rows: Mapping[str, Tensor]) -> None:
        """Overwrite rows in place; their moments become zero."""
        for name in self.names:
            self.values[name][ids] = rows[name].to(self.values[name])
            self.first[name][ids] = 0.0
            self.second[name][ids] = 0.0

    def shift(self, ids: Int[Tensor, "m"] | None, **deltas: Tensor | float) -> None:
        """Add to parameters of rows (None: all) in place, keeping moments."""
        for name, delta in deltas.items():
            if ids is None:
                self[name].add_(delta)
            elif isinstance(delta, Tensor):
                self.values[name].index_add_(0, ids, delta.to(self.values[name]))
            else:
                self.values[name][ids] += delta

    def widen(self, name: str, size: int) -> None:
        """Grow the second axis of a parameter [n k ...] to `size`, with zeros."""
        for store in self._stores():
            old = store[name]
            store[name] = old.new_zeros(len(old), size, *old.shape[2:])
            store[name][:, : old.shape[1]] = old
            del old
            release_freed_memory()

    # --------------------------------------------------------------------------------------------------------- keeping

    def state(self) -> dict[str, Any]:
        """Rows, moments and the number of updates. They are the tensors themselves, not copies, which the next update
        changes. Spare capacity is given up for that, one tensor at a time: a copy of everything would take as much
        memory as training does."""
        for store in self._stores():
            for name in self.names:
                if len(store[name]) > self.count:
                    store[name] = store[name][: self.count].clone()
                    release_freed_memory()
        stores = dict(zip(_STORES, self._stores(), strict=True))
        return {"tensors": {k: dict(s) for k, s in stores.items()}, "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.values[self.names[0]].device
        stores = [{n: t.to(device).clone().contiguous() for n, t in state["tensors"][k].items()} for k in _STORES]
        self._take(*stores)
        self.updates = int(state["updates"])

    def _take(self, values: dict[str, Tensor], first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
        self.count = len(values[self.names[0]])
        self.values = values
        self.first = first or {n: torch.zeros_like(t) for n, t in values.items()}
        self.second = second or {n: torch.zeros_like(t) for n, t in values.items()}


_STORES = ("values", "first", "second")
