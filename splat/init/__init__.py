"""Initializers: a posed capture -> the first Gaussians. Methods choose among them."""

from splat.init.dense_surfaces import DenseSurfaces
from splat.init.published_coherent import PublishedCoherent
from splat.init.published_edgs import PublishedEdgs
from splat.init.sfm_points import SfmPoints

__all__ = ["DenseSurfaces", "PublishedCoherent", "PublishedEdgs", "SfmPoints"]
