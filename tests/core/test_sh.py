"""Spherical harmonics: orthonormal, the published signs, and turning with the world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from splat.core.gaussians import SH_C0, Gaussians, rgb_to_sh
from splat.core.geometry import Similarity
from splat.core.sh import rotate_sh, sh_basis


def sphere(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)


def test_the_basis_is_orthonormal_on_the_sphere() -> None:
    """Gauss-Legendre in z times equal steps in angle integrates degree 6 exactly."""
    z, weights = np.polynomial.legendre.leggauss(8)
    phi = (np.arange(16) + 0.5) * 2 * np.pi / 16
    zz, pp = (torch.from_numpy(a.ravel()) for a in np.meshgrid(z, phi, indexing="ij"))
    w = torch.from_numpy(np.repeat(weights, 16)) * 2 * torch.pi / 16
    r = (1 - zz * zz).sqrt()
    basis = sh_basis(torch.stack([r * pp.cos(), r * pp.sin(), zz], -1), 3)
    torch.testing.assert_close(basis.T @ (w[:, None] * basis), torch.eye(16, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_signs_of_degree_one_are_those_of_the_3dgs_paper() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    c1 = 0.4886025119029199
    expected = c1 * torch.tensor([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(sh_basis(axes, 1)[:, 1:], expected)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_lower_degree_is_a_prefix(degree: int) -> None:
    d = sphere(9)
    torch.testing.assert_close(sh_basis(d, degree), sh_basis(d, 3)[:, : (degree + 1) ** 2])


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turned_harmonics_look_the_same_from_the_turned_direction(degree: int) -> None:
    rotation = torch.from_numpy(Rotation.random(random_state=degree).as_matrix())
    sh = torch.randn(5, (degree + 1) ** 2, 3, dtype=torch.float64)
    d = sphere(40, seed=degree)
    before = torch.einsum("dk,nkc->dnc", sh_basis(d, degree), sh)
    after = torch.einsum("dk,nkc->dnc", sh_basis(d @ rotation.T, degree), rotate_sh(sh, rotation))
    torch.testing.assert_close(after, before, atol=1e-10, rtol=0)


def test_rotations_of_harmonics_compose() -> None:
    a, b = (torch.from_numpy(Rotation.random(random_state=s).as_matrix()) for s in (1, 2))
    sh = torch.randn(4, 16, 3, dtype=torch.float64)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, b), a), rotate_sh(sh, a @ b), atol=1e-10, rtol=0)


def gaussians(n: int = 12, degree: int = 3) -> Gaussians:
    return Gaussians(
        means=torch.randn(n, 3, dtype=torch.float64),
        quats_wxyz=torch.randn(n, 4, dtype=torch.float64),
        log_scales=torch.randn(n, 3, dtype=torch.float64),
        logit_opacities=torch.randn(n, dtype=torch.float64),
        sh=torch.randn(n, (degree + 1) ** 2, 3, dtype=torch.float64),
    )


A_FROM_B = Similarity(
    2.5,
    torch.from_numpy(Rotation.random(random_state=9).as_matrix()),
    torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64),
)


def test_covariances_follow_a_change_of_frame() -> None:
    g = gaussians()
    m = A_FROM_B.scale * A_FROM_B.rotation
    torch.testing.assert_close(g.transformed(A_FROM_B).covariances, m @ g.covariances @ m.T)
    torch.testing.assert_close(g.transformed(A_FROM_B).means, A_FROM_B.apply(g.means))


def test_a_change_of_frame_and_back_changes_nothing() -> None:
    g = gaussians()
    back = g.transformed(A_FROM_B).transformed(A_FROM_B.inverse())
    torch.testing.assert_close(back.covariances, g.covariances)
    for name in ("means", "log_scales", "logit_opacities", "sh"):
        torch.testing.assert_close(getattr(back, name), getattr(g, name), atol=1e-9, rtol=1e-9)


def test_a_plain_colour_looks_the_same_from_everywhere() -> None:
    rgb = torch.rand(6, 3, dtype=torch.float64)
    sh = rgb_to_sh(rgb, 3)
    seen = 0.5 + torch.einsum("dk,nkc->dnc", sh_basis(sphere(7), 3), sh)
    torch.testing.assert_close(seen, rgb.expand(7, 6, 3))
    assert sh_basis(sphere(1), 0).item() == pytest.approx(SH_C0)


def test_padding_and_cutting_degrees() -> None:
    g = gaussians(degree=1)
    up = g.with_sh_degree(3)
    assert (up.sh_degree, up.sh.shape[1]) == (3, 16)
    assert not up.sh[:, 4:].any()
    torch.testing.assert_close(up.with_sh_degree(1).sh, g.sh)
    torch.testing.assert_close(g.with_sh_degree(0).base_rgb, g.base_rgb)
