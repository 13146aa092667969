"""One image as a model sees it: the pixels of evaluation, turned by the image's tag or as it lies, as the model is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deitkit.data.source import Files
from deitkit.data.views.loader import normalised, per_channel
from deitkit.models.folder import ModelInfo
from deitkit.predictions.predict import evaluation_loader, view_of
from deitkit.recipe.schema import Data

CPU = torch.device("cpu")
TURNED = 6  # the orientation tag of a camera held upright


@pytest.mark.parametrize("exif_orientation", [False, True])
def test_it_is_the_view_of_evaluation(exif_orientation: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image, file = Image.fromarray(pixels), io.BytesIO()
    tags = image.getexif()
    tags[0x0112] = TURNED
    image.save(file, "PNG", exif=tags)
    (tmp_path / "a.png").write_bytes(file.getvalue())
    info = replace(ModelInfo.of(Data(dataset="folder"), (32, 32), ("cat",)), exif_orientation=exif_orientation)
    source = Files(
        dataset="folder", split="val", class_names=("cat",), labels=np.zeros(1, dtype=np.int64), ids=["a.png"],
        root=tmp_path,
    )  # fmt: skip
    (batch,) = evaluation_loader(source, info, device=CPU)
    view = torch.from_numpy(view_of(info, file.getvalue(), "a.png"))[None]
    seen = normalised(view, per_channel(info.mean, CPU), per_channel(info.std, CPU))
    torch.testing.assert_close(batch.images, seen)
    turned = view_of(replace(info, exif_orientation=not exif_orientation), file.getvalue(), "a.png")
    assert not np.array_equal(turned, view[0].numpy())
