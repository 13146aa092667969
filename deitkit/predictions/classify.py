"""A model's classes for image files: `deitkit predict`, and `deitkit.predict` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deitkit.data.views.augment import Reading, decode, evaluation_view
from deitkit.data.views.loader import normalised, per_channel
from deitkit.distributed import pick_device
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, load_reference

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class Guess:
    """A class, and the probability from 0 to 1 that a head gives it."""

    name: str
    confidence: float


@dataclass(frozen=True)
class ClassifiedImage:
    """An image file, and each head's best guesses, the most probable first."""

    path: Path
    heads: dict[str, tuple[Guess, ...]]

    def as_dict(self) -> dict[str, Any]:
        """`{"image", "heads": {head: [{"class", "confidence"}, ...]}}`: what JSON can hold."""
        heads = {
            head: [{"class": guess.name, "confidence": guess.confidence} for guess in guesses]
            for head, guesses in self.heads.items()
        }
        return {"image": str(self.path), "heads": heads}


@torch.inference_mode()
def classify(
    model: str | Path | LoadedModel, images: str | Path | Sequence[str | Path], *, top: int = 5, device: str = "auto"
) -> list[ClassifiedImage]:
    """The `top` best classes of each head for every image file, and for all images in every folder, that is named.

        for image in deitkit.predict("runs/mine", ["cat.jpg", "photos"]):
            print(image.path, image.heads["class"][0])

    Images are cropped and normalised as the model was evaluated (its folder says how).

    Raises:
        DeitkitError: there is no such model, or a file is missing or no image.
    """
    paths = image_files([images] if isinstance(images, (str, Path)) else images)
    loaded, picked = model if isinstance(model, LoadedModel) else load_reference(str(model)), pick_device(device)
    info, student = loaded.info, loaded.student.eval().to(picked)
    mean, std = per_channel(info.mean, picked), per_channel(info.std, picked)
    answers = []
    for path in paths:
        image = decode(path.read_bytes(), str(path), Reading(exif_orientation=info.exif_orientation))
        view = torch.from_numpy(evaluation_view(image, info.size, info.crop_ratio, info.interpolation))
        heads = student(normalised(view[None].to(picked), mean, std))
        guesses = {}
        for head, probabilities in heads.probabilities(info.fusion).items():
            best = probabilities[0].topk(min(top, len(info.class_names)))
            guesses[head] = tuple(
                Guess(info.class_names[index], confidence)
                for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            )
        answers.append(ClassifiedImage(path, guesses))
    return answers


def image_files(names: Sequence[str | Path]) -> list[Path]:
    """Files as given, and every image below a folder, by name.

    Raises:
        DeitkitError: one does not exist, or a folder holds no images.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise DeitkitError(f"{path} holds no images", value=name, choices=sorted(IMAGE_SUFFIXES))
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DeitkitError(f"{path} does not exist", value=name, remedy="name an image file or a folder of them")
    return found
