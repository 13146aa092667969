"""What makes pixels of plans: `pil`, the reference, or `fast`. Both know the same files, plans and protocols."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from PIL import Image

from deitkit.data.views import augment
from deitkit.data.views.augment import Pixels, Reading
from deitkit.data.views.plan import Plan

BackendName = Literal["pil", "fast"]


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
