"""Measurements that anyone can repeat. Each prints a table and, with --json, the same as JSON."""
