"""What is known without running anything: model variants, data sets (Table 6), published results. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelVariant:
    """A transformer of Table 1, or one of the small-image family. Sizes in pixels."""

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    image_size: int
    timm: str  # the architecture of timm that it is, up to sizes
    source: str


MODELS: dict[str, ModelVariant] = {
    "deit_tiny": ModelVariant(192, 12, 3, 16, 224, "deit_tiny", "Table 1"),
    "deit_small": ModelVariant(384, 12, 6, 16, 224, "deit_small", "Table 1"),
    "deit_base": ModelVariant(768, 12, 12, 16, 224, "deit_base", "Table 1"),
    "deit_nano": ModelVariant(64, 4, 4, 4, 32, "deit_tiny", "ours: images of about 32 px on a laptop"),
    "deit_tiny_patch4": ModelVariant(192, 12, 3, 4, 32, "deit_tiny", "ours: DeiT-Ti for images of about 32 px"),
}


@dataclass(frozen=True)
class DatasetInfo:
    """Sizes as published; a data set without training images of its own has train_size 0.

    `folder` is the name it is looked for under, where that is not its own; `bundled` data need no files. `terms` says
    what its makers state about its use; it is no legal advice.
    """

    title: str
    train_size: int
    test_size: int
    classes: int
    terms: str
    home: str
    source: str = "Table 6"
    folder: str = ""
    bundled: bool = False

    def folder_name(self, name: str) -> str:
        return self.folder or name


_IMAGENET_TERMS = "registration; non-commercial research and education only"
_IMAGENET_HOME = "https://www.image-net.org/download.php"
_INAT_TERMS = "non-commercial research and education only; each photograph has its own licence"
_INAT_HOME = "https://github.com/visipedia/inat_comp/tree/master"
_CIFAR_TERMS = "no licence text"
_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"

DATASETS: dict[str, DatasetInfo] = {
    "imagenet": DatasetInfo("ImageNet-1k", 1_281_167, 50_000, 1000, _IMAGENET_TERMS, _IMAGENET_HOME),
    "imagenet_v2": DatasetInfo(
        "ImageNet-V2 matched-frequency", 0, 10_000, 1000, "repository under MIT; the images are their makers'",
        "https://github.com/modestyachts/ImageNetV2", source="Recht et al. 2019",
    ),
    "imagenet_real": DatasetInfo(
        "ImageNet-ReaL", 0, 50_000, 1000, f"labels under Apache-2.0; ImageNet's images: {_IMAGENET_TERMS}",
        "https://github.com/google-research/reassessed-imagenet", source="Beyer et al. 2020", folder="imagenet",
    ),
    "inat18": DatasetInfo("iNaturalist 2018", 437_513, 24_426, 8142, _INAT_TERMS, f"{_INAT_HOME}/2018"),
    "inat19": DatasetInfo("iNaturalist 2019", 265_240, 3_003, 1010, _INAT_TERMS, f"{_INAT_HOME}/2019"),
    "flowers102": DatasetInfo(
        "Flowers-102", 2_040, 6_149, 102, "none stated (Oxford Visual Geometry Group)",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    ),
    "cars": DatasetInfo(
        "Stanford Cars", 8_144, 8_041, 196, "research use", "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
    ),
    "cifar100": DatasetInfo("CIFAR-100", 50_000, 10_000, 100, _CIFAR_TERMS, _CIFAR_HOME),
    "cifar10": DatasetInfo("CIFAR-10", 50_000, 10_000, 10, _CIFAR_TERMS, _CIFAR_HOME),
    "digits": DatasetInfo(
        "handwritten digits", 1_437, 360, 10, "UCI repository (Alpaydin and Kaynak 1998), bundled with scikit-learn",
        "https://archive.ics.uci.edu/dataset/80", source="scikit-learn, one fifth held out", bundled=True,
    ),
}  # fmt: skip

# Table 4: rate of different decisions between classifiers on ImageNet's validation images.
TABLE4_CLASSIFIERS = ("groundtruth", "convnet", "deit", "class", "distillation", "class+distillation")
TABLE4_MATRIX = (
    (0.000, 0.171, 0.182, 0.170, 0.169, 0.166),
    (0.171, 0.000, 0.133, 0.112, 0.100, 0.102),
    (0.182, 0.133, 0.000, 0.109, 0.110, 0.107),
    (0.170, 0.112, 0.109, 0.000, 0.050, 0.033),
    (0.169, 0.100, 0.110, 0.050, 0.000, 0.019),
    (0.166, 0.102, 0.107, 0.033, 0.019, 0.000),
)

# Section 4: cosine similarity of the class and the distillation token.
TOKENS_COSINE_BEFORE = 0.06
TOKENS_COSINE_AFTER = 0.93

# Table 7: top-1 after fine-tuning, in percent; `_384` was fine-tuned at that resolution.
TABLE7_DATASETS = ("imagenet", "cifar10", "cifar100", "flowers102", "cars", "inat18", "inat19")
TABLE7: dict[str, tuple[float, ...]] = {
    "deit_base": (81.8, 99.1, 90.8, 98.4, 92.1, 73.2, 77.7),
    "deit_base_384": (83.1, 99.1, 90.8, 98.5, 93.3, 79.5, 81.4),
    "deit_base_distilled": (83.4, 99.1, 91.3, 98.8, 92.9, 73.7, 78.4),
    "deit_base_distilled_384": (84.4, 99.2, 91.4, 98.9, 93.9, 80.1, 83.0),
}


def published_transfer(dataset: str) -> dict[str, float]:
    """Model -> top-1 in percent of Table 7; empty where the table has no such data set."""
    if dataset not in TABLE7_DATASETS:
        return {}
    column = TABLE7_DATASETS.index(dataset)
    return {model: row[column] for model, row in TABLE7.items()}
