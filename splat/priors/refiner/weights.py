"""The refiner's weights, made by `scripts/train_refiner.py`, and the record beside them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from splat.core import safetensors_file
from splat.core.errors import SplatError
from splat.core.files import write_atomic, write_json
from splat.core.foreign import read_bytes, read_json, shown
from splat.priors.refiner.inputs import CHANNELS, NAMES
from splat.priors.refiner.unet import MAX_PARAMETERS, RefinerNet, count_parameters

FILE = Path(__file__).with_name("refiner.safetensors")
LICENCE = "Apache-2.0"
MAX_BYTES = 4_000_000


@dataclass(frozen=True, eq=False)
class RefinerWeights:
    """What `load_weights` found."""

    tensors: dict[str, Tensor]
    widths: tuple[int, int, int]
    record: dict[str, Any]
    """The JSON beside the file: `sha256`, `licence`, `seed`, `recipe`, `inputs`, `widths` and the recipe's figures."""

    @property
    def sha256(self) -> str:
        return str(self.record["sha256"])


def save_weights(net: RefinerNet, widths: tuple[int, int, int], path: Path, **record: Any) -> None:
    """The network as `path`, and `path` with .json beside it. `record`: seed, recipe and figures."""
    if count_parameters(net) > MAX_PARAMETERS:
        raise ValueError(f"{count_parameters(net)} parameters are more than {MAX_PARAMETERS}")
    data = safetensors_file.to_bytes(net.state_dict(), {"licence": LICENCE})
    write_atomic(path, data)
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "licence": LICENCE, "widths": list(widths)}
    write_json(path.with_suffix(".json"), facts | {"inputs": list(NAMES)} | record)


def load_weights(path: Path = FILE) -> RefinerWeights | None:
    """None where there is no such file. Raises SplatError where it is not the file of the record beside it, or not of
    this network."""
    if not path.exists():
        return None
    record = read_json(path.with_suffix(".json"), 2**20)
    data = read_bytes(path, MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.get("sha256"):
        wanted = shown(record.get("sha256"))[:12]
        raise SplatError(
            f"{shown(path)} is not the file of its record (its SHA-256 starts with {digest[:12]} in place of "
            f"{wanted}): install splat again, or make both with scripts/train_refiner.py."
        )
    tensors = safetensors_file.from_bytes(data, path)
    widths = record.get("widths")
    if record.get("inputs") != list(NAMES) or not _is_network(tensors, widths):
        raise SplatError(
            f"{shown(path)} holds another network than this version's: make it again with scripts/train_refiner.py."
        )
    assert isinstance(widths, list)
    return RefinerWeights(tensors, (widths[0], widths[1], widths[2]), record)


def _is_network(tensors: dict[str, Tensor], widths: Any) -> bool:
    if not (isinstance(widths, list) and len(widths) == 3 and all(type(n) is int and 0 < n <= 256 for n in widths)):
        return False
    wanted = {n: t.shape for n, t in RefinerNet(CHANNELS, widths).state_dict().items()}
    return {n: t.shape for n, t in tensors.items()} == wanted and all(
        bool(t.isfinite().all()) for t in tensors.values()
    )
