"""What makes pixels of plans: `pil`, the reference, or `fast`. Both know the same files, plans and protocols."""

from __future__ import annotations

from typing import Any, Protocol

from PIL import Image

from deitkit.data.views import augment
from deitkit.data.views.augment import Pixels, Reading, open_image
from deitkit.data.views.plan import Plan
from deitkit.recipe.schema import BackendName


class Backend(Protocol):
    """An opened image is loaded into what the backend works on, and views [3, H, W] are made of that."""

    def load_rgb(self, image: Image.Image, name: str, reading: Reading) -> Any: ...

    def make_view(
        self, image: Any, plan: Plan, *, size: tuple[int, int], interpolation: str, fill: tuple[int, int, int]
    ) -> Pixels: ...

    def evaluation_view(self, image: Any, size: tuple[int, int], crop_ratio: float, interpolation: str) -> Pixels: ...


def backend_of(name: BackendName) -> Backend:
    if name == "pil":
        return augment
    from deitkit.data.views import fast  # what reads no image fast needs neither OpenCV nor libjpeg-turbo

    return fast


def shown_for_evaluation(
    content: bytes, name: str, reading: Reading, *, size: tuple[int, int], crop_ratio: float, interpolation: str
) -> Pixels:
    """An image file as the reading's backend shows it to a model of that protocol: [3, H, W].

    Raises:
        UnreadableImage: it is broken.
    """
    backend = backend_of(reading.backend)
    image = backend.load_rgb(open_image(content, name, reading), name, reading)
    return backend.evaluation_view(image, size, crop_ratio, interpolation)
