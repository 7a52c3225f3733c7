"""What is known about a scene besides its photos: depth, correspondence, normals. Weightless ones are the default."""

from splat.priors.stereo import Stereo

__all__ = ["Stereo"]
