"""Predictions: a table of answers, one row an image; finding or making it, and what is computed from its heads."""
