"""A teacher of one's own: He et al.'s CIFAR ResNet (2016, Sec. 4.2), with weights that somebody else trained.

deitkit distill --dataset cifar10 --data DATA \
    --teacher 'examples/cifar_resnet.py:resnet56?weights=resnet56_cifar10.safetensors' ...

Whatever the function returns teaches; its attributes say what deitkit cannot see: classes and normalisation.
"""

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two convolutions and an identity shortcut, which is subsampled and filled up with zero channels ("option A")."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.more = stride, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.more:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """images [B, 3, 32, 32] -> logits [B, 10]; `depth` is 6n + 2."""

    # What a teacher says of itself. The images were normalised with ImageNet's mean and std, which are no CIFAR values.
    class_names = CIFAR10
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), *(Block(32, 32, 1) for _ in range(blocks - 1)))
        self.layer3 = nn.Sequential(Block(32, 64, 2), *(Block(64, 64, 1) for _ in range(blocks - 1)))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20(weights: str) -> CifarResNet:
    """ResNet-20 with the weights of a safetensors file."""
    return _loaded(20, weights)


def resnet56(weights: str) -> CifarResNet:
    """ResNet-56 with the weights of a safetensors file."""
    return _loaded(56, weights)


def _loaded(depth: int, weights: str) -> CifarResNet:
    network = CifarResNet(depth)
    network.load_state_dict(load_file(weights))
    return network
