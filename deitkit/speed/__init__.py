"""How fast models run on this machine, of random weights and without data (`deitkit benchmark`). Trains nothing."""
