"""Accuracy against throughput for models of several kinds, and which of them no other beats: the paper's Figure 1.

python examples/analyze_tradeoff.py
"""

from pathlib import Path

import torch

from deitkit.analysis.save import save_report
from deitkit.analysis.tradeoff.measure import Contender, count_macs, kind_name
from deitkit.analysis.tradeoff.report import tradeoff_report
from deitkit.data.open import open_source, subset
from deitkit.models.load import ModelInfo
from deitkit.models.student import build_student
from deitkit.models.throughput import Candidate, Protocol, measure_speed
from deitkit.predictions.predict import predict
from deitkit.recipe.schema import Data, Model

CPU = torch.device("cpu")
# Here with random weights; `deitkit.models.load.load_model("runs/student").student` gives a trained model.
MODELS = {
    "nano": Model(name="deit_nano", image_size=16),
    "nano distilled": Model(name="deit_nano", image_size=16, distilled=True),
    "nano 32": Model(name="deit_nano", image_size=32),
    "resnet10t": Model(name="timm:resnet10t", image_size=32, drop_path=0.0),
}


def main() -> None:
    images = subset(open_source(Data(dataset="digits"), "val"), range(50), "val")
    students = {name: build_student(model, 10) for name, model in MODELS.items()}
    candidates = [Candidate(name, student, MODELS[name].size) for name, student in students.items()]

    # The models take turns, so that a slow moment of the machine hits all of them.
    protocol = Protocol(CPU, batch_size=8, seconds=0.5)
    speeds = measure_speed(candidates, protocol, say=print)
    contenders = []
    for candidate, speed in zip(candidates, speeds, strict=True):
        student = students[candidate.name]
        info = ModelInfo.of(Data(dataset="digits"), candidate.size, images.class_names)
        table = predict(student, info, images, name=candidate.name, device=CPU)
        head = [*table.heads][-1]  # the one that decides: fused where there are two
        contenders.append(
            Contender(
                candidate.name, kind_name(transformer="nano" in candidate.name, distilled=student.distilled),
                candidate.size, sum(parameter.numel() for parameter in student.parameters()), count_macs(candidate),
                speed, head, int(table.hits(head).sum()), len(table.ids),
            )
        )  # fmt: skip
    report = tradeoff_report(contenders, images="digits/val", conditions=protocol.conditions(), published=True)
    print(f"not beaten: {', '.join(report.numbers['front'])}")
    for path in save_report(report, Path("runs/examples/tradeoff")):
        print(path)


if __name__ == "__main__":
    main()
