"""Where an export goes: named, or beside the model under its name; asked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from deitkit.errors import DeitkitError, quoted
from deitkit.files import output_model
from deitkit.models.export.wanted import Wanted
from deitkit.models.reference import Reference, local_folder

# What may lie in a folder that is replaced: what deitkit writes there.
OWN = ("model.safetensors", "config.json", "preprocessor_config.json", "README.md", "predictions")


def place_of(reference: Reference, wanted: Wanted, *, output: str | Path, overwrite: bool) -> Path:
    """The file or folder to be written.

    Raises:
        DeitkitError: it is there and `overwrite` is not asked for, is something else, or cannot be written; or a file's
            ending is another format's.
    """
    place = Path(output) if output else default_place(reference, wanted)
    if not wanted.is_folder and place.suffix != wanted.ending:
        raise DeitkitError(
            f"{place}: a file of this format is called NAME{wanted.ending}",
            value=str(place),
            remedy=f"--output {quoted(place.with_suffix(wanted.ending))}",
        )
    return output_model(place, own=OWN if wanted.is_folder else None, overwrite=overwrite)


def default_place(reference: Reference, wanted: Wanted) -> Path:
    """Beside the model, under its name; for one from afar, in the working folder."""
    is_file = reference.kind in ("weights", "exported")
    path = Path(reference.place).with_suffix("") if is_file else local_folder(reference.place)
    precision = wanted.precision if wanted.precision != "fp32" else ""
    parts = (path.resolve().name, reference.checkpoint, reference.head, precision)
    return path.with_name("_".join(filter(None, parts)) + wanted.ending)
