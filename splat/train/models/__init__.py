"""What training optimizes: parameterizations of Gaussians, and the exposures and poses of photos."""
