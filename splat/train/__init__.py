"""Training: the loop, what it optimizes, and what changes on the way."""
