"""Models: what a user may call one, where its weights come from, building, loading, saving, resampling."""
