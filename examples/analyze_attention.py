"""What the class and the distillation token read of an image: attention of every layer and head, and the rollout.

python examples/analyze_attention.py
"""

from pathlib import Path

import torch

from deitkit.analysis.attention.measure import attention_maps, look_at, rollout
from deitkit.analysis.attention.report import attention_report
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source
from deitkit.data.views.augment import decode, evaluation_view
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model


def main() -> None:
    # Random weights; `deitkit.models.load.load_model("runs/student")` gives a trained model.
    digits = open_source(Data(dataset="digits"), "val")
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    info = ModelInfo.of(Data(dataset="digits"), (16, 16), digits.class_names)

    # Tensors alone: normalised images in, attention out.
    maps = attention_maps(student, torch.randn(2, 3, 16, 16))
    print(f"{maps.names}: weights {tuple(maps.weights.shape)} = layers, heads, images, tokens, patches")
    print(f"rollout {tuple(rollout(maps).shape)} = images, tokens, patches")

    # Pictures: an image as the model's own protocol cuts it.
    image = decode(digits.read(0), name=digits.ids[0])
    view = evaluation_view(image, info.size, info.crop_ratio, info.interpolation)
    look = look_at(LoadedModel(student, info, "student"), view, device=torch.device("cpu"), name=digits.ids[0])
    report = attention_report([look], classifier="student")
    print(f"{len(save_report(report, Path('reports')))} files in reports/")


if __name__ == "__main__":
    main()
