"""What the class and the distillation token read of images: `analyze` goes from a run to the report."""

from deitkit.analysis.attention.analyze import analyze as analyze
