"""How alike the class and the distillation token are, by depth (Sec. 5.2): `analyze` goes from runs to the report."""

from deitkit.analysis.tokens.analyze import analyze as analyze
