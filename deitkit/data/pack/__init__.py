"""Packing a data set into tar shards."""
