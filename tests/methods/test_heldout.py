"""Held-out photos take no part in anything but their own measurement."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from street import write_photos

from splat.__main__ import main

# every source of targets that `lm` has: depth and normals, points and warped photos between, refined renders
EVERYTHING = ("--method", "lm", "--lm.refiner", "scene", "--lm.virtual.every", "4", "--losses.pearson", "0.1")
TINY = ("--lm.refined.fit-steps", "4", "--lm.refined.size", "64", "--lm.refined.max-views", "4")
SMALL = (
    "--preset",
    "fast",
    "--iterations",
    "60",
    "--max-resolution",
    "200",
    "--no-renders",
    "--test-every",
    "4",
    "--threads",
    "1",
)


def digests(run: Path) -> dict[str, str]:
    files = {n: next((run / folder).glob(n)) for folder, n in (("train", "gaussians.npz"), ("export", "splat.ply"))}
    return {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}


@pytest.mark.slow
def test_other_pixels_in_held_out_photos_leave_the_splat_as_it_is(tmp_path: Path) -> None:
    """With `--heldout strict`, which finds poses without them too. The first splat and the second have equal hashes."""
    found = []
    for changed in (False, True):
        photos, run = tmp_path / f"photos{changed:d}", tmp_path / f"run{changed:d}"
        paths = write_photos(photos)
        if changed:
            for path in paths[::4]:
                noisy = cv2.imread(str(path)).astype(np.int16) + np.random.default_rng(0).integers(-9, 9, (360, 480, 3))
                cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8))
        assert (
            main(["reconstruct", str(photos), "--out", str(run), "--heldout", "strict", *SMALL, *TINY, *EVERYTHING])
            == 0
        )
        found.append(digests(run))
    assert found[0] == found[1]
