"""Accuracy against throughput for models of several kinds, and which of them no other beats: the paper's Figure 1.

python examples/analyze_tradeoff.py
"""

from pathlib import Path

import deitkit
from deitkit.analysis.save import save_report
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

OUTPUT = Path("runs/examples/tradeoff")
# Here with random weights; runs, timm:NAME, ONNX files and Python functions are named in the same way.
MODELS = {
    "nano": Model(name="deit_nano", image_size=16),
    "nano_distilled": Model(name="deit_nano", image_size=16, distilled=True),
    "nano_32": Model(name="deit_nano", image_size=32),
    "resnet10t": Model(name="timm:resnet10t", image_size=32, drop_path=0.0),
}


def main() -> None:
    names = open_source(Data(dataset="digits"), "val").class_names
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, model in MODELS.items():
        info = ModelInfo.of(Data(dataset="digits"), model.size, names)
        save_model(OUTPUT / name, build_student(model, len(names)), info)

    # The models take turns, so that a slow moment of the machine hits all of them.
    report = deitkit.analyze_tradeoff(*(OUTPUT / name for name in MODELS), published=True, seconds=0.5, batch_size=8)
    print(f"not beaten: {', '.join(report.numbers['front'])}")
    for path in save_report(report, OUTPUT):
        print(path)


if __name__ == "__main__":
    main()
