"""Teachers: any frozen classifier teaches (DeiT Sec. 4). timm, runs, ONNX files, Python factories, and mixtures.

`open_teacher` gives the recipe's, its answers in the data's classes; `open_classifier` one before they are matched.
What was adapted to the student's views, or assumed, stands in `facts.notes`.
"""

from deitkit.teachers.classifier import Answering, Classifier
from deitkit.teachers.facts import Input, TeacherFacts
from deitkit.teachers.teacher import (
    Teacher,
    check_chunk,
    kind_of,
    open_classifier,
    open_teacher,
    refuse_code_from_file,
)

__all__ = [
    "Answering", "Classifier", "Input", "Teacher", "TeacherFacts", "check_chunk", "kind_of", "open_classifier",
    "open_teacher", "refuse_code_from_file",
]  # fmt: skip
