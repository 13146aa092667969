"""Recipes: what a run needs, validated, every value with its origin. Reads no weights and no past runs."""
