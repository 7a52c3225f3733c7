"""Initializers: a posed capture -> the first Gaussians. `--method` picks by these names."""

from splat.init.edgs import Edgs
from splat.init.points import Points

INITIALIZERS = {"points": Points, "edgs": Edgs}
"""Name -> a frozen dataclass of settings whose instances are `slots.Initializer`s."""
