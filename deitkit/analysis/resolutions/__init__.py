"""What a model gains and costs at other image sizes (Table 10): `analyze` goes from a run to the report."""

from deitkit.analysis.resolutions.analyze import analyze as analyze
