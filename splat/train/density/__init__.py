"""Density control: where to add Gaussians and which to remove.

An implementation is a frozen dataclass of settings; calling it with (steps of the phase, scene extent in world units)
gives the `slots.DensityControl` of a phase.
"""

from splat.train.density.default import DefaultDensity
from splat.train.density.mcmc import MCMCDensity
from splat.train.density.none import NoDensity

DENSITIES = {"default": DefaultDensity, "mcmc": MCMCDensity, "none": NoDensity}
"""By the name for `--train.density`. The field of that name in `settings.Training` has the settings."""
