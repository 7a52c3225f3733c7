"""Observers of training: each a `slots.Observer`."""

from splat.train.observers.evaluate import Evaluate
from splat.train.observers.log import TrainingLog

__all__ = ["Evaluate", "TrainingLog"]
