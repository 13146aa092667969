"""Measures: pure functions of arrays, each written once, with its source. They open no files and run no models."""
