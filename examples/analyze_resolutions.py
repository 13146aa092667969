"""One model at other image sizes: cost and accuracy as it is, and what was fine-tuned there: the paper's Table 10.

python examples/analyze_resolutions.py
"""

from pathlib import Path

import torch

from deitkit.analysis.resolutions.measure import Finetuned, Hits, Resolution, at_size, choose_sizes, shape_of
from deitkit.analysis.resolutions.report import resolutions_report
from deitkit.analysis.save import save_report
from deitkit.analysis.tradeoff.measure import count_macs
from deitkit.data.open import Source, open_source, subset
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import build_student
from deitkit.models.throughput import Candidate, Protocol, measure_speed
from deitkit.predictions.predict import predict
from deitkit.recipe.schema import Data, Model

CPU = torch.device("cpu")


def main() -> None:
    # A model: here with random weights; `deitkit.models.load.load_model("runs/student")` gives a trained one.
    images = subset(open_source(Data(dataset="digits"), "val"), range(50), "val")
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    model = LoadedModel(student, ModelInfo.of(Data(dataset="digits"), (16, 16), images.class_names), "student")

    # Only its position embedding changes. The sizes take turns, so that a slow moment of the machine hits all.
    resized = {size: at_size(model, size) for size in choose_sizes(model)}
    candidates = [Candidate("student", each.student, size) for size, each in resized.items()]
    protocol = Protocol(CPU, batch_size=8, seconds=0.5)
    speeds = measure_speed(candidates, protocol, say=print)
    rows = [
        Resolution(size, *shape_of(each), count_macs(candidate), speed, decide(each, images))
        for (size, each), candidate, speed in zip(resized.items(), candidates, speeds, strict=True)
    ]

    # What was fine-tuned at a size would come from its run's predictions; here another model stands for it.
    other = build_student(Model(name="deit_nano", image_size=24, distilled=True), 10, seed=1)
    info = ModelInfo.of(Data(dataset="digits"), (24, 24), images.class_names)
    tuned = Finetuned("student_24", (24, 24), decide(LoadedModel(other, info, "student_24"), images))
    report = resolutions_report(
        rows, [tuned], classifier="student", own=(16, 16), images="digits/val", mode="bicubic",
        conditions=protocol.conditions(),
    )  # fmt: skip
    for row in report.tables[0].texts():
        print("  ".join(row))
    for path in save_report(report, Path("runs/examples/resolutions")):
        print(path)


def decide(model: LoadedModel, images: Source) -> Hits:
    """Right decisions of each head."""
    return Hits.of(predict(model.student, model.info, images, name=model.origin, device=CPU))


if __name__ == "__main__":
    main()
