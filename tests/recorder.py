"""A CUDA graph's rules and effects, on a CPU: records every operation of torch and every call of a kernel, refuses what
a recording refuses, and replays them into the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from splat.native import bindings
from splat.train.run import TrainingRun


class Refused(AssertionError):
    """A GPU could not record this."""


EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
NUMBERS_FOR_THE_HOST = {"splat_visible": (12,), "splat_bin_count": (6,), "splat_measure_clock": (0,)}
"""Arguments of kernels that are filled in after waiting."""


def _tensors(*nests: Any) -> list[Tensor]:
    return [x for x in tree_leaves(nests) if isinstance(x, Tensor)]


def _place(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


class _Asking(TorchFunctionMode):
    """Of what a CPU's tensor says without an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__):
            raise Refused(f"{func.__name__} waits for numbers")
        return func(*args, **(kwargs or {}))


class Tape(TorchDispatchMode):
    """What was asked for inside the block, in its order."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators
        self.again: list[Callable[[], None]] = []
        self.held: list[Any] = []
        """A graph's memory stays its own."""
        self.from_outside: set[int] = set()
        self.made: dict[int, Tensor] = {}

    # ---------------------------------------------------------------------------------------------------- recording

    def __enter__(self) -> Tape:
        self.call = bindings.call
        bindings.call = self.kernel
        self.asking = _Asking()
        self.asking.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        bindings.call = self.call
        super().__exit__(*error)
        self.asking.__exit__(*error)

    def kernel(self, name: str, *arguments: Any, device: torch.device | None = None) -> None:
        if any(arguments[i] is not None for i in NUMBERS_FOR_THE_HOST.get(name, ())):
            raise Refused(f"{name} waits for a number")
        call = self.call
        with _disable_current_modes():
            call(name, *arguments, device=device)
        self._seen(_tensors(arguments))
        self.held.append(arguments)
        self.again.append(lambda: call(name, *arguments, device=device))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._refuse(func, args, kwargs)
        out = func(*args, **kwargs)
        self.held.append((args, kwargs, out))
        given, outs = _tensors(args, kwargs), _tensors(out)
        self._seen(given)
        places = {_place(t) for t in given}
        fresh = [t for t in outs if _place(t) not in places]
        self.made |= {_place(t): t for t in fresh if _place(t) not in self.from_outside}
        if func._overloadpacket.__name__ in EMPTY:
            return out
        if fresh or func._schema.is_mutable:  # else a view, which stays one

            def again() -> None:
                found = _tensors(func(*args, **kwargs))
                for place, value in zip(outs, found, strict=True):
                    if any(place is t for t in fresh):
                        place.copy_(value)

            self.again.append(again)
        return out

    def _seen(self, given: list[Tensor]) -> None:
        self.from_outside |= {_place(t) for t in given} - set(self.made)

    def _refuse(self, func: Any, args: Any, kwargs: Any) -> None:
        name, tags = func._overloadpacket.__name__, func.tags
        indexed = name in {"index", "index_put", "index_put_", "_index_put_impl_"}
        chooses = indexed and any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1]))
        if (
            torch.Tag.data_dependent_output in tags
            or chooses
            or (torch.Tag.dynamic_output_shape in tags and not indexed)
        ):
            raise Refused(f"{name} waits for a number")
        if name in {"lift_fresh", "lift_fresh_copy", "_linalg_check_errors"}:
            raise Refused(f"{name}: numbers on their way from the host, or to it")
        drawn_from = [g._cdata for g in tree_leaves((args, kwargs)) if isinstance(g, torch.Generator)]
        known = {g._cdata for g in self.generators}
        if torch.Tag.nondeterministic_seeded in tags and not (drawn_from and known.issuperset(drawn_from)):
            raise Refused(f"{name} draws from a generator that the recording does not know")

    # ---------------------------------------------------------------------------------------------------- replaying

    def spoil(self) -> None:
        """Recording computes nothing: nobody may have read what it left."""
        for t in self.made.values():
            torch.tensor([], dtype=torch.uint8).set_(t.untyped_storage()).fill_(255)

    def replay(self) -> None:
        with torch.no_grad():
            for again in self.again:
                again()


def kept(t: TrainingRun) -> Iterator[Tensor]:
    """All that a step leaves to the next."""
    for store in (t.model.rows.values, t.model.rows.first, t.model.rows.second):
        yield from store.values()
    for rows in (t.view_model.exposure, t.view_model.poses):
        yield from (rows.values, rows.first, rows.second)
    control = getattr(t.density, "inner", t.density)
    yield from (getattr(control, name) for name in ("grad2d", "visits", "radius") if hasattr(control, name))
    yield t.execution.pairs.missing


class CpuRecorder:
    """A `graph.Recorder`. `kept`: what outlives a step and is changed by it, which recording must leave as it was."""

    def __init__(self, kept: Callable[[], Iterable[Tensor]]) -> None:
        self.kept = kept
        self.tapes: list[Tape] = []
        self.replays = 0

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> CpuRecorder._Counted:
        before = [(t, t.clone()) for t in self.kept()]
        states = [g.get_state() for g in generators]
        tape = Tape(generators)
        with tape:
            work()
        tape.spoil()
        for t, value in before:
            t.copy_(value)
        for g, state in zip(generators, states, strict=True):
            g.set_state(state)
        self.tapes.append(tape)
        return self._Counted(self, tape)

    class _Counted:
        def __init__(self, recorder: CpuRecorder, tape: Tape) -> None:
            self.recorder, self.tape = recorder, tape

        def replay(self) -> None:
            self.recorder.replays += 1
            self.tape.replay()
