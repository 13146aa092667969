"""Model folders: `model.safetensors` + `config.json`, with classes, protocol and data fingerprint. Starts no training.

timm loads one, too: `timm.create_model("local-dir:FOLDER", pretrained=True)`; without pretrained=True timm silently
gives random weights, and its distilled models average the heads' logits where deitkit adds their softmaxes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import ConfigDict, Field, with_config
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from typing_extensions import TypedDict

from deitkit.errors import DeitkitError
from deitkit.files import recover_in, remove, saving, sync_folder, write_atomic
from deitkit.models.student import FUSIONS, FittedFusion, FittedKind, Fusion, Student
from deitkit.recipe.schema import BackendName, Data, Side
from deitkit.records import checked_json, read_json
from deitkit.runs.folder import Run
from deitkit.runs.names import no_such_model

FILES = ("model.safetensors", "config.json")
STAGED = ".model-new"  # a whole new model, before it is in its place
MENDED = "copy it again, or take an earlier copy of the folder"
Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PROTOCOL = ConfigDict(extra="allow")


@dataclass(frozen=True)
class ModelInfo:
    """What travels with a model: its classes, its input and what it was trained on. `size` is (height, width) px;
    `backend` makes its views; `class_counts` are the training images of each class, where they are known.

    `logit_adjustment` is tau of Menon et al. 2020 (arXiv 2007.07314, eq. 9): logits less tau log pi decide.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_ratio: float
    interpolation: str
    dataset: str = ""
    data_fingerprint: str = ""
    recipe: str = ""
    exif_orientation: bool = False
    fusion: Fusion = "softmax"
    backend: BackendName = "pil"
    class_counts: tuple[int, ...] = ()
    logit_adjustment: float = 0.0

    @classmethod
    def of(cls, data: Data, size: tuple[int, int], class_names: tuple[str, ...], **more: Any) -> ModelInfo:
        return cls(
            class_names, size, data.mean, data.std, data.crop_ratio, data.interpolation, data.dataset,
            exif_orientation=data.exif_orientation, **more,
        )  # fmt: skip


@with_config(PROTOCOL)
class About(TypedDict):
    """The fields of ModelInfo in a config.json that deitkit wrote; `read_fusion` reads the fusion."""

    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    size: tuple[Side, Side]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Deviation, Deviation, Deviation]
    crop_ratio: Annotated[float, Field(gt=0, le=1)]
    interpolation: Literal["bicubic", "bilinear"]
    dataset: NotRequired[str]
    data_fingerprint: NotRequired[str]
    recipe: NotRequired[str]
    exif_orientation: NotRequired[bool]
    backend: NotRequired[BackendName]
    class_counts: NotRequired[tuple[Annotated[int, Field(ge=0)], ...]]
    logit_adjustment: NotRequired[Finite]


@with_config(PROTOCOL)
class Config(TypedDict, total=False):
    """A config.json: timm's fields, and deitkit's own where deitkit wrote it."""

    architecture: str
    model_args: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    deitkit: About | None


def save_model(folder: Path, student: Student, info: ModelInfo) -> None:
    """Write a model folder. In one that is there only the model's own files are replaced, when the new ones are whole.

    Raises:
        DeitkitError: the disk is full, or the folder cannot be written.
    """
    with saving(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover_in(folder.parent, (folder.name,), shared=True)
        is_new = not folder.exists() or not any(folder.iterdir())
        place = folder if is_new else folder / STAGED
        temporary = place.with_name(f".{place.name.removeprefix('.')}.{os.getpid()}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            _write_model(temporary, student, info)
            if not is_new:
                remove(place)
            os.replace(temporary, place)
            sync_folder(place.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        recover_model(folder)


def recover_model(folder: Path) -> None:
    """Put a whole new model, beside which a process was killed, in its place; remove what was not whole.

    Until both files are there the folder has no config.json: old weights are never read as new ones.
    """
    staged = folder / STAGED
    if staged.is_dir():
        if (staged / FILES[0]).is_file():
            (folder / FILES[1]).unlink(missing_ok=True)
            os.replace(staged / FILES[0], folder / FILES[0])
        os.replace(staged / FILES[1], folder / FILES[1])
        shutil.rmtree(staged)
    recover_in(folder, (*FILES, STAGED.removeprefix(".")), shared=True)


def is_model_folder(folder: Path) -> bool:
    """Whether a model is there, or all of one that a killed process did not get into its place."""
    return (folder / FILES[1]).is_file() or (folder / STAGED).is_dir()


def _write_model(folder: Path, student: Student, info: ModelInfo) -> None:
    folder.mkdir(parents=True)
    state = {key: value.detach().cpu().contiguous() for key, value in student.network.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    save_config_for_hf(
        student.network,
        str(folder / "config.json"),
        model_config={"deitkit": asdict(info), "label_names": list(info.class_names)},
        model_args={key: value for key, value in student.arguments.items() if key != "num_classes"},
        data_config={
            "input_size": (3, *info.size),
            "mean": info.mean,
            "std": info.std,
            "crop_pct": info.crop_ratio,
            "interpolation": info.interpolation,
        },
    )
    config = read_config(folder)
    config["model_args"] = student.arguments  # timm drops what it can infer; deitkit rebuilds from these
    config["pretrained_cfg"]["tag"] = "deitkit"  # not the released weights that timm's template names
    config["pretrained_cfg"].pop("license", None)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def find_model(reference: str | Path) -> Path:
    """The model folder of a run, or of itself.

    Raises:
        DeitkitError: neither is there; an unfinished run is named as such.
    """
    path = Path(reference)
    if (path / "config.json").is_file():
        return path
    if Run.is_run(path):
        run = Run(path)
        if (run.model / "config.json").is_file():
            return run.model
        raise DeitkitError(
            f"{path} has no model yet: the run is {run.status()}",
            value=str(path),
            remedy=f"wait for it, or finish it with its command and --resume (see {path}/environment.json)",
        )
    if not path.exists():
        raise no_such_model(str(path))
    raise DeitkitError(
        f"model {path} is neither a run nor a model folder",
        value=str(path),
        remedy="`deitkit runs list` shows the runs; a model folder has a config.json",
    )


def read_info(config: Mapping[str, Any]) -> ModelInfo | None:
    """What a config.json that `read_config` gave says of classes and protocol; None where deitkit did not write it.

    Raises:
        DeitkitError: this version knows no such fusion.
    """
    about = config.get("deitkit")
    if about is None:
        return None
    known = {field.name: about[field.name] for field in fields(ModelInfo) if field.name in about}
    return ModelInfo(**{**known, "fusion": read_fusion(about.get("fusion", "softmax"))})


def read_fusion(value: Any) -> Fusion:
    """What a config.json says of the fusion: a name, or an object that was fitted.

    Raises:
        DeitkitError: this version knows no such fusion.
    """
    if value in FUSIONS:
        return value  # type: ignore[no-any-return]
    try:
        class_temperature, distillation_temperature = map(float, value["temperatures"])
        fitted = FittedFusion(**{**value, "temperatures": (class_temperature, distillation_temperature)})
        sound = fitted.kind in get_args(FittedKind) and 0 <= fitted.weight <= 1
        sound &= all(0 < temperature < math.inf for temperature in fitted.temperatures)
        sound &= isinstance(fitted.fitted_on, str) and isinstance(fitted.fingerprint, str)
    except (TypeError, KeyError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise DeitkitError(
            f"a model's config.json names a fusion that deitkit does not know: {value}",
            value=value,
            choices=(*FUSIONS, *get_args(FittedKind)),
            remedy='write "softmax" there, the paper\'s; `deitkit evaluate --fit-fusion --store-fusion` fits it anew',
        )
    return fitted


def fusion_as_json(fusion: Fusion) -> str | dict[str, Any]:
    """What `read_fusion` reads."""
    if isinstance(fusion, FittedFusion):
        return {**asdict(fusion), "temperatures": list(fusion.temperatures)}
    return fusion


def config_of(student: Student, info: ModelInfo) -> dict[str, Any]:
    """What rebuilds a model and says how it is used, as JSON holds it: a config.json without timm's fields."""
    about = {**asdict(info), "fusion": fusion_as_json(info.fusion)}
    return {"architecture": student.architecture, "model_args": student.arguments, "deitkit": about}


def parse_config(text: str, name: str) -> dict[str, Any]:
    """What `config_of` wrote into the file of this name.

    Raises:
        DeitkitError: it is damaged.
    """
    return dict(checked_json(text.encode(), Config, name=f"what {name} says of itself", remedy=MENDED))


def store_fusion(folder: Path, fusion: Fusion) -> None:
    """Make it the model's own: its fused predictions are made so from now on. Weights are not touched.

    Raises:
        DeitkitError: deitkit did not write the folder.
    """
    config = read_config(folder)
    if "deitkit" not in config:
        raise DeitkitError(
            f"{folder} was not written by deitkit: nothing reads a fusion there",
            value=str(folder),
            remedy="fit without --store-fusion, or name a run",
        )
    config["deitkit"]["fusion"] = fusion_as_json(fusion)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        DeitkitError: it is damaged.
    """
    return dict(read_json(folder / "config.json", Config, remedy=MENDED))
