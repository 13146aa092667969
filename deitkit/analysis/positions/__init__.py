"""Position embeddings, and what interpolation keeps of them: `analyze` goes from a run to the report."""

from deitkit.analysis.positions.analyze import analyze as analyze
