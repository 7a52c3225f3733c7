"""Depth carried over to where it was not measured."""

import torch

from splat.geometry.depth_completion import complete_depth, conjugate_gradients, pull_push


def flat_grey(h: int, w: int) -> torch.Tensor:
    return torch.full((h, w, 3), 0.5)


def slanted(h: int, w: int) -> torch.Tensor:
    """Depth of a plane: its inverse is linear over the photo."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return 1 / (0.2 + 0.002 * x + 0.001 * y)


def test_a_flat_surface_stays_flat_across_a_hole_in_it() -> None:
    depth = slanted(60, 90)
    confidence = torch.ones(60, 90)
    confidence[20:40, 30:60] = 0
    guess = complete_depth(torch.where(confidence > 0, depth, 77.0), confidence, flat_grey(60, 90))
    assert float((guess / depth - 1).abs().max()) < 0.01


def test_a_flat_surface_goes_on_beyond_what_was_measured_of_it() -> None:
    """By its slopes; without them it would turn to face the camera."""
    depth, confidence = slanted(60, 90), torch.zeros(60, 90)
    confidence[10:50, 20:60] = 1
    measured = torch.where(confidence > 0, depth, 77.0)
    slopes = torch.tensor([0.002, 0.001])[:, None, None].expand(2, 60, 90)
    guess = complete_depth(measured, confidence, flat_grey(60, 90), slopes)
    assert float((guess / depth - 1).abs().max()) < 0.02
    assert float((complete_depth(measured, confidence, flat_grey(60, 90)) / depth - 1).abs().max()) > 0.15


def test_no_guess_is_twice_as_near_or_far_as_anything_measured() -> None:
    depth, confidence = slanted(60, 90), torch.zeros(60, 90)
    confidence[25:35, 40:50] = 1
    slopes = torch.tensor([0.05, -0.05])[:, None, None].expand(2, 60, 90)  # wrong by far
    guess = complete_depth(torch.where(confidence > 0, depth, 77.0), confidence, flat_grey(60, 90), slopes)
    seen = depth[confidence > 0]
    assert float(guess.min()) >= 0.499 * float(seen.min()) and float(guess.max()) <= 2.001 * float(seen.max())


def test_what_was_measured_stays_as_it_was() -> None:
    depth, confidence = slanted(41, 63), (torch.rand(41, 63, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    guess = complete_depth(depth, confidence, flat_grey(41, 63))
    assert torch.equal(guess[confidence > 0], depth[confidence > 0])


def test_depth_does_not_cross_an_edge_of_the_photo() -> None:
    """A near red thing before a far blue wall: each fills its own."""
    near = torch.zeros(60, 80, dtype=torch.bool)
    near[16:44, 24:56] = True
    depth = torch.where(near, 1.0, 10.0)
    rgb = torch.where(near[..., None], torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1]))
    confidence = torch.zeros(60, 80)
    confidence[28:32, 38:42] = 1
    confidence[:5] = 1
    guess = complete_depth(torch.where(confidence > 0, depth, 5.0), confidence, rgb)
    assert float((guess / depth - 1).abs()[18:42, 26:54].max()) < 0.1
    inside = ~near
    inside[14:46, 22:58] = False
    assert float((guess / depth - 1).abs()[inside].max()) < 0.25


def test_the_unit_of_length_does_not_matter() -> None:
    depth, confidence = slanted(40, 40), torch.zeros(40, 40)
    confidence[::7, ::5] = 1
    one, thousand = (complete_depth(k * depth, confidence, flat_grey(40, 40)) for k in (1.0, 1000.0))
    assert torch.allclose(1000 * one, thousand, rtol=1e-4)


def test_nothing_measured_and_everything_measured() -> None:
    depth = slanted(10, 10)
    assert torch.equal(complete_depth(depth, torch.zeros(10, 10), flat_grey(10, 10)), depth)
    assert torch.equal(complete_depth(depth, torch.ones(10, 10), flat_grey(10, 10)), depth)


def test_conjugate_gradients_solve_the_system() -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    a = a @ a.T + 5 * torch.eye(20)
    right = torch.randn(20, generator=generator, dtype=torch.float64)
    x = conjugate_gradients(lambda v: a @ v, right, a.diagonal(), torch.zeros(20, dtype=torch.float64), 200)
    assert float((a @ x - right).norm() / right.norm()) < 2e-3


def test_a_pull_push_keeps_what_is_known() -> None:
    values = torch.arange(35.0).reshape(5, 7)
    known = torch.zeros(5, 7, dtype=torch.bool)
    known[2, 3] = known[4, 6] = True
    out = pull_push(values, known)
    assert torch.equal(out[known], values[known]) and float(out.min()) >= 17 and float(out.max()) <= 34


def test_doubtful_depths_shape_what_is_completed_and_wrong_ones_among_them_lose() -> None:
    """A box stands where nothing was measured: most doubtful depths show it, some are anywhere."""
    generator = torch.Generator().manual_seed(0)
    truth, measured = torch.full((60, 90), 5.0), torch.ones(60, 90, dtype=torch.bool)
    truth[20:40, 30:60] = 4.5
    measured[15:45, 20:70] = False
    rgb = flat_grey(60, 90).clone()
    rgb[20:40, 30:60] = 0.8
    confidence = torch.where(measured, 1.0, 0.6)
    wrong = ~measured & (torch.rand(60, 90, generator=generator) < 0.2)
    depth = torch.where(wrong, 2 + 6 * torch.rand(60, 90, generator=generator), truth)
    confidence[wrong] = 0.3
    alone = complete_depth(depth, torch.where(measured, 1.0, 0.0), rgb)
    guess = complete_depth(depth, confidence, rgb, measured=measured)
    box = (truth == 4.5) & ~measured
    assert torch.equal(guess[measured], depth[measured])
    assert float(((alone / truth - 1).abs()[box] < 0.03).float().mean()) < 0.1
    assert float(((guess / truth - 1).abs()[box] < 0.03).float().mean()) > 0.9
