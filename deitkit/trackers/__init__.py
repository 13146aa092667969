"""Experiment trackers beside a run: its metrics, recipe, figures and report, by each tracker's own library.

metrics.jsonl stays the truth: a tracker is told what it holds, and nothing of a run depends on one.
"""
