"""Each row of the ablation of CoherentGS changes one thing, and what is finished is kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scripted import script


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return script("coherent_ablation")


def differences(a: dict, b: dict, where: str = "") -> set[str]:
    """Dotted names of settings that differ."""
    out: set[str] = set()
    for name, value in a.items():
        if isinstance(value, dict):
            out |= differences(value, b[name], f"{where}{name}.")
        elif value != b[name]:
            out.add(where + name)
    return out


def test_each_row_changes_one_thing(ablation: ModuleType, tmp_path: Path) -> None:
    expected = {
        "full": set(),
        "decoder": {"pixels.field.kind"},
        "alignment": {"init.alignment"},
        "multisampling": {"supersampling.max_factor"},
        "variation": {"losses.layered"},
        "flow": {"pixels.flow_weight"},
        "grid": {"pixels.field.kind"},
        "robust": {"init.alignment"},
    }
    full = ablation.command(ablation.ROWS["full"], tmp_path, tmp_path, 50).resolved(3)[0]
    assert set(ablation.ROWS) == set(expected)
    for name, changed in expected.items():
        run = ablation.command(ablation.ROWS[name], tmp_path, tmp_path, 50).resolved(3)[0]
        found = differences(asdict(full.chosen), asdict(run.chosen))
        found |= {f"losses.{n}" for n in differences(asdict(full.losses), asdict(run.losses))}
        assert found == changed, name
        assert (run.iterations, run.max_resolution, run.train_photos) == (50, 126, 3)
    assert full.losses.layered == 5.0


def test_depth_is_mis_scaled_alike_in_every_run_and_differently_for_every_photo(ablation: ModuleType) -> None:
    depth = torch.linspace(2, 9, 50).reshape(5, 10)
    initializer = ablation.MisScaled()
    made = [initializer.relative_depth(i, depth, 1.5, 0) for i in (0, 1, 2)]
    assert torch.equal(made[1], initializer.relative_depth(1, depth, 1.5, 0))
    scales = [float((m[4, 9] - m[0, 0]) / 7) for m in made]
    assert len(set(scales)) == 3 and all(1 / 1.6 <= s <= 1.6 for s in scales)
    for m, s in zip(made, scales):
        assert torch.allclose(m - s * depth, (m - s * depth)[0, 0].expand(5, 10), atol=1e-4)


def test_without_the_capture_there_is_nothing_to_do(
    ablation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablation.main(["--data", str(tmp_path), "--results", str(tmp_path / "results")]) == 0
    assert "not there" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_rows_that_are_finished_are_not_made_again(ablation: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "llff_fern").mkdir()
    for name, psnr in (("full", 20.0), ("decoder", 17.5)):
        found = {"psnr": psnr, "ssim": 0.5, "num_gaussians": 9, "steps": 7, "minutes": 1.0}
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--results", str(tmp_path)]
    assert ablation.main([*given, "--rows", "full,decoder", "--steps", "7"]) == 0
    text = (tmp_path / "ablation.md").read_text()
    assert "| 17.50 / 0.500 | -2.50 |" in text and not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        ablation.main([*given, "--rows", "nothing"])
