"""A run's folder: what happened, its checkpoints, where it ran."""
