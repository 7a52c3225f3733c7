"""Which settings decide which stage: a key without one of them would load a result that was made with another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import reconstruct, small

from splat.core.schedules import LearningRates
from splat.init import SfmPoints
from splat.losses import Losses
from splat.methods import Points
from splat.poses.photometric import PoseSearch
from splat.run.folder import RunFolder
from splat.train.settings import Training


@pytest.fixture(scope="module")
def finished(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keys") / "run"
    reconstruct(posed_photos, out)
    return out


def keys(photos: Path, run: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, str]:
    """Of all stages, each as if those before it had stayed what they are."""
    found: dict[str, str] = {}

    def stage(self: RunFolder, name: str, key: str, config: Any, make: Any, load: Any, *_: Any, **__: Any) -> Any:
        found[name] = key
        self._identities[name] = name
        self.seconds[name] = 0.0
        return load(self.root / name)

    monkeypatch.setattr(RunFolder, "stage", stage)
    small(photos, run, **changes)()
    return found


SETTINGS: list[tuple[dict[str, Any], set[str]]] = [
    ({"test_every": 4}, {"ingest"}),
    ({"mask_mode": "empty"}, {"ingest"}),
    ({"invert_masks": True}, {"ingest"}),
    ({"up": "-y"}, {"poses"}),
    ({"heldout": "strict"}, {"poses", "evaluate"}),
    ({"seed": 1}, {"poses", "init", "train"}),
    ({"sh_degree": 2}, {"init"}),
    ({"cap": 500}, {"init", "train"}),
    ({"max_resolution": 60}, {"init", "train"}),
    ({"downscale": 2.0}, {"init", "train"}),
    ({"methods": (Points(SfmPoints(random_count=301)),)}, {"init", "train"}),
    ({"losses": Losses(dssim=0.3)}, {"train"}),
    ({"losses": Losses(opacity=0.3)}, {"train"}),
    ({"train": Training(rates=LearningRates(means=1e-4))}, {"train"}),
    ({"antialiased": True}, {"train"}),
    ({"raster": "reference"}, {"train"}),
    ({"search": PoseSearch(steps=3)}, {"evaluate"}),
    ({"renders": True}, {"export"}),
    ({"threads": 2, "quiet": False}, set()),
    ({"train": Training(checkpoint_every=3, checkpoint_minutes=1.0)}, set()),
]


@pytest.mark.parametrize(
    ("changes", "stages"), SETTINGS, ids=[" ".join(c) + str(i) for i, (c, _) in enumerate(SETTINGS)]
)
def test_a_stage_is_made_again_for_the_settings_that_decide_it(
    posed_photos: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stages: set[str]
) -> None:
    before = keys(posed_photos, finished, monkeypatch)
    after = keys(posed_photos, finished, monkeypatch, **changes)
    assert before.keys() == after.keys() == {"ingest", "poses", "init", "train", "evaluate", "export"}
    assert {n for n in before if before[n] != after[n]} == stages
