"""What has become of a run's own images since it was trained: added, trained on though held out now, or mended."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from deitkit.data.check.compare import compare
from deitkit.data.check.left_out import left_out_of
from deitkit.data.source import Source, counted
from deitkit.files import expanded
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run


def since_training(folder: Path, settings: Data, source: Source, measured: Collection[str]) -> list[str]:
    """What a person should know who measures a run on these images; `measured` are the ids that could be read."""
    seen = set(measured)
    gone = [name for name in source.ids if name not in seen]
    notes = [counted("images cannot be read and are left out", gone)] if gone else []
    if not Run.is_run(folder):
        return notes
    own = Run(folder).recipe().data
    if own.dataset == settings.dataset and _place(own) == _place(settings):
        notes += _of_own_data(Run(folder), own, source, seen)
    return notes


def _place(data: Data) -> Path | None:
    return None if data.path is None else expanded(data.path).resolve()


def _of_own_data(run: Run, own: Data, source: Source, measured: set[str]) -> Iterator[str]:
    trained_on = compare(run.path, source)
    left_out = {image.id for image in left_out_of(run.path).images if image.split == source.split}
    if mended := sorted(left_out & measured):
        yield counted("images are measured on that could not be read when the run began", mended)
    if source.split == "train":
        new = measured - {*trained_on.seen} - left_out
        if trained_on.seen and new:
            yield counted("of these images were added since the run was trained: it has not learned them", sorted(new))
    elif own.validate_on == "val":
        yield from trained_on.notes()
        before = run.environment().get("data_content", {}).get(source.split, {}).get("images")
        if before is not None and before != len(source):
            yield f"the data have changed since training: {source.split} had {before:,} images, now {len(source):,}"
