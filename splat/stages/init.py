"""The init stage: posed Capture -> first Gaussians."""

from __future__ import annotations

from pathlib import Path

import torch

from splat.core import licences
from splat.core.capture import Capture
from splat.core.slots import Init, InitPlan, Method, Priors
from splat.run.arrays_io import load_init, save_init
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.used_priors import note_priors
from splat.stages.context import Context
from splat.stages.forecast import Limits, plan_matching
from splat.stages.priors import PriorSettings


def init(
    c: Context, capture: Capture, method: Method, settings: PriorSettings, limits: Limits, cap: int, sh_degree: int
) -> Init:
    """At most `cap` first Gaussians, thinned at random where the initializer makes more. Initializers see training
    photos alone."""
    c.report.begin("init")
    sizes = [(v.camera.width, v.camera.height) for v in capture.views]
    seen = capture.training()
    initializer = method.initializer(seen)
    request = method.matching()
    priors = settings.for_key().priors(0) if request is not None else None
    if settings.depth is not None and (request is None or not request.depth):
        c.report.warn(f"--method {method.name} reads no depth maps: --depth has no effect.")
    # Of what the run decides (sizes to match at) only that it does: more iterations go on from the same Gaussians.
    key = hash_of(
        *("init", c.run.identity("poses"), method.name, initializer, priors),
        *(sh_degree, c.seed, sizes, cap),
    )

    def make(folder: Path) -> Init:
        plan, asked = _planned(c, seen, method, settings, limits, cap)
        with licences.recorded() as used:
            result = method.initializer(seen, plan)(seen, sh_degree, c.seed, c.report, asked)
        note_priors(folder, used)
        if len(result.gaussians) > cap:
            generator = torch.Generator().manual_seed(c.seed)
            ids = torch.randperm(len(result.gaussians), generator=generator)[:cap].sort().values
            c.report.info(f"{len(result.gaussians)} first Gaussians thinned to the cap of {cap}")
            result = result.rows(ids)
        save_init(folder / "init.npz", result)
        return load_init(folder / "init.npz")  # its depth maps are rounded there, and a resumed run sees the same ones

    code = code_hash("splat.init", "splat.priors", type(method).__module__)
    result = c.run.stage("init", key, initializer, make, lambda folder: load_init(folder / "init.npz"), code=code)
    c.report.info(f"{len(result.gaussians)} first Gaussians")
    return result


def _planned(
    c: Context, seen: Capture, method: Method, settings: PriorSettings, limits: Limits, cap: int
) -> tuple[InitPlan, Priors | None]:
    """What the run decides for the initializer, and what it may ask."""
    request = method.matching()
    if request is None:
        return InitPlan(cap), None
    plan = plan_matching(seen, limits, cap, request, settings.matching_size)
    c.report.info(
        f"matching {plan.photos} photos at {plan.size} px: about {plan.seconds:.0f} s, {plan.gigabytes:.1f} GB"
    )
    return InitPlan(cap, plan.size, plan.photos), settings.on(c.device.type).priors(plan.size)
