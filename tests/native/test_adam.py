"""The fused optimizer step is torch's Adam."""

import pytest
import torch

from splat.native import bindings, build
from splat.native.ops import AdamTensor, adam_harmonics, fused_adam, torch_adam
from splat.train.models.harmonics import expanded

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")
SHAPES = [(3,), (4,), (3,), (), (16, 3)]
RATES = [1.6e-4, 1e-3, 5e-3, 5e-2, 2.5e-3]


def state(n, dtype=torch.float32, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *s, generator=rng).to(dtype) for s in SHAPES]


def test_dense_steps_are_those_of_torch():
    n = 5000
    ours, theirs = state(n), [p.double().requires_grad_() for p in state(n)]
    m, v = [torch.zeros_like(p) for p in ours], [torch.zeros_like(p) for p in ours]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(theirs, RATES)]
    optimizer = torch.optim.Adam(groups, eps=1e-15)
    for step in range(1, 6):
        gradients = state(n, seed=step)
        for p, g in zip(theirs, gradients):
            p.grad = g.double()
        optimizer.step()
        fused_adam([AdamTensor(*x) for x in zip(ours, gradients, m, v, RATES)], step)
    for p, q, start, lr in zip(ours, theirs, state(n), RATES):
        assert (p - start).abs().max() > lr
        assert torch.allclose(p.double(), q.detach(), atol=1e-3 * lr, rtol=1e-6)


@pytest.mark.parametrize("runs", ["scattered", "consecutive"])
def test_only_the_rows_named_move_and_as_in_torch(runs):
    n = 6000
    ids = torch.arange(1000, 4000) if runs == "consecutive" else (torch.rand(n) < 0.4).nonzero()[:, 0]
    ours, plain = state(n), state(n)
    moments = [[[torch.rand_like(p) for p in ours] for _ in range(2)]]
    moments.append([[t.clone() for t in ts] for ts in moments[0]])
    before = [p.clone() for p in ours]
    for step in (7, 8):
        gradients = [g[: len(ids)] for g in state(n, seed=step)]
        fused_adam([AdamTensor(*x) for x in zip(ours, gradients, *moments[0], RATES)], step, ids)
        torch_adam([AdamTensor(*x) for x in zip(plain, gradients, *moments[1], RATES)], step, ids, 0.9, 0.999, 1e-15)
    others = torch.ones(n, dtype=torch.bool)
    others[ids] = False
    for i, lr in enumerate(RATES):
        assert torch.equal(ours[i][others], before[i][others]) and not torch.equal(ours[i], before[i])
        assert torch.allclose(ours[i], plain[i], atol=1e-4 * lr, rtol=1e-6)
        for k in range(2):
            assert torch.allclose(moments[0][k][i], moments[1][k][i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_columns_of_one_tensor_may_have_their_own_rates(sparse):
    n = 300
    ids = torch.arange(0, n, 2) if sparse else None
    p, whole = state(n)[4], state(n)[4]
    g = state(n, seed=3)[4][: n // 2 if sparse else n]
    zeros = [torch.zeros_like(p) for _ in range(4)]
    parts = [AdamTensor(p, g, *zeros[:2], 1e-2, (0, 3)), AdamTensor(p, g, *zeros[:2], 5e-4, (3, None))]
    fused_adam(parts, 1, ids)
    fused_adam([AdamTensor(whole, g, *zeros[2:], 1e-2)], 1, ids)
    rows = slice(None) if ids is None else ids
    moved, expected = (p - state(n)[4])[rows], (whole - state(n)[4])[rows]
    assert torch.allclose(moved[:, 0], expected[:, 0], atol=1e-7)
    assert torch.allclose(moved[:, 1:], expected[:, 1:] / 20, atol=1e-6)
    assert torch.equal(zeros[0], zeros[2]) and torch.equal(zeros[1], zeros[3])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_counts_as_zero(bad):
    for step_of in (fused_adam, lambda t, s: torch_adam(t, s, None, 0.9, 0.999, 1e-15)):
        p, g = torch.ones(40, 3), torch.ones(40, 3)
        g[5, 1] = bad
        m, v = torch.zeros(40, 3), torch.zeros(40, 3)
        step_of([AdamTensor(p, g, m, v, 0.1)], 1)
        assert p[5, 1] == 1 and m[5, 1] == 0 and v[5, 1] == 0
        assert torch.allclose(p[6], torch.full((3,), 0.9))


def test_a_constant_gradient_moves_by_the_rate():
    """Whatever its size: 1e-15 is far below any denominator that matters."""
    for size in (1e-6, 1.0, 1e6):
        p = torch.zeros(3, 1)
        m, v = torch.zeros(3, 1), torch.zeros(3, 1)
        for step in range(1, 11):
            fused_adam([AdamTensor(p, torch.full((3, 1), size), m, v, 0.01)], step)
        assert torch.allclose(p, torch.full((3, 1), -0.1), rtol=1e-4)


def test_any_number_of_threads_gives_the_same_bits():
    results = []
    before = bindings.get_threads()
    try:
        for threads in (1, 2, 3):
            bindings.set_threads(threads)
            p, g = state(9000), state(9000, seed=1)
            m, v = [torch.zeros_like(x) for x in p], [torch.zeros_like(x) for x in p]
            fused_adam([AdamTensor(*x) for x in zip(p, g, m, v, RATES)], 1)
            results.append(torch.cat([x.flatten() for x in p]))
    finally:
        bindings.set_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_wrong_shapes_are_refused():
    p = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="2 rows"):
        fused_adam([AdamTensor(p, p, p.clone(), p.clone(), 0.1)], 1, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="moments"):
        fused_adam([AdamTensor(p, p, p[:2].clone(), p.clone(), 0.1)], 1)
    with pytest.raises(ValueError, match="count from 1"):
        fused_adam([AdamTensor(p, p, p.clone(), p.clone(), 0.1)], 0)
    fused_adam([], 1)


def test_gradients_may_hold_only_the_columns_that_move():
    n, ids = 50, torch.arange(0, 50, 3)
    p, m, v = (torch.randn(n, 16, 3).abs() for _ in range(3))
    q, mq, vq = p.clone(), m.clone(), v.clone()
    g = torch.randn(len(ids), 16, 3)
    fused_adam([AdamTensor(p, g[:, :1].contiguous(), m, v, 0.1, (0, 3))], 3, ids)
    fused_adam([AdamTensor(q, g, mq, vq, 0.1, (0, 3))], 3, ids)
    assert torch.equal(p, q) and torch.equal(m, mq) and torch.equal(v, vq)
    with pytest.raises(ValueError, match="rows of the parameter's are needed"):
        fused_adam([AdamTensor(p, g[:, :1].contiguous(), m, v, 0.1, (0, 6))], 3, ids)


@pytest.mark.parametrize("k", [1, 4, 9, 16])
@pytest.mark.parametrize("ids", [None, [], [2], list(range(0, 300, 3))])
@pytest.mark.parametrize("constant_too", [True, False])
def test_harmonics_move_as_in_plain_torch_from_the_constants_gradient(k, ids, constant_too):
    n, rng = 300, torch.Generator().manual_seed(k)
    ids = None if ids is None else torch.tensor(ids, dtype=torch.int64)
    ours = [torch.rand(n, k, 3, generator=rng) for _ in range(3)]
    theirs = [t.double() for t in ours]
    means, camera_centre = torch.randn(n, 3, generator=rng), torch.randn(3, generator=rng)
    gradient = torch.randn(n if ids is None else len(ids), 1, 3, generator=rng)
    gradient[:1] = torch.nan
    chosen = means.double() if ids is None else means.double()[ids]
    full = expanded(gradient.double(), chosen, camera_centre.double(), k)
    pieces = [AdamTensor(theirs[0], full, *theirs[1:], 0.01, (0, 3))] if constant_too else []
    pieces += [AdamTensor(theirs[0], full, *theirs[1:], 0.002, (3, None))]
    for step in (5, 6):
        adam_harmonics(*ours, means, camera_centre, gradient, (0.01, 0.002), step, ids, constant_too)
        fused_adam(pieces, step, ids)  # in double precision: the twin in torch
    for a, b in zip(ours, theirs):
        assert torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("named", [False, True])
def test_rows_that_were_not_seen_stay_as_they_are(named):
    n, k, rng = 700, 9, torch.Generator().manual_seed(1)
    ids = torch.arange(0, n, 2) if named else None
    m = n if ids is None else len(ids)
    seen = (torch.rand(m, generator=rng) < 0.5).int() * 7
    chosen = seen.nonzero()[:, 0] if ids is None else ids[seen > 0]
    one = [torch.rand(n, 3, generator=rng) for _ in range(3)]
    two, gradient = [t.clone() for t in one], torch.randn(m, 3, generator=rng)
    fused_adam([AdamTensor(one[0], gradient, *one[1:], 0.1)], 4, ids, visibility=seen)
    fused_adam([AdamTensor(two[0], gradient[seen > 0], *two[1:], 0.1)], 4, chosen)
    one_sh = [torch.rand(n, k, 3, generator=rng) for _ in range(3)]
    two_sh, means = [t.clone() for t in one_sh], torch.randn(n, 3, generator=rng)
    constant, origin = torch.randn(m, 1, 3, generator=rng), torch.zeros(3)
    adam_harmonics(*one_sh, means, origin, constant, (0.01, 0.002), 4, ids, visibility=seen)
    adam_harmonics(*two_sh, means, origin, constant[seen > 0].contiguous(), (0.01, 0.002), 4, chosen)
    plain = [t.double() for t in one]
    torch_adam([AdamTensor(plain[0], gradient.double(), *plain[1:], 0.1)], 5, ids, 0.9, 0.999, 1e-15, seen)
    fused_adam([AdamTensor(one[0], gradient, *one[1:], 0.1)], 5, ids, visibility=seen)
    fused_adam([AdamTensor(two[0], gradient[seen > 0], *two[1:], 0.1)], 5, chosen)
    for a, b in zip([*one, *one_sh], [*two, *two_sh], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one, plain, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6)
