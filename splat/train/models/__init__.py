"""What training optimizes: Gaussians in one parameterization or another, and what belongs to the photos."""
