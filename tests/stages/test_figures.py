"""Figures as publications define them, against what their definitions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import street
import torch
from small_runs import reconstruct

from splat.core.errors import SplatError
from splat.core.metrics import psnr, ssim, ssim_uniform
from splat.poses.known import Known
from splat.stages.figures import figures_named


def pictures(seed: int = 0, size: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a = rng.random((size, size, 3))
    return torch.tensor(a).float(), torch.tensor((0.8 * a + 0.2 * rng.random(a.shape)).clip(0, 1)).float()


def test_the_uniform_window_is_that_of_scikit_image() -> None:
    """By its definition, window by window, with numpy's unbiased (co)variances."""
    image, target = pictures()
    values = []
    for y in range(14):
        for x in range(14):
            for c in range(3):
                a, b = (t[y : y + 7, x : x + 7, c].double().numpy().ravel() for t in (image, target))
                cov = np.cov(a, b)
                top = (2 * a.mean() * b.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
                values.append(top / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)))
    assert ssim_uniform(image, target) == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim_uniform(target, target) == pytest.approx(1.0)


def test_figures_of_masked_photos_are_over_the_mask_or_over_white() -> None:
    image, target = pictures()
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[5:15, 5:15] = True
    wrong = torch.where(mask[..., None], image, 0.0)  # what is outside must not count
    by_name = {f.name: f for f in figures_named(["psnr", "psnr-white", "ssim-white", "ssim-uniform"])}
    assert by_name["psnr"](wrong, target, mask) == pytest.approx(psnr(image[5:15, 5:15], target[5:15, 5:15]))
    on_white = [torch.where(mask[..., None], t, 1.0) for t in (image, target)]
    assert by_name["ssim-white"](wrong, target, mask) == pytest.approx(ssim(*on_white))
    gained = 10 * np.log10(400 / 100)  # the same squared error over four times the pixels
    inside = by_name["psnr"](wrong, target, mask)
    assert inside is not None
    assert by_name["psnr-white"](wrong, target, mask) == pytest.approx(inside + gained, abs=1e-4)


def test_eight_bits_are_those_of_a_picture_file() -> None:
    target = torch.zeros(8, 8, 3)
    image = torch.full((8, 8, 3), 1.4 / 255)
    (figure,) = figures_named(["psnr-8bit"])
    assert figure(image, target, None) == pytest.approx(20 * np.log10(255), abs=1e-4), "1.4 levels become 1"


@pytest.mark.parametrize("name,said", [("mse", "psnr, ssim or lpips"), ("ssim-vgg", "vgg"), ("lpips-vgg-alex", "or")])
def test_names_that_mean_nothing_are_refused(name: str, said: str) -> None:
    with pytest.raises(SplatError, match=said):
        figures_named([name])


def test_a_run_reports_the_figures_that_were_asked_for(tmp_path: Path) -> None:
    street.write_transforms(tmp_path / "photos", [f"images/{i}.jpg" for i in range(4)])
    asked = {"figures": ("psnr-8bit", "lpips-vgg"), "known": Known(check=False, triangulate=False)}
    figures = reconstruct(tmp_path / "photos", tmp_path / "run", max_resolution=96, **asked)
    (view,) = figures["views"]
    assert figures["figures"] == view["figures"]
    assert figures["figures"]["psnr-8bit"] == pytest.approx(figures["psnr"], abs=0.2)
    assert figures["figures"]["lpips-vgg"] is None, "null where there are no weights"
    assert figures["machine"]["cores"] >= 1 and figures["versions"]["torch"]
    assert (tmp_path / "run" / "report.html").exists()
