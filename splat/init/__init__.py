"""Initializers: a posed capture -> the first Gaussians. `--method` picks by these names."""

from splat.init.points import Points

INITIALIZERS = {"points": Points}
"""Name -> a frozen dataclass of settings whose instances are `slots.Initializer`s."""
