"""What the class and the distillation token read of an image: attention of every layer and head, and the rollout.

python examples/analyze_attention.py
"""

from pathlib import Path

import torch

import deitkit
from deitkit.analysis.attention.measure import attention_maps, rollout
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

OUTPUT = Path("runs/examples/attention")


def main() -> None:
    # Random weights in a model folder; a run's path stands for a trained model wherever one is named.
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    names = open_source(Data(dataset="digits"), "val").class_names
    OUTPUT.mkdir(parents=True, exist_ok=True)
    save_model(OUTPUT / "model", student, ModelInfo.of(Data(dataset="digits"), (16, 16), names))

    # Pictures of two images of its own data, and of all heads of the second layer.
    report = deitkit.analyze_attention(OUTPUT / "model", layer=2, limit=2)
    for path in save_report(report, OUTPUT):
        print(path)

    # Tensors alone: normalised images in, attention out.
    maps = attention_maps(student, torch.randn(2, 3, 16, 16))
    print(f"{maps.names}: weights {tuple(maps.weights.shape)} = layers, heads, images, tokens, patches")
    print(f"rollout {tuple(rollout(maps).shape)} = images, tokens, patches")


if __name__ == "__main__":
    main()
