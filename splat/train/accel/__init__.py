"""Faster ways to carry out training, for those who ask: CUDA graphs, a fixed capacity of pairs, several processes.

Nothing of training imports this folder: `Acceleration` is given to `train.loop.train`.
"""

from splat.train.accel.acceleration import Acceleration

__all__ = ["Acceleration"]
