"""Methods: what a run asks of its photos, how its first Gaussians are made, how they are trained."""
