"""From images on disk to mixed, normalised batches: sources, the stream, plans, views, mixes and the loaders."""
