"""Position embeddings, and what interpolation keeps of them."""
