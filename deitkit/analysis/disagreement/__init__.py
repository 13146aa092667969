"""Who decides differently from whom (Table 4): `analyze` goes from runs to the report."""

from deitkit.analysis.disagreement.analyze import analyze as analyze
