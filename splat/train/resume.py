"""What of a run is in its checkpoints, and how a run goes on from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from splat.core.errors import SplatError
from splat.train import checkpoint
from splat.train.distributed import on_cpu

if TYPE_CHECKING:
    from splat.train.loop import Trainer


@runtime_checkable
class Kept(Protocol):
    """What has a state that checkpoints keep."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


def save(t: Trainer) -> None:
    """Rank 0 writes the states of all processes."""
    if t.checkpoint_dir is None:
        return
    t.read_losses()
    state = {
        "phase": t.index,
        "local": t.local,
        "model": t.model.state(),
        "density": t.density.state() if t.index >= 0 else {},
        "source": t.phase.source.state(),
        "round": t.phase.on_round.state() if isinstance(t.phase.on_round, Kept) else {},
        "view_model": t.view_model.state(),
        "generator": t.generator.get_state(),
        "changes": t.changes,
        "capacity": t.room.capacity,
        **t.telling.state(),
    }
    if t.ranks.world > 1:
        shards = t.ranks.collected(on_cpu(state))
        if shards is None:
            return
        state = {"shards": shards}
    checkpoint.save(t.checkpoint_dir, state, t.settings.key)


def restore(t: Trainer) -> None:
    """Go on from the checkpoint, where there is one."""
    state = checkpoint.load(t.checkpoint_dir, t.settings.key) if t.checkpoint_dir else None
    if state is None:
        return
    shards = state.get("shards", [state])
    if len(shards) != t.ranks.world:
        raise SplatError(f"The checkpoint in {t.checkpoint_dir} was written by {len(shards)} processes: take as many.")
    state = shards[t.ranks.rank]
    if state["phase"] >= len(t.phases):
        raise SplatError(f"The checkpoint in {t.checkpoint_dir} has more phases than this method: delete it.")
    for index in range(state["phase"] + 1):
        t.enter(index)
    t.local = state["local"]
    t.model.load_state(state["model"])
    t.density.load_state(state["density"])
    t.phase.source.load_state(state["source"])
    if isinstance(t.phase.on_round, Kept):
        t.phase.on_round.load_state(state["round"])
    t.view_model.load_state(state["view_model"])
    t.generator.set_state(state["generator"])
    t.telling.load_state(state)
    t.changes = state["changes"]
    if t.room.capacity is not None:
        t.room.capacity = max(t.room.capacity, state.get("capacity") or 0)
    if t.step < t.total:
        t.report.info(f"Going on from step {t.step} of {t.total}.")
