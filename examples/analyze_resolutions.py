"""One model at other image sizes: cost and accuracy as it is, and what was fine-tuned there: the paper's Table 10.

python examples/analyze_resolutions.py
"""

from pathlib import Path

import deitkit
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

OUTPUT = Path("runs/examples/resolutions")


def main() -> None:
    # A model with random weights, and another that stands for what was fine-tuned from it at 24 px. A run's path stands
    # for a trained one, and runs that were fine-tuned from it are found beside it.
    names = open_source(Data(dataset="digits"), "val").class_names
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, size in (("student", 16), ("student_24", 24)):
        student = build_student(Model(name="deit_nano", image_size=size, distilled=True), 10)
        save_model(OUTPUT / name, student, ModelInfo.of(Data(dataset="digits"), (size, size), names))

    # Only the position embedding changes. The sizes take turns, so that a slow moment of the machine hits all.
    report = deitkit.analyze_resolutions(
        OUTPUT / "student", finetuned=[str(OUTPUT / "student_24")], limit=50, seconds=0.5, batch_size=8
    )
    for row in report.tables[0].texts():
        print("  ".join(row))
    for path in save_report(report, OUTPUT):
        print(path)


if __name__ == "__main__":
    main()
