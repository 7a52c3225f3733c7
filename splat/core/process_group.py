"""Several processes that train one scene together. The only user of torch.distributed.

`torchrun --nproc-per-node W -m splat reconstruct ...` starts W equal processes, each with its own GPU where there are
GPUs. They communicate over NCCL on GPUs and over gloo on the CPU. Without torchrun the world size is 1, and all
collectives return at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from splat.core.errors import SplatError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes and this one's rank. Methods are collective: all ranks must call them, in the same order."""

    rank: int = 0
    """Rank of this process. Rank 0 reads and writes files and reports."""
    world: int = 1
    """Number of processes."""
    direct: bool = True
    """Use all-to-all where the backend has it; else pairs of sends and receives."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks (same shape), stacked: [world, ...]."""
        if self.world == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def all_reduce(self, *numbers: float | int) -> list[float]:
        """The sum of each number over all ranks. On the CPU: does not block on a GPU."""
        if self.world == 1:
            return [float(x) for x in numbers]
        total = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return [float(x) for x in total]

    def all_to_all(self, rows: Tensor, send_counts: Sequence[int], receive_counts: Sequence[int]) -> Tensor:
        """Send `rows`, the first `send_counts[0]` to rank 0 and so on; return the rows received, those of rank 0
        first."""
        if self.world == 1:
            return rows
        rows = rows.contiguous()
        into = rows.new_empty(sum(receive_counts), *rows.shape[1:])
        if self.direct and _has_all_to_all(rows.device):
            torch.distributed.all_to_all_single(into, rows, list(receive_counts), list(send_counts))
            return into
        parts, places = rows.split(list(send_counts)), into.split(list(receive_counts))
        places[self.rank].copy_(parts[self.rank])
        others = [i for i in range(self.world) if i != self.rank]
        work = [
            torch.distributed.P2POp(op, tensors[i], i)
            for i in others
            for op, tensors in ((torch.distributed.isend, parts), (torch.distributed.irecv, places))
            if len(tensors[i])
        ]
        for done in torch.distributed.batch_isend_irecv(work) if work else ():
            done.wait()
        return into

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, concatenated."""
        if self.world == 1:
            return rows
        counts = self.all_gather(torch.tensor([len(rows)], device=rows.device))[:, 0].tolist()
        return self.all_to_all(rows.repeat(self.world, *[1] * (rows.ndim - 1)), [len(rows)] * self.world, counts)

    def broadcast(self, message: Any) -> Any:
        """The message of rank 0; those of other ranks are ignored. Raises ConnectionError when rank 0 has ended."""
        if self.world == 1:
            return message
        messages = [message]
        try:
            torch.distributed.broadcast_object_list(messages, src=0)
        except RuntimeError as e:
            raise ConnectionError("rank 0 has ended.") from e
        return messages[0]

    def gather(self, message: Any) -> list[Any] | None:
        """On rank 0 the messages of all ranks; None on the others."""
        if self.world == 1:
            return [message]
        messages: list[Any] | None = [None] * self.world if self.rank == 0 else None
        torch.distributed.gather_object(message, messages, dst=0)
        return messages


ALONE = ProcessGroup()
"""A single process."""


def _has_all_to_all(device: torch.device) -> bool:
    """True for NCCL. For gloo it depends on the version of torch, so it is tried once."""
    if device.type not in _KNOWN:
        try:
            few = torch.zeros(torch.distributed.get_world_size(), device=device)
            torch.distributed.all_to_all_single(torch.empty_like(few), few)
            _KNOWN[device.type] = True
        except (RuntimeError, NotImplementedError, AttributeError):
            _KNOWN[device.type] = False
    return _KNOWN[device.type]


_KNOWN: dict[str, bool] = {}


def launched() -> bool:
    """Whether torchrun, or a launcher like it, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and "MASTER_ADDR" in os.environ


@contextmanager
def joined_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started; `ALONE` without torchrun.

    Raises SplatError if this torch has no torch.distributed, or if there are fewer GPUs than processes.
    """
    if not launched():
        yield ALONE
        return
    if not torch.distributed.is_available():
        raise SplatError("this torch is built without torch.distributed: run without torchrun, or install another.")
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus:
        if local >= gpus:
            raise SplatError(
                f"{local + 1} and more processes here have {gpus} GPU(s): lower torchrun's --nproc-per-node."
            )
        torch.cuda.set_device(local)
    # Poses may take hours, in which the others wait.
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    torch.distributed.init_process_group(backend, timeout=timedelta(days=7))
    yield ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    # Not after an exception: this would block on the other ranks. torchrun ends them when this process ends.
    _KNOWN.clear()
    torch.distributed.destroy_process_group()
