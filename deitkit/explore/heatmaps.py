"""What the class and the distillation token read of an image, as FiftyOne Heatmaps on the whole image.

The model sees a resized centre crop, so a map lies where the crop was cut, as the image is displayed; the rest is 0,
which the App leaves transparent. Attention is what layers mix, not proof of what decided.
Legend: B batch, T tokens, N patches.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from deitkit.analysis.attention.measure import attention_maps, rollout
from deitkit.data.views.augment import AS_IT_LIES, Pixels, Reading, open_image, orientation_of, size_of
from deitkit.data.views.backends import backend_of
from deitkit.data.views.loader import normalised, per_channel
from deitkit.distributed import pick_device
from deitkit.errors import DeitkitError, one_of
from deitkit.explore.app import connect
from deitkit.explore.brain import claim, digest_of, is_kept, note
from deitkit.explore.record import KEY, MARK, identifier
from deitkit.files import write_atomic
from deitkit.models.load import LoadedModel, load_model
from deitkit.models.reference import Reference
from deitkit.models.student import TOKEN_NAMES
from deitkit.predictions.embeddings import weights_identity
from deitkit.predictions.predict import protocol_of

KINDS = ("last_layer", "rollout")
BATCH = 8  # images whose attention is held at once
NOTHING, LEAST, EVEN, GREATEST = 0, 1, 128, 255  # a map's bytes; the App leaves 0 transparent
DIFFERENCE = "attention_difference"
# Evenly spaced stops of a scale, each from dark, where there is little: matplotlib's inferno, and blue for what the
# distillation token reads more against orange for the class token.
COLOURS = {
    False: ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)),
    True: ((86, 180, 233), (16, 16, 16), (240, 110, 0)),
}
# How a browser turns a file of an orientation tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACK = {6: 8, 8: 6}  # the tag that undoes another's turn; the other turns undo themselves

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Map:
    """One heatmap: bytes [rows, columns] of the patches; `greatest` is what 255 means, in % of a token's attention."""

    patches: Pixels
    greatest: float


@dataclass(frozen=True, eq=False)
class SeenImage:
    """What was read of an image: weights [T, rows, columns]; its (height, width) px and the tag it was turned by."""

    weights: Weights
    size: tuple[int, int]
    tag: int


def add_heatmaps(
    dataset: Any, reference: str, *, image_ids: list[str], folder: Path, read: Callable[[str], bytes],
    device: str = "auto", kind: str = KINDS[0], name: str = "", reading: Reading = AS_IT_LIES,
) -> list[str]:  # fmt: skip
    """Heatmaps of these images; their fields: NAME_class_attention, NAME_distillation_attention and their difference.

    "last_layer" is what a token reads in the last layer, mean over the heads, of places that by then are mixed with
    others; "rollout" what reaches it of each patch through all layers (Abnar & Zuidema 2020). Rollouts are nearly even:
    on the quickstart's student_32 theirs are 13 % from even (total variation) and the two tokens' 0.7 % apart; the last
    layer's 44 % and 4.9 %, so it is the default. Both tokens of an image share one scale, from no attention to the
    greatest of either; the difference, class minus distillation, has its own. `greatest` of a Heatmap is its scale's
    end, in % of a token's attention.

    `read` gives an image's encoded file; `folder` takes the maps, as PNG. Those of the same weights are kept; of others
    they are made anew, and taken away from images that are not asked for. A model of one token has one field.

    Raises:
        DeitkitError: the model has no class token, an image is not in the dataset, or a field is the user's.
    """
    connect()
    one_of(kind, KINDS, what="kind of attention")
    model, wanted = load_model(reference), list(dict.fromkeys(image_ids))
    _refuse_unknown(dataset, wanted)
    fields = _fields(name or Reference.parse(reference).short(1), distilled=model.student.distilled)
    digest = digest_of(kind, [weights_identity(model)], None)
    is_same = all(is_kept(dataset, field, digest, there=dataset.has_field(field)) for field in fields)
    due = _without_maps(dataset, fields, wanted) if is_same else wanted
    model.student.to(pick_device(device))
    for start in range(0, len(due), BATCH):
        files = {image_id: read(image_id) for image_id in due[start : start + BATCH]}
        seen = look(model, files, kind=kind, reading=reading)
        if not start and not is_same:  # not before: a convnet is refused above, and nothing is left behind
            _declare(dataset, fields, wanted)
        _write(dataset, fields, seen, model=model, folder=folder)
    if due:
        for field in fields:
            note(dataset, field, digest)
    return fields if wanted else []


def _refuse_unknown(dataset: Any, image_ids: list[str]) -> None:
    if unknown := set(image_ids) - set(dataset.values(KEY)):
        what = f"{len(unknown):,} of {len(image_ids):,} images are not in the fiftyone dataset {dataset.name!r}"
        raise DeitkitError(what, value=min(unknown), remedy="name images by their image_id")


# Measuring


def look(
    model: LoadedModel, files: Mapping[str, bytes], *, kind: str = KINDS[0], reading: Reading = AS_IT_LIES
) -> dict[str, SeenImage]:
    """What the model's tokens read of each encoded image, in one batch; `kind` as in `add_heatmaps`."""
    info, device = model.info, next(model.student.parameters()).device
    reading, backend = protocol_of(info, reading), backend_of(info.backend)
    views, sizes, tags = [], [], []
    for image_id, data in files.items():
        opened = open_image(data, image_id, reading)
        tags.append(orientation_of(opened, image_id, reading))
        sizes.append(size_of(opened, image_id, reading))
        view = backend.evaluation_view(
            backend.load_rgb(opened, image_id, reading), info.size, info.crop_ratio, info.interpolation
        )
        views.append(torch.from_numpy(view))
    mean, std = per_channel(info.mean, device), per_channel(info.std, device)
    maps = attention_maps(model.student, normalised(torch.stack(views).to(device), mean, std))
    shares = maps.weights[-1].mean(dim=0) if kind == KINDS[0] else rollout(maps)  # [B, T, N]
    grids = shares.double().numpy().reshape(len(views), len(maps.names), *maps.grid)
    return {
        image_id: SeenImage(weights, size, tag)
        for image_id, weights, size, tag in zip(files, grids, sizes, tags, strict=True)
    }


def maps_of(weights: Weights) -> list[Map]:
    """weights [T, rows, columns], shares of a token's attention -> a map of each, and of the difference of two."""
    greatest = float(weights.max())
    scaled = np.rint(LEAST + (GREATEST - LEAST) * _parts(weights, greatest)).astype(np.uint8)
    maps = [Map(each, 100 * greatest) for each in scaled]
    if len(weights) > 1:
        difference = weights[0] - weights[1]
        greatest = float(np.abs(difference).max())
        signed = np.rint(EVEN + (GREATEST - EVEN) * _parts(difference, greatest)).astype(np.uint8)
        maps.append(Map(signed, 100 * greatest))
    return maps


def _parts(weights: Weights, greatest: float) -> Weights:
    return weights / greatest if greatest else np.zeros_like(weights)


# Placing


def place(patches: Pixels, image: tuple[int, int], *, size: tuple[int, int], crop_ratio: float) -> Image.Image:
    """patches [rows, columns] where `evaluation_view` cuts its view from an image of (height, width) px: a picture of
    the whole resized image, a block of pixels a patch, NOTHING around the crop."""
    height, width = (math.floor(side / crop_ratio) for side in size)
    if height * image[1] >= width * image[0]:
        width = height * image[1] // image[0]
    else:
        height = width * image[0] // image[1]
    rows, columns = (np.arange(side) * count // side for side, count in zip(size, patches.shape, strict=True))
    whole = Image.new("L", (width, height), NOTHING)
    corner = round((width - size[1]) / 2), round((height - size[0]) / 2)
    whole.paste(Image.fromarray(patches[rows][:, columns]), corner)
    return whole


def as_displayed(whole: Image.Image, *, seen: int, shown: int) -> Image.Image:
    """A picture of what the model saw, turned as a browser shows the file.

    `seen` is the orientation tag by which the model's image was turned, `shown` that of the file; 1 turns nothing.
    """
    for tag in (BACK.get(seen, seen), shown):
        whole = whole.transpose(TURNS[tag]) if tag in TURNS else whole
    return whole


# In the dataset


def _fields(name: str, *, distilled: bool) -> list[str]:
    kinds = [f"{token}_attention" for token in TOKEN_NAMES[: 1 + distilled]] + [DIFFERENCE] * distilled
    return [identifier(f"{name}_{kind}") for kind in kinds]


def _without_maps(dataset: Any, fields: list[str], image_ids: list[str]) -> list[str]:
    """Those of the images that lack a map, or a map its file."""
    ids, *paths = dataset.values([KEY, *(f"{field}.map_path" for field in fields)])
    whole = {
        image_id
        for image_id, *files in zip(ids, *paths, strict=True)
        if all(file is not None and Path(file).is_file() for file in files)
    }
    return [image_id for image_id in image_ids if image_id not in whole]


def _declare(dataset: Any, fields: list[str], image_ids: list[str]) -> None:
    """Take the fields, and their colours where the user has chosen none; clear what is of other weights."""
    import fiftyone

    for field in fields:
        claim(dataset, field, there=dataset.has_field(field), what="field")
    for field in fields:
        dataset.add_sample_field(
            field, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Heatmap, description=_description(field)
        )
        dataset.add_sample_field(f"{field}.greatest", fiftyone.FloatField, description="% of a token's attention")
        stale, ours = dataset.exists(field), set(image_ids)
        gone = [image_id for image_id in stale.values(KEY) if image_id not in ours]
        if gone:
            stale.select_by(KEY, gone).set_field(field, None).save(field)
    scheme = dataset.app_config.color_scheme  # after the fields: adding one reads the dataset's settings anew
    if scheme is not None:
        chosen = {each["path"] for each in scheme.colorscales or []}
        new = [_colours(field) for field in fields if field not in chosen]
        scheme.colorscales = [*(scheme.colorscales or []), *new]
        dataset.save()


def _description(field: str) -> str:
    if field.endswith(DIFFERENCE):
        return "Where the class token reads more (orange) or less (blue) than the distillation token"
    return "What this token reads of the image"


def _colours(field: str) -> dict[str, Any]:
    """The field's colours for the App: stops for its settings, and `rgb`, all 256, without which the App of FiftyOne
    1.22 paints a dataset's own colours only once its settings were opened."""
    stops = np.array(COLOURS[field.endswith(DIFFERENCE)])
    places = np.linspace(0, 1, len(stops))
    rgb = np.stack([np.interp(np.linspace(0, 1, 256), places, channel) for channel in stops.T], axis=1)
    named = [
        {"value": value, "color": f"rgb({red}, {green}, {blue})"}
        for value, (red, green, blue) in zip(places.tolist(), stops.tolist(), strict=True)
    ]
    return {"path": field, "list": named, "rgb": np.rint(rgb).astype(int).tolist()}


def _write(dataset: Any, fields: list[str], seen: Mapping[str, SeenImage], *, model: LoadedModel, folder: Path) -> None:
    """The maps' files, then the documents that name them; a document that is there stays, with the user's tags."""
    import fiftyone

    info = model.info
    view = dataset.select_by(KEY, list(seen))
    ids, shown = view.values([KEY, "filepath"])
    documents = {field: [old or fiftyone.Heatmap() for old in view.values(field)] for field in fields}
    for row, (image_id, file) in enumerate(zip(ids, shown, strict=True)):
        with Image.open(file) as image:
            tag = int(image.getexif().get(Base.Orientation, 1))
        one = seen[image_id]
        for field, each in zip(fields, maps_of(one.weights), strict=True):
            whole = place(each.patches, one.size, size=info.size, crop_ratio=info.crop_ratio)
            path = (folder / field / _file_name(dataset, image_id)).absolute()
            _save(as_displayed(whole, seen=one.tag, shown=tag), path)
            document = documents[field][row]
            document.map_path, document.range, document["greatest"] = str(path), [LEAST, GREATEST], each.greatest
    for field in fields:
        view.set_values(field, documents[field])


def _file_name(dataset: Any, image_id: str) -> str:
    """An id can be any text, and another split may have it, too: what can be read of it, and what tells it apart."""
    whole = f"{dataset.info[MARK]['images']}/{image_id}"
    readable = re.sub(r"[^\w-]+", "_", whole)[-80:]
    return f"{readable}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}.png"


def _save(picture: Image.Image, path: Path) -> None:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    write_atomic(path, encoded.getvalue())
