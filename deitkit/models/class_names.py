"""Names of classes that published models share: ImageNet's, by timm's lists, and numbers where none are known."""

from __future__ import annotations

import functools

from timm.data.imagenet_info import ImageNetInfo


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """The 1,000 wnids in the order in which every published ImageNet-1k classifier numbers them."""
    return synsets("imagenet-1k")


def synsets(subset: str) -> tuple[str, ...]:
    """The wnids of one of timm's ImageNets, in the order of its classifiers."""
    return tuple(ImageNetInfo(subset).label_names())  # type: ignore[no-untyped-call]


def numbered(classes: int) -> tuple[str, ...]:
    """Names for classes whose names are unknown."""
    return tuple(map(str, range(classes)))
