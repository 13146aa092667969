"""From a source's images to batches: order (`stream`), plans, pixels (`augment`), mixing, workers, the loader."""
