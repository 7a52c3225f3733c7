"""Photos in, a scene you can walk through out."""

__version__ = "0.1.0"
