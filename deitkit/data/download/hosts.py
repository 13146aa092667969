"""What is served where: one plan for each data set of the catalog. Fetches nothing.

Checksums are the publishers' own: Krizhevsky's page (CIFAR), the iNaturalist competitions' pages, the commit that holds
ImageNet-V2; Flowers' and iNaturalist 2021's are those that torchvision checks, ReaL's is of its repository's file. No
file is fetched without one.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostedFile:
    """A file of a public host. `checksum` is `md5:HEX` or `sha256:HEX`, `size` its bytes where known.

    `makes` names what an archive leaves in the folder that it is unpacked in; a plain file makes nothing.
    """

    url: str
    checksum: str
    size: int | None = None
    makes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DownloadPlan:
    """How a data set is had: files of a public host, and steps for a person where there is more to do.

    `why` says what no host serves; ROOT in a step is the data set's folder.
    """

    files: tuple[HostedFile, ...] = ()
    why: str = ""
    steps: tuple[str, ...] = ()

    def steps_for(self, root: Path) -> tuple[str, ...]:
        """Numbered steps that name the folder, ready for a shell."""
        place = shlex.quote(str(root))
        return tuple(f"{number}. {step.replace('ROOT', place)}" for number, step in enumerate(self.steps, start=1))


CIFAR = "https://www.cs.toronto.edu/~kriz"
FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
INAT = "https://ml-inat-competition-datasets.s3.amazonaws.com"
IMAGENET_V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/d626240be2538720e83103a0e1178d24aca8b12c"
REAL = "https://raw.githubusercontent.com/google-research/reassessed-imagenet/bcd006fe12e929f055e0ec7fe39dbf4d64a6881a"


def _inat(path: str, md5: str, makes: str) -> HostedFile:
    """An archive of iNaturalist's competitions."""
    return HostedFile(f"{INAT}/{path}.tar.gz", f"md5:{md5}", makes=(makes,))


HOSTS: dict[str, DownloadPlan] = {
    "imagenet": DownloadPlan(
        why="ImageNet-1k is served to registered people only",
        steps=(
            "register at https://image-net.org/download-images (free for non-commercial research) and fetch "
            "ILSVRC2012_img_train.tar (138 GB, md5 1d675b47d978889d74fa0da5fadfb00e), ILSVRC2012_img_val.tar "
            "(6.3 GB, md5 29b22e2961454d5413ddabcf34fc5622) and ILSVRC2012_devkit_t12.tar.gz "
            "(md5 fa75699e90414af021442c21a62c3abf); `md5sum FILE` checks them",
            "mkdir -p ROOT/train ROOT/val && tar -xf ILSVRC2012_img_train.tar -C ROOT/train",
            "one folder a class: "
            'for t in ROOT/train/n*.tar; do mkdir "${t%.tar}" && tar -xf "$t" -C "${t%.tar}" && rm "$t"; done',
            "tar -xf ILSVRC2012_img_val.tar -C ROOT/val && tar -xzf ILSVRC2012_devkit_t12.tar.gz -C ROOT   "
            "# the devkit holds the labels of the flat val folder",
            "instead of all this: join https://www.kaggle.com/c/imagenet-object-localization-challenge, and unzip its "
            "archive (ILSVRC/ and LOC_val_solution.csv) into ROOT as it is",
        ),
    ),
    "imagenet_v2": DownloadPlan(
        files=(
            HostedFile(
                f"{IMAGENET_V2}/imagenetv2-matched-frequency.tar.gz",
                "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                1_264_079_360,
                ("imagenetv2-matched-frequency-format-val",),
            ),
        ),
    ),
    "imagenet_real": DownloadPlan(
        files=(
            HostedFile(
                f"{REAL}/real.json",
                "sha256:d83e9bff374c631aae8439eb064c7019acc56e1b3bc3f56b8380c2a710b0220b",
                388_478,
            ),
        ),
        why="ReaL is new labels for ImageNet's validation images, which are served to registered people only",
        steps=("`deitkit data download imagenet` says how to get the images; real.json lies beside their folder val",),
    ),
    "inat18": DownloadPlan(
        files=(
            _inat("2018/val2018.json", "f2ed8bfe3e9901cdefceb4e53cd3775d", "val2018.json"),
            _inat("2018/train2018.json", "bfa29d89d629cbf04d826a720c0a68b0", "train2018.json"),
            _inat("2018/train_val2018", "b1c6952ce38f31868cc50ea72d066cc3", "train_val2018"),
        ),
    ),
    "inat19": DownloadPlan(
        files=(
            _inat("2019/val2019.json", "5cc5509b0fe495f1c8c1362612448497", "val2019.json"),
            _inat("2019/train2019.json", "b06a6683537867c0d5c7a45f407a306d", "train2019.json"),
            _inat("2019/train_val2019", "c60a6e2962c9b8ccbd458d12c8582644", "train_val2019"),
        ),
    ),
    "inat21": DownloadPlan(
        files=(
            _inat("2021/val", "f6f6e0e242e3d4c9569ba56400938afc", "val"),
            _inat("2021/train", "e0526d53c7f7b2e3167b2b43bb2690ed", "train"),
        ),
    ),
    "inat21_mini": DownloadPlan(
        files=(
            _inat("2021/val", "f6f6e0e242e3d4c9569ba56400938afc", "val"),
            _inat("2021/train_mini", "db6ed8330e634445efc8fec83ae81442", "train_mini"),
        ),
    ),
    "flowers102": DownloadPlan(
        files=(
            HostedFile(f"{FLOWERS}/setid.mat", "md5:a5357ecc9cb78c4bef273ce3793fc85c", 14_989),
            HostedFile(f"{FLOWERS}/imagelabels.mat", "md5:e0620be6f572b9609742df49c70aed4d", 502),
            HostedFile(f"{FLOWERS}/102flowers.tgz", "md5:52808999861908f626f3c1f4e79d11fa", 344_862_509, ("jpg",)),
        ),
    ),
    "cars": DownloadPlan(
        why="no public host serves Stanford Cars any more: the original one is gone, mirrors want an account or a tool",
        steps=(
            "easiest, as Parquet: pip install huggingface_hub, then "
            "hf download tanganke/stanford_cars --repo-type dataset --include 'data/train-*' --include 'data/test-*' "
            "--local-dir ROOT",
            "or the original images: unzip https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset into "
            "ROOT (cars_train/ and cars_test/)",
            "and their annotations: unzip https://www.kaggle.com/datasets/abdelrahmant11/standford-cars-dataset-meta "
            "into ROOT (devkit/; tar -xzf ROOT/car_devkit.tgz -C ROOT where it is packed), then "
            "mv ROOT/'cars_test_annos_withlabels (1).mat' ROOT/cars_test_annos_withlabels.mat",
            "an image folder is read, too: ROOT/train/<class name>/*.jpg and ROOT/test/<class name>/*.jpg",
        ),
    ),
    "cifar100": DownloadPlan(
        files=(
            HostedFile(
                f"{CIFAR}/cifar-100-python.tar.gz",
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
                169_001_437,
                ("cifar-100-python",),
            ),
        ),
    ),
    "cifar10": DownloadPlan(
        files=(
            HostedFile(
                f"{CIFAR}/cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
                170_498_071,
                ("cifar-10-batches-py",),
            ),
        ),
    ),
    "digits": DownloadPlan(),
}
