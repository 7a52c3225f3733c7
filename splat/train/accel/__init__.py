"""Optional accelerations of training: CUDA graphs, a fixed capacity of pairs, several processes.

The rest of training does not import this folder: an `Acceleration` is passed to `train.loop.train`.
"""

from splat.train.accel.acceleration import Acceleration

__all__ = ["Acceleration"]
