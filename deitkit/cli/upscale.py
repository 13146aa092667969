"""`deitkit upscale`: a model folder for another resolution; only its position embedding changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, DryRun, Mode, Overwrite, model_argument, output_option
from deitkit.errors import DeitkitError, one_of, quoted

if TYPE_CHECKING:
    from deitkit.models.load import Resampling


def upscale(
    model: Annotated[str, model_argument("RUN|MODEL", "RUN, RUN@best, a model folder, a file, timm:NAME, hf-hub:ID.")],
    to: Annotated[str, typer.Option("--to", help="Pixels: 384, or HEIGHTxWIDTH.")],
    mode: Mode = "bicubic",
    output: Annotated[str, output_option("The new folder [default: beside the model].")] = "",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a model for another resolution, its position embedding resampled.

    The table shows the mean L2 norm of the position vectors before and after, for each mode: the paper chose bicubic
    because it keeps the norm (Sec. 3), so that the transformer meets vectors of the length it knows.

    Example: deitkit upscale runs/quickstart/student --to 48 --dry-run
    Example: deitkit upscale runs/mine --to 384 -o models/mine_384
    Example: deitkit upscale timm:deit_tiny_patch16_224 --to 224x320 --mode bilinear
    """
    from deitkit.models import load as weights
    from deitkit.models.positions import POSITION_MODES

    size = parse_size(to)
    chosen = one_of(mode, POSITION_MODES, what="mode")
    loaded = weights.load_model(model)
    folder = Path(output) if output else default_folder(model, to)
    if not dry_run:
        refuse_occupied(folder, overwrite=overwrite)
    upscaled, report = weights.upscale(loaded, size, mode=chosen)
    if not dry_run:
        folder.parent.mkdir(parents=True, exist_ok=True)
        weights.save_model(folder, upscaled.student, upscaled.info)
    if as_json:
        render.print_json({"model": None if dry_run else str(folder), "mode": mode, **vars(report)})
        return
    print_norms(report)
    render.say(
        "nothing was written" if dry_run else f"wrote {folder} ({mode}); next: deitkit finetune --from {quoted(folder)}"
    )


def refuse_occupied(folder: Path, *, overwrite: bool) -> None:
    """Raise where something else than a model is, or a model that is not to be replaced."""
    from deitkit.models.folder import is_model_folder

    if folder.exists() and not is_model_folder(folder):
        raise DeitkitError(f"{folder} exists and is no model folder", value=str(folder), remedy="--output OTHER")
    if folder.exists() and not overwrite:
        raise DeitkitError(f"{folder} holds a model", value=str(folder), remedy="--output OTHER, or --overwrite")


def print_norms(report: Resampling) -> None:
    """What each mode keeps of the position embedding."""
    rows = [["before", f"{report.grid[0]}x{report.grid[1]}", report.norm_before, "100.0 %"]]
    rows += [
        [name, f"{report.new_grid[0]}x{report.new_grid[1]}", norm, f"{norm / report.norm_before:.1%}"]
        for name, norm in report.norm_after.items()
    ]
    render.print_table("Mean L2 norm of the position embedding", ["mode", "grid", "norm", "of before"], rows)


def default_folder(model: str, to: str) -> Path:
    """Beside the model; for one from afar, in the working folder under its own name."""
    from deitkit.models.reference import Reference, local_folder

    found = Reference.parse(model)
    path = local_folder(found.place)
    name = path.stem if path.is_file() else path.resolve().name
    return path.with_name("_".join(filter(None, (name, found.checkpoint, to))))


def parse_size(text: str) -> tuple[int, int]:
    """`384` or `384x256` (height x width) -> pixels."""
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() and len(part) < 7 and int(part) for part in parts):
        raise DeitkitError(f"--to {text!r}: expected pixels", value=text, remedy="for example --to 384 or --to 384x256")
    return int(parts[0]), int(parts[-1])
