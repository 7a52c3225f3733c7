"""Training: the loop, what it optimizes, and what changes on the way."""

from splat.train.density import DefaultDensity, NoDensity
from splat.train.mcmc import MCMCDensity

DENSITIES = {"none": NoDensity, "default": DefaultDensity, "mcmc": MCMCDensity}
"""Density controls by name: settings that a phase takes."""
