"""Images as files that browsers show: those of the data set, or written where it has none (digits, shards, Parquet)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from deitkit.data.open import Source
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError, quoted
from deitkit.files import write_atomic
from deitkit.predictions.table import Predictions

SHOWN = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif"}  # other formats are written as PNG


def image_files(table: Predictions, source: Source, folder: Path) -> Callable[[int], Path]:
    """The file of a row's image; one that has none is written below `folder` when it is asked for.

    Raises:
        DeitkitError: the source's images are not those of the predictions.
    """
    if source.fingerprint != table.fingerprint:
        raise DeitkitError(
            f"the images of {source.dataset}/{source.split} are not those of the predictions, or their labels differ",
            problems=[f"predictions: {table.dataset}/{table.split}, fingerprint {table.fingerprint[:12]}"],
            remedy=f"deitkit evaluate {quoted(table.classifier)} on the images that are there now",
        )
    index_of = {image_id: index for index, image_id in enumerate(source.ids)}
    indices = [index_of[image_id] for image_id in table.ids]
    # The fingerprint, because other images may come to have the same ids.
    images = (folder / f"{table.dataset}-{table.split}-{table.fingerprint[:8]}".replace("/", "-")).absolute()
    return lambda row: source.path(indices[row]) or written(source, indices[row], images)


def written(source: Source, index: int, folder: Path) -> Path:
    """An image as a file: its bytes as they are where browsers show them, so that nothing is lost or blown up."""
    image_id = source.ids[index]
    # Packed from a table, an id may be an absolute path, and whoever made shards chose their names.
    inside = image_id.lstrip("/") if ".." not in image_id.split("/") else f"image-{index:08d}"
    for suffix in SHOWN.values():
        if (path := folder / f"{inside}{suffix}").is_file():
            return path
    content = source.read(index)
    with Image.open(io.BytesIO(content)) as image:
        kind = image.format or ""
    if kind not in SHOWN:
        file = io.BytesIO()
        decode(content, image_id).save(file, "PNG")
        kind, content = "PNG", file.getvalue()
    path = folder / f"{inside}{SHOWN[kind]}"
    write_atomic(path, content)
    return path
