"""Training: the loop, the parameterizations that it optimizes, density control and observers."""
