"""A torch teacher as an ONNX file, with what deitkit wants to know in its metadata: class names and normalisation.

python examples/export_teacher_to_onnx.py REFERENCE OUTPUT.onnx --image-size 32

REFERENCE is anything that --teacher takes: timm:NAME, a run, 'file.py:function?weights=PATH'. Metadata of the same
names make an ONNX file from any other framework a teacher, too.
"""

import argparse
import json

import onnx
import torch

from deitkit.recipe.schema import TeacherTable
from deitkit.teachers import Classifier, open_classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("output")
    parser.add_argument("--image-size", type=int, default=224, metavar="PIXELS", help="of images for the tracing alone")
    options = parser.parse_args()
    size = (options.image_size, options.image_size)
    classifier = open_classifier(options.reference, TeacherTable(model=options.reference), size=size)
    export(classifier, options.output, size=classifier.input.size or size)
    print(f"{options.output}: {classifier.outputs} classes, {classifier.input.normalisation()}")


def export(classifier: Classifier, path: str, *, size: tuple[int, int]) -> None:
    """Write the network for batches of any length, and the metadata, each value as JSON."""
    torch.onnx.export(
        classifier.network, (torch.randn(2, 3, *size),), path, input_names=["images"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
    )  # fmt: skip
    model = onnx.load(path)
    wanted = classifier.input
    said = {
        "class_names": classifier.class_names, "mean": wanted.mean, "std": wanted.std, "channels": wanted.channels,
        "input": wanted.values, "scores": classifier.scores,
    }  # fmt: skip
    metadata = {key: json.dumps(value) for key, value in said.items() if value is not None}
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


if __name__ == "__main__":
    main()
