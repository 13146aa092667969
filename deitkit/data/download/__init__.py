"""Downloading data sets: hosts, parts, archives. What is there is not fetched again."""
