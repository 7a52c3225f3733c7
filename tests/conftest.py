"""Shared fixtures. The jaxtyping hook comes first: every annotation of `splat` is checked while tests run."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("splat", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

# The tensors of tests are small: on a busy machine torch's threads would spend their time waiting for each other.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real captures, or a skip that says how to get it."""
    root = Path(os.environ.get("SPLAT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no captures at {root}: set SPLAT_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def posed_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small photos of random Gaussians with exact poses: a nerfstudio folder."""
    from posed import write_posed_photos

    return write_posed_photos(tmp_path_factory.mktemp("posed"))
