"""Runs a function in several processes at once, joined over gloo as torchrun would join them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _work(rank: int, world: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...], out: str) -> None:
    os.environ.update(environment(rank, world, port))
    torch.set_num_threads(1)
    from splat.core.process_group import joined_group

    with joined_group() as group:
        torch.save(function(group, *arguments), Path(out) / f"{rank}.pt")


def run(world: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `function(group, *arguments)`, a function of a module, returns in each of `world` processes."""
    torch.multiprocessing.spawn(_work, (world, free_port(), function, arguments, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]
