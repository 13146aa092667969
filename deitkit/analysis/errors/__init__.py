"""Which images a model gets wrong, how surely, and which labels to doubt."""
