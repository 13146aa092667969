"""Which images a model gets wrong, how surely, and which labels to doubt: `analyze` goes from runs to the report."""

from deitkit.analysis.errors.analyze import analyze as analyze
