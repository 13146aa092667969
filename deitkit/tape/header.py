"""A tape's header: everything that fixes the views and the teacher, and where two of them differ. Ours.

Batch size, accumulation, ranks, workers, epochs, optimiser and the student itself are not in it: they change neither a
view nor its number in the epoch. What differs here (versions, device) may cost the last bit, and is only said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import features

from deitkit.data.open import Source
from deitkit.data.views.stream import StreamShape
from deitkit.errors import DeitkitError, quoted
from deitkit.files import write_atomic
from deitkit.models.folder import find_model
from deitkit.models.forms import PYTHON
from deitkit.models.hub import WEIGHTS
from deitkit.models.reference import Reference
from deitkit.recipe.schema import Recipe
from deitkit.records import MOST_JSON, checked_json, read_bounded
from deitkit.runs.environment import describe_environment, processor
from deitkit.runs.folder import Run
from deitkit.tape.layout import TapeLayout

FORMAT = 1
NAME = "tape.json"
MENDED = "copy it again from where the tape was recorded, or record the tape anew"
IMAGES = ("data.images", "data.fingerprint", "data.bytes")  # no --set makes them others
SAMPLED = 16  # images whose bytes are compared
# Keys of a recipe that fix the views; the rest of `data` only says where the images are.
VIEW_TABLES = ("augment.", "mix.")
VIEW_KEYS = (
    "data.mean", "data.std", "data.interpolation", "data.exif_orientation", "data.max_pixels", "data.balance",
    "train.seed", "stream.repeats", "stream.backend",
)  # fmt: skip
FORMER_KEYS = frozenset({"data.on_bad_image"})  # of earlier tapes: of readable images it changes no view
LATER_KEYS: dict[str, Any] = {"data.balance": "none"}  # which earlier tapes do not name, and what they were
# Keys of [teacher] that say how a student learns from the answers, not what they are.
LEARNING = frozenset({"model", "tape", "labels", "tau", "weight", "reduction"})
# Packages that may move a pixel's or a logit's last bit.
VERSIONS = ("deitkit", "torch", "torchvision", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class _HeaderFormat:
    format: int


@dataclass(frozen=True)
class TapeHeader:
    """`views` and `teacher` must be the same, `here` should; `about` is for people.

    `weights` are sha256s of the teachers' files, None where a teacher is not a file.
    """

    views: dict[str, Any]
    models: list[str]
    weights: list[str | None]
    teacher: dict[str, Any]
    layout: TapeLayout
    here: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_atomic(folder / NAME, json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> TapeHeader:
        """The header of the tape in `folder`.

        Raises:
            DeitkitError: there is no tape, its header is damaged, or a newer deitkit wrote it.
        """
        path = folder / NAME
        if not path.is_file():
            reason = "is not a tape (no tape.json)" if folder.exists() else "does not exist"
            raise DeitkitError(
                f"{folder} {reason}",
                value=str(folder),
                remedy=f"deitkit tape record --recipe RECIPE --teacher TEACHER -o {quoted(folder)}",
            )
        content = read_bounded(path, most=MOST_JSON, remedy=MENDED)
        if checked_json(content, _HeaderFormat, name=str(path), remedy=MENDED).format != FORMAT:
            raise DeitkitError(
                f"{path} has another format than {FORMAT}", value=str(path), remedy="update deitkit, or record it anew"
            )
        return checked_json(content, cls, name=str(path), remedy=MENDED)

    @property
    def named(self) -> str:
        """The teachers, for people."""
        return ", ".join(self.models)


def header_of(
    recipe: Recipe, train: Source, shape: StreamShape, *, layout: TapeLayout, device: torch.device, **about: Any
) -> TapeHeader:
    """What a tape for this recipe, on this machine, must say of itself."""
    spec = recipe.teacher
    if spec is None:
        raise DeitkitError("the recipe has no [teacher]", remedy="--teacher RUN")
    return TapeHeader(
        views=views_of(recipe, train, shape),
        models=list(spec.models),
        weights=[weights_digest(reference) for reference in spec.models],
        teacher=teacher_settings(recipe),
        layout=layout,
        here=surroundings(recipe, device),
        about={
            "recipe": recipe.name, "dataset": recipe.data.dataset, "data": recipe.data.path,
            "tau": spec.tau, "class_names": list(train.class_names), **about,
        },
    )  # fmt: skip


def views_of(recipe: Recipe, train: Source, shape: StreamShape) -> dict[str, Any]:
    """Everything that fixes the views, by dotted key."""
    flat = recipe.flat()
    indices = np.linspace(0, len(train) - 1, SAMPLED).astype(int).tolist()
    digest = hashlib.sha256(b"".join(hashlib.sha256(train.read(index)).digest() for index in indices))
    chosen = {key: value for key, value in flat.items() if key in VIEW_KEYS or key.startswith(VIEW_TABLES)}
    return {
        "data.images": len(train),
        "data.fingerprint": train.fingerprint,
        "data.bytes": digest.hexdigest()[:16],
        "model.image_size": list(recipe.model.size),
        "stream.mix_group": shape.mix_group,
        **chosen,
    }


def teacher_settings(recipe: Recipe) -> dict[str, Any]:
    """What the recipe says of how the teacher answers, by dotted key: all of [teacher] but what the loss alone reads.

    Its precision is the run's, because it runs beside the student.
    """
    spec = {} if recipe.teacher is None else recipe.teacher.model_dump(mode="json", exclude=set(LEARNING))
    return {f"teacher.{key}": value for key, value in spec.items()} | {"train.precision": recipe.train.precision}


def surroundings(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """What may move the last bit of an answer: versions, kind of device, and how it reckons."""
    versions = describe_environment()["versions"]
    known = {f"version of {name}": versions[name] for name in VERSIONS}
    known["version of libjpeg-turbo"] = features.version("libjpeg_turbo")
    if device.type == "cpu":
        return {**known, "device": "cpu", "threads": torch.get_num_threads(), "processor": processor()}
    return {**known, "device": device.type, "train.deterministic": recipe.train.deterministic}


def weights_digest(reference: str) -> str | None:
    """sha256 of the files that a teacher is, and of the head that is named; None where none is at hand, as for
    timm:NAME."""
    digest = hashlib.sha256(Reference.parse(reference).head.encode())
    files = [file for file in files_of(reference) if file.is_file()]
    for file in files:
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest() if files else None


def files_of(reference: str) -> list[Path]:
    """Where a teacher's weights and making may lie: a file, a model folder's, a checkpoint's, a factory's code and
    arguments."""
    teacher = Reference.parse(reference)
    path = Path(teacher.model)
    if teacher.is_step:
        return sorted((Run(path).checkpoints / teacher.checkpoint).glob("model*"))
    if teacher.kind in ("run", "folder"):
        with contextlib.suppress(DeitkitError):
            return [find_model(path) / name for name in ("config.json", *WEIGHTS)]
    factory = PYTHON.fullmatch(teacher.place)
    if teacher.kind != "python" or factory is None:
        return [path]
    arguments = (argument.partition("=")[2] for argument in (factory["arguments"] or "").split("&"))
    return [Path(factory["place"]), *map(Path, filter(None, arguments))]


def differing(
    tape: Mapping[str, Any], now: Mapping[str, Any], *, names: tuple[str, str] = ("the tape", "this run")
) -> list[str]:
    """Each key that differs, with both values."""
    return [
        f"{key}: {names[0]} has {tape.get(key)!r}, {names[1]} {now.get(key)!r}"
        for key in sorted(tape.keys() | now.keys())
        if tape.get(key) != now.get(key)
    ]


def refuse_other_views(tape: TapeHeader, now: TapeHeader, path: Path) -> None:
    """Raise, naming each key, unless the tape is for the very views of this run."""
    recorded = LATER_KEYS | {key: value for key, value in tape.views.items() if key not in FORMER_KEYS}
    found = differing(recorded, now.views)
    if not found:
        return
    changed = [key for key, value in recorded.items() if now.views.get(key) != value]
    sets = [] if {*changed} & {*IMAGES} else [shlex.quote(f"{key}={_toml(recorded[key])}") for key in changed]
    agree = " ".join(f"--set {change}" for change in sets) + " if the tape's are meant; or " if sets else ""
    raise DeitkitError(
        f"tape {path} is of other views than this run's",
        value=str(path),
        problems=found,
        remedy=f"{agree}record one for this recipe: deitkit tape record -o OTHER",
    )


def _toml(value: Any) -> str:
    return "false" if value is None else json.dumps(value, separators=(",", ":"))


def refuse_other_teacher(tape: TapeHeader, now: TapeHeader, path: Path) -> None:
    """Raise, naming both, if the tape holds another teacher's answers; a teacher is known by its weights where they
    are at hand, else by its name."""
    if not _same_models(tape, now):
        named = " ".join(f"--teacher {model}" for model in tape.models)
        raise DeitkitError(
            f"tape {path} is of another teacher",
            value=str(path),
            problems=[
                f"the tape: {tape.named} (weights {_shortly(tape.weights)})",
                f"this run: {now.named} (weights {_shortly(now.weights)})",
            ],
            remedy=f"{named} if the tape's is meant, or record this one: deitkit tape record -o OTHER",
        )
    found = differing(_without_fingerprint(tape), _without_fingerprint(now))
    theirs, ours = (header.teacher.get("teacher.fingerprint") for header in (tape, now))
    if ours is not None and theirs != ours:
        found.append(f"teacher.fingerprint: the tape has {theirs!r}, this run {ours!r}")
    if found:
        raise DeitkitError(
            f"tape {path}: its teacher {tape.named} answered under other settings",
            value=str(path),
            problems=found,
            remedy="--set each of them to the tape's value, or record anew: deitkit tape record -o OTHER",
        )


def _same_models(tape: TapeHeader, now: TapeHeader) -> bool:
    if len(tape.models) != len(now.models):
        return False
    pairs = zip(tape.models, now.models, tape.weights, now.weights, strict=True)
    return all(named == meant if None in (a, b) else a == b for named, meant, a, b in pairs)


def _without_fingerprint(header: TapeHeader) -> dict[str, Any]:
    """A run that replays does not load its teacher, so it does not know the fingerprint."""
    return {key: value for key, value in header.teacher.items() if key != "teacher.fingerprint"}


def _shortly(digests: Sequence[str | None]) -> str:
    return ", ".join("not at hand" if digest is None else digest[:12] for digest in digests)


def differences_here(tape: TapeHeader, now: TapeHeader, path: Path, *, strict: bool) -> list[str]:
    """What differs in versions and device, as a message.

    Raises:
        DeitkitError: something does, and `strict` asks for none.
    """
    found = differing(tape.here, now.here)
    if found and strict:
        raise DeitkitError(
            f"tape {path} was recorded elsewhere", value=str(path), problems=found,
            remedy="leave out --strict: a label may then differ from the live teacher's now and then",
        )  # fmt: skip
    elsewhere = f"tape {path} was recorded elsewhere ({'; '.join(found)})"
    return [f"{elsewhere}: equal to the live teacher to the last bit is no longer promised"] if found else []
