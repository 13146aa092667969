"""What interpolation keeps of a position embedding [1, prefix + rows * columns, D], and of a model's accuracy with it.

python examples/analyze_positions.py
"""

from pathlib import Path

import torch

import deitkit
from deitkit.analysis.positions.measure import resample_positions
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

OUTPUT = Path("runs/examples/positions")


def main() -> None:
    # An embedding alone: independent vectors on a 14x14 grid, as at the start of training.
    embedding = torch.randn(1, 2 + 14 * 14, 192, generator=torch.Generator().manual_seed(0))
    before = embedding[0, 2:].norm(dim=-1).mean()
    for positions in resample_positions(embedding, (14, 14), (24, 24)):
        print(f"{positions.mode}: {positions.norms().mean() / before:.0%} of the mean norm kept")

    # A model: here with random weights; a run's path stands for a trained one.
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    names = open_source(Data(dataset="digits"), "val").class_names
    OUTPUT.mkdir(parents=True, exist_ok=True)
    save_model(OUTPUT / "model", student, ModelInfo.of(Data(dataset="digits"), (16, 16), names))
    for path in save_report(deitkit.analyze_positions(OUTPUT / "model", sizes=[(16, 16), (24, 24)], limit=50), OUTPUT):
        print(path)


if __name__ == "__main__":
    main()
