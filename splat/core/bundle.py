"""A mixin for frozen dataclasses of tensors that share their first axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor


class TensorBundle:
    """Gives a dataclass of tensors `.to`, `.detach`, indexing along axis 0, and `cat`.

    Every tensor field is transformed; other fields are carried over unchanged.
    """

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        """Apply `f` to every tensor field."""
        changed = {k: f(v) for k, v in self._fields().items() if isinstance(v, Tensor)}
        return cast(Self, dataclasses.replace(cast(Any, self), **changed))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        return self.map(lambda t: t.to(*args, **kwargs))

    def detach(self) -> Self:
        return self.map(Tensor.detach)

    def clone(self) -> Self:
        return self.map(Tensor.clone)

    def __getitem__(self, index: Any) -> Self:
        return self.map(lambda t: t[index])

    def __len__(self) -> int:
        return len(next(v for v in self._fields().values() if isinstance(v, Tensor)))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Concatenate along axis 0; a field that is None in one part must be None in all."""
        first = parts[0]
        joined = {
            k: torch.cat([p._fields()[k] for p in parts]) for k, v in first._fields().items() if isinstance(v, Tensor)
        }
        return cast(Self, dataclasses.replace(cast(Any, first), **joined))

    def _fields(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self))}
