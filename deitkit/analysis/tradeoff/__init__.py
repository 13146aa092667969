"""Accuracy against throughput (Figure 1, Table 5): `analyze` goes from models to the report."""

from deitkit.analysis.tradeoff.analyze import analyze as analyze
