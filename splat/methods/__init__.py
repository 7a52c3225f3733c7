"""Methods: what a run asks of its photos, how its first Gaussians are made, how they are trained.

A new method is its own file and one line of METHODS: the command line, `auto`, `splat init`, the bench and Python read
that list alone.
"""

from splat.core.slots import Method
from splat.methods.coherent import Coherent
from splat.methods.coherent_published import CoherentPublished
from splat.methods.edgs import Edgs
from splat.methods.edgs_published import EdgsPublished
from splat.methods.lm import Lm
from splat.methods.points import Points

METHODS: dict[str, type[Method]] = {m.name: m for m in (Points, Edgs, Coherent, Lm, EdgsPublished, CoherentPublished)}
"""Name -> a frozen dataclass of settings, callable without arguments, whose instances are `slots.Method`s."""

__all__ = ["METHODS", "Coherent", "CoherentPublished", "Edgs", "EdgsPublished", "Lm", "Points"]
