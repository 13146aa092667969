"""A torchvision network as a teacher: SqueezeNet 1.0 for ImageNet, from a file under torchvision's keys.

deitkit distill --teacher 'examples/squeezenet.py:squeezenet?weights=squeezenet1_0_imagenet.safetensors' ...

It does not name its classes: 1,000 unnamed outputs are taken as ImageNet's where the data are ImageNet, and said to be.
"""

from safetensors.torch import load_file
from torch import nn
from torchvision.models import squeezenet1_0


def squeezenet(weights: str) -> nn.Module:
    """SqueezeNet 1.0 with the weights of a safetensors file."""
    network = squeezenet1_0(weights=None)
    network.load_state_dict(load_file(weights))
    network.mean, network.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return network
