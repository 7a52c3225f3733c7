"""A mixin for frozen dataclasses of tensors that share their first axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

# typing.Self would say the same, but beartype checks it only on classes that it decorates itself.
B = TypeVar("B", bound="TensorBundle")


class TensorBundle:
    """Gives a dataclass of tensors `.to`, `.detach`, indexing along axis 0, and `cat`.

    Every tensor field is transformed; other fields are carried over unchanged.
    """

    def map(self: B, f: Callable[[Tensor], Tensor]) -> B:
        """Apply `f` to every tensor field."""
        changed = {k: f(v) for k, v in self._fields().items() if isinstance(v, Tensor)}
        return cast(B, dataclasses.replace(cast(Any, self), **changed))

    def to(self: B, *args: Any, **kwargs: Any) -> B:
        return self.map(lambda t: t.to(*args, **kwargs))

    def detach(self: B) -> B:
        return self.map(Tensor.detach)

    def clone(self: B) -> B:
        return self.map(Tensor.clone)

    def __getitem__(self: B, index: Any) -> B:
        return self.map(lambda t: t[index])

    def __len__(self) -> int:
        return len(next(v for v in self._fields().values() if isinstance(v, Tensor)))

    @classmethod
    def cat(cls: type[B], parts: Sequence[B]) -> B:
        """Concatenate along axis 0; a field that is None in one part must be None in all."""
        first = parts[0]
        joined = {
            k: torch.cat([p._fields()[k] for p in parts]) for k, v in first._fields().items() if isinstance(v, Tensor)
        }
        return cast(B, dataclasses.replace(cast(Any, first), **joined))

    def _fields(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self))}
