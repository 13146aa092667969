"""What interpolation keeps of a position embedding [1, prefix + rows * columns, D], and of a model's accuracy with it.

python examples/analyze_positions.py
"""

from dataclasses import replace
from pathlib import Path

import torch

from deitkit.analysis.positions.measure import measure_accuracy, measure_positions, resample_positions
from deitkit.analysis.positions.report import positions_report
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source, subset
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model


def main() -> None:
    # An embedding alone: independent vectors on a 14x14 grid, as at the start of training.
    embedding = torch.randn(1, 2 + 14 * 14, 192, generator=torch.Generator().manual_seed(0))
    before = embedding[0, 2:].norm(dim=-1).mean()
    for positions in resample_positions(embedding, (14, 14), (24, 24)):
        print(f"{positions.mode}: {positions.norms().mean() / before:.0%} of the mean norm kept")

    # A model: here with random weights; `deitkit.models.load.load_model("runs/student")` gives a trained one.
    digits = open_source(Data(dataset="digits"), "val")
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    model = LoadedModel(student, ModelInfo.of(Data(dataset="digits"), (16, 16), digits.class_names), "student")
    measures = measure_positions(model, [(16, 16), (24, 24)])
    accuracy = list(measure_accuracy(model, measures, subset(digits, range(50), "val"), device=torch.device("cpu")))
    report = positions_report(replace(measures, accuracy=accuracy), images="digits/val")
    print(f"{len(save_report(report, Path('reports')))} files in reports/")


if __name__ == "__main__":
    main()
