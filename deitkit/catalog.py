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


IMAGENETS = ("imagenet", "imagenet_real")  # whose validation images are those of the paper's tables
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
    "inat21": DatasetInfo(
        "iNaturalist 2021", 2_686_843, 100_000, 10_000, _INAT_TERMS, f"{_INAT_HOME}/2021",
        source="its competition's page",
    ),
    "inat21_mini": DatasetInfo(
        "iNaturalist 2021 mini", 500_000, 100_000, 10_000, _INAT_TERMS, f"{_INAT_HOME}/2021",
        source="its competition's page", folder="inat21",
    ),
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

# Other names that people give them, in lower case and without what is no letter or digit.
DATASET_ALIASES: dict[str, str] = {
    "imagenet1k": "imagenet", "in1k": "imagenet", "imagenet2012": "imagenet", "ilsvrc2012": "imagenet",
    "ilsvrc": "imagenet", "imagenetv2": "imagenet_v2", "inv2": "imagenet_v2", "imagenetreal": "imagenet_real",
    "real": "imagenet_real", "flowers": "flowers102", "oxfordflowers": "flowers102", "oxfordflowers102": "flowers102",
    "oxford102flowers": "flowers102", "stanfordcars": "cars", "cars196": "cars", "inat2018": "inat18",
    "inaturalist18": "inat18", "inaturalist2018": "inat18", "inat2019": "inat19", "inaturalist19": "inat19",
    "inaturalist2019": "inat19", "inat2021": "inat21", "inaturalist21": "inat21", "inaturalist2021": "inat21",
    "inat2021mini": "inat21_mini", "inaturalist2021mini": "inat21_mini", "handwrittendigits": "digits",
}  # fmt: skip
AMBIGUOUS_DATASETS: dict[str, tuple[str, ...]] = {
    "inat": ("inat18", "inat19", "inat21"), "inaturalist": ("inat18", "inat19", "inat21"),
    "cifar": ("cifar10", "cifar100"),
}  # fmt: skip


def dataset_named(name: str) -> str:
    """The catalog's name of a data set that is called by another: `CIFAR-10` -> `cifar10`; any other as it is.

    Raises:
        ValueError: several are called so (`inat`).
    """
    if name in DATASETS or name == "folder" or ":" in name:
        return name
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    if plain in AMBIGUOUS_DATASETS:
        raise ValueError(f"{name!r} is several data sets: {' or '.join(AMBIGUOUS_DATASETS[plain])}?")
    own = {"".join(letter for letter in known if letter.isalnum()): known for known in (*DATASETS, "folder")}
    return own.get(plain) or DATASET_ALIASES.get(plain, name)


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


@dataclass(frozen=True)
class PublishedSpeed:
    """A row of Table 5 or 10. `images_per_s`: on one V100 of 16 GB, of the largest batch that fits, mean of 30 passes.

    `millions` of parameters, `image_size` in pixels, top-1 in percent on ImageNet, ReaL and V2, None where the paper
    has none. `mark` is what the model is called among its `family`.
    """

    model: str
    family: str
    mark: str
    millions: int
    image_size: int
    images_per_s: float
    imagenet: float
    real: float | None
    v2: float | None


# Table 5, and with it Figure 1: accuracy and throughput of DeiT and of its rivals.
TABLE5 = (
    PublishedSpeed("resnet18", "ResNet", "18", 12, 224, 4458.4, 69.8, 77.3, 57.1),
    PublishedSpeed("resnet50", "ResNet", "50", 25, 224, 1226.1, 76.2, 82.5, 63.3),
    PublishedSpeed("resnet101", "ResNet", "101", 45, 224, 753.6, 77.4, 83.7, 65.7),
    PublishedSpeed("resnet152", "ResNet", "152", 60, 224, 526.4, 78.3, 84.1, 67.0),
    PublishedSpeed("regnety_4gf", "RegNetY", "4GF", 21, 224, 1156.7, 80.0, 86.4, 69.4),
    PublishedSpeed("regnety_8gf", "RegNetY", "8GF", 39, 224, 591.6, 81.7, 87.4, 70.8),
    PublishedSpeed("regnety_16gf", "RegNetY", "16GF", 84, 224, 334.7, 82.9, 88.1, 72.4),
    PublishedSpeed("efficientnet_b0", "EfficientNet", "B0", 5, 224, 2694.3, 77.1, 83.5, 64.3),
    PublishedSpeed("efficientnet_b1", "EfficientNet", "B1", 8, 240, 1662.5, 79.1, 84.9, 66.9),
    PublishedSpeed("efficientnet_b2", "EfficientNet", "B2", 9, 260, 1255.7, 80.1, 85.9, 68.8),
    PublishedSpeed("efficientnet_b3", "EfficientNet", "B3", 12, 300, 732.1, 81.6, 86.8, 70.6),
    PublishedSpeed("efficientnet_b4", "EfficientNet", "B4", 19, 380, 349.4, 82.9, 88.0, 72.3),
    PublishedSpeed("efficientnet_b5", "EfficientNet", "B5", 30, 456, 169.1, 83.6, 88.3, 73.6),
    PublishedSpeed("efficientnet_b6", "EfficientNet", "B6", 43, 528, 96.9, 84.0, 88.8, 73.9),
    PublishedSpeed("efficientnet_b7", "EfficientNet", "B7", 66, 600, 55.1, 84.3, None, None),
    PublishedSpeed("vit_base_16", "ViT", "B", 86, 384, 85.9, 77.9, 83.6, None),
    PublishedSpeed("vit_large_16", "ViT", "L", 307, 384, 27.3, 76.5, 82.2, None),
    PublishedSpeed("deit_tiny", "DeiT", "Ti", 5, 224, 2536.5, 72.2, 80.1, 60.4),
    PublishedSpeed("deit_small", "DeiT", "S", 22, 224, 940.4, 79.8, 85.7, 68.5),
    PublishedSpeed("deit_base", "DeiT", "B", 86, 224, 292.3, 81.8, 86.7, 71.5),
    PublishedSpeed("deit_base_384", "DeiT", "B 384", 86, 384, 85.9, 83.1, 87.7, 72.4),
    PublishedSpeed("deit_tiny_distilled", "DeiT, distilled", "Ti", 6, 224, 2529.5, 74.5, 82.1, 62.9),
    PublishedSpeed("deit_small_distilled", "DeiT, distilled", "S", 22, 224, 936.2, 81.2, 86.8, 70.0),
    PublishedSpeed("deit_base_distilled", "DeiT, distilled", "B", 87, 224, 290.9, 83.4, 88.3, 73.2),
    PublishedSpeed("deit_tiny_distilled_1000ep", "DeiT, distilled", "Ti, 1000 ep.", 6, 224, 2529.5, 76.6, 83.9, 65.4),
    PublishedSpeed("deit_small_distilled_1000ep", "DeiT, distilled", "S, 1000 ep.", 22, 224, 936.2, 82.6, 87.8, 71.7),
    PublishedSpeed("deit_base_distilled_1000ep", "DeiT, distilled", "B, 1000 ep.", 87, 224, 290.9, 84.2, 88.7, 73.9),
    PublishedSpeed("deit_base_distilled_384", "DeiT, distilled", "B 384", 87, 384, 85.8, 84.5, 89.0, 74.8),
    PublishedSpeed(
        "deit_base_distilled_384_1000ep", "DeiT, distilled", "B 384, 1000 ep.", 87, 384, 85.8, 85.2, 89.3, 75.2
    ),
)  # fmt: skip

# Table 10: DeiT-B trained at 224 px, and fine-tuned at each of the other sizes.
TABLE10 = (
    PublishedSpeed("deit_base", "DeiT", "160", 86, 160, 609.31, 79.9, 84.8, 67.6),
    PublishedSpeed("deit_base", "DeiT", "224", 86, 224, 291.05, 81.8, 86.7, 71.5),
    PublishedSpeed("deit_base", "DeiT", "320", 86, 320, 134.13, 82.7, 87.2, 71.9),
    PublishedSpeed("deit_base", "DeiT", "384", 86, 384, 85.87, 83.1, 87.7, 72.4),
)  # fmt: skip
