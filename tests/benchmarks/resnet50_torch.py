"""ResNet-50 for PyTorch, as the zoo has it for ONNX: the usual architecture with seeded weights."""

import warnings
from pathlib import Path

import torch
from torch import nn

from analyzer.zoo.resnet50 import BLOCK_COUNTS, CLASS_COUNT, EXPANSION, PARAMETER_COUNT, RESIDUAL_SCALE, SEED


class Bottleneck(nn.Module):
    """Three convolutions around which the input is added; the second one strides."""

    def __init__(self, incoming: int, width: int, stride: int) -> None:
        super().__init__()
        outgoing = width * EXPANSION
        self.main = nn.Sequential(
            *_conv_norm(incoming, width, 1),
            nn.ReLU(inplace=True),
            *_conv_norm(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_norm(width, outgoing, 1),
        )
        nn.init.constant_(self.main[-1].weight, RESIDUAL_SCALE)
        straight = stride == 1 and incoming == outgoing
        self.shortcut = nn.Identity() if straight else nn.Sequential(*_conv_norm(incoming, outgoing, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.main(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """Ready to infer."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = [*_conv_norm(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(BLOCK_COUNTS):
        for block in range(count):
            layers.append(Bottleneck(channels, 64 << stage, 2 if stage and not block else 1))
            channels = (64 << stage) * EXPANSION
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASS_COUNT)).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETER_COUNT
    return model


def save_torchscript(path: Path, image_size: int) -> None:
    """Traced, and frozen by nobody: the backend gets what users save."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(resnet50(), torch.zeros(1, 3, image_size, image_size)), str(path))


def _conv_norm(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outgoing),
    ]
