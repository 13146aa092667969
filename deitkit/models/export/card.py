"""The model card of a folder for a hub: what the model is, how it is used, how good it is and where it came from.

A pure function of what is known; the header is the hub's YAML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from deitkit.catalog import DATASETS
from deitkit.measures.agreement import wilson_interval
from deitkit.models.export.timm import AVERAGED, PRETRAINED
from deitkit.models.export.wanted import Wanted
from deitkit.models.folder import ModelInfo
from deitkit.models.load import LoadedModel
from deitkit.models.student import FittedFusion
from deitkit.version import __version__

UNKNOWN = "unknown"  # the hub's word for a licence that nobody states
MOST_CLASSES = 100  # that are listed
LOCAL = re.compile(r'"(?:/|~|[A-Za-z]:\\)[^"]*[/\\]([^"/\\]+)"')  # a path of somebody's disk


@dataclass(frozen=True)
class HeadScore:
    """A head's right decisions on a split."""

    dataset: str
    split: str
    head: str
    right: int
    images: int


@dataclass(frozen=True)
class ModelOrigins:
    """Where a model came from: its recipe as TOML with each value's origin, "" where there is none, and its scores."""

    name: str
    recipe: str = ""
    scores: tuple[HeadScore, ...] = ()


def model_card(model: LoadedModel, wanted: Wanted, origins: ModelOrigins, *, repository: str = "") -> str:
    """README.md as the hub takes it."""
    parts = [
        f"---\n{_header(wanted, origins)}\n---\n\n# {origins.name}", _what(model),
        f"## Use\n\n```python\n{_code(model, wanted, repository or origins.name)}\n```\n\n{_heads(model, wanted)}",
        f"## Results\n\n{_results(origins.scores)}", f"## Data\n\n{_data(model.info)}",
        "## Intended use\n\nTo tell single images of the kinds that it was trained on apart, into the classes listed "
        "here. It answers every image with one of them, also images of none. Nothing is known of its behaviour on "
        "other images than those above, and its confidence is no probability of being right unless it was calibrated.",
        f"## Classes\n\n{_classes(model.info.class_names)}", f"## Training\n\n{_training(origins)}",
        f"## Licence\n\n{_licence(model.info, wanted)}",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _header(wanted: Wanted, origins: ModelOrigins) -> str:
    results = [
        EvalResult(
            task_type="image-classification", dataset_type=score.dataset, dataset_name=score.dataset,
            dataset_split=score.split, metric_type="accuracy", metric_name=f"top-1, {score.head}",
            metric_value=round(score.right / score.images, 6),
        )
        for score in origins.scores
    ]  # fmt: skip
    data = ModelCardData(
        license=wanted.licence or UNKNOWN, library_name=_library(wanted),
        pipeline_tag="image-classification", tags=["deit", "image-classification", "deitkit"],
        model_name=origins.name, eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml()


def _library(wanted: Wanted) -> str:
    return "timm" if wanted.format == "timm" else "transformers"


def _what(model: LoadedModel) -> str:
    info, student = model.info, model.student
    millions = sum(parameter.numel() for parameter in student.parameters()) / 1e6
    kind = "data-efficient image transformer" if "deit" in student.architecture else student.architecture
    distilled = ", distilled through a token of its own (Touvron et al. 2020)" if student.distilled else ""
    return (
        f"A {kind} for {len(info.class_names):,} classes{distilled}: {millions:.3g} million parameters, images of "
        f"{info.size[0]}x{info.size[1]} px. Written by deitkit {__version__}."
    )


def _code(model: LoadedModel, wanted: Wanted, name: str) -> str:
    if wanted.format == "timm":
        place = f"hf-hub:{name}" if "/" in name else f"local-dir:{name}"
        return f'import timm\n\nmodel = timm.create_model("{place}", pretrained=True).eval()'
    return (
        "from transformers import pipeline\n\n"
        f'classify = pipeline("image-classification", model="{name}")\nprint(classify("image.jpg"))'
    )


def _heads(model: LoadedModel, wanted: Wanted) -> str:
    info = model.info
    how = (
        f"Images are resized so that the short side is {int(min(info.size) / info.crop_ratio)} px ({info.interpolation}"
        f"), cropped to the centre, and normalised with mean {list(info.mean)} and std {list(info.std)}."
    )
    sentences = [how, *([f"{PRETRAINED}."] if wanted.format == "timm" else [])]
    if model.student.distilled:
        fusion = info.fusion.kind if isinstance(info.fusion, FittedFusion) else info.fusion
        sentences.append(
            "It answers with two heads: the class head learned from labels, the distillation head from a teacher. The "
            f"scores below are of {'the sum of their softmaxes' if fusion == 'softmax' else fusion}. "
            f"{AVERAGED.format(_library(wanted))}, and may decide otherwise."
        )
    return " ".join(sentences)


def _results(scores: Sequence[HeadScore]) -> str:
    if not scores:
        return "Not measured: `deitkit evaluate` was not run before the export."
    rows = ["| Images | Head | Top-1 | 95 % interval | Right |", "|---|---|---|---|---|"]
    for score in scores:
        bounds = wilson_interval(score.right, score.images)
        rows.append(
            f"| {score.dataset}, {score.split} | {score.head} | {score.right / score.images:.2%} | {bounds.low:.2%} to "
            f"{bounds.high:.2%} | {score.right:,} of {score.images:,} |"
        )
    return "\n".join([*rows, "", "Intervals are Wilson's. Images that chose the model's epoch flatter it."])


def _data(info: ModelInfo) -> str:
    known = DATASETS.get(info.dataset)
    if known is None:
        return "Images of the exporter's own." if info.dataset == "folder" else "Not known."
    terms = f"Terms that its makers state: {known.terms}."
    return f"{known.title}, {known.train_size:,} training images ({known.home}). {terms}"


def _classes(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_CLASSES:,} more (config.json)" if len(names) > MOST_CLASSES else ""
    return ", ".join(names[:MOST_CLASSES]) + more


def _training(origins: ModelOrigins) -> str:
    if not origins.recipe:
        return "No recipe is known."
    recipe = LOCAL.sub(r'".../\1"', origins.recipe)
    return f"The recipe; behind each value stands where it is from.\n\n```toml\n{recipe.strip()}\n```"


def _licence(info: ModelInfo, wanted: Wanted) -> str:
    if wanted.licence:
        return wanted.licence
    known = DATASETS.get(info.dataset)
    terms = f" The terms of the training images are: {known.terms}." if known else ""
    return f"None is stated by whoever exported the model.{terms}"
